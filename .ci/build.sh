#!/usr/bin/env bash
# cargo build in the one profile, with a word before the first one. Arguments go to cargo.
set -euo pipefail
cd "$(dirname "$0")/.."
.ci/notice.sh
exec cargo build --release --locked "$@"
