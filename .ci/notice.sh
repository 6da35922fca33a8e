#!/usr/bin/env bash
# A word before the one long compile, so that nobody takes it for a hang.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! compgen -G "${CARGO_TARGET_DIR:-target}/release/build/librocksdb-sys-*/out/librocksdb.a" >/dev/null; then
    echo "First build: RocksDB's C++ is compiled once, about 15 minutes on 2 cores. Later builds take seconds."
fi
