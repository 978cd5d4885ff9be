#!/bin/sh
# lint.sh - checks of the source tree that a compiler does not make: who may include whom, who may call
#           what, and the sizes and habits that CONTRIBUTING.md promises.
# Why:    the layers stay apart only while breaking them fails a test.
# Usage:  tests/lint/lint.sh [ROOT]         prints "FILE:LINE: rule: what" and ends with 1 if any
# How:    every file is read once by awk; C comments and string contents are blanked first, so that
#         prose may name what code may not call. Patterns that would match this file are split up.
set -eu
cd "${1:-$(dirname "$0")/../..}"

list=$(mktemp)
found=$(mktemp)
trap 'rm -f "$list" "$found"' EXIT
find . \( -name .git -o -path './build*' -o -name __pycache__ \) -prune -o -type f -print |
    sed 's,^\./,,' | LC_ALL=C sort > "$list"

c_files=$(grep -E '\.(c|h)$' "$list" || true)
text_files=$(grep -vE '\.(gguf|safetensors|png|bin)$|^LICENSE$|^tests/(golden|fuzz/corpus)' "$list" || true)

# --- C: includes, calls, size. One awk for all files.
# shellcheck disable=SC2086
[ -z "$c_files" ] || LC_ALL=C awk '
function say(rule, what) { printf "%s:%d: %s: %s\n", FILENAME, FNR, rule, what }

# Blanks comments and the insides of strings; in_comment lives from line to line.
function code_of(s,    out, i, c, two) {
    out = ""
    for (i = 1; i <= length(s); i++) {
        c = substr(s, i, 1); two = substr(s, i, 2)
        if (in_comment) {
            if (two == "*/") { in_comment = 0; i++ }
        } else if (two == "/*") { in_comment = 1; i++ }
        else if (two == "//") break
        else if (c == "\"") {
            out = out "\""
            for (i++; i <= length(s) && substr(s, i, 1) != "\""; i++)
                if (substr(s, i, 1) == "\\") i++
            out = out "\""
        } else out = out c
    }
    return out
}

# The layers of workers/: a file includes its own layer and those below.
function level(path) {
    if (path ~ /^workers\/kernels\//) return 0
    if (path ~ /^workers\/(tensor|weights|parallel)\//) return 1
    if (path ~ /^workers\/models\//) return 2
    if (path ~ /^workers\/(diffusion|train)\//) return 3
    return 4
}

function check_include(what,    from) {
    from = FILENAME
    if (what ~ /^\.\.?\// || (what !~ /\// && what != "muster.pb-c.h" && what != "tensorboard.pb-c.h"))
        say("include", "\"" what "\" is not written from the root of the tree")
    if (from ~ /^proto\// && what ~ /^(coordinator|workers)\//)
        say("layers", "proto includes " what)
    if (from ~ /^coordinator\// && from != "coordinator/main.c" && what ~ /^workers\//)
        say("layers", "coordinator includes " what)
    if (from ~ /^workers\// && what ~ /^coordinator\//)
        say("layers", "workers include " what)
    if (from ~ /^workers\// && what ~ /^workers\// && level(what) > level(from) &&
        !(level(from) == 0 && what == "workers/tensor/dtype.h"))
        say("layers", "a lower layer includes " what)
    if (from ~ /^(proto|coordinator|workers)\// && what ~ /^tests\//)
        say("layers", "the program includes " what)
}

FNR == 1 {
    in_comment = 0
    mpi = FILENAME ~ /^(proto\/(comm|wire)[a-z_]*\.[ch]|coordinator\/main\.c|tests\/.*)$/
    values = FILENAME ~ /^workers\//
    tables = FILENAME ~ /^workers\/diffusion\//
}
{ lines[FILENAME] = FNR }
length($0) > (FILENAME ~ /^tests\// ? 120 : 110) { say("width", length($0) " columns, 100 is the aim") }
/\t/ { say("tabs", "a tab; indent by four blanks") }
/^[ ]*#[ ]*include[ ]*"/ {
    split($0, part, "\"")
    check_include(part[2])
    next
}
{
    code = code_of($0)
    if (!mpi && match(code, /(^|[^A-Za-z0-9_])P?MPI_[A-Z][A-Za-z_]*[ ]*\(/))
        say("mpi", "calls " substr(code, RSTART, RLENGTH) "): only proto/comm, proto/wire and mains may")
    # glibc picks these by processor, so their bits differ between machines. Tables may be computed in
    # double, where the difference is rounded away: in files of schedules, or on a line that says so.
    if (values && match(code, /(^|[^A-Za-z0-9_.>])(exp|exp2|exp10|expm1|log|log2|log10|log1p|sin|cos|tan|sincos|asin|acos|atan|atan2|sinh|cosh|tanh|erf|erfc|pow|cbrt|lgamma|tgamma)[fl]?[ ]*\(/)) {
        called = substr(code, RSTART, RLENGTH)
        if (called ~ /f[ ]*\($/ && called !~ /erf[ ]*\($/ || !(tables || $0 ~ /\/\*.*table/))
            say("libm", "calls " called "): value paths use kernels of our own")
    }
}
END {
    for (f in lines) if (lines[f] > 1000)
        printf "%s:1: size: %d lines, 1000 at most\n", f, lines[f]
}' $c_files >> "$found"

# --- all text: marks, paths, flags
# shellcheck disable=SC2086
[ -z "$text_files" ] || LC_ALL=C awk '
function say(rule, what) { printf "%s:%d: %s: %s\n", FILENAME, FNR, rule, what }
BEGIN {
    mark = "(^|[^A-Za-z])(TO" "DO|FIX" "ME|XX" "X|HA" "CK)([^A-Za-z]|$)|not (yet )?" "implemented"
    path = "(^|[^A-Za-z0-9_.])/(wo" "rk|ro" "ot|ho" "me)/[a-z]|/opt/ora" "cle"
    flag = "-f" "fast-math|-O" "fast|-mar" "ch=native|-funsafe" "-math"
}
$0 ~ mark { say("unfinished", $0) }
$0 ~ path { say("path", $0) }
FILENAME ~ /(CMakeLists\.txt|CMakePresets\.json|\.cmake|\.c|\.h)$/ && $0 ~ flag { say("flags", $0) }
/[ \t]$/ && FILENAME !~ /\.(inp|out|patch)$/ { say("blanks", "at the end of the line") }
' $text_files >> "$found"

# --- names: unique in the tree, apart from those that tools demand and those inside model folders
grep -v '^deploy/models/' "$list" | sed 's,.*/,,' | grep -vE '^(CMakeLists\.txt|README\.md|run)$' | LC_ALL=C sort | uniq -d |
    while read -r name; do
        echo "$(grep -E "(^|/)$name\$" "$list" | tr '\n' ' '): names: $name is not unique"
    done | grep -vE '^(tests/(golden|fuzz)/[^ ]* )+:' >> "$found" || true

if [ -s "$found" ]; then
    cat "$found"
    echo "lint: $(wc -l < "$found") findings" >&2
    exit 1
fi
echo "lint: $(wc -l < "$list") files, nothing found"
