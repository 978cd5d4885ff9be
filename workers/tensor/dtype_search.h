/* dtype_search.h - scales that bring low-bit codes nearest to their numbers; private to workers/tensor.
 * Why:    K- and IQ-quants leave the encoder free to choose; these searches minimise the plain squared
 *         error: a scale is tried around the one that fits the extremes, then solved for by least
 *         squares with the codes held.
 * Shapes: x [n], n a multiple of 4 and at most 32.
 * Values: no randomness, sums in a fixed order: the same bytes on every machine.
 * Ranks:  not collective. */
#ifndef MUSTER_DTYPE_SEARCH_H
#define MUSTER_DTYPE_SEARCH_H

#include <stdint.h>

/* What a code can say: whole numbers from lo to hi, or the sixteen values of a codebook. */
struct code_set { int lo, hi; const int8_t *values; };

/* x ~ scale * code. The best scale found; 0 when all of x is zero or tiny. */
float search_scale(const float *x, int n, const struct code_set *set);
/* Squared error of x ~ scale * code with the nearest codes. */
float scale_error(const float *x, int n, const struct code_set *set, float scale);
/* Those codes: the number itself, or the index in the codebook. */
void scale_codes(int8_t *code, const float *x, int n, const struct code_set *set, float scale);

/* x ~ scale * code - minimum with codes 0..most and minimum >= 0. */
void search_affine(const float *x, int n, int most, float *scale, float *minimum);
float affine_error(const float *x, int n, int most, float scale, float minimum);
void affine_codes(uint8_t *code, const float *x, int n, int most, float scale, float minimum);

/* Nearest whole number, ties to even; |x| < 2^22. */
static inline int nearest_int(float x)
{
    volatile float shifted = x + 12582912.0f;   /* 1.5 * 2^23: the sum has no fraction left */
    return (int)(shifted - 12582912.0f);
}

#endif
