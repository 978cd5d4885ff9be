#!/bin/sh
# scenes_super.sh - how deploy/models/scenes-super was made: the small super-resolution model of the built-in
#                   world, 32 x 32 to 64 x 64.
# Usage:  deploy/recipes/scenes_super.sh OUT [MUSTER]      goes on where OUT stands
# Seeds:  training 1; the tokenizer is learnt from 20,000 captions of the world's seed 1.
# Legs:   8,000 steps of 16 on the cosine of 8,000, then to 10,000 on that of 10,000: 160,000 pictures, 20 minutes of
#         one core of a Zen 5 with --compute bf16.
# Result: held-out loss .081 (step 1,000), .066 (2,000), .057 (4,000), .053 (6,000), .051 (8,000). tests/bench/
#         bench_super, 200 unseen scenes: 32.38 dB where bicubic has 29.32 and doubled pixels 27.95 (of the mean of
#         each picture's own: 33.67, 30.47, 29.18); the scorer reads all 200 as before.
# Found:  whole pictures in place of what bicubic lacks (residual=0) stayed below bicubic; more steps than one when
#         painting make it worse, since a width of 112 cannot carry the noise of a patch of 192 numbers.
set -eu
out=$1
muster=${2:-build/muster}
. "$(dirname "$0")/legs.sh"
train_in_legs "8000 8000  10000 10000" \
    "$muster" train diffusion --data scenes --batch 16 --seed 1 --compute bf16 --threads 1 --lr 2e-3 --warmup 200 \
    --set super=true --set layout=pixart --set width=112 --set heads=4 --set layers=3 --set text_layers=1 \
    --set text_width=32 --set text_heads=2 --set objective=v --set shift=60 --set guidance=1 --set preview_steps=1 \
    --checkpoint-every 500 --preview-every 2000 --evaluate-every 500 --previews 8 --log-every 50
