#!/bin/sh
# Runs both loops, three times each at two rates; prints one JSON line a run.
set -eu
cd "$(dirname "$0")"
cargo build --release --quiet
bin=${CARGO_TARGET_DIR:-target}/release/io-loop-spike
port=20310
for run in 1 2 3; do
    for rate in 200 10000; do
        for loop in mio tokio; do
            "$bin" server $port 2000 $rate 5 &
            server=$!
            until grep -qi ":$(printf %04X $port) .* 0A" /proc/net/tcp; do :; done
            "$bin" $loop $port 2000 $rate 5
            wait $server || true
            port=$((port + 1))
        done
    done
done
