#!/bin/sh
# scenes_diffusion.sh - how deploy/models/scenes-diffusion was made: the small diffusion model of the
#                       built-in world, in two legs on one core of a Zen 5 (AVX512-BF16).
# Usage:  deploy/recipes/scenes_diffusion.sh OUT [MUSTER]     goes on where OUT stands, after a break too
# Seeds:  training 1; the tokenizer is learnt from 20,000 captions of the world's seed 1.
# Legs:   33,000 steps of 16 on the cosine of 50,000, then 9,000 to the end of the cosine of 42,000 (the second
#         leg was shortened: time was up). 672,000 pictures; 118 to 180 pictures/s, 75 minutes if nothing else runs.
# Result: loss of held-out scenes .121 (step 1,000), .092 (4,000), .079 (7,000), .074 (10,000), .068 (16,000),
#         .063 (22,000), .060 (28,000), .058 (31,000), .0566 (34,000), .0557 (40,000). It was still falling.
#         tests/bench/quality.sh, 500 pictures a set, guidance 2, everything right by the scorer / by its best guess of
#         what it calls unreadable: seen 31% / 61% (one thing 56%, two 6%), pair 21% / 50%, triple 29% / 57%, relation
#         7% / 36%; by best guess the place 100%, colours 94%, number of things 95%, relation 88%, things 68%. Diversity
#         0.69 of real pictures'.
set -eu
out=$1
muster=${2:-build/muster}
leg() {     # STEP SCHEDULE: up to this step on the cosine of so many steps
    resume=
    [ ! -e "$out/checkpoint.json" ] || resume=--resume
    # shellcheck disable=SC2086
    OMP_NUM_THREADS=1 "$muster" train diffusion --out "$out" $resume --data scenes --steps "$2" --batch 16 \
        --seed 1 --compute bf16 --threads 1 --lr 1e-3 --warmup 200 --caption-dropout 0.1 --set guidance=2 \
        --checkpoint-every 1000 --preview-every 5000 --evaluate-every 1000 --previews 16 --log-every 50 &
    run=$!
    # the checkpoint of the leg's last step ends it
    while kill -0 $run 2>/dev/null; do
        if [ "$1" -lt "$2" ] && grep -q "\"step\": $1," "$out/checkpoint.json" 2>/dev/null; then
            kill $run
        fi
        sleep 1
    done
    wait $run || [ "$1" -lt "$2" ]
}
step=$(sed -n 's/^ "step": \([0-9]*\),$/\1/p' "$out/checkpoint.json" 2>/dev/null || true)
[ "${step:-0}" -ge 33000 ] || leg 33000 50000
leg 42000 42000
