#!/bin/sh
# scenes_language.sh - how deploy/models/scenes-language was made: the small language model of the built-in
#                      world (820,992 weights), in four legs on one core with AVX512-BF16.
# Usage:  deploy/recipes/scenes_language.sh OUT [MUSTER]      goes on where OUT stands, after a break too
# Seeds:  training 1 to 4; the tokenizer (741 entries: all that there is to learn) from 20,000 texts of seed 1.
# Result: 3,770 steps of 16 rows of 128 (7.7 M tokens, some 580 s of one core; each leg's model is trained on by the
#         next). The first two were cut short: along the cosine of 3,000 steps up to step 1,400 of the first, of
#         1,800 up to 506 of the second. Training loss .81 (step 250), .67 (500), .63 (1,400), .64 (1,800),
#         .60 (2,250), .53 (2,850), .55 (3,270), .55 (3,620) nats a token (of 16 rows, noisy).
#         tests/bench/quality_language, 2,000 held-out texts: 1.200 (500 texts), 1.120, 1.070, 1.056 x the exact
#         bits behind the four legs (goal 1.03): descriptions 1.023, dialogue 1.036, Spanish 1.042, couplets
#         1.044, French 1.051, questions 1.079, summaries 1.080. 40 prompts each, seen scenes (scenes with unseen
#         pairs): where 100 (100) %, count 100 (100), relation 100 (100), colour 85 (68), what 83 (70), yes or no
#         53 (55), French 85 (85), Spanish 88 (88), rhymes 100 (100); goals 95 (90). Behind the first leg: rhymes
#         18, relation 17, French 25, Spanish 18, what 15: looking things up is learnt late and suddenly, so that
#         more steps are what it wants.
set -eu
out=$1
muster=${2:-build/muster}
leg() {         # folder, steps, warm-up, seed, more
    resume=
    [ ! -e "$1/model" ] || return 0
    [ ! -e "$1/checkpoint.json" ] || resume=--resume
    folder=$1 steps=$2 warmup=$3 seed=$4
    shift 4
    # shellcheck disable=SC2086
    "$muster" train llm --out "$folder" $resume --data scenes --steps "$steps" --batch 16 --seed "$seed" \
        --lr 2e-3 --warmup "$warmup" --set ema=0.995 --compute bf16 --checkpoint-every 100 \
        --evaluate-every 200 --log-every 50 "$@"
}
mkdir -p "$out"
leg "$out/first" 1800 200 1
leg "$out/second" 1050 100 2 --from "$out/first/model"
leg "$out/third" 420 50 3 --from "$out/second/model"
leg "$out/fourth" 500 50 4 --from "$out/third/model"
