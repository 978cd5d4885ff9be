#!/bin/sh
# scenes_language.sh - how deploy/models/scenes-language was made: the small language model of the built-in
#                      world (820,992 weights), in one run on one core with AVX512-BF16.
# Usage:  [STEPS=N] deploy/recipes/scenes_language.sh OUT [MUSTER]      goes on where OUT stands, after a break too
# Seeds:  training 1; the tokenizer (741 entries: all that there is to learn) from 20,000 texts of seed 1.
# Result: 8,000 steps of 16 rows of 128 (16.4 M tokens, 17 minutes of a core). tests/bench/quality_language, 2,000
#         held-out texts: 1.0223 x the exact bits (goal 1.03): descriptions, summaries, French 1.012, Spanish 1.013,
#         couplets 1.017, dialogue 1.018, questions 1.041. 60 prompts each, right at the first try: what, where,
#         count, relation, French, Spanish, rhymes 100 % in all four sets; colour 100 % (pair 80, triple 92, relation
#         75); yes or no 55 % (chance).
# Found:  looking things up is learnt late and suddenly: four short legs of together 3,770 steps had 1.056 x, colour
#         85, what 83, French 85, Spanish 88 %.
set -eu
out=$1
muster=${2:-build/muster}
resume=
[ ! -e "$out/checkpoint.json" ] || resume=--resume
# shellcheck disable=SC2086
exec env OMP_NUM_THREADS=1 "$muster" train llm --out "$out" $resume --data scenes --steps "${STEPS:-8000}" --batch 16 \
    --seed 1 --threads 1 --lr 2e-3 --warmup 200 --set ema=0.995 --compute bf16 --checkpoint-every 500 \
    --evaluate-every 500 --log-every 50
