#!/usr/bin/env bash
# pm2 from npm, in a folder of its own, with the ecosystem file as it is printed: start, logs, restart, an update in
# place, stop, against the built-in simulator. PYTHON names the interpreter; PM2_VERSION the pm2.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-$PWD/.venv/bin/python}
dir=$(mktemp -d)
export PM2_HOME=$dir/pm2 WHATSAPP_DATA_DIR=$dir/data WHATSAPP_ADMIN_PORT=0
pm2() { "$dir/node_modules/.bin/pm2" "$@"; }
trap 'pm2 kill >/dev/null 2>&1 || true; rm -rf "$dir"' EXIT
npm install --prefix "$dir" --no-audit --no-fund --loglevel=error "pm2@${PM2_VERSION:-6}" >/dev/null
"$python" -m runner service print pm2 | sed "s/args: '-m runner run'/args: '-m runner run --simulator 5'/" >"$dir/ecosystem.config.cjs"

field() { pm2 jlist | "$python" -c "import json,sys; a=json.load(sys.stdin)[0]; print({'pid':a['pid'],'status':a['pm2_env']['status'],'restarts':a['pm2_env']['restart_time']}['$1'])"; }
online() {
    for _ in $(seq 150); do
        n=$("$python" -m runner status --json 2>/dev/null | "$python" -c "import json,sys; print(json.load(sys.stdin)['states'].get('online',0))" 2>/dev/null || echo 0)
        [ "$n" = 5 ] && return 0
        sleep 0.2
    done
    pm2 logs --nostream --lines 50
    echo "pm2: only $n of 5 online $1" >&2
    return 1
}
pm2 start "$dir/ecosystem.config.cjs" >/dev/null
online "after start"
first=$(field pid)
pm2 restart wa-runner >/dev/null
online "after restart"
second=$(field pid)
[ "$first" != "$second" ]
"$python" -m runner restart --yes
online "after a restart in place"
[ "$(field pid)" = "$second" ] && [ "$(field restarts)" = 1 ] || { echo "pm2 lost its process over a restart in place" >&2; exit 1; }
pm2 logs wa-runner --nostream --lines 200 | grep -q '"restarted":"requested"'
begin=$(date +%s%N)
pm2 stop wa-runner >/dev/null
[ "$(field status)" = stopped ]
pm2 logs wa-runner --nostream --lines 20 | grep -q 'runner stopped'
echo "pm2 $(pm2 --version | tail -1): start, restart, restart in place (pid $second kept, counted as none), logs, stop in $((($(date +%s%N) - begin) / 1000000)) ms"
