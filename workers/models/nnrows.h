/* nnrows.h - lines of numbers that the operations of nn.h pass over, one loop for each pattern.
 * Why:    between the products a training step is a hundred passes over activations; each is one loop that
 *         the compiler can turn into wide instructions.
 * Bits:   sums have eight lanes, added in one order, and nothing is contracted: every width of instructions
 *         gives the same bits. (So the compiler's clones for AVX2 and AVX-512 need no kernel row.)
 * Shapes: every pointer is a line [n]; outputs do not overlap inputs, but where a comment says so.
 * Ranks:  pure arithmetic. */
#ifndef MUSTER_NNROWS_H
#define MUSTER_NNROWS_H

#include <stdbool.h>
#include <stdint.h>

/* Sanitizers look at memory before the loader has chosen a clone. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define NN_WIDE __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define NN_WIDE
#endif

/* y = x (1 + scale) + shift; y = residual + gate x */
void nnrows_modulate(float *y, const float *x, const float *scale, const float *shift, int64_t n);
void nnrows_gate(float *y, const float *residual, const float *gate, const float *x, int64_t n);
/* out = a b (fresh) or out += a b; out may be a. */
void nnrows_product(float *out, const float *a, const float *b, int64_t n, bool fresh);
/* out = g (1 + scale), or += */
void nnrows_scaled_back(float *out, const float *g, const float *scale, int64_t n, bool fresh);

/* Of x: sum, and sum of (x - mean)^2, in double. */
double nnrows_sum(const float *x, int64_t n);
double nnrows_spread(const float *x, double mean, int64_t n);
double nnrows_dot(const float *a, const float *b, int64_t n);
float nnrows_max(const float *x, int64_t n);

/* y = (x - mean) r w + b; w, b may be NULL. */
void nnrows_norm(float *y, const float *x, float mean, float r, const float *w, const float *b, int64_t n);
/* Sums over n of g w and of g w (x - mean) r; dw += g (x - mean) r, db += g; w, dw, db may be NULL. */
void nnrows_norm_sums(const float *g, const float *x, float mean, float r, const float *w, float *dw,
                      float *db, int64_t n, double *sum, double *along);
/* dx = r (g w - mean_g - (x - mean) r mean_n), or += */
void nnrows_norm_back(float *dx, const float *g, const float *x, float mean, float r, const float *w,
                      float mean_g, float mean_n, int64_t n, bool fresh);

/* x = x - top, then after the exponentials x *= factor */
void nnrows_subtract(float *x, float top, int64_t n);
void nnrows_multiply(float *x, float factor, int64_t n);
/* ds = p (ds - sum) scale: back through a softmax, in place */
void nnrows_softmax_back(float *ds, const float *p, float sum, float scale, int64_t n);

#endif
