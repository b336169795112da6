#!/bin/sh
# Builds the ready-made probes and writes each module beside its source: call-count/call-count.wasm, …
#   build.sh [FOLDER]    writes the modules into FOLDER instead, so that they can be compared with the committed ones
# Relies on ../probe-sdk/guest-rust.sh for a compiler. Builds offline: the probes depend on the SDK alone.
set -eu
cd "$(dirname "$0")"
to=${1:-}
compiler=$(../probe-sdk/guest-rust.sh)
# shellcheck disable=SC2086  # empty, or one assignment RUSTC=PATH
env -u RUSTFLAGS $compiler cargo build --release --locked --offline
built=${CARGO_TARGET_DIR:-target}/wasm32-unknown-unknown/release
for probe in */Cargo.toml; do
    name=$(dirname "$probe")
    folder=${to:-$name}
    mkdir -p "$folder"
    cp "$built/$(echo "$name" | tr - _).wasm" "$folder/$name.wasm"
    echo "$folder/$name.wasm: $(wc -c <"$folder/$name.wasm") bytes"
done
