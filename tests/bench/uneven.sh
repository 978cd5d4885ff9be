#!/bin/sh
# uneven.sh - two ranks of one thread, the second limited to a third of a core: even shares against
#             weighted ones, on one host, and (with the hosts tool) on two, where the plan weighs by itself.
# Usage:  tests/bench/uneven.sh [MODEL] [BUILD]      (root, a cpu controller of cgroups; default: smollm2)
# Hosts:  as network.sh; without the tool that MUSTER_HOSTS names only one host is measured.
# Trap:   a quota is time, not speed: a period of a few ms keeps the limited rank from stopping for longer
#         than a step takes.
set -eu
cd "$(dirname "$0")/../.."
model=${1:-smollm2}
build=${2:-build}
hosts=${MUSTER_HOSTS:-../shared/hosts/hosts}
dir=$(mktemp -d /tmp/muster-uneven-XXXXXX)
period=3000
group=

# A control group of ours with a third of one core; its name in $group.
for root in /sys/fs/cgroup/cpu /sys/fs/cgroup/cpu,cpuacct /sys/fs/cgroup; do
    mkdir "$root/muster-uneven" 2> /dev/null || [ -d "$root/muster-uneven" ] || continue
    if [ -e "$root/muster-uneven/cpu.cfs_quota_us" ]; then
        echo $period > "$root/muster-uneven/cpu.cfs_period_us"
        echo $((period / 3)) > "$root/muster-uneven/cpu.cfs_quota_us"
        group=$root/muster-uneven
    elif [ -e "$root/muster-uneven/cpu.max" ]; then
        echo "$((period / 3)) $period" > "$root/muster-uneven/cpu.max"
        group=$root/muster-uneven
    else
        rmdir "$root/muster-uneven"
    fi
    [ -z "$group" ] || break
done
[ -n "$group" ] || { echo "uneven.sh: no cpu quota here (root? cgroups?): nothing measured" >&2; exit 0; }

up=
cleanup() {
    [ -z "$up" ] || "$hosts" down
    sleep 0.3
    rmdir "$group" || true
    rm -rf "$dir"
    wait
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# Rank 1 asks to be limited and waits until it is: inside a made host the control groups are not to be seen.
cat > "$dir/rank" << EOF
#!/bin/sh
if [ "\$OMPI_COMM_WORLD_RANK" = 1 ]; then
    echo \$\$ > $dir/pid.new && mv $dir/pid.new $dir/pid
    while [ -e $dir/pid ]; do sleep 0.05; done
fi
exec $PWD/$build/muster "\$@"
EOF
chmod +x "$dir/rank"
while [ -e "$dir/rank" ]; do
    [ ! -e "$dir/pid" ] || { cat "$dir/pid" > "$group/cgroup.procs"; rm "$dir/pid"; }
    sleep 0.05
done &
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

# label, muster's options, then mpirun's words; keeps prefill and decode tokens/s in $dir/label.
bench() {
    label=$1 options=$2
    shift 2
    # shellcheck disable=SC2086
    "$@" "$dir/rank" bench -m "$model" --threads 1 --prefill 128 --decode 24 --repeat 3 $options \
        2> /dev/null < /dev/null | awk '/^  prefill/ { p = $4 } /^  decode/ { d = $4 } END { print p, d }' \
        > "$dir/$label"
}
row() {     # what, even, weighted
    awk -v what="$1" '{ if (FNR == NR) { p = $1; d = $2 } else
        printf "%-28s | %8.1f %8.1f  x%.2f | %8.1f %8.1f  x%.2f\n", what, p, $1, $1 / p, d, $2, $2 / d }' \
        "$dir/$2" "$dir/$3"
}

printf '%-28s | %26s | %26s\n' "layout, second rank at 1/3" 'prefill: even, weighted' 'decode: even, weighted'
for layout in 2x1 1x2; do
    for shares in 1:1 3:1; do
        bench "$layout.$shares" "--layouts $layout --shares $shares" mpirun --oversubscribe --bind-to none -n 2
    done
    row "one host, $layout, 3:1" "$layout.1:1" "$layout.3:1"
done
[ -x "$hosts" ] || exit 0
exec 9> /tmp/muster-hosts.lock          # the hosts are the machine's: one at a time
flock 9
"$hosts" up 2
up=1
for layout in 2x1 1x2; do
    bench "far.$layout.even" "--layouts $layout --shares 1:1" "$hosts" mpirun -n 2
    bench "far.$layout.auto" "--layouts $layout" "$hosts" mpirun -n 2
    row "two hosts, $layout, by itself" "far.$layout.even" "far.$layout.auto"
done
