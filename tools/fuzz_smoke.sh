#!/usr/bin/env bash
# Every fuzz target for a few seconds, on the stable toolchain. Ordinary tests replay the corpora.
set -euo pipefail
seconds=${1:-10}
cd "$(dirname "$0")/../rust/fuzz"
version=0.13.2
cargo fuzz --version 2>/dev/null | grep -q " $version\$" || cargo install --quiet --locked --debug "cargo-fuzz@$version"
export RUSTC_BOOTSTRAP=1
host=$(rustc -vV | sed -n 's/^host: //p')
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# smoke NAME COMMAND...: fails when the command does, or when it ran nothing; shows what matters of its output.
smoke() {
    local name=$1 log="$scratch/$1.log"
    shift
    if ! "$@" >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        echo "fuzz $name failed; the input is in rust/fuzz/artifacts/$name" >&2
        return 1
    fi
    local units
    units=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    if [ "${units:-0}" -eq 0 ]; then
        tail -n 40 "$log" >&2
        echo "fuzz $name executed nothing" >&2
        return 1
    fi
    echo "fuzz $name: $units inputs"
}

# A guard that has not been seen to bite is none.
if smoke guard false 2>/dev/null || smoke guard true 2>/dev/null; then
    echo "tools/fuzz_smoke.sh does not notice failures" >&2
    exit 1
fi

cargo fuzz build --fuzz-dir . --target "$host"

smoke_target() {
    local target=$1
    mkdir -p "$scratch/$target.new" "corpus/$target"
    smoke "$target" cargo fuzz run --fuzz-dir . --target "$host" "$target" "$scratch/$target.new" "corpus/$target" -- \
        -max_total_time="$seconds" -rss_limit_mb=2048 -verbosity=0 -print_final_stats=1
}
export -f smoke smoke_target
export scratch seconds host
# Each takes a core.
cargo fuzz list --fuzz-dir . | xargs -P "$(nproc)" -I{} bash -euo pipefail -c 'smoke_target "$1"' _ {}
