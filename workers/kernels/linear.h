/* linear.h - y = x W^T for a weight matrix as it came from the file, prepacked.
 * Why:    decoding is bound by reading weights, so they are multiplied as stored; prompts are bound
 *         by arithmetic, so they are expanded panel by panel in cache.
 * Layout: panels of LINEAR_PANEL output rows; inside a panel the blocks of 32 weights follow K, so
 *         that any K range on a 32 border is contiguous. The exact layout belongs to the dtype's
 *         row.
 * Bits:   out[r] depends on x[r], W, the program and the role, and on nothing else.
 * Owner:  the caller owns `packed` (from an arena or a mapping); a linear is a view of it.
 * Ranks:  not collective. */
#ifndef MUSTER_LINEAR_H
#define MUSTER_LINEAR_H

#include "proto/split.h"
#include "workers/kernels/kernels.h"

enum { LINEAR_PANEL = 16 };

enum compute { COMPUTE_DEFAULT, COMPUTE_F32 };  /* f32: dequantise, multiply and add in f32 */

struct linear {
    enum dtype type;            /* of the file's numbers */
    int n_out, k;               /* rows and columns held here; k may be any number for plain types,
                                   else whole 32-groups */
    int k_origin; /* index of column 0 in the whole matrix: superblocks of 256 start at
                                   multiples of 256 of (k_origin + column) */
    uint8_t *packed;            /* linear_packed_bytes() of them, 64-byte aligned */
};

/* Bytes of the packed form; equals the file's within a few percent. */
size_t linear_packed_bytes(enum dtype type, int n_out, int k, int k_origin);

/* Packs rows [row, row + n_rows) of l from `src`: whole file rows restricted to the columns held:
 * src row i starts at src + i * stride bytes, at the block that contains column k_origin (for
 * 256-blocks the superblock that contains it; for 32-blocks and plain types the column itself).
 * ERR_FORMAT when a scale or plain number is NaN or infinite (err names nothing: the caller
 * does). */
int linear_pack(struct linear *l, int row, int n_rows, const uint8_t *src, size_t stride,
                struct err *err);

/* One output row as f32 [k] (embedding lookup). */
void linear_row(const struct linear *l, int row, float *out);

/* What the products of a step need once per x, shared by all panels: quantised or bf16 activations.
 * Bytes for n_rows rows of k columns. */
size_t linear_x_bytes(const struct linear *l, enum isa isa, enum compute compute, enum role role,
                      int n_rows, int k);
/* Prepares rows [r0, r1) of x [n_rows, k], row stride ldx, into xq; rows may be shared out over
 * threads. One preparation serves every linear of the same family (linear_family equal). */
void linear_x_prepare(const struct linear *l, enum isa isa, enum compute compute, enum role role,
                      void *xq, const float *x, int64_t ldx, int n_rows, int k, int r0, int r1);
int linear_family(enum dtype type, enum isa isa, enum compute compute, enum role role);

/* Scratch bytes that one thread needs in linear_run. */
size_t linear_scratch_bytes(enum isa isa, enum compute compute, enum role role, int n_rows, int k);

/* out [n_piece][n_rows, n_out] (row stride ldo, piece stride piece_stride, in floats) = x W^T
 * summed as `prog` says, for output panels [p0, p1) of ceil(n_out / LINEAR_PANEL). Threads take
 * disjoint panel ranges. */
void linear_run(const struct linear *l, enum isa isa, enum compute compute, enum role role,
                const struct split_program *prog, float *out, int64_t ldo, int64_t piece_stride,
                const void *xq, int n_rows, int p0, int p1, void *scratch);

/* Kernel self-check: every (type, role) row of isa against plain C on a small known case, and the
 * place-invariance of cblas_sgemm tiles (before it, no product goes to BLAS). Rows refused fall
 * back to the next lower isa. Fills refused (text, comma separated: "avx512:q4_k/generated") and
 * returns how many were refused. A few milliseconds. Sets OpenBLAS to one thread. Not
 * thread-safe. */
int linear_self_check(enum isa isa, char *refused, size_t cap);
/* Are cblas_sgemm tiles place-invariant and right here? Else our own kernel serves f32 products. */
bool linear_blas_tiles_ok(void);
/* Ranks agree: rows that any rank refused are refused everywhere. */
void linear_disable(const char *refused, bool blas_tiles);

#endif
