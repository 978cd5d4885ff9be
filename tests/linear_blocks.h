/* linear_blocks.h - random blocks of every weight type, with finite scales, for tests and
 * benches. */
#ifndef MUSTER_LINEAR_BLOCKS_H
#define MUSTER_LINEAR_BLOCKS_H

#include "workers/kernels/linear.h"

#include <string.h>

static inline uint32_t blocks_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

/* About normal, variance 1. */
static inline float blocks_normal(uint64_t *state)
{
    float sum = 0;
    for (int i = 0; i < 12; i++)
        sum += (float)(blocks_random(state) & 0xffffff) * 0x1p-24f;
    return sum - 6;
}

/* Where a block has f16 scales; -1 ends the list. */
static inline void blocks_scales_at(enum dtype type, int at[3])
{
    at[0] = 0;
    at[1] = at[2] = -1;
    switch (type) {
    case DT_Q4_1: case DT_Q5_1: case DT_Q4_K: case DT_Q5_K: at[1] = 2; break;
    case DT_Q6_K: at[0] = 208; break;
    case DT_Q3_K: at[0] = 108; break;
    case DT_Q2_K: at[0] = 80; at[1] = 82; break;
    case DT_TQ1_0: at[0] = 52; break;
    case DT_TQ2_0: at[0] = 64; break;
    default: break;
    }
}

/* n numbers of a type at out: normal for plain types, random codes and scales near 0.01 for
 * blocks. */
static inline void blocks_fill(enum dtype type, uint8_t *out, int64_t n, uint64_t *seed)
{
    const struct dtype_info *info = dtype_info(type);
    size_t bytes = dtype_bytes(type, n);
    if (type == DT_F32 || type == DT_F16 || type == DT_BF16 || type == DT_F64) {
        for (int64_t i = 0; i < n; i++) {
            float f = blocks_normal(seed) * 0.02f;
            double d = (double)f;
            uint16_t h = type == DT_F16 ? dtype_f32_to_f16(f) : dtype_f32_to_bf16(f);
            const void *from = type == DT_F32   ? (void *)&f
                               : type == DT_F64 ? (void *)&d
                                                : (void *)&h;
            memcpy(out + i * info->bytes, from, (size_t)info->bytes);
        }
        return;
    }
    for (size_t i = 0; i < bytes; i++)
        out[i] = (uint8_t)(blocks_random(seed) >> 7);
    int at[3];
    blocks_scales_at(type, at);
    for (int64_t b = 0; b < n / info->block; b++) {
        uint8_t *block = out + b * info->bytes;
        switch (type) {
        case DT_MXFP4:
            block[0] = (uint8_t)(116 + blocks_random(seed) % 8);
            break;
        case DT_NVFP4:
            for (int i = 0; i < 4; i++)
                block[i] = (uint8_t)(blocks_random(seed) % 0x7f);
            break;
        case DT_F8_E4M3: case DT_F8_E5M2:
            block[0] &= 0xbb;       /* no exponent of ones */
            break;
        case DT_IQ1_M:
            block[55] = (block[55] & 0x0f) | 0x20;
            break;
        default:
            for (int i = 0; at[i] >= 0; i++) {
                uint16_t h = (uint16_t)(0x2000 + blocks_random(seed) % 0x400 +
                                        (blocks_random(seed) % 4 == 0 ? 0x8000 : 0));
                memcpy(block + at[i], &h, 2);
            }
        }
    }
}

#endif
