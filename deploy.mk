# What deploys to AWS, and LocalStack on this machine. The Makefile includes it.

# The functions' processor; sam build takes it from here, the template from its
# parameter Architecture. One that is not this machine's cannot run locally.
ARCH ?= arm64
LAMBDA_GOARCH = $(if $(filter x86_64,$(ARCH)),amd64,$(ARCH))
# Without lambda.norpc, aws-lambda-go takes in net/rpc, whose use of reflection
# keeps every method of every library in a binary: 8 MB and more.
SMALL_TAGS := lambda.norpc,nosqlite
LAMBDA_TAGS := $(SMALL_TAGS),nointernal
AWS_TOOLS := .local/aws-tools
SAM ?= $(AWS_TOOLS)/bin/sam
LOCALSTACK := ./localstack/cloud/localstack.sh

.PHONY: build-AuthFunction build-CollectFunction build-DispatchFunction aws-check sam-build sam-base-image sam-invoke localstack-up localstack-test localstack-down

# A PEM file of authorities that functions and nodes trust besides the public
# ones, as DocumentDB's, and a file of webhook sources that goes with Collect.
CA_EXTRA ?=
SOURCES_FILE ?=
export CA_EXTRA SOURCES_FILE

# sam build calls these with ARTIFACTS_DIR set. SQLite and the internal port stay
# out by tag: a function has neither.
build-AuthFunction build-CollectFunction build-DispatchFunction: build-%Function:
	CGO_ENABLED=0 GOOS=linux GOARCH=$(LAMBDA_GOARCH) $(GO) build -trimpath -tags $(LAMBDA_TAGS) -ldflags='-s -w' \
		-o "$(ARTIFACTS_DIR)/bootstrap" ./functions/$(shell echo $* | tr '[:upper:]' '[:lower:]')
	@$(if $(CA_EXTRA),mkdir -p "$(ARTIFACTS_DIR)/certs" && cp "$(CA_EXTRA)" "$(ARTIFACTS_DIR)/certs/extra.pem")
	@$(if $(and $(SOURCES_FILE),$(filter Collect,$*)),cp "$(SOURCES_FILE)" "$(ARTIFACTS_DIR)/sources.yaml")

$(AWS_TOOLS)/.done: localstack/cloud/requirements-tools.txt
	@echo "installing sam and cfn-lint into $(AWS_TOOLS), about two minutes"
	@python3 -m venv $(AWS_TOOLS)
	@$(AWS_TOOLS)/bin/pip --quiet --disable-pip-version-check install -r $<
	@touch $@

aws-check: $(AWS_TOOLS)/.done ## template.yaml: cfn-lint, sam validate, and what its expansion must hold
	$(AWS_TOOLS)/bin/cfn-lint template.yaml
	SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=eu-west-1 $(SAM) validate --lint
	$(AWS_TOOLS)/bin/python localstack/cloud/expand.py template.yaml .local/expanded.json
	EXPANDED="$(CURDIR)/.local/expanded.json" $(GO) test -count=1 -tags aws -run 'Template|Binary' ./localstack/cloud

sam-build: $(AWS_TOOLS)/.done ## the three functions, to .aws-sam/build (ARCH=arm64)
	SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=eu-west-1 $(SAM) build --build-in-source --parameter-overrides Architecture=$(ARCH)

# The same source gives the same binary, on any machine. SQLite stays out: a
# container has no file to share.
NODE_IMAGE ?= pushnode:latest
CA_BUNDLE ?= $(firstword $(wildcard /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem))
.PHONY: node-image node-files
node-image: node-files ## the push node's image (ARCH=arm64, NODE_IMAGE=pushnode:latest)
	docker build --quiet --platform linux/$(LAMBDA_GOARCH) --tag $(NODE_IMAGE) --file pushnode/Dockerfile .local/image

node-files:
	@mkdir -p .local/image
	CGO_ENABLED=0 GOOS=linux GOARCH=$(LAMBDA_GOARCH) $(GO) build -trimpath -tags $(SMALL_TAGS) -ldflags='-s -w' -o .local/image/pushnode ./pushnode
	@cat "$(CA_BUNDLE)" $(CA_EXTRA) > .local/image/ca-certificates.crt

localstack-up: ## LocalStack, which plays AWS, on this machine, without its image (root; Debian)
	@$(LOCALSTACK) up

# Deploys with sam, breaks it, takes it down: seven minutes, and four more
# the first time, to install what it needs.
localstack-test: localstack-up $(AWS_TOOLS)/.done $(JS)/node_modules/.package-lock.json ## the whole cluster on LocalStack: deploy, push, break, delete
	$(GO) test -count=1 -tags localstack -timeout 25m -run 'TestLocalStack|TestSamLocalInvoke' -v ./localstack/cloud

localstack-down: ## stop what localstack-up started
	@$(LOCALSTACK) down

# sam local invoke wants an image of this name, with an emulator in it; ours is
# that and nothing else.
RAPID_IMAGE ?= public.ecr.aws/lambda/provided:al2023-rapid-x86_64
.PHONY: sam-base-image sam-invoke
sam-base-image: ## the image that sam local invoke runs functions in
	@rm -rf .local/rapid && mkdir -p .local/rapid/tmp .local/rapid/var/rapid .local/rapid/var/task && chmod 1777 .local/rapid/tmp
	@CGO_ENABLED=0 GOOS=linux GOARCH=amd64 $(GO) build -trimpath -ldflags='-s -w' -o .local/rapid/var/rapid/aws-lambda-rie ./localstack/lambda
	@tar -C .local/rapid -c . | docker import --change 'WORKDIR /var/task' - $(RAPID_IMAGE)

# The functions ask servers of this machine, which containers reach at the
# address of docker0: redis-server --bind 0.0.0.0 --protected-mode no, and a
# MongoDB or FerretDB, on these ports.
F ?= Collect
HOST_ADDR ?= 172.17.0.1
REDIS_PORT ?= 6379
MONGO_PORT ?= 27017
sam-invoke: sam-base-image $(AWS_TOOLS)/.done ## one function with its sample event (F=Collect): make sam-build ARCH=x86_64 first
	@printf '{"Parameters":{"LOG_LEVEL":"INFO","SIGNING_SECRETS":"%s","API_KEYS":"local:local-key","TOKEN_KEYS":"k1:HS256:%s","STORE_URL":"%s","REDIS_URL":"%s","DISPATCH_URL":"%s","DISPATCH_RPC_URL":"%s"}}' \
		local-signing-secret-24-bytes local-token-key-of-thirty-two-bytes 'mongodb://$(HOST_ADDR):$(MONGO_PORT)/pushcluster?maxUpdates=40' \
		redis://$(HOST_ADDR):$(REDIS_PORT)/0 http://$(HOST_ADDR):8703 http://$(HOST_ADDR):8703 > .local/sam-env.json
	@SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=us-east-1 AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local $(SAM) local invoke $(F)Function \
		--skip-pull-image --env-vars .local/sam-env.json --parameter-overrides Architecture=x86_64 \
		--event functions/$(shell echo $(F) | tr '[:upper:]' '[:lower:]')/testdata/event.json

.PHONY: deps-check vuln
deps-check: ## go.mod and go.sum: verified, and tidy
	@set -e; for dir in . localstack/ferretdb bench/peers/centrifuge; do \
		echo "$$dir: go mod verify, go mod tidy -diff"; (cd $$dir && $(GO) mod verify && $(GO) mod tidy -diff); done

# Its database is on the internet, which not every machine reaches.
GOVULNDB ?= https://vuln.go.dev
vuln: ## known holes in the code that we call (asks GOVULNDB, on the internet)
	@if curl -fs --max-time 20 -o /dev/null $(GOVULNDB)/index/db.json; \
		then GOVULNDB=$(GOVULNDB) $(GO) run golang.org/x/vuln/cmd/govulncheck@v1.1.4 ./...; \
		else echo "govulncheck: its database at $(GOVULNDB) cannot be reached from here, so nothing was looked up"; fi
