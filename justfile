# What a change must pass, and what there is to run. CI (.ci/run) calls the same recipes.

set shell := ["bash", "-euo", "pipefail", "-c"]

# Everything that can run in parallel on two cores within CI's time.
export CARGO_TERM_COLOR := env("CARGO_TERM_COLOR", "auto")

# What is released. Built in one go with the tools beside them, so that nothing is compiled twice.
programs := "-p antipode-gateway -p antipode-core -p antipode-node -p antipode-demo"

# List the recipes.
default:
    @just --list --unsorted

# Cheap checks, in the order in which they fail soonest.
check: fmt clippy doc deny tidy

fmt:
    cargo fmt --all --check

clippy:
    cargo clippy --workspace --all-targets --locked -- -D warnings

doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked

# Bans, licences and sources. Advisories need RustSec's database from the network: `just advisories`.
deny:
    cargo deny --log-level error check bans licenses sources

advisories:
    cargo deny check advisories

# The rules of the house: sizes, names, and who may depend on whom.
tidy:
    cargo test --workspace --locked --test tidy --test structure

# The whole test suite. What a machine lacks is skipped, and said so; ANTIPODE_REQUIRE_ALL=1 forbids that.
test *ARGS:
    cargo test --workspace --locked {{ ARGS }}

# The whole system on this machine: gateway, core, three nodes, a chat backend and a page.
run *ARGS:
    cargo run --release --locked -p antipode-demo -- {{ ARGS }}

# The programs and the benchmarks, optimised, in target/release.
release:
    cargo build --release --locked {{ programs }} -p antipode-tests --bins

# What operators run, in target/dist.
dist:
    cargo build --profile dist --locked -p antipode-gateway -p antipode-core -p antipode-node

# Network namespaces and other people's WireGuard. Needs root.
lab:
    ANTIPODE_REQUIRE_ALL=1 cargo test --locked -p antipode-tunnel -p antipode-tests --test 'netns_*' --test 'wan*' -- --nocapture

# Other people's clients and servers, for the tests that drive them: npm, PyPI, and (for Autobahn) Python 2.7.
conformance-install:
    tests/conformance/install

# The end-to-end stories: socket.io, ws, websockets, websocat, large bodies, bad input.
conformance: conformance-install
    ANTIPODE_REQUIRE_ALL=1 cargo test --locked -p antipode-tests --test 'e2e_*'

# Autobahn, direct and through the relay, compared case by case. `just autobahn all` for every case.
autobahn CASES="ci": release
    target/release/autobahn --cases {{ CASES }}

# Round trip and messages a second through the whole path beside the same backend direct; JSON.
bench-path *ARGS: release
    target/release/bench-path {{ ARGS }}

# The far link beside nginx with wireguard-go, on one emulated link of 200 ms: the table of docs/far-link.md. Needs root; 25 minutes. `just bench-link --only loss-1,cut-5 --seconds 15`.
bench-link *ARGS: dist
    cargo build --release --locked -p antipode-tests --bin bench-link
    ANTIPODE_PROGRAMS={{ justfile_directory() }}/target/dist target/release/bench-link {{ ARGS }}

# What the ways to a peer cost, and what it costs to measure them: the tables of docs/links.md, in five minutes. Needs root.
bench-ways:
    cargo build --release --locked -p antipode-tests --bin wan
    cargo build --release --locked -p antipode-tunnel --example ways
    target/release/examples/ways loopback
    target/release/examples/ways probes 1000
    target/release/examples/ways link target/release/wan

# What each fault costs: the table of docs/faults.md, in ten minutes. `just faults --only killed`, `--cut-max 20`, `--json`.
faults *ARGS: release
    target/release/faults {{ ARGS }}

# The whole system as machines in virtual time: one seed, one world. `just sim 50000`, `just sim 1 4711 --lines 300`.
sim SEEDS="20000" FROM="0" *ARGS="":
    cargo run --locked -p antipode-sim -- --seeds {{ SEEDS }} --from {{ FROM }} {{ ARGS }}

# Which changed lines of the code the simulation notices: docs/simulation.md. Half an hour.
sim-mutants *ARGS:
    tests/sim/mutants/run {{ ARGS }}

# Lets libFuzzer look for new inputs of one target, or of each in turn. Needs nightly and cargo-fuzz.
fuzz TARGET="all" SECONDS="60":
    fuzz/all {{ TARGET }} {{ SECONDS }}
