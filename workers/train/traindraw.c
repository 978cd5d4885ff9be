#include "workers/train/traindraw.h"

#include "proto/philox.h"

#include <math.h>

enum { BLOCK = 512 };       /* normal numbers made at a time: half from sines, half from cosines */
static const uint64_t LATER = 0x9e3779b97f4a7c15u;      /* sample numbers of more than 32 bits */

static void four(uint64_t seed, uint64_t sample, uint64_t block, uint32_t purpose, uint32_t r[4])
{
    philox_block(seed + (sample >> 32) * LATER, block, (uint32_t)sample, purpose, r);
}

/* Four uniform numbers of a draw make four normal ones: pairs of a radius and an angle. */
static void normal_block(const struct kernels *k, uint64_t seed, uint64_t sample, uint64_t block,
                         uint32_t purpose, float *out, int n)
{
    float radius[BLOCK / 2] = {0}, angle[BLOCK / 2] = {0}, sine[BLOCK / 2], cosine[BLOCK / 2];
    int pairs = (n + 3) / 4 * 2;
    for (int i = 0; i < pairs; i += 2) {
        uint32_t r[4];
        four(seed, sample, block + (uint64_t)i / 2, purpose, r);
        for (int j = 0; j < 2; j++) {
            radius[i + j] = ((float)(r[2 * j] >> 8) + 1) * 0x1p-24f;
            angle[i + j] = (float)(r[2 * j + 1] >> 8) * (0x1p-24f * 6.28318530717958647692f);
        }
    }
    k->log(radius, radius, pairs);
    k->sincos(sine, cosine, angle, pairs);
    for (int i = 0; i < pairs; i++) {
        float length = sqrtf(-2 * radius[i]);
        if (2 * i < n)
            out[2 * i] = length * cosine[i];
        if (2 * i + 1 < n)
            out[2 * i + 1] = length * sine[i];
    }
}

static void normals(const struct kernels *k, uint64_t seed, uint64_t sample, uint64_t block,
                    uint32_t purpose, float *out, int64_t n)
{
    for (int64_t at = 0; at < n; at += BLOCK)
        normal_block(k, seed, sample, block + (uint64_t)at / 4, purpose, out + at,
                     (int)(n - at < BLOCK ? n - at : BLOCK));
}

void traindraw_normal(const struct kernels *k, uint64_t seed, uint64_t sample, uint64_t block, float *out,
                      int64_t n)
{
    normals(k, seed, sample, block, PHILOX_TRAIN, out, n);
}

double traindraw_uniform(uint64_t seed, uint64_t sample, uint64_t block)
{
    uint32_t r[4];
    four(seed, sample, block, PHILOX_TRAIN, r);
    return ((double)(r[0] >> 5) * 0x1p26 + (r[1] >> 6)) * 0x1p-53;
}

double traindraw_one_normal(const struct kernels *k, uint64_t seed, uint64_t sample, uint64_t block)
{
    float x;
    traindraw_normal(k, seed, sample, block, &x, 1);
    return x;
}

void traindraw_weights_normal(uint64_t seed, uint32_t tensor, double deviation, float *out, int64_t n)
{
    normals(kernels_get(ISA_SCALAR), seed, tensor, 0, PHILOX_WEIGHTS, out, n);
    for (int64_t i = 0; i < n; i++)
        out[i] = (float)(out[i] * deviation);
}

void traindraw_weights_uniform(uint64_t seed, uint32_t tensor, double bound, float *out, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = (float)(bound * (2.0 * philox_uniform(seed, (uint64_t)i, tensor, PHILOX_WEIGHTS) - 1));
}
