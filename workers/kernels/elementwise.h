/* elementwise.h - the rows of the kernel table, one for each instruction set.
 * Why:    kernels.c chooses between them; the plain C row is the reference for the others.
 * Ranks:  not collective. */
#ifndef MUSTER_ELEMENTWISE_H
#define MUSTER_ELEMENTWISE_H

#include "workers/kernels/kernels.h"

extern const struct kernels elementwise_scalar, elementwise_avx2, elementwise_avx512, elementwise_amx;

/* Shared by all rows: their arithmetic is double, so one piece of code gives everybody its bits. */
void elementwise_log(float *out, const float *x, int64_t n);
void elementwise_sincos(float *sine, float *cosine, const float *x, int64_t n);

/* exp_sum counts in units of 2^-ELEMENTWISE_SUM_BITS. */
enum { ELEMENTWISE_SUM_BITS = 40 };

#endif
