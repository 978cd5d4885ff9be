/* philox.h - random numbers as a function of (seed, place), never a stream.
 * Why:    a stream depends on who drew before; a function gives the same picture or token on any
 *         number of ranks, in any order.
 * Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC11 (Philox4x32-10).
 * Ranks:  not collective. */
#ifndef MUSTER_PHILOX_H
#define MUSTER_PHILOX_H

#include <stdint.h>

/* The last counter word: one number for each use of randomness, so that uses never share draws. */
enum philox_purpose {
    PHILOX_SAMPLE = 1,          /* one uniform for each sampled token; step = position */
    PHILOX_IMAGE_NOISE = 2,     /* the latent an image starts from; step = 0 */
    PHILOX_IMAGE_STEP = 3,      /* noise that a stochastic sampler adds; step = its index */
    PHILOX_WEIGHTS = 4,         /* random weights; step = tensor's number */
    PHILOX_TRAIN = 5,           /* training: times, dropout, noise; step = sample index */
    PHILOX_SCENE = 6,           /* the built-in world; step = scene index */
    PHILOX_GAN = 7
};

/* out[0..3] = Philox4x32-10 of counter {index/4 low, index/4 high, step, purpose}, key = seed. */
static inline void philox_block(uint64_t seed, uint64_t block, uint32_t step, uint32_t purpose,
                                uint32_t out[4])
{
    uint32_t c0 = (uint32_t)block, c1 = (uint32_t)(block >> 32), c2 = step, c3 = purpose;
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

/* The uniform number `index` in [0, 1), 24 bits: exact in f32. */
static inline float philox_uniform(uint64_t seed, uint64_t index, uint32_t step, uint32_t purpose)
{
    uint32_t r[4];
    philox_block(seed, index / 4, step, purpose, r);
    return (float)(r[index % 4] >> 8) * 0x1p-24f;
}

#endif
