# What deploys to AWS, and LocalStack on this machine. The Makefile includes it.

# The functions' processor; sam build takes it from here, the template from its
# parameter Architecture. One that is not this machine's cannot run locally.
ARCH ?= arm64
LAMBDA_GOARCH = $(if $(filter x86_64,$(ARCH)),amd64,$(ARCH))
LAMBDA_TAGS := lambda.norpc,nosqlite
AWS_TOOLS := .local/aws-tools
LOCALSTACK := ./localstack/cloud/localstack.sh

.PHONY: build-AuthFunction build-CollectFunction build-DispatchFunction aws-check sam-build sam-base-image sam-invoke localstack-up localstack-test localstack-down

# sam build calls these with ARTIFACTS_DIR set. SQLite and the internal port stay
# out by tag: a function has neither.
build-AuthFunction build-CollectFunction build-DispatchFunction: build-%Function:
	CGO_ENABLED=0 GOOS=linux GOARCH=$(LAMBDA_GOARCH) $(GO) build -trimpath -tags $(LAMBDA_TAGS) -ldflags='-s -w' \
		-o "$(ARTIFACTS_DIR)/bootstrap" ./functions/$(shell echo $* | tr '[:upper:]' '[:lower:]')

$(AWS_TOOLS)/.done: localstack/cloud/requirements-tools.txt
	@echo "installing sam and cfn-lint into $(AWS_TOOLS), about two minutes"
	@python3 -m venv $(AWS_TOOLS)
	@$(AWS_TOOLS)/bin/pip --quiet --disable-pip-version-check install -r $<
	@touch $@

aws-check: $(AWS_TOOLS)/.done ## template.yaml: cfn-lint, sam validate, and what its expansion must hold
	$(AWS_TOOLS)/bin/cfn-lint template.yaml
	SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=eu-west-1 $(AWS_TOOLS)/bin/sam validate --lint
	$(AWS_TOOLS)/bin/python localstack/cloud/expand.py template.yaml .local/expanded.json
	EXPANDED="$(CURDIR)/.local/expanded.json" $(GO) test -count=1 -tags aws -run 'Template|Binary' ./localstack/cloud

sam-build: $(AWS_TOOLS)/.done ## the three functions, to .aws-sam/build (ARCH=arm64)
	SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=eu-west-1 $(AWS_TOOLS)/bin/sam build --build-in-source --parameter-overrides Architecture=$(ARCH)
