# Every recipe is plain cargo and can be typed by hand.

# List the recipes
default:
    @just --list

# Format, lints, dependencies
check:
    cargo fmt --check
    cargo clippy --workspace --all-targets -- -D warnings
    cargo deny check bans licenses sources

# All tests; those that need root skip without it and say so
test:
    cargo test --workspace --no-fail-fast

# The end-to-end tests alone, as root: just e2e restarts
e2e *filter:
    cargo build
    cargo test -p e2e -- {{ filter }}

# Three minutes of chaos; a failure prints its seed: CORACLE_E2E_SEED=… just chaos
chaos seconds="180":
    cargo build
    CORACLE_E2E_CHAOS_SECONDS={{ seconds }} cargo test -p e2e --test chaos -- --nocapture

# The same of the pods' network, with 200 pods
network-chaos seconds="180" pods="200":
    cargo build
    CORACLE_E2E_CHAOS_SECONDS={{ seconds }} CORACLE_E2E_CHAOS_PODS={{ pods }} cargo test -p e2e --test network_chaos -- --nocapture

# Every suite in a virtual machine (QEMU, emulated; an hour or so): just vm, or some: just vm e2e/exec runtime/pods
vm *suites:
    CORACLE_VM=all CORACLE_VM_SUITES="{{ suites }}" cargo test --workspace --test vm -- --nocapture --test-threads 1

# The benchmarks: a table, and JSON with --json
bench *args:
    cargo build --release
    cargo run --release -p e2e --bin bench -- {{ args }}
    cargo bench -p runtime

# What CI runs
ci:
    .ci/run
