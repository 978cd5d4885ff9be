#!/bin/sh
# network.sh - decode of a model on two hosts joined by TCP, at three link rates: tokens per second and
#              the time of a step on each rank, split into compute, sums, wait and packing.
# Usage:  tests/bench/network.sh [MODEL]         (root; default: the chat model smollm2)
# Hosts:  network namespaces made by the tool that MUSTER_HOSTS names; without it nothing is measured.
# Trap:   both hosts share this machine's cores, so give each rank half of them (THREADS, default 1).
set -eu
cd "$(dirname "$0")/../.."
hosts=${MUSTER_HOSTS:-../shared/hosts/hosts}
model=${1:-smollm2}
threads=${THREADS:-1}

[ -x "$hosts" ] || { echo "network.sh: no $hosts (set MUSTER_HOSTS): nothing measured" >&2; exit 0; }
[ "$(id -u)" = 0 ] || { echo "network.sh: making hosts needs root" >&2; exit 1; }
exec 9> /tmp/muster-hosts.lock          # the hosts are the machine's: one at a time
flock 9
trap '"$hosts" down 9>&-' EXIT
trap 'exit 130' INT TERM

bench() {
    "$@" "$PWD/build/muster" bench -m "$model" --threads "$threads" --prefill 16 --decode 48 \
        --repeat 5 --layouts 2x1,1x2 2> /dev/null 9>&- |
        awk '/^  prefill/ { skip = 1 } /^tp|^  decode/ { skip = 0 } !skip && !/^limits/'
}

echo "one host, shared memory"
root=
[ "$(id -u)" != 0 ] || root=--allow-run-as-root
bench mpirun $root --oversubscribe --bind-to none -n 2
for rate in "" 10gbit 1gbit; do
    # shellcheck disable=SC2086         # an empty rate is no argument
    "$hosts" up 2 $rate 9>&-
    echo "two hosts, ${rate:-no limit}"
    bench "$hosts" mpirun -n 2
done
