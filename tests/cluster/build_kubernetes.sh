#!/usr/bin/env bash
# Builds programs of Kubernetes from Debian's own source package, for tests that need the real API. Once: they are kept
# in ~/.cache/lapa/kubernetes.
#
#   tests/cluster/build_kubernetes.sh [PROGRAM…]
#
# The API server alone by default, about 8 CPU minutes. Real pods also take kube-controller-manager, kube-scheduler and
# kubelet, about 13 CPU minutes in all. Needs Debian and root (for apt-get), a few GB of disk in TMPDIR while it builds.
# Prints the folder; only what is missing there is built.
set -euo pipefail

folder=${XDG_CACHE_HOME:-$HOME/.cache}/lapa/kubernetes
programs=()
for program in "${@:-kube-apiserver}"; do
    [ -x "$folder/$program" ] || programs+=("$program")
done

# Where Debian's sources are, beside its packages: written for both styles of apt's lists.
name_sources() {
    local lists=/etc/apt/sources.list.d
    if [ -f "$lists/debian.sources" ]; then
        sed 's/^Types: deb$/Types: deb-src/' "$lists/debian.sources" > "$lists/debian-src.sources"
    else
        sed -n 's/^deb /deb-src /p' /etc/apt/sources.list > "$lists/debian-src.list"
    fi
}

install_tools() {
    export DEBIAN_FRONTEND=noninteractive
    name_sources
    apt-get -qq update
    # reflect2 for the fix below; dpkg-dev for `apt-get source`; openssl for the keys that a test makes.
    apt-get -qq install -y --no-install-recommends \
        golang-go rsync jq make openssl dpkg-dev golang-github-modern-go-reflect2-dev > /dev/null
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

[ ${#programs[@]} -eq 0 ] || { install_tools >&2; (build) >&2; }
echo "$folder"
