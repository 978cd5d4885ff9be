#!/bin/sh
# scenes_diffusion.sh - how deploy/models/scenes-diffusion was made: the small diffusion model of the
#                       built-in world, in five legs on one core with AVX512-BF16.
# Usage:  deploy/recipes/scenes_diffusion.sh OUT [MUSTER]     goes on where OUT stands, after a break too
# Seeds:  training 1 and 2; the tokenizer is learnt from 20,000 captions of the world's seed 1.
# Legs:   of 16 pictures a step. OUT/four, of four layers: 33,000 steps on the cosine of 50,000, to 42,000 on that of
#         42,000, to 84,000 on that of 112,000 and to 104,000 on that of 104,000: 1.66 M pictures, at 118 to 180 a second
#         2.9 hours. OUT/six: two layers added to that, 26,000 steps more: 416,000 pictures, at 110 a second where the
#         core is free, 63 minutes.
# Result: loss of held-out scenes .121 (step 1,000), .079 (7,000), .068 (16,000), .060 (28,000), .0556 (42,000), .0524
#         (77,000), .0506 (85,000), .0492 (104,000); of six layers .0545 (1,000), .0514 (7,000), .0497 (12,000), .0480
#         (16,000), .0465 (20,000), .0467 (26,000).
#         tests/bench/quality.sh, 500 pictures a set, guidance 2, everything right by the scorer (one thing, two things)
#         / by its best guess of what it calls unreadable: seen 81% (97, 65) / 90%, pair 73% (92, 54) / 86%, triple 80%
#         (94, 66) / 91%, relation 56% / 79%; by best guess of seen ones the place 100%, number 97%, colours 97%, things
#         94%, relation 95%. Diversity 0.76 of real pictures'. Four layers, by an older and a little stricter scorer:
#         seen 67% (92, 42) / 84%, pair 62% / 82%, triple 69% / 86%, relation 41% / 72%.
# Found:  40 steps instead of 20, or guidance 2.75, change nothing. What is wrong is nearly always a thing of 8 to 11 pixels
#         beside another.
set -eu
root=$1
muster=${2:-build/muster}
. "$(dirname "$0")/legs.sh"

learn() {           # PLACE LEGS OPTION..
    out=$root/$1 legs=$2
    shift 2
    [ -e "$out/model/model_index.json" ] || train_in_legs "$legs" "$muster" train diffusion --data scenes --batch 16 \
        --compute bf16 --threads 1 --warmup 200 --caption-dropout 0.1 --set guidance=2 --preview-every 5000 \
        --evaluate-every 1000 --previews 16 --log-every 50 "$@"
}

learn four "33000 50000  42000 42000  84000 112000  104000 104000" --seed 1 --lr 1e-3 --checkpoint-every 1000
learn six "26000 26000" --from "$root/four/model" --set layers=6 --seed 2 --lr 6e-4 --checkpoint-every 500
