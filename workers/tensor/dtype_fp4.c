/* dtype_fp4.c - four-bit codes that index a codebook of 16: IQ4_NL, IQ4_XS (own codebook), MXFP4, NVFP4
 * (E2M1, doubled here so that the values are whole; the scales are halved in return). */
#include "workers/tensor/dtype.h"

#include "workers/tensor/dtype_iq.h"
#include "workers/tensor/dtype_k.h"
#include "workers/tensor/dtype_rows.h"

#include <math.h>

enum { FB = 32, HALF = FB / 2 };

const int8_t iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
const int8_t fp4_values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

/* out [2 * half] from half bytes: low nibbles first. */
static void put_codes(float *out, const uint8_t *p, int half, const int8_t *values, float scale)
{
    for (int j = 0; j < half; j++) {
        out[j] = scale * (float)values[p[j] & 15];
        out[j + half] = scale * (float)values[p[j] >> 4];
    }
}

DEQUANTISE(iq4_nl)
{
    const uint8_t *p = blocks;
    for (int64_t b = 0; b < n / FB; b++, p += 18, out += FB)
        put_codes(out, p + 2, HALF, iq4_values, dtype_f16_to_f32(load_u16(p)));
}

/* bytes: d, u16 of upper scale bits (2 each), 4 bytes of lower (4 each), 128 of nibbles. */
DEQUANTISE(iq4_xs)
{
    const uint8_t *p = blocks;
    for (int64_t b = 0; b < n / K_BLOCK; b++, p += 136) {
        float d = dtype_f16_to_f32(load_u16(p));
        int high = load_u16(p + 2);
        for (int j = 0; j < 8; j++, out += FB) {
            int sc = (p[4 + j / 2] >> 4 * (j & 1) & 15) | (high >> 2 * j & 3) << 4;
            put_codes(out, p + 8 + 16 * j, HALF, iq4_values, d * (float)(sc - 32));
        }
    }
}

/* 2^(e - 128): half of E8M0's value. The two smallest are subnormal. */
static float half_scale(uint8_t e)
{
    uint32_t bits = e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

DEQUANTISE(mxfp4)
{
    const uint8_t *p = blocks;
    for (int64_t b = 0; b < n / FB; b++, p += 17, out += FB)
        put_codes(out, p + 1, HALF, fp4_values, half_scale(p[0]));
}

/* floor(log2(x)) of a positive number, by its bits. */
static int floor_log2(float x)
{
    int e;
    frexpf(x, &e);
    return e - 1;
}

/* The scale puts the largest magnitude into the codebook's top octave, [4, 8) of E2M1. */
static uint8_t block_exponent(const float *x)
{
    float amax = 0.0f;
    for (int j = 0; j < FB; j++)
        amax = fabsf(x[j]) > amax ? fabsf(x[j]) : amax;
    int e = amax > 0.0f && amax <= 3.4e38f ? floor_log2(amax) - 2 + 127 : 0;
    return (uint8_t)(e > 0 ? e : 0);
}

/* Index of the nearest code; the first of equally near ones. */
static int nearest_fp4(float x, float scale)
{
    int best = 0;
    float least = INFINITY;
    for (int i = 0; i < 16; i++) {
        float away = fabsf((float)fp4_values[i] * scale - x);
        if (away < least) {
            least = away;
            best = i;
        }
    }
    return best;
}

QUANTISE(mxfp4)
{
    uint8_t *p = blocks;
    for (int64_t b = 0; b < n / FB; b++, p += 17, in += FB) {
        p[0] = block_exponent(in);
        float scale = half_scale(p[0]);
        for (int j = 0; j < HALF; j++)
            p[1 + j] = (uint8_t)(nearest_fp4(in[j], scale) | nearest_fp4(in[j + HALF], scale) << 4);
    }
}

/* Half of an unsigned E4M3 number; its NaN counts as 0. */
static float half_e4m3(uint8_t b)
{
    int exponent = b >> 3 & 15, fraction = b & 7;
    if (b == 0x7f)
        return 0.0f;
    if (exponent == 0)
        return (float)fraction * 0x1p-10f;
    return (1.0f + (float)fraction * 0.125f) * ldexpf(1.0f, exponent - 8);
}

/* bytes: 4 scales for 16 elements each, 4 x 8 of nibbles. */
DEQUANTISE(nvfp4)
{
    const uint8_t *p = blocks;
    for (int64_t b = 0; b < n / 64; b++, p += 36)
        for (int j = 0; j < 4; j++, out += 16)
            put_codes(out, p + 4 + 8 * j, 8, fp4_values, half_e4m3(p[j]));
}
