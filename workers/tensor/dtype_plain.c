/* dtype_plain.c - formats whose block is one number: the floats of 8 to 64 bits. */
#include "workers/tensor/dtype.h"

#include "workers/tensor/dtype_rows.h"

static uint32_t float_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static float bits_float(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

float dtype_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = (h >> 10) & 31, fraction = h & 1023;
    if (exponent == 31)
        return bits_float(sign | 0x7f800000u | fraction << 13);
    if (exponent != 0)
        return bits_float(sign | (exponent + 112) << 23 | fraction << 13);
    /* Subnormal or zero: fraction * 2^-24 is exact. */
    return bits_float(sign | float_bits((float)fraction * 0x1p-24f));
}

/* m >> shift, rounded to nearest, ties to even. */
static uint32_t shift_rounded(uint32_t m, int shift)
{
    uint32_t half = 1u << (shift - 1), odd = (m >> shift) & 1;
    return (m + half - 1 + odd) >> shift;
}

uint16_t dtype_f32_to_f16(float f)
{
    uint32_t u = float_bits(f), a = u & 0x7fffffffu;
    uint16_t sign = (uint16_t)(u >> 16 & 0x8000);
    if (a > 0x7f800000u)
        return sign | 0x7e00;
    if (a >= 0x477ff000u)               /* 65520 and above round to infinity */
        return sign | 0x7c00;
    if (a >= 0x38800000u)               /* normal: a carry out of the fraction raises the exponent */
        return sign | (uint16_t)shift_rounded(a - 0x38000000u, 13);
    int shift = 126 - (int)(a >> 23);   /* below 2^-14: units of 2^-24 */
    if (shift > 25)
        return sign;
    return sign | (uint16_t)shift_rounded((a & 0x7fffffu) | 0x800000u, shift);
}

uint16_t dtype_f32_to_bf16(float f)
{
    uint32_t u = float_bits(f);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(u >> 16 | 64);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

DEQUANTISE(f32) { memcpy(out, blocks, (size_t)n * sizeof *out); }
QUANTISE(f32) { memcpy(blocks, in, (size_t)n * sizeof *in); }

DEQUANTISE(f16)
{
    const uint8_t *p = blocks;
    for (int64_t i = 0; i < n; i++)
        out[i] = dtype_f16_to_f32(load_u16(p + 2 * i));
}

QUANTISE(f16)
{
    uint8_t *p = blocks;
    for (int64_t i = 0; i < n; i++)
        store_u16(p + 2 * i, dtype_f32_to_f16(in[i]));
}

DEQUANTISE(bf16)
{
    const uint8_t *p = blocks;
    for (int64_t i = 0; i < n; i++)
        out[i] = dtype_bf16_to_f32(load_u16(p + 2 * i));
}

QUANTISE(bf16)
{
    uint8_t *p = blocks;
    for (int64_t i = 0; i < n; i++)
        store_u16(p + 2 * i, dtype_f32_to_bf16(in[i]));
}

DEQUANTISE(f64)
{
    const uint8_t *p = blocks;
    for (int64_t i = 0; i < n; i++) {
        double d;
        memcpy(&d, p + 8 * i, sizeof d);
        out[i] = (float)d;
    }
}

/* E4M3 as machine learning has it (OCP FP8): bias 7, no infinities, one NaN of each sign. */
static float f8_e4m3_to_f32(uint8_t b)
{
    uint32_t sign = (uint32_t)(b & 0x80) << 24, exponent = (b >> 3) & 15, fraction = b & 7;
    if (exponent == 15 && fraction == 7)
        return bits_float(sign | 0x7fc00000u);
    if (exponent != 0)
        return bits_float(sign | (exponent + 120) << 23 | fraction << 20);
    return bits_float(sign | float_bits((float)fraction * 0x1p-9f));
}

DEQUANTISE(f8_e4m3)
{
    const uint8_t *p = blocks;
    for (int64_t i = 0; i < n; i++)
        out[i] = f8_e4m3_to_f32(p[i]);
}

/* E5M2 is the upper byte of a half. */
DEQUANTISE(f8_e5m2)
{
    const uint8_t *p = blocks;
    for (int64_t i = 0; i < n; i++)
        out[i] = dtype_f16_to_f32((uint16_t)(p[i] << 8));
}
