#!/bin/sh
# scenes_language.sh - how deploy/models/scenes-language was made: the small language model of the built-in
#                      world (820,992 weights), on one core with AVX512-BF16.
# Usage:  deploy/recipes/scenes_language.sh OUT [MUSTER]      goes on where OUT stands, after a break too
# Seeds:  training 1; the tokenizer (741 entries: all that there is to learn) from 20,000 texts of seed 1.
# Result: 1,800 steps of 16 rows of 128 (3.7 M tokens; a third of what the recipe is meant to have), 270 s of one
#         core; the cosine was that of 3,000 steps up to step 1,400. Training loss .81 (step 250), .67 (500),
#         .63 (1,400), .64 (1,800) nats a token. tests/bench/quality_language, 500 held-out texts: 1.20 x the exact
#         bits (descriptions 1.02, dialogue 1.08, couplets 1.19, summaries 1.20, translations 1.20, questions 1.34);
#         60 prompts each, seen scenes: where 100%, count 100%, colour 87%, yes or no 48%, relation 17%, what 15%,
#         French 25%, Spanish 18%, rhymes 18%. It has not yet learnt to look things up: that wants more steps.
set -eu
out=$1
muster=${2:-build/muster}
resume=
[ ! -e "$out/checkpoint.json" ] || resume=--resume
# shellcheck disable=SC2086
exec "$muster" train llm --out "$out" $resume --data scenes --steps 1800 --batch 16 --seed 1 \
    --lr 2e-3 --warmup 200 --set ema=0.995 --compute bf16 --checkpoint-every 100 --evaluate-every 250 \
    --log-every 50
