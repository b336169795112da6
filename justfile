# Only wraps: everything here can be typed as it stands.

# All tests, or one lane: just test core
test *lanes:
    sh tests/run {{ lanes }}

# Formatting and clippy, both workspaces
lint:
    sh tests/run lint

# The demonstration
demo *args:
    cargo run --release -- demo {{ args }}

# Measured costs, as a table and as JSON
bench *args:
    cargo run --release -p trocar-perf -- {{ args }}

# The tests of the engine at full size (hours)
torture:
    TROCAR_FULL=1 sh tests/run engine

# Every guest language: installs the compilers that pip and npm have, runs the grid, and writes tests/perf/GUESTS.md
guests:
    sh probe-sdk/guest-compilers.sh install
    sh tests/run engine
    env $(sh probe-sdk/guest-compilers.sh) cargo run --release -p trocar-perf --bin guests -- tests/perf/GUESTS.md

# A fuzz target, with cargo-fuzz: just fuzz smith -max_total_time=60
fuzz target *args:
    RUSTC_BOOTSTRAP=1 ASAN_OPTIONS=detect_leaks=0 cargo fuzz run --fuzz-dir tests/fuzz --target-dir target/fuzz {{ target }} -- {{ args }}

# Licences, banned crates and sources, with cargo-deny where it is installed; tests/tidy checks licences without it
deny:
    cargo deny check licenses bans sources
    cargo deny --manifest-path runtime/agent/Cargo.toml check --config deny.toml licenses bans sources
