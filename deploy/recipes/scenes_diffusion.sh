#!/bin/sh
# scenes_diffusion.sh - how deploy/models/scenes-diffusion was made: the small diffusion model of the
#                       built-in world, in one leg of some ten minutes on two cores.
# Usage:  deploy/recipes/scenes_diffusion.sh OUT [MUSTER]     goes on where OUT stands, after a break too
# Seeds:  training 1; the tokenizer is learnt from 20,000 captions of the world's seed 1.
# Result: 7,000 steps of 16 (112,000 pictures), 649 s at 253 pictures/s, float32; training loss 0.061, loss of
#         held-out scenes .141 (step 500), .098 (2,000), .083 (4,000), .077 (7,000). Place and ground are
#         right, things are patches in about the right place: they want some ten times as many pictures.
set -eu
out=$1
muster=${2:-build/muster}
resume=
[ ! -e "$out/checkpoint.json" ] || resume=--resume
# shellcheck disable=SC2086
exec "$muster" train diffusion --out "$out" $resume --data scenes --steps 7000 --batch 16 --seed 1 \
    --lr 1e-3 --warmup 200 --caption-dropout 0.1 --checkpoint-every 500 --preview-every 1000 \
    --evaluate-every 500 --previews 16 --log-every 50
