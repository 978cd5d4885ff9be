#!/bin/sh
# scenes_gan.sh - how deploy/models/scenes-gan was made: the small GAN of the built-in world, told by the
#                 pooled captions of a trained text encoder, which its folder then holds too.
# Usage:  deploy/recipes/scenes_gan.sh OUT [MUSTER [TEXT_ENCODER]]     goes on where OUT stands
# Seeds:  training 1.
# Legs:   of 16 pictures: 38,767 steps (stopped by hand: here the checkpoint of 38,800 ends the leg), then to 44,000
#         and to 48,400 at a quarter of the rates and with slower averages: 774,000 pictures, of which one core of a Zen 5
#         makes 102 a second with --compute bf16, two hours in all.
# Result: tests/bench/quality.sh, 500 pictures a set, everything right: one thing, seen 84% (95% interval 79 to 88), pair
#         72%, triple 88%, plain captions 95%; two things 1%, relation 0%. By the scorer's best guess: seen 48%. Diversity
#         0.73 to 0.80 of real pictures', Frechet distance 24,903 (real pictures 13,142). Behind 336,000 pictures one thing
#         seen 62%, behind 704,000 83%.
# Found:  the text encoder decides: that of a diffusion model of 7,000 steps, which did not know its things yet, gave 11%
#         after 132,000 pictures. Without `diversity` all seeds of a prompt look alike; 0.1 of it keeps things blurred.
#         Batch 32 at 2e-4 and 4e-4 learnt four times slower.
set -eu
out=$1
muster=${2:-build/muster}
text=${3:-deploy/models/scenes-gan/text_encoder}     # that of scenes-diffusion at 42,000 steps
. "$(dirname "$0")/legs.sh"

learn() {           # LEGS OPTION..
    legs=$1
    shift
    train_in_legs "$legs" "$muster" train gan --data scenes --set text_encoder="$text" --batch 16 --seed 1 --threads 1 \
        --lr 4e-4 --set d_lr=6e-4 --set g=128-96-64-32 --set diversity=0.03 --compute bf16 --checkpoint-every 200 \
        --preview-every 500 --previews 16 --evaluate-every 500 --log-every 25 "$@"
}

learn "38800 80000" --set ema=0.998
learn "44000 44000  48400 48400" --set ema=0.9995 --set lr_floor=1e-4 --set d_lr_floor=1.5e-4
