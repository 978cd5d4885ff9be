#!/bin/sh
# scenes_gan.sh - how deploy/models/scenes-gan was made: the small GAN of the built-in world, told by the
#                 pooled captions of a trained text encoder, which its folder then holds too.
# Usage:  [STEPS=N] deploy/recipes/scenes_gan.sh OUT [MUSTER [TEXT_ENCODER]]   goes on where OUT stands
# Seeds:  training 1.
# Result: 20,984 steps of 16 (336,000 pictures; an hour of one core of a Zen 5 with --compute bf16, 102 pictures/s when
#         it has a core to itself). tests/bench/quality.sh, 500 pictures a set, everything right: one thing, seen 62%,
#         pair 48%, triple 58%; two things none, relation 0%. By the scorer's best guess: seen 40%, the place 100%,
#         number 94%, colours 68%, things 48%. Diversity 0.75 to 0.84 of real pictures', Frechet distance 25,310
#         (real pictures 13,142).
# Found:  the text encoder decides: that of a diffusion model of 7,000 steps, which did not know its things yet, gave 11%
#         after 132,000 pictures. Without `diversity` all seeds of a prompt look alike; 0.1 of it keeps things blurred.
#         Batch 32 at 2e-4 and 4e-4 learnt four times slower. It was still getting better; a higher STEPS goes on.
set -eu
out=$1
muster=${2:-build/muster}
text=${3:-deploy/models/scenes-gan/text_encoder}     # that of scenes-diffusion at 42,000 steps
resume=
[ ! -e "$out/checkpoint.json" ] || resume=--resume
# shellcheck disable=SC2086
exec env OMP_NUM_THREADS=1 "$muster" train gan --out "$out" $resume --data scenes --set text_encoder="$text" \
    --steps "${STEPS:-20984}" --batch 16 --seed 1 --threads 1 --lr 4e-4 --set d_lr=6e-4 --set g=128-96-64-32 \
    --set ema=0.998 --set diversity=0.03 --compute bf16 --checkpoint-every 200 --preview-every 500 --previews 16 \
    --evaluate-every 500 --log-every 25
