# pushcluster: what one does with it. `make` alone lists the targets.

GO ?= go
# Pinned, and run by its version so that go.mod does not carry it.
STATICCHECK ?= $(GO) run honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME ?= 10s
JS := localstack/e2e/js
PYTHON := localstack/e2e/python
JAVA := localstack/e2e/java

.DEFAULT_GOAL := help
.PHONY: help run test check lint bench bench-collect bench-node bench-scale bench-peers bench-cluster chaos fuzz build clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Not go run, which would answer Ctrl-C with an error after all went well.
run: ## the whole system on this machine: page at http://127.0.0.1:8700 (NODES=, ORIGINS=)
	@test -x bin/localstack || echo "building, which takes a minute or two the first time …"
	@$(GO) build -o bin/localstack ./localstack
	@exec bin/localstack

# -race needs a C compiler. A test that wants something this machine lacks
# (redis-server, node, python3, chromium, nginx) skips, which go test shows with -v
# alone, so the first lines say what is there; with CI=true it fails.
test: $(JS)/node_modules/.package-lock.json $(PYTHON)/.venv/.done $(JAVA)/target/.done ## every test, with the race detector: 7 to 18 minutes on two cores
	@if command -v redis-server >/dev/null; then echo "redis: $$(redis-server --version)"; \
		else echo "redis: miniredis, for no redis-server is on PATH"; fi
	@if command -v node >/dev/null; then echo "node: $$(node --version)"; \
		else echo "node: none on PATH, so TestJavaScriptSDK is skipped"; fi
	@if [ -e $(PYTHON)/.venv/.done ]; then echo "python: $$($(PYTHON)/.venv/bin/python --version)"; \
		else echo "python: no 3.11 or newer with venv, so TestPythonSDK is skipped"; fi
	@if [ -e $(JAVA)/target/.done ]; then echo "java: $$(java -version 2>&1 | head -n 1)"; \
		else echo "java: no JDK 17 or newer with mvn, so TestJavaSDK is skipped"; fi
	@c=$$(command -v chromium || command -v chromium-browser || command -v google-chrome); \
		echo "chromium: $${c:-none on PATH, so TestPage and TestPageReload are skipped}"
	@n=$$(command -v nginx || command -v /usr/sbin/nginx); \
		echo "nginx: $${n:-none, so TestBehindNginx is skipped}"
	$(GO) test -race -timeout 20m ./...

check: lint test ## what every commit passes: format, vet, staticcheck, and make test

lint: ## format, vet, staticcheck
	@unformatted=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); \
		if [ -n "$$unformatted" ]; then echo "gofmt -w $$unformatted"; exit 1; fi
	$(GO) vet ./...
	cd localstack/ferretdb && $(GO) vet ./...
	cd bench/peers/centrifuge && $(GO) vet ./...
	$(STATICCHECK) ./...

bench: ## every benchmark, once, without the tests
	$(GO) test -run '^$$' -bench . -benchmem ./...

# Servers on the first core, the load generator on the second. N is connections
# (at most 19,000), ROUNDS how often everything is measured, ONLY picks rows and
# TARGETS servers, as in ONLY=memory,unicast TARGETS=gepoll,node; SPAN is how long
# a row lasts. Each writes .local/bench-NAME.json and plots beside it. STORE, for
# bench-node, names a store to measure the durable write of, as STORE=mongodb://…
# PROFILES names a directory for profiles of every row, by target and process.
N ?=
ROUNDS ?=
TARGETS ?=
SPAN ?= 2s
STORE ?=
PROFILES ?=
LOAD = $(GO) build -o bin/load ./bench && exec bin/load -n "$(or $(N),0)" -rounds "$(or $(ROUNDS),0)" -span $(SPAN) \
	-only "$(ONLY)" -targets "$(TARGETS)" -store "$(STORE)" -profiles "$(PROFILES)"

bench-node: ## our node beside what is possible on this machine (N=, ROUNDS=, ONLY=)
	@$(LOAD) -suite node

bench-scale: ## what connections and channels cost when there are more of them
	@$(LOAD) -suite scale
	@$(LOAD) -suite channels

bench-peers: ## our node beside centrifuge, Socket.IO and nginx with nchan (N=, ROUNDS=, ONLY=)
	@$(LOAD) -suite peers

bench-cluster: ## from webhook to browser through every service, on 1 to 5 nodes
	@$(LOAD) -suite cluster

# SEED plans the run; ONLY picks scenarios, as in ONLY=1,6,9. The table goes to
# .local/chaos.json as well.
SEED ?= 1
ONLY ?=
chaos: ## break everything on purpose, and count what was lost (SEED=, ONLY=)
	@$(GO) run ./localstack/chaos/cmd -seed $(SEED) -only "$(ONLY)"

bench-collect: ## what a webhook costs on one core without the store: verify, map, both
	$(GO) test -run '^$$' -bench 'Webhook|Eval|Receiver' -benchmem -cpu 1 ./shared/signature ./functions/collect/...

# One fuzz test at a time is all that go test takes.
fuzz: ## every fuzz test for ten seconds each (FUZZTIME=10s)
	@set -e; git ls-files -co --exclude-standard '*_test.go' | xargs grep -H '^func Fuzz' | \
		sed -E 's|/[^/]*:func (Fuzz[A-Za-z0-9_]*).*| \1|' | sort -u | \
		while read -r dir name; do echo "$$dir $$name"; \
			$(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) "./$$dir" </dev/null; done

build: ## the programs and pushctl, to bin/
	@mkdir -p bin
	$(GO) build -trimpath -o bin/auth ./functions/auth
	$(GO) build -trimpath -o bin/collect ./functions/collect
	$(GO) build -trimpath -o bin/dispatch ./functions/dispatch
	$(GO) build -trimpath -o bin/pushnode ./pushnode
	$(GO) build -trimpath -o bin/pushctl ./pushctl
	$(GO) build -trimpath -o bin/localstack ./localstack

clean: ## remove what was built; .local/, with its messages and keys, stays
	rm -rf bin $(JS)/node_modules $(PYTHON)/.venv $(JAVA)/target

# The JavaScript SDK for its test. The file is npm's own note of what it
# installed, so this runs again when the lock file is newer.
$(JS)/node_modules/.package-lock.json: $(JS)/package-lock.json
	@if command -v npm >/dev/null; then cd $(JS) && npm ci --ignore-scripts --no-progress; \
		else echo "npm: none, so the test of the JavaScript SDK is skipped"; fi

# The Python SDK for its test, which with CI=true fails where it could not be
# fetched. The file is made last, so this runs again when the requirements are newer,
# or when it was broken off.
$(PYTHON)/.venv/.done: $(PYTHON)/requirements.txt
	@if python3 -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
		python3 -m venv --clear $(@D) && $(@D)/bin/pip --quiet --disable-pip-version-check install -r $< && touch $@ || \
		echo "pip: the SDK could not be fetched, so the test of the Python SDK is skipped"; \
		else echo "python3: no 3.11 or newer with venv, so the test of the Python SDK is skipped"; fi

# The Java SDK for its test, where Maven is; nobody needs it for anything else, so
# that it cannot be fetched fails nothing. java compiles the test as it runs it.
$(JAVA)/target/.done: $(JAVA)/pom.xml
	@if command -v mvn >/dev/null && [ "$$(javac -version 2>&1 | sed -n 's/^javac \([0-9]*\).*/\1/p')" -ge 17 ] 2>/dev/null; then cd $(JAVA) && rm -rf target && \
		mvn -q -B -Dstyle.color=never dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory=target/lib && \
		touch target/.done || echo "mvn: the SDK could not be fetched, so the test of the Java SDK is skipped"; \
		else echo "java: no JDK 17 or newer with mvn, so the test of the Java SDK is skipped"; fi

# AWS: what sam build calls, and LocalStack.
include deploy.mk
