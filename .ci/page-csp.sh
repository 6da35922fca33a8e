#!/usr/bin/env bash
# The promotion page's Content-Security-Policy names its inline style and script by their hashes.
# Without an argument: fail when csp.txt or the page's own comment no longer match. `write`: renew both.
set -euo pipefail
cd "$(dirname "$0")/../engine/src/http/page"

# The bytes between <tag> and </tag>, exactly as a browser hashes them.
hash_of() {
    perl -0777 -ne 'print $1 if m{<'"$1"'>(.*?)</'"$1"'>}s' index.html | openssl dgst -sha256 -binary | base64
}

policy="default-src 'none'; style-src 'sha256-$(hash_of style)'; script-src 'sha256-$(hash_of script)'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

if [ "${1:-}" = write ]; then
    printf '%s\n' "$policy" >csp.txt
    sed -i "s|^  Content-Security-Policy: .*|  Content-Security-Policy: $policy|" index.html
elif [ "$(cat csp.txt)" != "$policy" ] || ! grep -qF "  Content-Security-Policy: $policy" index.html; then
    echo "engine/src/http/page: the policy no longer fits the page; run .ci/page-csp.sh write" >&2
    exit 1
fi
