#!/bin/sh
# lint_selftest.sh - breaks each rule of lint.sh once, in a tree of its own, and expects to be told.
set -eu
lint=$(cd "$(dirname "$0")" && pwd)/lint.sh
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
bad=0

# expect RULE FILE TEXT: with only this file in the tree, lint finds that rule and no other.
# expect none FILE TEXT: finds nothing.
expect() {
    rm -rf "${tree:?}"/*
    mkdir -p "$tree/$(dirname "$2")"
    printf '%b\n' "$3" > "$tree/$2"
    rules=$("$lint" "$tree" 2> /dev/null | sed -n 's/^[^ ]*: \([a-z]*\): .*/\1/p' | sort -u | tr '\n' ' ')
    [ "$1" != none ] || set -- "" "$2" "$3"
    if [ "$rules" != "${1:+$1 }" ]; then
        echo "lint_selftest: $2 '$3': wanted '$1', lint said '$rules'"
        bad=1
    fi
}

expect layers proto/a.c '#include "workers/worker.h"'
expect layers proto/a.h '#include "coordinator/plan/plan.h"'
expect layers coordinator/plan/a.c '#include "workers/models/decoder.h"'
expect layers workers/models/a.c '#include "coordinator/text/tokenizer.h"'
expect layers workers/kernels/a.c '#include "workers/tensor/view.h"'
expect layers workers/parallel/a.c '#include "workers/models/decoder.h"'
expect layers workers/models/a.c '#include "workers/worker.h"'
expect layers workers/worker.c '#include "tests/unit/help.h"'
expect none workers/kernels/a.c '#include "workers/tensor/dtype.h"'
expect none coordinator/main.c '#include "workers/worker.h"'
expect none workers/models/a.c '#include "proto/err.h"\n#include "workers/kernels/linear.h"'
expect include proto/a.c '#include "err.h"'
expect include proto/a.c '#include "../proto/err.h"'
expect mpi workers/parallel/a.c 'int x = MPI_Send(buf, n);'
expect mpi coordinator/plan/a.c 'PMPI_Barrier(c);'
expect none proto/comm_mpi.c 'MPI_Isend(b);'
expect none workers/parallel/a.c '/* MPI_Allreduce(x) would pick\n * MPI_Bcast(x) */ const char *s = "MPI_Init()";'
expect libm workers/kernels/a.c 'float y = expf(x);'
expect libm workers/models/a.c 'double y = a + cos (x);'
expect libm workers/diffusion/a.c 'x = sinf (t);'
expect libm workers/models/a.c 'x = cosf(t); /* table */'
expect none workers/diffusion/a.c 'x = exp(t) + erf(t);'
expect none workers/models/a.c 'x = cos(t); /* a table, in double */'
expect none workers/kernels/a.c 'float y = kernel_exp(x) + sqrtf(x) + t.exp(x) + fma(a, b, c); /* exp(x) */'
expect flags CMakeLists.txt 'add_compile_options(-f''fast-math)'
expect flags workers/kernels/a.c '#pragma GCC optimize ("-O''fast")'
expect unfinished proto/a.c '/* TO''DO: later */'
expect unfinished README.md 'This is not imple''mented.'
expect path tests/unit/a.c 'const char *p = "/wo''rk/x";'
expect path deploy/a.sh 'cd /ho''me/me'
# shellcheck disable=SC2016  # a literal dollar is the point
expect none deploy/a.sh 'cd "$HOME/x"; ls ../work/x'
expect tabs proto/a.c '\tint x;'
expect blanks proto/a.c 'int x; '
expect width proto/a.c "int $(printf '%0120d' 0);"
expect size proto/a.c "$(yes 'int x;' | head -n 1001)"

rm -rf "${tree:?}"/*
mkdir -p "$tree/proto" "$tree/coordinator/plan"
: > "$tree/proto/same.c"
: > "$tree/coordinator/plan/same.c"
"$lint" "$tree" 2> /dev/null | grep -q 'names: same.c is not unique' || {
    echo "lint_selftest: two files of one name went unseen"
    bad=1
}
[ "$bad" = 0 ] && echo "lint_selftest: every rule can fail"
exit "$bad"
