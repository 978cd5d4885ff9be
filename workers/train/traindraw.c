#include "workers/train/traindraw.h"

#include "proto/philox.h"
#include "workers/kernels/normal.h"

static const uint64_t LATER = 0x9e3779b97f4a7c15u;      /* sample numbers of more than 32 bits */

static uint64_t key_of(uint64_t seed, uint64_t sample)
{
    return seed + (sample >> 32) * LATER;
}

void traindraw_normal(uint64_t seed, uint64_t sample, uint64_t block, float *out, int64_t n)
{
    normal_fill_from(out, n, key_of(seed, sample), block, (uint32_t)sample, PHILOX_TRAIN);
}

double traindraw_uniform(uint64_t seed, uint64_t sample, uint64_t block)
{
    uint32_t r[4];
    philox_block(key_of(seed, sample), block, (uint32_t)sample, PHILOX_TRAIN, r);
    return ((double)(r[0] >> 5) * 0x1p26 + (r[1] >> 6)) * 0x1p-53;
}

double traindraw_one_normal(uint64_t seed, uint64_t sample, uint64_t block)
{
    float x;
    traindraw_normal(seed, sample, block, &x, 1);
    return x;
}

void traindraw_weights_normal(uint64_t seed, uint32_t tensor, double deviation, float *out, int64_t n)
{
    normal_fill(out, n, seed, tensor, PHILOX_WEIGHTS);
    for (int64_t i = 0; i < n; i++)
        out[i] = (float)(out[i] * deviation);
}

void traindraw_weights_uniform(uint64_t seed, uint32_t tensor, double bound, float *out, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = (float)(bound * (2.0 * philox_uniform(seed, (uint64_t)i, tensor, PHILOX_WEIGHTS) - 1));
}
