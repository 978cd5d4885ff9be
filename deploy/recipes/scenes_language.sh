#!/bin/sh
# scenes_language.sh - how deploy/models/scenes-language was made: the small language model of the built-in
#                      world (820,992 weights), in three legs on one core with AVX512-BF16.
# Usage:  deploy/recipes/scenes_language.sh OUT [MUSTER]      goes on where OUT stands, after a break too
# Seeds:  training 1; the tokenizer (741 entries: all that there is to learn) from 20,000 texts of seed 1.
# Legs:   of 16 rows of 128 a step: 8,000 steps on the cosine of 8,000, to 11,237 on that of 16,000 (stopped by hand:
#         here the checkpoint of 11,000 ends it), to 14,500 on that of 14,500: 29.7 M tokens, 31 minutes of a core.
# Result: tests/bench/quality_language, 2,000 held-out texts: 1.0169 x the exact bits (goal 1.03; 1.0223 behind the first
#         leg): summaries 1.007, Spanish 1.007, dialogue 1.009, French 1.009, descriptions 1.011, couplets 1.013,
#         questions 1.035. 60 prompts each, right at the first try: what, where, count, relation, French, Spanish,
#         rhymes 100 % in all four sets; colour 100 % (pair 88, triple 97, relation 88; 80, 92, 75 behind the first
#         leg); yes or no 48 % (chance).
# Found:  looking things up is learnt late and suddenly: four short legs of together 3,770 steps had 1.056 x, colour
#         85, what 83, French 85, Spanish 88 %. To compare two colours (yes or no) is not learnt by 14,500 steps,
#         nor by 1,775 more on texts of which most are such questions.
set -eu
out=$1
muster=${2:-build/muster}
. "$(dirname "$0")/legs.sh"
train_in_legs "8000 8000  11000 16000  14500 14500" \
    "$muster" train llm --data scenes --batch 16 --seed 1 --threads 1 --lr 2e-3 --warmup 200 --set ema=0.995 \
    --compute bf16 --checkpoint-every 500 --evaluate-every 500 --log-every 50
