/* normal.h - unit normal numbers as a function of (seed, place).
 * Why:    the noise of a picture must not depend on who drew before; one Box-Muller for all uses.
 * How:    each Philox block gives four 24-bit uniforms u0..u3 and from them four normals:
 *         sqrt(-2 ln(1 - u0)) times cos and sin of 2 pi u1, and the same of u2, u3; in double, cast once.
 * Ranks:  not collective. */
#ifndef MUSTER_NORMAL_H
#define MUSTER_NORMAL_H

#include "proto/philox.h"
#include "workers/kernels/vmath.h"

#include <math.h>

/* The four normals of a block. */
static inline void normal_block(uint64_t seed, uint64_t block, uint32_t step, uint32_t purpose,
                                float out[4])
{
    uint32_t r[4];
    philox_block(seed, block, step, purpose, r);
    for (int i = 0; i < 4; i += 2) {
        double sine, cosine;
        double radius = sqrt(-2 * vmath_log(1 - (double)(r[i] >> 8) * 0x1p-24));
        vmath_sincos(6.283185307179586 * ((double)(r[i + 1] >> 8) * 0x1p-24), &sine, &cosine);
        out[i] = (float)(radius * cosine);
        out[i + 1] = (float)(radius * sine);
    }
}

/* out [n] = normals 4 block .. 4 block + n - 1 of (seed, step, purpose). */
static inline void normal_fill_from(float *out, int64_t n, uint64_t seed, uint64_t block, uint32_t step,
                                    uint32_t purpose)
{
    float four[4];
    for (int64_t i = 0; i < n; i++) {
        if (i % 4 == 0)
            normal_block(seed, block + (uint64_t)(i / 4), step, purpose, four);
        out[i] = four[i % 4];
    }
}

/* out [n] = normals 0 .. n-1 of (seed, step, purpose). */
static inline void normal_fill(float *out, int64_t n, uint64_t seed, uint32_t step, uint32_t purpose)
{
    normal_fill_from(out, n, seed, 0, step, purpose);
}

#endif
