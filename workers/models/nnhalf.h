/* nnhalf.h - matrix products of bfloat16 numbers with float32 sums, on one thread.
 * Why:    where a processor multiplies tiles of bfloat16, a training step's products take a seventh of their
 *         time (128 x 512 x 128: 1,380 against 190 GFLOP/s of one core with AMX).
 * How:    oneDNN's matmul; what it prepares for a shape is kept, for each thread.
 * Bits:   those of one thread, as nngemm.h.
 * Ranks:  not collective. */
#ifndef MUSTER_NNHALF_H
#define MUSTER_NNHALF_H

#include <stdbool.h>
#include <stdint.h>

/* out [n] = x rounded to nearest even; NaN stays NaN. */
void nnhalf_round(uint16_t *out, const float *x, int64_t n);

/* c [m, n] = op(a) op(b), or += where `add`. Operands as in nn_gemm. */
void nnhalf_gemm(bool ta, bool tb, int64_t m, int64_t n, int64_t k, const uint16_t *a, int64_t lda,
                 const uint16_t *b, int64_t ldb, bool add, float *c, int64_t ldc);

#endif
