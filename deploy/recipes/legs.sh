# legs.sh - for recipes: a training run in legs, each on a cosine of its own. Sourced, not run.
# Usage:  out=OUT; train_in_legs "STEP SCHEDULE  STEP SCHEDULE .." COMMAND..
#         up to STEP on the cosine of SCHEDULE steps, leg after leg, from where OUT stands; COMMAND takes
#         --out, --resume and --steps. A STEP below its SCHEDULE must be one that leaves a checkpoint.

last_step() { sed -n 's/^ "step": \([0-9]*\),$/\1/p' "$out/checkpoint.json" 2>/dev/null || true; }

train_leg() {       # STEP SCHEDULE COMMAND..
    step=$1 schedule=$2 resume=
    shift 2
    [ ! -e "$out/checkpoint.json" ] || resume=--resume
    # shellcheck disable=SC2086
    OMP_NUM_THREADS=1 "$@" --out "$out" $resume --steps "$schedule" &
    run=$!
    while kill -0 $run 2>/dev/null; do      # the checkpoint of the leg's last step ends it
        if [ "$step" -lt "$schedule" ] && [ "$(last_step)" = "$step" ]; then
            kill $run
        fi
        sleep 1
    done
    wait $run || [ "$step" -lt "$schedule" ]
}

train_in_legs() {
    legs=$1
    shift
    # shellcheck disable=SC2086
    while read -r at of; do
        done_steps=$(last_step)
        [ "${done_steps:-0}" -ge "$at" ] || train_leg "$at" "$of" "$@" < /dev/null
    done <<LEGS
$(printf '%s %s\n' $legs)
LEGS
}
