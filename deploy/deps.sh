#!/bin/sh
# deps.sh - installs the Debian/Ubuntu packages that Muster is built of, if any of them is missing.
# Why:    demo.sh and test.sh must be one command each on a fresh machine, and must not ask for root
#         on a machine that has everything already.
# Usage:  deploy/deps.sh            (as root, or as a user who may sudo; --list prints the packages)
set -eu

packages="
    gcc libc6-dev cmake ninja-build pkg-config
    libopenmpi-dev openmpi-bin
    libopenblas-openmp-dev libdnnl-dev
    libprotobuf-c-dev protobuf-c-compiler
    libpng-dev libpcre2-dev libutf8proc-dev libjansson-dev libsqlite3-dev libhwloc-dev
    libcmocka-dev
"
# shellcheck disable=SC2086  # the list is meant to be split
set -- ${1-} $packages
if [ "$1" = --list ]; then
    shift
    printf '%s\n' "$@"
    exit 0
fi

if ! command -v dpkg-query > /dev/null || ! command -v apt-get > /dev/null; then
    echo "deps.sh: no apt on this system; needed, under their Debian names: $*" >&2
    exit 0      # they may be there all the same: cmake will say what it misses
fi

missing=
for p in "$@"; do
    # Spelled out because a package that was removed but not purged is known to dpkg too.
    case $(dpkg-query -W -f '${Status}' "$p" 2> /dev/null || true) in
        *"ok installed") ;;
        *) missing="$missing $p" ;;
    esac
done
[ -n "$missing" ] || exit 0

sudo=
if [ "$(id -u)" != 0 ]; then
    command -v sudo > /dev/null || {
        echo "deps.sh: run as root, or install sudo; missing:$missing" >&2
        exit 1
    }
    sudo=sudo
fi
echo "deps.sh: installing$missing" >&2
$sudo apt-get update -qq
# shellcheck disable=SC2086
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing \
    > /dev/null
