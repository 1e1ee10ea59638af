#!/usr/bin/env bash
# Takes promtool, which checks and tests alerting rules, out of Debian's package of Prometheus: PyPI has no wheel of
# it, and installing the package would also start a server.
#
#   tests/cluster/fetch_promtool.sh [FOLDER]     default: ~/.cache/lapa/promtool
#
# Needs Debian or Ubuntu, and no root unless the package lists are missing. Prints the folder; a second call finds it.
set -euo pipefail

folder=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/lapa/promtool}

fetch() {
    work=$(mktemp -d)  # not local: the trap runs after this function
    trap 'rm -rf "$work"' EXIT
    chmod 755 "$work"  # apt downloads as a user of its own
    cd "$work"
    apt-get -qq download prometheus 2> /dev/null || { apt-get -qq update && apt-get -qq download prometheus; }
    dpkg-deb --extract prometheus_*.deb unpacked
    mkdir -p "$folder"
    cp unpacked/usr/bin/promtool "$folder/promtool.partial"
    mv "$folder/promtool.partial" "$folder/promtool"
}

[ -x "$folder/promtool" ] || (fetch) >&2
echo "$folder"
