#!/bin/sh
# Finds or makes a Rust compiler that can build probes, and prints what to put into cargo's environment.
#
#   guest-rust.sh            a compiler that is here already, or Debian's sources that are installed already
#   guest-rust.sh install    the same, but as root it may install Debian's packages rustc-web and rust-web-src
#   guest-rust.sh check      says which of these there is, builds and installs nothing
#
# It prints nothing when `cargo build --target wasm32-unknown-unknown` works as it is, else one line RUSTC=PATH.
# Exit status: 0 done, 3 there is no compiler for probes (stderr says how to get one), else a command failed.
#
# Relies on: cargo and rustc in PATH. Where their toolchain has no library for wasm32 and rustup can not add it, the
# library is built once from Debian's sources, with Debian's compiler of the same source package: compiler and
# library must be of one version to the last commit. That takes about 90 s of one core and 70 MB in
# ${XDG_CACHE_HOME:-$HOME/.cache}/trocar/guest-rust; the next run takes none.
# Does not know: cargo's settings in the folder it is called from; the library is built without them.
set -eu

mode=${1:-auto}
target=wasm32-unknown-unknown
cache=${XDG_CACHE_HOME:-$HOME/.cache}/trocar
here=$cache/guest-rust
compiler=/usr/bin/rustc
sources=/usr/lib/rustlib/src/rust/library
packages="rustc-web rust-web-src"

# Whether this compiler ($1) has a core library for probes.
has_core() {
    libraries=$("$1" --print target-libdir --target "$target" 2>/dev/null) || return 1
    for file in "$libraries"/libcore-*.rlib; do
        [ -e "$file" ] && return 0
    done
    return 1
}

version_of() {
    dpkg-query --show --showformat '${Version}' "$1" 2>/dev/null || true
}

# Whether Debian's compiler and sources are installed and of the same version.
has_packages() {
    [ -x "$compiler" ] && [ -f "$sources/Cargo.lock" ] || return 1
    [ -n "$(version_of rustc-web)" ] && [ "$(version_of rustc-web)" = "$(version_of rust-web-src)" ]
}

no_compiler() {
    echo "guest-rust: this Rust has no library for $target" >&2
    echo "  with rustup:      rustup target add $target" >&2
    echo "  on Debian, root:  apt-get install --no-install-recommends $packages" >&2
    exit 3
}

if has_core rustc; then
    [ "$mode" != check ] || echo "rustc has $target" >&2
    exit 0
fi

if ! has_packages; then
    [ "$mode" = install ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || no_compiler
    echo "guest-rust: installing $packages" >&2
    # shellcheck disable=SC2086  # two words are wanted
    { apt-get install -y -q --no-install-recommends $packages ||
        { apt-get update -q && apt-get install -y -q --no-install-recommends $packages; }; } </dev/null >&2
    has_packages || no_compiler
fi

# What the library depends on. Another version of either package makes another stamp, and a new library.
stamp="$("$compiler" --version) $(version_of rust-web-src)"
if [ "$(cat "$here/stamp" 2>/dev/null || true)" = "$stamp" ]; then
    echo "RUSTC=$here/bin/rustc"
    exit 0
fi
if [ "$mode" = check ]; then
    echo "guest-rust: $packages are installed; the library for $target is built by the first build (90 s)" >&2
    exit 0
fi

# One builder at a time: who comes second finds the library of the first.
mkdir -p "$cache"
if [ -z "${TROCAR_GUEST_RUST_LOCKED:-}" ] && command -v flock >/dev/null; then
    TROCAR_GUEST_RUST_LOCKED=1 exec flock "$cache/guest-rust.lock" sh "$0" "$@"
fi

echo "guest-rust: building the library for $target once, from $sources" >&2
host=$("$compiler" --version --verbose | sed -n 's/^host: //p')
# A linker for wasm: rustup's own, else Debian's.
toolchain=$(rustc --print sysroot)
linker=$toolchain/lib/rustlib/$host/bin/rust-lld
[ -x "$linker" ] || linker=$(command -v lld-22 || command -v lld || true)
[ -n "$linker" ] || { echo "guest-rust: no wasm linker: apt-get install lld-22" >&2; exit 3; }

new=$cache/guest-rust.new
rm -rf "$new"
trap 'rm -rf "$new"' EXIT
mkdir -p "$new/bin" "$new/lib/rustlib/$host/bin" "$new/lib/rustlib/$target/lib"
ln -s "/usr/lib/rustlib/$host/lib" "$new/lib/rustlib/$host/lib"
ln -s "$linker" "$new/lib/rustlib/$host/bin/rust-lld"
printf '#!/bin/sh\nexec %s --sysroot "%s" "$@"\n' "$compiler" "$here" >"$new/bin/rustc"
chmod +x "$new/bin/rustc"
# The cargo of the toolchain itself, so that it is the same one whatever folder this runs in.
cargo=$toolchain/bin/cargo
[ -x "$cargo" ] || cargo=cargo
# The flags are those of rustc's own build of its library: unstable unless marked stable, usable with LTO.
# 0x1f separates flags in cargo's encoded list.
separator=$(printf '\037')
(
    cd "$new"
    unset RUSTFLAGS RUSTC_WRAPPER CARGO_BUILD_TARGET CARGO_TARGET_DIR CARGO_BUILD_RUSTFLAGS
    export RUSTC="$compiler" RUSTC_BOOTSTRAP=1 CARGO_INCREMENTAL=0 __CARGO_DEFAULT_LIB_METADATA=guest
    export CARGO_ENCODED_RUSTFLAGS="-Zforce-unstable-if-unmarked${separator}-Cembed-bitcode=yes"
    "$cargo" build --release --locked --target "$target" --target-dir "$new/build" \
        --manifest-path "$sources/sysroot/Cargo.toml" >&2
)
cp "$new/build/$target/release/deps/"*.rlib "$new/lib/rustlib/$target/lib/"
rm -rf "$new/build"
printf '%s\n' "$stamp" >"$new/stamp"
rm -rf "$here"
mv "$new" "$here"
trap - EXIT
echo "RUSTC=$here/bin/rustc"
