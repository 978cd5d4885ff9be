#!/bin/sh
# scenes_diffusion.sh - how deploy/models/scenes-diffusion was made: the small diffusion model of the
#                       built-in world, in four legs on one core of a Zen 5 (AVX512-BF16).
# Usage:  deploy/recipes/scenes_diffusion.sh OUT [MUSTER]     goes on where OUT stands, after a break too
# Seeds:  training 1; the tokenizer is learnt from 20,000 captions of the world's seed 1.
# Legs:   of 16 pictures a step: 33,000 steps on the cosine of 50,000, to 42,000 on that of 42,000, to 84,000 on
#         that of 112,000 and to 104,000 on that of 104,000: 1.66 M pictures, at 118 to 180 a second 2.9 hours.
# Result: loss of held-out scenes .121 (step 1,000), .079 (7,000), .068 (16,000), .060 (28,000), .0556 (42,000);
#         .0563 (57,000), .0524 (77,000), .0506 (85,000), .0495 (93,000), .0492 (104,000).
#         tests/bench/quality.sh, 500 pictures a set, guidance 2, everything right by the scorer (one thing, two things)
#         / by its best guess of what it calls unreadable: seen 67% (92, 42) / 84%, pair 62% (87, 37) / 82%, triple 69%
#         (93, 45) / 86%, relation 41% / 72%; by best guess the place 100%, number 96%, colours 96%, things 91%,
#         relation 92% of seen ones. Diversity 0.74 of real pictures'. Behind 42,000 steps it was seen 31 / 61, pair
#         21 / 50, triple 29 / 57, relation 7 / 36. What is wrong is nearly always a thing of 8 to 11 pixels beside
#         another.
set -eu
out=$1
muster=${2:-build/muster}
. "$(dirname "$0")/legs.sh"
train_in_legs "33000 50000  42000 42000  84000 112000  104000 104000" \
    "$muster" train diffusion --data scenes --batch 16 --seed 1 --compute bf16 --threads 1 --lr 1e-3 --warmup 200 \
    --caption-dropout 0.1 --set guidance=2 --checkpoint-every 1000 --preview-every 5000 --evaluate-every 1000 \
    --previews 16 --log-every 50
