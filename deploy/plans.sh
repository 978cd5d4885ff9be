#!/bin/sh
# plans.sh - writes deploy/plans.md: published models over 1 to 64 nodes, as `muster plan` sees them.
# Usage: deploy/plans.sh [BUILD] > deploy/plans.md
set -e
build=${1:-build}
node='cores=32,mem=64G,bw=80G'
counts='1 2 4 8 16 32 64'
models='llama-3.2-3b:q8_0 llama-3.1-8b:q8_0 llama-3.1-8b:q4_k qwen3-32b:q4_k llama-3.1-70b:q8_0
    llama-3.1-70b:q4_k llama-3.1-405b:q8_0 llama-3.1-405b:q4_k mixtral-8x7b:q4_k mixtral-8x22b:q4_k
    qwen3-30b-a3b:q4_k qwen3-235b-a22b:q4_k gpt-oss-20b: gpt-oss-120b:'

number() { printf '%s\n' "$1" | sed -n "s/^ \"$2\": \([0-9.e+-]*\),*$/\1/p" | head -1; }

cell() {    # model, type, nodes, link, batch
    if answer=$("$build/muster" plan "$1" ${2:+--type "$2"} --nodes "$node*$3" --link "$4" --batch "$5" \
        --json 2> /dev/null); then
        awk -v d="$(number "$answer" decode_tps)" -v p="$(number "$answer" prefill_tps)" \
            -v tp="$(number "$answer" tp)" -v pp="$(number "$answer" pp)" \
            'BEGIN { printf " %.*f / %.0f (%dx%d) |", d < 10 ? 1 : 0, d, p, tp, pp }'
    else
        printf ' - |'
    fi
}

table() {   # link, batch
    printf '\n## %s, %s\n\n| model |' "$1" "$([ "$2" = 1 ] && echo 'one sequence' || echo "$2 sequences at a time")"
    for n in $counts; do printf ' %s node%s |' "$n" "$([ "$n" = 1 ] || echo s)"; done
    printf '\n|---|'
    for n in $counts; do printf '%s' '---|'; done
    printf '\n'
    for m in $models; do
        type=${m#*:}
        printf '| %s %s |' "${m%%:*}" "${type:-as published}"
        for n in $counts; do cell "${m%%:*}" "$type" "$n" "$1" "$2"; done
        printf '\n'
    done
}

cat << END
# Plans

What \`muster plan\` says of published models on nodes of 32 cores, 64 GiB and 80 GB/s of memory bandwidth
($node). Each cell: tokens/s of all sequences together / prompt tokens/s
(tp x pp); - does not fit. Context 4096, KV f16, prompts of 512 tokens. Written by deploy/plans.sh, not measured:
\`muster plan --measure\` takes figures of the machine it runs on. Above tp 8 the sums' tree is another, and so
are the last bits of the output.
END
table 10GbE 1
table 10GbE 16
table ib-hdr 1
table ib-hdr 16
