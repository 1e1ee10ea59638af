#!/usr/bin/env bash
# Builds kube-apiserver, kube-controller-manager, kube-scheduler and kubelet from Debian's own source package of
# Kubernetes, for tests that need the real API. About 13 CPU minutes, once: the programs are kept.
#
#   tests/cluster/build_kubernetes.sh [FOLDER]     default: ~/.cache/lapa/kubernetes
#
# Needs Debian and root (for apt-get). Prints the folder; a second call finds it complete.
set -euo pipefail

folder=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/lapa/kubernetes}
programs=(kube-apiserver kube-controller-manager kube-scheduler kubelet)

is_complete() {
    for program in "${programs[@]}"; do [ -x "$folder/$program" ] || return 1; done
}

install_tools() {
    export DEBIAN_FRONTEND=noninteractive
    sed 's/^Types: deb$/Types: deb-src/' /etc/apt/sources.list.d/debian.sources \
        > /etc/apt/sources.list.d/debian-src.sources
    apt-get -qq update
    # reflect2 for the fix below; dpkg-dev for `apt-get source`.
    apt-get -qq install -y --no-install-recommends \
        golang-go rsync jq make dpkg-dev golang-github-modern-go-reflect2-dev > /dev/null
}

# The vendored reflect2 1.0.1 crashes when built with Go 1.18 or later; Debian's 1.0.2 does not.
mend_reflect2() {
    local vendored=vendor/github.com/modern-go/reflect2
    rm "$vendored"/*.go
    cp /usr/share/gocode/src/github.com/modern-go/reflect2/*.go "$vendored/"
    rm -f "$vendored"/*_test.go
}

build() {
    work=$(mktemp -d)  # not local: the trap runs after this function
    trap 'chmod -R u+w "$work" && rm -rf "$work"' EXIT
    cd "$work"
    apt-get -qq source --download-only kubernetes
    tar xf kubernetes_*.orig.tar.gz
    cd kubernetes-*/
    mend_reflect2
    export CGO_ENABLED=0 GOPATH=$PWD/.go GOFLAGS=-mod=vendor
    mkdir -p .go/src/k8s.io
    ln -s ../../.. .go/src/k8s.io/kubernetes
    make -s WHAT="$(printf 'cmd/%s ' "${programs[@]}")"
    mkdir -p "$folder"
    for program in "${programs[@]}"; do
        cp "_output/bin/$program" "$folder/$program.partial"
        mv "$folder/$program.partial" "$folder/$program"
    done
}

is_complete || { install_tools >&2; (build) >&2; }
echo "$folder"
