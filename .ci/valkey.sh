#!/usr/bin/env bash
# Prints where a valkey-server is: the one that is installed, or one that is fetched from Debian
# (bookworm has it in its backports) into a folder of ours, signed as all of Debian is, and not
# installed. The same scripts must do the same on it as on Redis 7.0 (engine/tests/differential.rs).
#
# Where it cannot be had, a word about it and nothing printed: tests run on Redis alone.
set -euo pipefail

if command -v valkey-server; then exit; fi
folder=${XDG_CACHE_HOME:-$HOME/.cache}/floodgate/valkey
server=$folder/usr/bin/valkey-server
if [ -x "$server" ]; then
    echo "$server"
    exit
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/archives/partial" "$work/unpacked"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$keyring] http://deb.debian.org/debian bookworm-backports main" >"$work/sources.list"
apt() {
    apt-get -q -o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=- \
        -o "Dir::State::Lists=$work/lists" -o "Dir::Cache=$work" -o APT::Sandbox::User= "$@"
}
# Its tools are the same program by other names.
if (cd "$work" && apt update && apt download valkey-server valkey-tools) >"$work/log" 2>&1 &&
    for package in "$work"/*.deb; do dpkg-deb -x "$package" "$work/unpacked"; done &&
    "$work/unpacked/usr/bin/valkey-server" --version >>"$work/log" 2>&1; then
    mkdir -p "${folder%/*}"
    rm -rf "$folder"
    mv "$work/unpacked" "$folder"
    echo "$server"
else
    tail -n 3 "$work/log" >&2
    echo "Valkey could not be fetched from Debian; the scripts are tested on Redis alone." >&2
fi
