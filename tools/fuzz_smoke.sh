#!/usr/bin/env bash
# Every fuzz target for a few seconds, on the stable toolchain. Ordinary tests replay the corpora.
set -euo pipefail
seconds=${1:-10}
cd "$(dirname "$0")/../rust/fuzz"
command -v cargo-fuzz >/dev/null || cargo install --quiet --locked cargo-fuzz
export RUSTC_BOOTSTRAP=1
host=$(rustc -vV | sed -n 's/^host: //p')
cargo fuzz build --fuzz-dir . --target "$host"
for target in $(cargo fuzz list --fuzz-dir .); do
    new=$(mktemp -d)
    mkdir -p "corpus/$target"
    echo "fuzz $target for ${seconds} s"
    cargo fuzz run --fuzz-dir . --target "$host" "$target" "$new" "corpus/$target" -- -max_total_time="$seconds" -rss_limit_mb=2048 -verbosity=0 -print_final_stats=1 2>&1 | grep -E 'number_of_executed_units|ERROR|panicked|SUMMARY' || true
    test "${PIPESTATUS[0]}" -eq 0 || { echo "fuzz $target failed; the input is in rust/fuzz/artifacts/$target" >&2; exit 1; }
    rm -rf "$new"
done
