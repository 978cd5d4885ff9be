#!/bin/sh
# predict.sh - predicted against measured speed and memory, over shapes, types, layouts and batches.
# Why:   a plan is only worth as much as its predictions; the shapes here are others than those that the
#        planner's constants are measured with (workers/noderates.c).
# Usage: tests/bench/predict.sh [BUILD] [CASE...]     (default: build, all cases; needs 2 cores, 3 GB in /tmp)
#        MODELS=FOLDER keeps the models there for the next run; MAKE_ONLY=1 only makes them.
#        ROUNDS=N measures and predicts every case N times, all cases in turns; the medians are shown. A
#        virtual machine's speed may differ by a third from one minute to the next: the nodes measure
#        themselves in one minute, the model runs in another.
# Shows: tokens/s, best of five, since the prediction is of a machine at rest; the error of the prediction;
#        the memory of the largest rank. * marks errors over 15% (memory 5%); PRECISE=1
#        ends with 1 where there is one. RAW=FILE gets a line a case and round, and is added to.
set -e
build=${1:-build}
[ $# -gt 0 ] && shift
muster=$build/muster
maker=$build/tests/bench/make_model
[ -x "$maker" ] || maker=$(find "$build" -name make_model -type f | head -1)
dir=$(mktemp -d /tmp/muster-predict-XXXXXX)
trap 'rm -rf "$dir"' EXIT INT TERM
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

# Shapes: even weights of wide, deep, and few-but-large layers.
wide="--layers 12 --dim 1536 --heads 24 --kv-heads 4 --head-dim 64 --ffn 4096 --vocab 8000"
deep="--layers 24 --dim 1024 --heads 16 --kv-heads 8 --head-dim 64 --ffn 3584 --vocab 8000"
large="--layers 5 --dim 2560 --heads 20 --kv-heads 20 --head-dim 128 --ffn 7168 --vocab 8000"

# name shape type tp pp batch
cases="1 wide q8_0 1 1 1
2 wide q8_0 2 1 1
3 wide q8_0 1 2 4
4 wide q4_0 1 1 4
5 deep q8_0 1 1 16
6 deep q4_0 2 1 1
7 deep q4_0 1 1 1
8 deep q8_0 1 2 1
9 large q4_k 1 1 1
10 large q4_k 2 1 4
11 large q4_0 1 1 1
12 deep f16 2 1 4"

field() {   # file, phase, key: of the first run, from indented JSON
    sed -n "/^ \"$2\": {/,/^ }/s/^  \"$3\": \([0-9.e+-]*\),*$/\1/p" "$1" | head -1
}
worst_sum() {   # file: bytes of the rank that holds most, of the first decode
    sed -n '/^ "decode": {/,/^ }/p' "$1" | awk -F'[:,]' '
        /"rank":/ { s = 0 } /weights_bytes|kv_bytes|scratch_bytes/ { s += $2; if (s > m) m = s }
        END { print m }'
}

raw=${RAW:-$dir/raw}

# One case once: case shape type layout batch, decode best and said, prefill best and said, bytes held and said.
measure() {
    model=${MODELS:-$dir}/$shape.$type.gguf
    eval "numbers=\$$shape"
    # shellcheck disable=SC2086
    [ -e "$model" ] || "$maker" --preset tinyllama $numbers --type "$type" --out "$model" > /dev/null
    [ -z "$MAKE_ONLY" ] || return 0
    ranks=$((tp * pp))
    mpirun -n $ranks --bind-to none --oversubscribe "$muster" bench -m "$model" --layouts "${tp}x$pp" \
        --sequences "$batch" --prefill 256 --decode 24 --repeat 5 --json > "$dir/bench.json" 2> /dev/null < /dev/null
    "$muster" plan "$model" --nodes "cores=1,mem=64G*$ranks" --tp "$tp" --pp "$pp" --ctx 258 --batch "$batch" \
        --chunk $((256 + batch)) --json > "$dir/plan.json" < /dev/null
    said=$(awk -F'[:,]' '/^  [{]/ { s = 0 } /"(weights|kv|scratch)_bytes"/ { s += $2; if (s > m) m = s }
                         END { print m }' "$dir/plan.json")
    echo "$n $shape $type ${tp}x$pp $batch" \
        "$(field "$dir/bench.json" decode best_tokens_per_s)" \
        "$(field "$dir/bench.json" decode predicted_tokens_per_s)" \
        "$(field "$dir/bench.json" prefill best_tokens_per_s)" \
        "$(field "$dir/bench.json" prefill predicted_tokens_per_s)" \
        "$(worst_sum "$dir/bench.json")" "$said" >> "$raw"
}

round=0
while [ $((round += 1)) -le "${ROUNDS:-1}" ]; do
    echo "$cases" | while read -r n shape type tp pp batch; do
        [ $# -eq 0 ] || echo " $* " | grep -q " $n " || continue
        measure
    done
done
[ -z "$MAKE_ONLY" ] || exit 0

awk '
    function off(x, most) { return x > 1 + most || x < 1 - most }
    function median(key, i,   n, v, a, b, t) {     # column i of the rounds of a case
        n = split(column[key, i], v, " ")
        for (a = 1; a <= n; a++) for (b = a + 1; b <= n; b++) if (v[b] + 0 < v[a] + 0) { t = v[a]; v[a] = v[b]; v[b] = t }
        return n % 2 ? v[(n + 1) / 2] + 0 : (v[n / 2] + v[n / 2 + 1]) / 2
    }
    !($1 in name) { name[$1] = sprintf("%-4s %-6s %-5s %-6s %5s", $1, $2, $3, $4, $5); order[++cases] = $1 }
    { for (i = 6; i <= 11; i++) column[$1, i] = column[$1, i] " " $i }
    END {
        printf "%-4s %-6s %-5s %-6s %5s | %28s | %28s | %22s\n", "case", "shape", "type", "layout", "batch",
            "decode: best, said, error", "prefill: best, said, error", "MiB: held, said, error"
        for (c = 1; c <= cases; c++) {
            for (i = 6; i <= 11; i++) m[i] = median(order[c], i)
            printf "%s | %9.1f %9.1f %+7.1f%% | %9.1f %9.1f %+7.1f%% | %6.0f %6.0f %+6.1f%%%s\n",
                name[order[c]], m[6], m[7], 100 * (m[7] / m[6] - 1), m[8], m[9], 100 * (m[9] / m[8] - 1),
                m[10] / 1048576, m[11] / 1048576, 100 * (m[11] / m[10] - 1),
                off(m[7] / m[6], 0.15) || off(m[9] / m[8], 0.15) || off(m[11] / m[10], 0.05) ? " *" : ""
        }
    }' "$raw" | tee "$dir/table"
if [ -n "$PRECISE" ] && grep -q '\*$' "$dir/table"; then exit 1; fi
