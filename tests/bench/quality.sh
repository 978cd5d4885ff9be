#!/bin/sh
# quality.sh - does a picture model paint what it is told? First try, picture i from seed i, nothing
#           picked out, the PNG as written; what the scorer cannot read is wrong.
# Usage:    tests/bench/quality.sh BUILD MODEL [N] [RANKS] [THINGS] [IMAGINE OPTION...]
#           N pictures a set (default 500), THINGS 1, 2 or 0: half of the pictures each (default)
# Sets:     seen (seen combinations, new scenes), pair, triple, relation (held out for ever: scene.c), and
#           16 seeds of each of N / 16 plain captions for diversity. THINGS 1 has no relation set.
# Leaves:   nothing; the folders of pictures stay in KEEP if that is set.
set -eu
build=$1 model=$2 n=${3:-500} ranks=${4:-1} things=${5:-0}
[ $# -le 5 ] && shift $# || shift 5
folder=${KEEP:-$(mktemp -d)}
mkdir -p "$folder"
[ -n "${KEEP:-}" ] || trap 'rm -rf "$folder"' EXIT

paint() {   # NAME SET SEEDS OPTION...
    name=$1 set=$2 seeds=$3
    shift 3
    "$build/tests/bench/bench_quality" "$set" "$n" "$things" "$seeds" > "$folder/$name.jsonl"
    mpirun --allow-run-as-root --oversubscribe --bind-to none -n "$ranks" "$build/muster" imagine -m "$model" \
        --prompts "$folder/$name.jsonl" -o "$folder/$name" "$@" > /dev/null 2> "$folder/$name.log" ||
        { cat "$folder/$name.log" >&2; exit 1; }
    echo "== $name: $(tail -1 "$folder/$name.log" | sed 's/.*: //')"
    "$build/muster" score "$folder/$name" --distance
}

sets="seen pair triple relation"
[ "$things" != 1 ] || sets="seen pair triple"
for set in $sets; do
    paint "$set" "$set" 1 "$@"
done
paint diversity seen 16 "$@"
