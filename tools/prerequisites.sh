#!/usr/bin/env bash
# Names what this machine lacks to build the project, and the command that installs it.
set -u
missing=0
need() { # need WHAT HOW
    printf 'missing: %s\n    install it with: %s\n' "$1" "$2" >&2
    missing=1
}
python=${PYTHON:-python3}
if ! command -v "$python" >/dev/null; then
    need "Python 3.11 or newer" "apt-get install python3 python3-venv   (Debian, Ubuntu)"
elif ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    need "Python 3.11 or newer ($("$python" --version) found)" "set PYTHON=/path/to/python3.11, or: apt-get install python3.11 python3.11-venv"
elif ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
    need "Python's venv module" "apt-get install python3-venv"
fi
if ! command -v cargo >/dev/null; then
    need "Rust 1.90 or newer" "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"
else
    minor=$(cargo --version | sed -E 's/^cargo 1\.([0-9]+).*/\1/')
    [ "$minor" -ge 90 ] 2>/dev/null || need "Rust 1.90 or newer ($(cargo --version) found)" "rustup update stable"
fi
command -v cc >/dev/null || need "a C compiler (SQLite and the TLS library are C)" "apt-get install build-essential"
[ "${1:-}" != interop ] || {
    node=$(command -v node >/dev/null && node --version | sed -E 's/^v([0-9]+).*/\1/')
    [ "${node:-0}" -ge 20 ] || need "Node.js 20 or newer (only for the interop tests)" "apt-get install nodejs npm   (or, for an older Debian: https://nodejs.org)"
    command -v npm >/dev/null || need "npm (only for the interop tests)" "apt-get install npm"
}
exit "$missing"
