#!/bin/sh
# demo.sh - the main job in one command: installs what is missing, builds, and lets two ranks run the
#           default models together: a text, a contact sheet (build/demo/pictures/grid.png), and one caption
#           given to all three kinds of model (build/demo/compare/compare.png).
# Usage:  deploy/demo.sh ["a prompt"]       (MUSTER_RANKS=3 for another number of ranks)
set -eu
cd "$(dirname "$0")/.."
deploy/deps.sh
cmake --preset release > /dev/null
cmake --build build --parallel "$(nproc)" --target muster

ranks=${MUSTER_RANKS:-2}
flags="--bind-to none"                  # the ranks share the machine's cores between them
[ "$(id -u)" != 0 ] || flags="$flags --allow-run-as-root"
[ "$(nproc)" -ge "$ranks" ] || flags="$flags --oversubscribe"
run() { echo "+ $*" >&2; "$@"; }
# shellcheck disable=SC2086             # flags are meant to be split
run mpirun $flags -n "$ranks" build/muster generate -p "${1-There is a red boat left of a yellow house on the sea.}" \
    -n 60 --seed 1
rm -rf build/demo
mkdir -p build/demo
# shellcheck disable=SC2086
run mpirun $flags -n "$ranks" build/muster imagine "a blue car on a green field" -n 16 --seed 1 --grid \
    --out build/demo/pictures
# shellcheck disable=SC2086
run mpirun $flags -n "$ranks" build/muster compare "a blue car on a green field" --seed 1 --out build/demo/compare
echo "the pictures: build/demo/pictures/grid.png and build/demo/compare/compare.png"
