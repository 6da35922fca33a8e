#!/usr/bin/env bash
# What the documents of the API say against what an engine answers: Schemathesis makes requests from
# them, good and bad, and holds every answer against them. A fresh engine on free ports of 127.0.0.1
# is sold from and paid first (seed.py), and most requests are about what is there (hooks.py): each
# call must have succeeded at least once (reached.py).
#
# Python's packages go into a folder under target; the first run needs PyPI. FUZZ_EXAMPLES=100 is how
# many requests of each kind a call gets, FUZZ_SEED=7 repeats a run. Exit code 0: nothing was found.
set -euo pipefail
cd "$(dirname "$0")/../.."
# The caller's own engine settings are for the caller's own engine.
unset "${!FLOODGATE_@}"

version=4.32.5
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
tools=$target/fuzz/schemathesis-$version
report=$target/fuzz/report
seed=${FUZZ_SEED:-$RANDOM}
ready_seconds_max=60
checks=not_a_server_error,status_code_conformance,content_type_conformance
checks+=,response_headers_conformance,response_schema_conformance,allow_header_conformance

if [ ! -x "$tools/bin/schemathesis" ]; then
    echo "Installing schemathesis $version into $tools ..."
    rm -rf "$tools"
    python3 -m venv "$tools" || {
        echo "Python's venv is missing: apt-get install python3-venv" >&2
        exit 1
    }
    "$tools/bin/pip" install --quiet --disable-pip-version-check "schemathesis==$version" || {
        rm -rf "$tools"
        echo "PyPI did not give schemathesis $version; nothing was tested." >&2
        exit 1
    }
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/floodgate-fuzz.XXXXXX")
engine=''
# shellcheck disable=SC2317 # Called by the trap.
clean() {
    trap '' INT TERM
    if [ -n "$engine" ]; then
        kill "$engine" 2>/dev/null || true
        wait "$engine" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

"$target/release/floodgate" serve --config config/demo.toml --data-dir "$work/data" \
    --http-listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 >"$work/said" 2>"$work/log" &
engine=$!
until=$((SECONDS + ready_seconds_max))
until mapfile -t urls < <(grep -o 'http://[0-9.:]*' "$work/said") && [ "${#urls[@]}" -eq 2 ]; do
    if ! kill -0 "$engine" 2>/dev/null || [ "$SECONDS" -ge "$until" ]; then
        echo "The engine was not ready within $ready_seconds_max s:" >&2
        tail -n 20 "$work/log" >&2
        exit 1
    fi
    sleep 0.1
done
token=$(cat "$work/data/admin-token")
export FUZZ_SECRET_FILE=$work/data/payment-secret FUZZ_SEEDED=$work/seeded.json FUZZ_DICE=$seed
export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$PWD/loadtest/fuzz
export SCHEMATHESIS_HOOKS=$PWD/loadtest/fuzz/hooks.py
python3 loadtest/fuzz/seed.py "${urls[@]}" "$work/data/admin-token" "$FUZZ_SECRET_FILE" >"$FUZZ_SEEDED"

rm -rf "$report"
mkdir -p "$report"
code=0
fuzz() { # name, address, headers
    echo "--- $1 (FUZZ_SEED=$seed)"
    export FUZZ_SEEN=$work/$1.seen
    # It keeps notes in the folder it runs in.
    (cd "$report" && "$tools/bin/schemathesis" run "$2" --checks "$checks" --seed "$seed" \
        --max-examples "${FUZZ_EXAMPLES:-100}" --continue-on-failure --generation-database none \
        --request-timeout 60 --warnings off --no-color \
        --report ndjson --report-ndjson-path "$report/$1.ndjson" "${@:3}") || code=1
    curl -fsS --noproxy '*' "${@:3}" "$2" -o "$work/$1.json"
    python3 loadtest/fuzz/reached.py "$work/$1.json" "$FUZZ_SEEN" || code=1
}
fuzz public "${urls[0]}/openapi.json" -H 'X-User-Id: fuzz'
fuzz admin "${urls[1]}/admin/openapi.json" -H "Authorization: Bearer $token"

if ! kill -0 "$engine" 2>/dev/null; then
    echo "The engine did not survive:" >&2
    tail -n 20 "$work/log" >&2
    exit 1
fi
# What was sold meanwhile adds up all the same.
left=$(curl -fsS --noproxy '*' -X POST -H "Authorization: Bearer $token" "${urls[1]}/admin/v1/reconcile")
case $left in
'{"differences":0,'*) ;;
*)
    echo "The books do not agree afterwards: $left" >&2
    code=1
    ;;
esac
exit "$code"
