#!/usr/bin/env bash
# Checks that this machine can build and test Floodgate, and installs what is missing.
#
# With everything in place it is silent, offline and done in milliseconds, so every target of the
# Makefile may call it. Only what is missing is installed: by apt-get as root or with a sudo that
# asks no password; otherwise the one line to type is printed and the exit code is 1.
set -euo pipefail

has() { command -v "$1" >/dev/null 2>&1; }
# bindgen loads libclang at build time; `clang` alone does not bring the name it looks for.
has_libclang() {
    [ -n "${LIBCLANG_PATH:-}" ] || compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null ||
        compgen -G '/usr/lib*/libclang.so*' >/dev/null || compgen -G '/usr/lib/*-linux-gnu/libclang*.so*' >/dev/null
}

# Its programs are enough: tests start servers of their own, and no service runs.
has_postgresql() { compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null; }

is_installed() { dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'ok installed'; }

# One line a need: the Debian package, then the test that says it is here.
needs=(
    "g++            has g++"
    "clang          has clang"
    "libclang-dev   has_libclang"
    "curl           has curl"
)

# What a target asks for besides: packages.
for package in "$@"; do
    case $package in
    postgresql) needs+=("postgresql has_postgresql") ;;
    chromium-driver) needs+=("$package has chromedriver") ;;
    redis-server) needs+=("$package has $package") ;;
    *) needs+=("$package is_installed $package") ;;
    esac
done

missing=()
for need in "${needs[@]}"; do
    read -r package probe <<<"$need"
    $probe || missing+=("$package")
done

if [ ${#missing[@]} -gt 0 ]; then
    line="apt-get install -y --no-install-recommends ca-certificates ${missing[*]}"
    if ! has apt-get; then
        echo "Missing: ${missing[*]} (names of Debian packages). Please install them and start again." >&2
        exit 1
    elif [ "$(id -u)" -eq 0 ]; then
        as_root=(env DEBIAN_FRONTEND=noninteractive)
    elif has sudo && sudo -n true 2>/dev/null; then
        as_root=(sudo -n env DEBIAN_FRONTEND=noninteractive)
    else
        echo "Missing: ${missing[*]}. Please type this and start again:" >&2
        echo "  sudo apt-get update && sudo $line" >&2
        exit 1
    fi
    echo "Installing ${missing[*]} ..."
    log=$(mktemp)
    policy=''
    trap 'rm -f "$log"; [ -z "$policy" ] || "${as_root[@]}" rm -f "$policy"' EXIT
    # Packages of servers would start them; Debian asks this file first. One that is there
    # belongs to somebody who had a reason.
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        policy=/usr/sbin/policy-rc.d
        printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" install -m 755 /dev/stdin "$policy"
    fi
    read -ra command <<<"$line"
    # Package lists are refreshed only when the ones at hand do not do.
    if ! "${as_root[@]}" "${command[@]}" >"$log" 2>&1; then
        if ! { "${as_root[@]}" apt-get update && "${as_root[@]}" "${command[@]}"; } >"$log" 2>&1; then
            tail -n 20 "$log" >&2
            echo "apt-get could not install ${missing[*]}; the lines above say why." >&2
            exit 1
        fi
    fi
fi

if ! has cargo; then
    toolchain=$(sed -n 's/^channel = "\(.*\)"/\1/p' "$(dirname "$0")/../rust-toolchain.toml")
    cat >&2 <<TEXT
Missing: Rust $toolchain. Debian 12 has no package that is new enough; rustup installs it for your user alone:
  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --default-toolchain $toolchain --profile minimal -c rustfmt -c clippy
Then start again (the Makefile looks in ~/.cargo/bin by itself).
TEXT
    exit 1
fi
