#!/bin/bash
# bench_imagine.sh - the picture factory against itself: two ranks against one, batches against single pictures,
#                    mixed work against equal, and what ranks do but compute.
# Usage: tests/bench/bench_imagine.sh [BUILD] [MODEL]   (default: build, the model of drawn scenes; needs 2 cores)
#        ROUNDS=5 alternating runs of each, PICTURES=256 of the runs with two ranks.
# Shows: pictures a second, medians. A rank has one core, which on rank 0 the coordinator shares.
#        bf16: with --compute bf16, where the processor has it (next to PyTorch: imagine_peers.py).
#        busy: the share of the replicas' time in which they compute pictures; the rest is messages, queue, files
#        and the end of the batch, when one replica has nothing left to do.
set -eu
build=${1:-build}
model=${2:-deploy/models/scenes-diffusion}
rounds=${ROUNDS:-5}
pictures=${PICTURES:-256}
dir=$(mktemp -d /tmp/muster-imagine-XXXXXX)
trap 'rm -rf "$dir"' EXIT INT TERM
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

# Prompts of equal work, and of 10 to 30 steps with as many calls in all.
for ((i = 0; i < 64; i++)); do
    echo "{\"prompt\": \"a blue car on a green field\", \"seed\": $i, \"steps\": 20}" >> "$dir/equal"
    colour=$(printf 'red\nblue\ngreen\nwhite\n' | sed -n $((i % 4 + 1))p)
    echo "{\"prompt\": \"a $colour car on a green field\", \"seed\": $i, \"steps\": $((10 + i % 21 + (i >= 63) * 10))}" \
        >> "$dir/mixed"
done
calls=$(sed 's/.*"steps": \([0-9]*\).*/\1/' "$dir/mixed" | awk '{ n += $1 } END { print n }')

# name ranks arguments..: pictures a second and busy per cent go to $dir/NAME.
run() {
    name=$1 ranks=$2
    shift 2
    mpirun -n "$ranks" --bind-to core "$build/muster" imagine -m "$model" --threads 1 -o "$dir/out" "$@" \
        > "$dir/said"
    rm -rf "$dir/out"
    sed -n 's/.*pictures, \([0-9.]*\) a second, busy \([0-9.]*\).*/\1 \2/p' "$dir/said" >> "$dir/$name.got"
}
median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
rate() { cut -d' ' -f1 "$dir/$1.got" | median; }
busy() { cut -d' ' -f2 "$dir/$1.got" | median; }

prompt="a blue car on a green field"
for ((r = 0; r < rounds; r++)); do
    run one 1 "$prompt" --seed 1 -n $((pictures / 2))
    run two 2 "$prompt" --seed 1 -n "$pictures"
    run batch1 1 "$prompt" --seed 1 -n 32 --batch 1
    run batch8 1 "$prompt" --seed 1 -n 32 --batch 8
    run equal 1 --prompts "$dir/equal"
    run mixed 1 --prompts "$dir/mixed"
    run half 1 "$prompt" --seed 1 -n 32 --batch 8 --compute bf16 2> /dev/null || : > "$dir/half.got"
done
awk -v one="$(rate one)" -v two="$(rate two)" -v b1="$(rate batch1)" -v b8="$(rate batch8)" \
    -v eq="$(rate equal)" -v mi="$(rate mixed)" -v calls="$calls" -v busy1="$(busy one)" \
    -v busy2="$(busy two)" -v half="$(rate half)" 'BEGIN {
    printf "one rank           %7.2f /s  busy %.1f %%\n", one, busy1
    printf "two ranks          %7.2f /s  busy %.1f %%  %.2f x (wanted 1.9)\n", two, busy2, two / one
    printf "batch 1            %7.2f /s\n", b1
    printf "batch 8            %7.2f /s  %.2f x (wanted 1)\n", b8, b8 / b1
    if (half > 0)
        printf "batch 8, bf16      %7.2f /s  %.2f x batch 8\n", half, half / b8
    printf "equal prompts      %7.2f /s\n", eq
    mi *= calls / (64 * 20)
    printf "mixed prompts      %7.2f /s for as many steps  %.2f x (wanted 0.9)\n", mi, mi / eq }'
