/* dtype_q.c - blocks of 32 elements with one scale (and a minimum): Q4_0, Q4_1, Q5_0, Q5_1, Q8_0,
 *         and Q8_1 for activations.
 * Layout: nibble byte j holds element j (low) and element j + 16 (high); the fifth bits of Q5 lie in
 *         a u32 by element number.
 * Traps:  quantising divides once (x * (1 / d)) and uses the f32 scale, which is stored as f16
 *         afterwards; the extreme with its sign becomes the code -8 (-16) of Q4_0 (Q5_0). */
#include "workers/tensor/dtype.h"

#include "workers/tensor/dtype_rows.h"

#include <math.h>

enum { QB = 32, HALF = QB / 2 };

/* Value of the element with the largest magnitude, sign kept; the first one wins. */
static float extreme(const float *x)
{
    float best = 0.0f, magnitude = 0.0f;
    for (int i = 0; i < QB; i++)
        if (fabsf(x[i]) > magnitude) {
            magnitude = fabsf(x[i]);
            best = x[i];
        }
    return best;
}

static void range_of(const float *x, float *lo, float *hi)
{
    *lo = *hi = x[0];
    for (int i = 1; i < QB; i++) {
        *lo = x[i] < *lo ? x[i] : *lo;
        *hi = x[i] > *hi ? x[i] : *hi;
    }
}

static float inverse(float d) { return d != 0.0f ? 1.0f / d : 0.0f; }

/* The code of v = x / d + offset + 0.5, at most `most`. A scale too small to invert gives infinities
 * and NaN: these are held in range here, since converting them is undefined. */
static uint8_t code(float v, int most)
{
    if (!(v > 0.0f))
        return 0;
    return v >= (float)most ? (uint8_t)most : (uint8_t)v;
}

static void put_nibbles(uint8_t *p, const uint8_t *q)
{
    for (int j = 0; j < HALF; j++)
        p[j] = (uint8_t)((q[j] & 15) | (q[j + HALF] & 15) << 4);
}

static uint32_t fifth_bits(const uint8_t *q)
{
    uint32_t bits = 0;
    for (int j = 0; j < QB; j++)
        bits |= (uint32_t)(q[j] >> 4 & 1) << j;
    return bits;
}

DEQUANTISE(q4_0)
{
    const uint8_t *p = blocks;
    for (int64_t b = 0; b < n / QB; b++, p += 18, out += QB) {
        float d = dtype_f16_to_f32(load_u16(p));
        for (int j = 0; j < HALF; j++) {
            out[j] = (float)((p[2 + j] & 15) - 8) * d;
            out[j + HALF] = (float)((p[2 + j] >> 4) - 8) * d;
        }
    }
}

QUANTISE(q4_0)
{
    uint8_t *p = blocks;
    for (int64_t b = 0; b < n / QB; b++, p += 18, in += QB) {
        float d = extreme(in) / -8.0f, inv = inverse(d);
        uint8_t q[QB];
        for (int j = 0; j < QB; j++)
            q[j] = code(in[j] * inv + 8.5f, 15);
        store_u16(p, dtype_f32_to_f16(d));
        put_nibbles(p + 2, q);
    }
}

DEQUANTISE(q4_1)
{
    const uint8_t *p = blocks;
    for (int64_t b = 0; b < n / QB; b++, p += 20, out += QB) {
        float d = dtype_f16_to_f32(load_u16(p)), m = dtype_f16_to_f32(load_u16(p + 2));
        for (int j = 0; j < HALF; j++) {
            out[j] = (float)(p[4 + j] & 15) * d + m;
            out[j + HALF] = (float)(p[4 + j] >> 4) * d + m;
        }
    }
}

QUANTISE(q4_1)
{
    uint8_t *p = blocks;
    for (int64_t b = 0; b < n / QB; b++, p += 20, in += QB) {
        float lo, hi;
        range_of(in, &lo, &hi);
        float d = (hi - lo) / 15.0f, inv = inverse(d);
        uint8_t q[QB];
        for (int j = 0; j < QB; j++)
            q[j] = code((in[j] - lo) * inv + 0.5f, 15);
        store_u16(p, dtype_f32_to_f16(d));
        store_u16(p + 2, dtype_f32_to_f16(lo));
        put_nibbles(p + 4, q);
    }
}

DEQUANTISE(q5_0)
{
    const uint8_t *p = blocks;
    for (int64_t b = 0; b < n / QB; b++, p += 22, out += QB) {
        float d = dtype_f16_to_f32(load_u16(p));
        uint32_t high = load_u32(p + 2);
        for (int j = 0; j < HALF; j++) {
            int low = (p[6 + j] & 15) | (int)(high >> j & 1) << 4;
            int up = (p[6 + j] >> 4) | (int)(high >> (j + HALF) & 1) << 4;
            out[j] = (float)(low - 16) * d;
            out[j + HALF] = (float)(up - 16) * d;
        }
    }
}

QUANTISE(q5_0)
{
    uint8_t *p = blocks;
    for (int64_t b = 0; b < n / QB; b++, p += 22, in += QB) {
        float d = extreme(in) / -16.0f, inv = inverse(d);
        uint8_t q[QB];
        for (int j = 0; j < QB; j++)
            q[j] = code(in[j] * inv + 16.5f, 31);
        store_u16(p, dtype_f32_to_f16(d));
        store_u32(p + 2, fifth_bits(q));
        put_nibbles(p + 6, q);
    }
}

DEQUANTISE(q5_1)
{
    const uint8_t *p = blocks;
    for (int64_t b = 0; b < n / QB; b++, p += 24, out += QB) {
        float d = dtype_f16_to_f32(load_u16(p)), m = dtype_f16_to_f32(load_u16(p + 2));
        uint32_t high = load_u32(p + 4);
        for (int j = 0; j < HALF; j++) {
            int low = (p[8 + j] & 15) | (int)(high >> j & 1) << 4;
            int up = (p[8 + j] >> 4) | (int)(high >> (j + HALF) & 1) << 4;
            out[j] = (float)low * d + m;
            out[j + HALF] = (float)up * d + m;
        }
    }
}

QUANTISE(q5_1)
{
    uint8_t *p = blocks;
    for (int64_t b = 0; b < n / QB; b++, p += 24, in += QB) {
        float lo, hi;
        range_of(in, &lo, &hi);
        float d = (hi - lo) / 31.0f, inv = inverse(d);
        uint8_t q[QB];
        for (int j = 0; j < QB; j++)
            q[j] = code((in[j] - lo) * inv + 0.5f, 31);
        store_u16(p, dtype_f32_to_f16(d));
        store_u16(p + 2, dtype_f32_to_f16(lo));
        store_u32(p + 4, fifth_bits(q));
        put_nibbles(p + 8, q);
    }
}

DEQUANTISE(q8_0)
{
    const uint8_t *p = blocks;
    for (int64_t b = 0; b < n / QB; b++, p += 34, out += QB) {
        float d = dtype_f16_to_f32(load_u16(p));
        for (int j = 0; j < QB; j++)
            out[j] = (float)(int8_t)p[2 + j] * d;
    }
}

/* Half away from zero, as roundf; |x| < 2^22, others are held. */
static int8_t rounded_i8(float x)
{
    if (!(x > -127.5f))
        return x != x ? 0 : -127;
    if (x >= 126.5f)
        return 127;
    int whole = (int)x;
    float rest = x - (float)whole;
    return (int8_t)(whole + (rest >= 0.5f) - (rest <= -0.5f));
}

QUANTISE(q8_0)
{
    uint8_t *p = blocks;
    for (int64_t b = 0; b < n / QB; b++, p += 34, in += QB) {
        float d = fabsf(extreme(in)) / 127.0f, inv = inverse(d);
        store_u16(p, dtype_f32_to_f16(d));
        for (int j = 0; j < QB; j++)
            p[2 + j] = (uint8_t)rounded_i8(in[j] * inv);
    }
}

/* The form of activations against Q4_1 and Q5_1: d, then d * sum of the codes, both f16 of f32. */
QUANTISE(q8_1)
{
    uint8_t *p = blocks;
    for (int64_t b = 0; b < n / QB; b++, p += 36, in += QB) {
        float d = fabsf(extreme(in)) / 127.0f, inv = inverse(d);
        int sum = 0;
        for (int j = 0; j < QB; j++) {
            int8_t q = rounded_i8(in[j] * inv);
            p[4 + j] = (uint8_t)q;
            sum += q;
        }
        store_u16(p, dtype_f32_to_f16(d));
        store_u16(p + 2, dtype_f32_to_f16((float)sum * d));
    }
}
