# Each target is one line to type and needs no arguments. `make help` lists them.

CARGO ?= cargo
SIM_SEEDS ?= 20000
ATTACK_SECONDS ?= 60

.PHONY: help run test test-upgrades test-drain check fmt clippy doc deny miri loom sim fuzz attack autobahn autobahn-client autobahn-full conform conform-agreement test-brokers test-clients test-page test-setup test-packages test-image deb bench bench-floor bench-memory bench-accept bench-kernels bench-polling c1m bench-fanout clean

help: ## Lists the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Builds and starts the server on 127.0.0.1:9001; http://127.0.0.1:9002/ shows it
	@$(CARGO) run --release --bin longwire -- serve --listen 127.0.0.1:9001 --admin 127.0.0.1:9002

test: ## Every test, installing what they need: unit, simulation, end to end, real clients, Autobahn
	tests/setup
	$(CARGO) build --release --workspace --bins --example autobahn_client
	$(CARGO) test --workspace
	tests/run-clients epoll io_uring
	tests/run-page
	tests/run-brokers
	tests/conform
	tests/autobahn/run epoll io_uring+tls
	tests/autobahn/run-client epoll io_uring+takeover
	$(CARGO) bench --bench attack -- --short

check: fmt clippy doc deny miri loom ## Format, lints, documentation, dependencies, Miri, loom

fmt:
	$(CARGO) fmt --all --check
	cd benches/peers && $(CARGO) fmt --check
	cd benches/polling && $(CARGO) fmt --check
	cd fuzz && $(CARGO) fmt --check

clippy:
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) clippy --workspace --no-default-features --lib -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items

deny: ## Licences, sources and duplicates of the dependencies
	tests/deny

miri: ## Protocol, memory and connection code under Miri
	tests/miri

loom: ## The inbox of a core, in every order in which threads may take their steps
	RUSTFLAGS="--cfg loom" CARGO_PROFILE_DEV_OPT_LEVEL=0 CARGO_PROFILE_DEV_DEBUG=none \
	    $(CARGO) test --no-default-features --lib --target-dir target/loom loom_

sim: ## 20,000 seeds of simulated sessions with faults; SIM_SEED=N replays one
	SIM_SEEDS=$(SIM_SEEDS) $(CARGO) test --lib simulation -- --nocapture

fuzz: ## Fuzzes each target for FUZZ_SECONDS (60), with a nightly toolchain
	fuzz/run

test-setup: ## Installs what the tests need beyond cargo, into target/test-env
	tests/setup

test-clients: ## node ws, Python websockets and Chromium against both backends
	tests/setup
	$(CARGO) build --release
	tests/run-clients epoll io_uring

test-page: ## The page of the administration port, in a real headless Chromium
	tests/setup
	$(CARGO) build --release
	tests/run-page

test-upgrades: ## 20 upgrades under 2,000 connects a second, on both backends
	tests/run-upgrades

test-drain: ## 20,000 connections drained over 10 s, and a stop of 60 s that none is lost to
	tests/run-drain

test-packages: ## The Debian package: built, looked at, and what is in it run
	tests/run-packages

test-image: ## The image of the Dockerfile: built and run under its seccomp profile
	$(CARGO) build --release --locked --bin longwire
	tests/run-image

deb: ## A Debian package, into target/debian/ (needs cargo-deb)
	contrib/debian/build

test-brokers: ## Topics of three nodes through real brokers, which are killed 20 times
	tests/run-brokers

attack: ## A dozen attacks at once on a server in 512 MiB, for ATTACK_SECONDS, beside a good client
	$(CARGO) bench --bench attack -- --seconds $(ATTACK_SECONDS)

autobahn: ## 385 cases of the Autobahn suite, both backends, with and without TLS
	$(CARGO) build --release
	tests/autobahn/run

autobahn-full: ## All 517 cases; ten minutes and more for each of the four
	$(CARGO) build --release
	tests/autobahn/run --full

autobahn-client: ## The same cases against the client role, with and without context takeover
	$(CARGO) build --release --example autobahn_client
	tests/autobahn/run-client

conform: ## 780 conformance cases against both backends, without Python
	$(CARGO) build --release --workspace
	tests/conform

conform-agreement: ## Compares the verdicts of loadgen conform and Autobahn on five servers
	tests/setup
	$(CARGO) build --release --workspace --bins --examples
	tests/conform-agreement

bench-floor: ## CPU per message of the server and of loadgen, against a bare echo
	$(CARGO) build --release -p loadgen
	$(CARGO) bench --bench floor -- echo
	$(CARGO) bench --bench floor -- generator
	$(CARGO) bench --bench floor -- secure

bench: ## longwire beside other servers, into docs/BENCHMARKS.md (half an hour)
	benches/peers/setup
	$(CARGO) build --release --workspace
	$(CARGO) bench --bench floor --no-run
	target/release/loadgen bench benches/matrix.toml --markdown docs/BENCHMARKS.md

c1m: ## A million connections to one process, held through heartbeats (9 GB of memory)
	$(CARGO) build --release --workspace
	benches/c1m

bench-polling: ## HTTP polling, long polling and push: bytes, server CPU, delay
	cd benches/polling && $(CARGO) run --release

bench-memory: ## Resident bytes of an idle connection
	$(CARGO) build --release -p loadgen
	$(CARGO) bench --bench floor -- memory

bench-accept: ## Server CPU per connection opened
	$(CARGO) bench --bench floor -- accept

bench-fanout: ## Server CPU per delivery of a topic; whether all arrives; subscribers that do not read
	$(CARGO) build --release -p loadgen
	$(CARGO) bench --bench floor -- fanout
	$(CARGO) bench --bench floor -- delivery
	$(CARGO) bench --bench floor -- stalled

bench-kernels: ## Unmask, UTF-8, header and handshake kernels (criterion)
	$(CARGO) bench --bench kernels

clean:
	$(CARGO) clean
	rm -rf reports
