#!/bin/sh
# train_speed.sh - training speed of the three recipes: this program, PyTorch eager and torch.compile in turns,
#           same networks, batches, cores, f32, data in memory; then two ranks of half the cores each.
# Usage:    tests/bench/train_speed.sh [BUILD [ROUNDS [THREADS]]]     (default: build 5 2)
# Peers:    MUSTER_PYTHON has torch, transformers and diffusers; COMPILE= leaves torch.compile out. STEPS (20) a
#           round, RECIPES of "diffusion llm gan".
# Time:     a round takes some 20 s a recipe once the kernels of torch.compile are in its cache; to get them
#           there takes minutes. A machine that does something else measures that.
set -eu
build=${1:-build} rounds=${2:-5} threads=${3:-2} steps=${STEPS:-20}
python=${MUSTER_PYTHON:-python3}
here=$(dirname "$0")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
encoder=$here/../../deploy/models/scenes-gan/text_encoder
export TORCHINDUCTOR_CACHE_DIR="${TORCHINDUCTOR_CACHE_DIR:-$work/compiled}"
# Their headers lie in /tmp otherwise, whatever that says, and a run fails when somebody tidies up there.
export TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS=0

# The last number before "samples/s" of a program's output, noted for RECIPE and WHO.
note() {    # RECIPE WHO COMMAND...
    recipe=$1 who=$2
    shift 2
    "$@" > "$work/out" 2> "$work/err" || { tail -3 "$work/err" >&2; echo 0 samples/s > "$work/out"; }
    sed -n 's/.*\(^\|[ :]\)\([0-9.]*\) samples\/s.*/\2/p' "$work/out" | tail -1 >> "$work/$recipe.$who"
}

torch() {   # RECIPE WHO OPTION...
    recipe=$1 who=$2
    shift 2
    case $recipe in
    diffusion) note diffusion "$who" "$python" "$here/train_torch.py" --threads "$threads" --steps "$steps" "$@" ;;
    llm) note llm "$who" "$python" "$here/train_peers.py" llm --threads "$threads" --batch 16 --rounds 1 \
        --steps "$steps" "$@" ;;
    gan) note gan "$who" "$python" "$here/train_peers.py" captions --threads "$threads" --batch 32 --length 24 \
        --rounds 1 --steps "$steps" "$@" ;;
    esac
}

muster() {  # RECIPE
    case $1 in
    diffusion) set -- diffusion --batch 16 --length 24 --vocab 600 ;;
    llm) set -- llm --batch 16 ;;
    gan) set -- gan --batch 32 --length 24 --vocab 600 --set text_encoder="$encoder" ;;
    esac
    note "$1" muster "$build/tests/bench/bench_train" "$@" --threads "$threads" --rounds 1 \
        --steps "$steps"
}

# Samples/s of `muster train` on the built-in world, the median of a run's rows: RECIPE RANKS THREADS WHO
ranks() {
    case $1 in
    llm) set -- "$@" --batch 16 ;;
    gan) set -- "$@" --batch 32 --set text_encoder="$encoder" ;;
    diffusion) set -- "$@" --batch 16 ;;
    esac
    recipe=$1 n=$2 t=$3 who=$4
    shift 4
    rm -rf "$work/run"
    mpirun --allow-run-as-root --oversubscribe --bind-to none -n "$n" "$build/muster" train "$recipe" --data scenes \
        --out "$work/run" --steps "$((steps * 3))" --log-every "$((steps / 2))" --previews 0 --threads "$t" "$@" > /dev/null 2> "$work/err" ||
        { tail -3 "$work/err" >&2; return; }
    tail -n +3 "$work/run/metrics.csv" | cut -d, -f3 | middle >> "$work/$recipe.$who"
}

middle() { sort -n | awk '{ v[NR] = $1 } END { print (NR > 0 ? v[int((NR + 1) / 2)] : 0) }'; }

for recipe in ${RECIPES:-diffusion llm gan}; do
    for round in $(seq "$rounds"); do
        muster "$recipe"
        torch "$recipe" eager
        [ -z "${COMPILE-1}" ] || torch "$recipe" compile --compile
        ranks "$recipe" 1 "$threads" one
        ranks "$recipe" 2 "$((threads / 2))" two
    done
    printf '%-10s' "$recipe"
    for who in muster eager compile one two; do
        [ -e "$work/$recipe.$who" ] && printf ' %s %s' "$who" "$(middle < "$work/$recipe.$who")"
    done
    echo
done
