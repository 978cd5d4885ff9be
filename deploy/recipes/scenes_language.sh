#!/bin/sh
# scenes_language.sh - how deploy/models/scenes-language was made: the small language model of the built-in
#                      world (820,992 weights), on one core with AVX512-BF16.
# Usage:  deploy/recipes/scenes_language.sh OUT [MUSTER]      goes on where OUT stands, after a break too
# Seeds:  training 1, 5, 5, 6; the tokenizer (741 entries: all that there is to learn) from 20,000 texts of seed 1;
#         lessons from a million texts of seed 77.
# Legs:   of 16 rows of 128 a step. OUT/world: 8,000 steps on the cosine of 8,000, to 11,237 on that of 16,000 (stopped
#         by hand: here the checkpoint of 11,000 ends it), to 14,500 on that of 14,500, 31 minutes; then yes-or-no
#         questions whose answer alone is learnt: OUT/four, four colours and one thing, 800 steps; OUT/eight, all colours
#         and two things too, 2,000 steps; and OUT/final, the world again.
@RESULT@
set -eu
root=$1
muster=${2:-build/muster}
. "$(dirname "$0")/legs.sh"

learn() {           # PLACE LEGS OPTION..
    out=$root/$1 legs=$2
    shift 2
    [ -e "$out/model/config.json" ] || train_in_legs "$legs" "$muster" train llm --batch 16 --threads 1 --compute bf16 \
        --checkpoint-every 500 "$@"
}

# Texts of a yes-or-no question about COLOURS as prompts and completions: "yes" or "no", a tab, a line of JSON.
# TWO: also of scenes with two things.
questions() {       # COLOURS TWO
    awk -v colours="$1" -v two="$2" '
        BEGIN { n = split(colours, c, " "); for (i = 1; i <= n; i++) asks[c[i]] = 1; FS = "\\\\n" }
        match($0, /Q: Is the [a-z]+ [a-z]+\?\\nA: (yes|no)/) {
            question = substr($0, RSTART, RLENGTH)
            if (!two && $1 ~ / (left of|right of|above|over|below|under) /) next
            split(question, word, " "); colour = word[5]; sub(/\?.*/, "", colour)
            answer = question ~ /no$/ ? "no" : "yes"
            known = answer == "yes"
            for (x in asks) known = known || (x != colour && index($1, " " x " "))
            if (!(colour in asks) || !known) next
            sub(/ [a-z]+$/, "", question); sub(/^{"text":/, "{\"prompt\":", $1)
            print answer "\t" $1 "\\n" question "\",\"completion\":\" " answer "\"}"
        }' "$root/texts/train/text.jsonl"
}

learn world "8000 8000  11000 16000  14500 14500" --data scenes --seed 1 --lr 2e-3 --warmup 200 --set ema=0.995 \
    --set separate=false --evaluate-every 500 --log-every 50
if [ ! -e "$root/eight.jsonl" ]; then
    rm -rf "$root/texts"
    "$muster" train data --kind text -n 1000000 --seed 77 --out "$root/texts"
    questions "red blue orange purple" 0 | awk -F '\t' '$1 == "no" || ++n % 5 < 2 { print $2 }' > "$root/four.txt"
    questions "red blue green yellow orange purple black white gray" 1 | cut -f 2 > "$root/eight.txt"
    yes | head -c 8000000 > "$root/order"
    for of in four eight; do
        shuf --random-source="$root/order" < "$root/$of.txt" > "$root/$of.jsonl"
    done
fi
learn four "800 800" --from "$root/world/model" --data "$root/four.jsonl" --seed 5 --lr 1e-3 --warmup 100 --set ema=0.99
learn eight "2000 2000" --from "$root/four/model" --data "$root/eight.jsonl" --seed 5 --lr 1e-3 --warmup 100 \
    --set ema=0.99
learn final "10000 10000" --from "$root/eight/model" --data scenes --seed 6 --lr 1.5e-3 --warmup 100 --set ema=0.995
