#!/usr/bin/env bash
# The wheel, in an empty environment, with no Rust on the path: version, then a short run with the simulator.
set -euo pipefail
cd "$(dirname "$0")/.."
wheel=$(ls -t dist/*.whl | head -1)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check "$wheel"
cd "$dir"
export PATH="$dir/venv/bin:/usr/bin:/bin" WHATSAPP_DATA_DIR="$dir/data" WHATSAPP_ADMIN_PORT=0
unset PYTHONPATH
runner version
runner service print docker >/dev/null # the files that lie beside the code are in the wheel
runner run --simulator 3 >"$dir/log" 2>&1 &
pid=$!
for _ in $(seq 100); do
    online=$( { runner sessions --json 2>/dev/null | grep -o '"state": *"online"' || true; } | wc -l)
    [ "$online" -ge 3 ] && break
    sleep 0.2
done
curl -fsS --unix-socket "$dir/data/admin.sock" http://localhost/ | grep -q main.js # the dashboard is in the wheel
kill -TERM "$pid"
wait "$pid" || { cat "$dir/log"; exit 1; }
[ "${online:-0}" -ge 3 ] || { cat "$dir/log"; echo "wheel: only ${online:-0} of 3 online" >&2; exit 1; }
echo "wheel: installed without Rust, 3 sessions online, stopped cleanly"
