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

# Licences, banned crates and sources, with cargo-deny where it is installed; tests/tidy checks licences without it
deny:
    cargo deny check licenses bans sources
    cargo deny --manifest-path runtime/agent/Cargo.toml check --config deny.toml licenses bans sources
