/* nngemm.h - the matrix product of nn.h's operations: small, row-major, on one thread.
 * Why:    a part's products are 64 to 512 on a side. oneDNN's kernels do them a quarter to a third faster
 *         than OpenBLAS's (128 x 512 x 128: 190 against 145 GFLOP/s of one core).
 * Bits:   those of one thread, whoever calls: threads of ours run parts beside each other.
 * Ranks:  not collective. */
#ifndef MUSTER_NNGEMM_H
#define MUSTER_NNGEMM_H

#include <stdbool.h>
#include <stdint.h>

/* c [m, n] = alpha op(a) op(b) + beta c; op(a) is [m, k], transposed in memory where ta says so. */
void nn_gemm(bool ta, bool tb, int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t lda,
             const float *b, int64_t ldb, float beta, float *c, int64_t ldc);

#endif
