# muster.bash - completion for bash: commands, their options, the values of options that have few.
# How: options come from `muster COMMAND --help`, so a new one needs nothing here.

_muster_options() {    # binary, command, subcommand of train
    "$1" "$2" ${3:+"$3"} --help 2> /dev/null | grep -oE -- '--[a-z0-9][a-z0-9-]*' | sort -u
}

_muster_models() {     # names in the cache and those that ship
    local dir file
    for dir in "${MUSTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/muster}" "${MUSTER_MODELS:-}"; do
        for file in "$dir"/*.gguf; do
            [[ -e $file ]] && file=${file##*/} && echo "${file%.gguf}"
        done
    done
}

_muster() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command=${COMP_WORDS[1]-} sub=
    COMPREPLY=()
    if [[ $COMP_CWORD -eq 1 ]]; then
        command="generate chat imagine compare upscale score inspect tokenize logits probe perplexity kl bench quantize plan doctor train"
        mapfile -t COMPREPLY < <(compgen -W "$command --help --version" -- "$word")
        return
    fi
    if [[ $command == train && $COMP_CWORD -eq 2 ]]; then
        mapfile -t COMPREPLY < <(compgen -W "diffusion gan llm tokenizer data" -- "$word")
        return
    fi
    [[ $command == train ]] && sub=${COMP_WORDS[2]-}
    case $before in
        -m | --model)
            mapfile -t COMPREPLY < <(compgen -W "$(_muster_models)" -- "$word"; compgen -f -- "$word")
            compopt -o filenames
            return ;;
        -o | --out | --prompts | --init | --mask | --like | --chat | --file | -f | --plan | --save-plan | --data | --from | --tokenizer | --config | --in)
            mapfile -t COMPREPLY < <(compgen -f -- "$word")
            compopt -o filenames
            return ;;
        --kind) mapfile -t COMPREPLY < <(compgen -W "pictures text" -- "$word"); return ;;
        --compute) [[ $command == @(train|imagine|compare) ]] && mapfile -t COMPREPLY < <(compgen -W "f32 bf16" -- "$word") && return
            mapfile -t COMPREPLY < <(compgen -W "default f32" -- "$word"); return ;;
        --kv) mapfile -t COMPREPLY < <(compgen -W "auto f32 f16 q8_0" -- "$word"); return ;;
        --link)
            mapfile -t COMPREPLY < <(compgen -W \
                "1GbE 10GbE 25GbE 40GbE 100GbE 200GbE ib-edr ib-hdr ib-ndr" -- "$word")
            return ;;
        --sampler)
            mapfile -t COMPREPLY < <(compgen -W "flow_euler flow_heun dpmpp_2m dpmpp_2m_sde dpmpp_s deis \
                unipc ddpm ddim pndm lcm tcd euler euler_a heun lms" -- "$word")
            return ;;
        --spacing) mapfile -t COMPREPLY < <(compgen -W "linspace leading trailing" -- "$word"); return ;;
        --sigmas)
            mapfile -t COMPREPLY < <(compgen -W "table karras exponential beta lu" -- "$word")
            return ;;
        --wire) mapfile -t COMPREPLY < <(compgen -W "f32 bf16 q8_0" -- "$word"); return ;;
        --as) mapfile -t COMPREPLY < <(compgen -W "prompt generated" -- "$word"); return ;;
        --part)
            mapfile -t COMPREPLY < <(compgen -W "transformer vae text_encoder text_encoder_2" -- "$word")
            return ;;
        --type)
            mapfile -t COMPREPLY < <(compgen -W "f16 bf16 q8_0 q4_0 q4_k" -- "$word")
            return ;;
    esac
    if [[ $word == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$(_muster_options "${COMP_WORDS[0]}" "$command" "$sub")" -- "$word")
    else
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
        compopt -o filenames
    fi
}

complete -F _muster muster
