#!/bin/sh
# scenes_gan.sh - how deploy/models/scenes-gan was made: the small GAN of the built-in world, told by the
#                 pooled captions of a trained text encoder, which its folder then holds too.
# Usage:  [STEPS=N] deploy/recipes/scenes_gan.sh OUT [MUSTER [TEXT_ENCODER]]   goes on where OUT stands
# Seeds:  training 1.
# Result: 8,250 steps of 16 (132,000 pictures) in legs of 4,601, 5,378, 8,226 and 8,250 steps, some 1,600 s of one core
#         of a Zen 5 with --compute bf16 (99 pictures/s when it has a core to itself). 120 seen prompts of one thing:
#         the scorer's best guess has the right place for 100%, the colour for 98%, the thing for 47%; it calls 84%
#         unreadable, 10.8% are right in all (at 4,601 steps: 38%, 93%, 4.2%). All seeds of a prompt look much alike.
#         A third of the 400,000 pictures that are meant; a higher STEPS with the same OUT goes on.
set -eu
out=$1
muster=${2:-build/muster}
text=${3:-deploy/models/scenes-gan/text_encoder}     # that of the first scenes-diffusion (7,000 steps)
resume=
[ ! -e "$out/checkpoint.json" ] || resume=--resume
# shellcheck disable=SC2086
exec "$muster" train gan --out "$out" $resume --data scenes --set text_encoder="$text" \
    --steps "${STEPS:-8250}" --batch 16 --seed 1 --lr 4e-4 --set d_lr=6e-4 --set g=128-96-64-32 --set ema=0.998 \
    --compute bf16 --checkpoint-every 200 --preview-every 500 --previews 16 --evaluate-every 500 --log-every 25
