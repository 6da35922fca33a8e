#!/usr/bin/env bash
# The checks that are not Rust: dependencies' licences and sources, shell scripts, the page's policy.
set -euo pipefail
cd "$(dirname "$0")/.."

.ci/page-csp.sh

if command -v shellcheck >/dev/null 2>&1; then
    shellcheck .ci/run .ci/*.sh loadtest/*/*.sh bench/profile/rustc
else
    echo "shellcheck is not installed: shell scripts were not checked (apt-get install shellcheck)."
fi

if ! cargo deny --version >/dev/null 2>&1; then
    echo "cargo-deny is missing; cargo installs it once, which takes a few minutes ..."
    cargo install cargo-deny --locked
fi
checks=(bans licenses sources)
# The advisory database lives on another host, which an offline machine cannot ask.
[ "${DENY_ADVISORIES:-0}" != 1 ] || checks+=(advisories)
cargo deny --locked check "${checks[@]}"
