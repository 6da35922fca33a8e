#!/usr/bin/env bash
# Trains the compiler: builds programs that count what they do, has them sell for a minute, and
# keeps what they counted as bench/profile/floodgate.profdata, which every build reads
# (bench/profile/rustc). Half an hour the first time: RocksDB is compiled once more.
set -euo pipefail
cd "$(dirname "$0")/.."
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
counts=$target/train/counts
export TRAIN_COUNTS=$counts

rustup component add llvm-tools
rm -rf "$counts"
CARGO_TARGET_DIR=$target/train .ci/build.sh --workspace --bins
# Servers that the bench starts are told to end, instead of being killed: only then they write.
"$target/train/release/floodgate-bench" \
    --rounds 1 --seconds 3 --components false --out "$target/train/bench"
host=$(rustc -vV | sed -n 's/^host: //p')
"$(rustc --print sysroot)/lib/rustlib/$host/bin/llvm-profdata" \
    merge --sparse --output=bench/profile/floodgate.profdata "$counts"/*.profraw
# Cargo does not see that the profile is another one.
mapfile -t crates < bench/profile/crates
for crate in floodgate-{engine,ledger,loadtest,bench} "${crates[@]}"; do stale+=(-p "$crate"); done
cargo clean --release "${stale[@]}"
ls -l bench/profile/floodgate.profdata
