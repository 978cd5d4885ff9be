/* matmul.h - out = x W^T + bias in f32 for many rows: the linear layers of image networks.
 * Why:    a step of pictures is hundreds of rows of 100 to 4,000 columns. The weights stay the same
 *         for thousands of steps, so they are packed once; a library packs them at every call and
 *         picks its blocks by the call's shape, so that its bits move with a rank's share of columns.
 * Layout: panels of MATMUL_PANEL output columns, in a panel [k, MATMUL_PANEL]; the last one is filled with
 *         zeros.
 * Bits:   a number of out is, for each segment of the program, one chain of fused multiply-adds over rising k
 *         from 0; the segments are folded as the program says; the bias comes last. So they depend on the
 *         row of x, the row of W and the program: not on rows, columns or threads beside them, and not on the
 *         instruction set.
 * Pairs:  a matrix of bfloat16 numbers is one of pairs of them: two columns, the even one in the low half,
 *         stand in the place of an f32 number, so that k, ldx and the program count pairs and the layout is
 *         the same. A link of a chain is then two fused multiply-adds in f32, of the odd column first.
 * Owner:  the caller owns all memory.
 * Ranks:  pure arithmetic. */
#ifndef MUSTER_MATMUL_H
#define MUSTER_MATMUL_H

#include "proto/split.h"

#include <stddef.h>
#include <stdint.h>

enum { MATMUL_PANEL = 32 };

static inline int matmul_panels(int n) { return (n + MATMUL_PANEL - 1) / MATMUL_PANEL; }
static inline size_t matmul_packed_floats(int n, int k)
{
    return (size_t)matmul_panels(n) * MATMUL_PANEL * (size_t)k;
}

/* w [n, k], rows ldw apart. */
void matmul_pack(float *packed, const float *w, int64_t ldw, int n, int k);

struct matmul_call {
    const float *packed; int n, k;
    const struct split_program *prog;       /* over the k columns; at least one segment */
    const float *bias;                      /* [n] or NULL; only where the program leaves one piece */
    const float *x; int64_t ldx;            /* [rows, k] */
    float *out; int64_t ldo, piece_stride;  /* [n_piece][rows, n] */
};

/* Rows [row0, row1), panels [panel0, panel1) of a call; threads take disjoint ones. */
typedef void matmul_run(const struct matmul_call *c, int64_t row0, int64_t row1, int panel0, int panel1);
matmul_run matmul_scalar, matmul_avx2, matmul_avx512;
/* Of pairs. The vector row takes subnormal numbers and results for zero, plain C does not. */
matmul_run matmul_pairs_scalar, matmul_pairs_avx512bf16;

#endif
