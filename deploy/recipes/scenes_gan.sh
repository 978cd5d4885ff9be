#!/bin/sh
# scenes_gan.sh - how deploy/models/scenes-gan was made: the small GAN of the built-in world, told by the
#                 pooled captions of a trained text encoder, which its folder then holds too.
# Usage:  deploy/recipes/scenes_gan.sh OUT [MUSTER [TEXT_ENCODER]]   goes on where OUT stands, after a break too
# Seeds:  training 1.
# Result: @@
set -eu
out=$1
muster=${2:-build/muster}
text=${3:-deploy/models/scenes-diffusion/text_encoder}
resume=
[ ! -e "$out/checkpoint.json" ] || resume=--resume
# shellcheck disable=SC2086
exec "$muster" train gan --out "$out" $resume --data scenes --set text_encoder="$text" --steps @@ --batch 16 \
    --seed 1 --lr 4e-4 --set d_lr=6e-4 --set g=128-96-64-32 --set ema=0.998 --compute bf16 \
    --checkpoint-every 200 --preview-every 500 --previews 16 --evaluate-every 500 --log-every 25
