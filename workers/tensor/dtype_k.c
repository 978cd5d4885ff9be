/* dtype_k.c - superblocks of 256 elements: sub-blocks with their own small integer scales, which
 * share one or two f16 scales. Q2_K, Q3_K, Q6_K have 16 sub-blocks of 16; Q4_K and Q5_K 8 of 32.
 * Layout: 2-bit codes lie four to a byte, 32 elements apart (byte l of a half: elements l, l + 32,
 *         l + 64, l + 96); nibbles two to a byte, 32 apart; the missing upper bits in a second array. */
#include "workers/tensor/dtype.h"

#include "workers/tensor/dtype_k.h"
#include "workers/tensor/dtype_rows.h"

/* Sub-block j's 6-bit scale and minimum out of Q4_K's and Q5_K's 12 bytes: the first four whole in
 * the low 6 bits of bytes 0-3 and 4-7, the others with their low nibbles in bytes 8-11 and their top
 * two bits above those of the first four. */
void dtype_k_unpack_scale(const uint8_t *s, int j, int *scale, int *minimum)
{
    if (j < 4) {
        *scale = s[j] & 63;
        *minimum = s[j + 4] & 63;
    } else {
        *scale = (s[j + 4] & 15) | s[j - 4] >> 6 << 4;
        *minimum = s[j + 4] >> 4 | s[j] >> 6 << 4;
    }
}

/* Q3_K's 16 scales of 6 bits: low nibbles in bytes 0-7 (0-7 low, 8-15 high halves), top two bits in
 * bytes 8-11, one bit pair for each quarter. Stored plus 32. */
int dtype_k_unpack_scale3(const uint8_t *s, int j)
{
    int low = j < 8 ? s[j] & 15 : s[j - 8] >> 4;
    return (low | (s[8 + j % 4] >> 2 * (j / 4) & 3) << 4) - 32;
}

/* bytes: 16 scales (low nibble scale, high minimum), 64 codes, d, dmin. */
DEQUANTISE(q2_k)
{
    const uint8_t *p = blocks;
    for (int64_t b = 0; b < n / K_BLOCK; b++, p += 84, out += K_BLOCK) {
        float d = dtype_f16_to_f32(load_u16(p + 80)), dmin = dtype_f16_to_f32(load_u16(p + 82));
        for (int i = 0; i < K_BLOCK; i++) {
            int scale = p[i / 16], q = p[16 + i / 128 * 32 + i % 32] >> 2 * (i % 128 / 32) & 3;
            float dl = d * (float)(scale & 15), ml = dmin * (float)(scale >> 4);
            out[i] = dl * (float)q - ml;
        }
    }
}

/* bytes: 32 upper bits (bit g of byte l: element 32 g + l; set = no 4 taken off), 64 codes, 12 scales,
 * d. */
DEQUANTISE(q3_k)
{
    const uint8_t *p = blocks;
    for (int64_t b = 0; b < n / K_BLOCK; b++, p += 110, out += K_BLOCK) {
        float d = dtype_f16_to_f32(load_u16(p + 108));
        for (int i = 0; i < K_BLOCK; i++) {
            int q = p[32 + i / 128 * 32 + i % 32] >> 2 * (i % 128 / 32) & 3;
            q -= (p[i % 32] >> i / 32 & 1) ? 0 : 4;
            float dl = d * (float)dtype_k_unpack_scale3(p + 96, i / 16);
            out[i] = dl * (float)q;
        }
    }
}

/* bytes: d, dmin, 12 scales, 128 nibbles. */
DEQUANTISE(q4_k)
{
    const uint8_t *p = blocks;
    for (int64_t b = 0; b < n / K_BLOCK; b++, p += 144, out += K_BLOCK) {
        float d = dtype_f16_to_f32(load_u16(p)), dmin = dtype_f16_to_f32(load_u16(p + 2));
        for (int j = 0; j < 8; j++) {
            int scale, minimum;
            dtype_k_unpack_scale(p + 4, j, &scale, &minimum);
            float dl = d * (float)scale, ml = dmin * (float)minimum;
            const uint8_t *q = p + 16 + j / 2 * 32;
            for (int l = 0; l < 32; l++)
                out[32 * j + l] = dl * (float)(q[l] >> 4 * (j & 1) & 15) - ml;
        }
    }
}

/* bytes: d, dmin, 12 scales, 32 upper bits (bit j of byte l: element 32 j + l), 128 nibbles. */
DEQUANTISE(q5_k)
{
    const uint8_t *p = blocks;
    for (int64_t b = 0; b < n / K_BLOCK; b++, p += 176, out += K_BLOCK) {
        float d = dtype_f16_to_f32(load_u16(p)), dmin = dtype_f16_to_f32(load_u16(p + 2));
        for (int j = 0; j < 8; j++) {
            int scale, minimum;
            dtype_k_unpack_scale(p + 4, j, &scale, &minimum);
            float dl = d * (float)scale, ml = dmin * (float)minimum;
            const uint8_t *q = p + 48 + j / 2 * 32;
            for (int l = 0; l < 32; l++) {
                int v = (q[l] >> 4 * (j & 1) & 15) | (p[16 + l] >> j & 1) << 4;
                out[32 * j + l] = dl * (float)v - ml;
            }
        }
    }
}

/* bytes: 128 low nibbles (64 for each half of 128), 64 pairs of upper bits (32 for each half), 16 signed
 * scales, d. */
DEQUANTISE(q6_k)
{
    const uint8_t *p = blocks;
    for (int64_t b = 0; b < n / K_BLOCK; b++, p += 210, out += K_BLOCK) {
        float d = dtype_f16_to_f32(load_u16(p + 208));
        for (int i = 0; i < K_BLOCK; i++) {
            int half = i / 128, part = i % 128 / 32, l = i % 32;
            int low = p[64 * half + 32 * (part & 1) + l] >> 4 * (part >> 1) & 15;
            int q = low | (p[128 + 32 * half + l] >> 2 * part & 3) << 4;
            out[i] = d * (float)(int8_t)p[192 + i / 16] * (float)(q - 32);
        }
    }
}
