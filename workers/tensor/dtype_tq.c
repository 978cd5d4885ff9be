/* dtype_tq.c - ternary weights: TQ2_0 in two bits, TQ1_0 five to a byte.
 * TQ1_0: a byte is ceil(256 v / 243) of a five-digit base-3 number v; multiplying it by 3 shifts the next
 *        digit out at the top (of 8 bits), first digit first. */
#include "workers/tensor/dtype.h"

#include "workers/tensor/dtype_k.h"
#include "workers/tensor/dtype_rows.h"

#include <math.h>

/* Element i of a superblock: byte *at, digit *digit. Bytes 0-31 hold elements 0-159, 32-47 160-239 and
 * 48-51 (four digits) the rest, equal digits side by side. */
static void place(int i, int *at, int *digit)
{
    int width = i < 160 ? 32 : i < 240 ? 16 : 4;
    int first = i < 160 ? 0 : i < 240 ? 160 : 240;
    *at = first / 5 + (i - first) % width;
    *digit = (i - first) / width;
}

static const uint8_t power3[5] = {1, 3, 9, 27, 81};

DEQUANTISE(tq1_0)
{
    const uint8_t *p = blocks;
    for (int64_t b = 0; b < n / K_BLOCK; b++, p += 54, out += K_BLOCK) {
        float d = dtype_f16_to_f32(load_u16(p + 52));
        for (int i = 0; i < K_BLOCK; i++) {
            int at, digit;
            place(i, &at, &digit);
            uint8_t shifted = (uint8_t)(p[at] * power3[digit]);
            out[i] = (float)((shifted * 3 >> 8) - 1) * d;
        }
    }
}

DEQUANTISE(tq2_0)
{
    const uint8_t *p = blocks;
    for (int64_t b = 0; b < n / K_BLOCK; b++, p += 66, out += K_BLOCK) {
        float d = dtype_f16_to_f32(load_u16(p + 64));
        for (int i = 0; i < K_BLOCK; i++)
            out[i] = (float)((p[i / 128 * 32 + i % 32] >> 2 * (i % 128 / 32) & 3) - 1) * d;
    }
}

/* Largest magnitude; codes q [256] = round(x / d) + 1. */
static float ternary_codes(uint8_t *q, const float *x)
{
    float d = 0.0f;
    for (int i = 0; i < K_BLOCK; i++)
        d = fabsf(x[i]) > d ? fabsf(x[i]) : d;
    float inv = d != 0.0f ? 1.0f / d : 0.0f;
    for (int i = 0; i < K_BLOCK; i++) {
        float v = x[i] * inv;
        q[i] = v >= 0.5f ? 2 : v <= -0.5f ? 0 : 1;
    }
    return d;
}

QUANTISE(tq1_0)
{
    uint8_t *p = blocks, q[K_BLOCK];
    for (int64_t b = 0; b < n / K_BLOCK; b++, p += 54, in += K_BLOCK) {
        float d = ternary_codes(q, in);
        int v[52] = {0};
        for (int i = 0; i < K_BLOCK; i++) {
            int at, digit;
            place(i, &at, &digit);
            v[at] += q[i] * power3[4 - digit];
        }
        for (int i = 0; i < 52; i++)
            p[i] = (uint8_t)((v[i] * 256 + 242) / 243);
        store_u16(p + 52, dtype_f32_to_f16(d));
    }
}

QUANTISE(tq2_0)
{
    uint8_t *p = blocks, q[K_BLOCK];
    for (int64_t b = 0; b < n / K_BLOCK; b++, p += 66, in += K_BLOCK) {
        float d = ternary_codes(q, in);
        memset(p, 0, 64);
        for (int i = 0; i < K_BLOCK; i++)
            p[i / 128 * 32 + i % 32] |= (uint8_t)(q[i] << 2 * (i % 128 / 32));
        store_u16(p + 64, dtype_f32_to_f16(d));
    }
}
