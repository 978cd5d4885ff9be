#!/bin/sh
# default_model.sh - is the model that ships still what make_model writes?
# Usage:  default_model.sh MAKE_MODEL SHIPPED
set -eu
made=$(mktemp)
trap 'rm -f "$made"' EXIT
"$1" --preset random-tiny --seed 1 --out "$made"
cmp "$made" "$2" || {
    echo "make it again: make_model --preset random-tiny --seed 1 --out deploy/models/$(basename "$2")"
    exit 1
}
