#!/usr/bin/env bash
# The demo: a fresh engine on free ports of 127.0.0.1, one stampede by the load harness, its verdict.
#
# Usage: demo.sh [scenario [name of the report]]
#
# Leaves nothing behind but the report. The exit code is the harness's: 0 when every promise held.
set -euo pipefail
cd "$(dirname "$0")/.."
# The caller's own engine settings are for the caller's own engine.
unset "${!FLOODGATE_@}"

target=${CARGO_TARGET_DIR:-target}
scenario=${1:-loadtest/scenarios/double-eleven.toml}
report=$target/${2:-demo}
ready_seconds_max=60
stop_seconds_max=10
work=$(mktemp -d "${TMPDIR:-/tmp}/floodgate-demo.XXXXXX")
engine_log=$work/engine.log
engine='' harness=''

alive() { [ -n "$1" ] && kill -0 "$1" 2>/dev/null; }

# Ends one process of ours by its id: asked first, then made to.
# shellcheck disable=SC2317 # Called by the trap.
stop() {
    alive "$1" || return 0
    kill -TERM "$1" 2>/dev/null || return 0
    local until=$((SECONDS + stop_seconds_max))
    while alive "$1" && [ "$SECONDS" -lt "$until" ]; do sleep 0.1; done
    if alive "$1"; then
        echo "Process $1 did not stop within $stop_seconds_max s; killing it." >&2
        kill -KILL "$1" 2>/dev/null || true
    fi
    wait "$1" 2>/dev/null || true
}

# shellcheck disable=SC2317 # Called by the trap.
clean() {
    trap '' INT TERM
    stop "$harness"
    stop "$engine"
    rm -rf "$work"
}
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

give_up() {
    echo "$1" >&2
    if [ -s "$engine_log" ]; then
        echo "The engine's last words:" >&2
        tail -n 20 "$engine_log" >&2
    fi
    exit 1
}

# A port nobody listens on, below the range the kernel hands out for outgoing connections.
free_port() {
    local port
    for _ in {1..50}; do
        port=$((20000 + RANDOM % 10000))
        if [ "$port" != "${1:-}" ] && ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "$port"
            return
        fi
    done
    return 1
}

public_port=$(free_port) || give_up "No free port found on 127.0.0.1."
admin_port=$(free_port "$public_port") || give_up "No free port found on 127.0.0.1."
public=http://127.0.0.1:$public_port
admin=http://127.0.0.1:$admin_port

FLOODGATE_HTTP_LISTEN=127.0.0.1:$public_port FLOODGATE_ADMIN_LISTEN=127.0.0.1:$admin_port \
    FLOODGATE_DATA_DIR=$work/data "$target/release/floodgate" serve --config config/demo.toml \
    >"$engine_log" 2>&1 &
engine=$!

until=$((SECONDS + ready_seconds_max))
until curl -fsS --noproxy '*' --max-time 2 -o /dev/null "$admin/readyz" 2>/dev/null; do
    alive "$engine" || give_up "The engine ended before it was ready."
    [ "$SECONDS" -lt "$until" ] || give_up "The engine was not ready within $ready_seconds_max s."
    sleep 0.1
done
echo "The engine sells at $public (page) and reports at $admin (metrics)."

rm -rf "$report"
mkdir -p "$report"
"$target/release/floodgate-loadtest" run --scenario "$scenario" \
    --target "$public" --admin "$admin" --admin-token-file "$work/data/admin-token" --report "$report" &
harness=$!

# Whichever ends first: an engine that goes before its harness has failed, whatever the answers were.
code=0 ended=''
wait -n -p ended "$engine" "$harness" || code=$?
if [ "$ended" = "$engine" ]; then
    engine=''
    give_up "The engine ended in the middle of the stampede (exit code $code)."
fi
harness=''

if [ "$code" -eq 0 ]; then
    echo "Verdict: every promise held. Report: $report"
else
    echo "Verdict: NOT passed (exit code $code). Report: $report" >&2
    [ ! -s "$engine_log" ] || { echo "The engine's last words:" >&2 && tail -n 20 "$engine_log" >&2; }
fi
exit "$code"
