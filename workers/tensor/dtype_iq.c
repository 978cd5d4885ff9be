/* dtype_iq.c - superblocks of 256 elements whose codes are rows of a grid: 8 (IQ2, IQ1) or 4 (IQ3)
 * elements at once, their signs apart. A row of 8 with one scale is the unit of every loop here. */
#include "workers/tensor/dtype.h"

#include "workers/tensor/dtype_iq.h"
#include "workers/tensor/dtype_k.h"
#include "workers/tensor/dtype_rows.h"

/* out [g->elements] = scale * row, with minus where the sign bit is set. */
static void put_row(float *out, const struct iq_grid *g, int row, float scale, int signs)
{
    for (int j = 0; j < g->elements; j++) {
        float v = scale * (float)iq_grid_value(g, row, j);
        out[j] = signs >> j & 1 ? -v : v;
    }
}

/* bytes: d, then for each 32 elements 4 row numbers and a u32 of 4 sign codes and a scale. */
DEQUANTISE(iq2_xxs)
{
    const uint8_t *p = blocks;
    for (int64_t b = 0; b < n / K_BLOCK; b++, p += 66) {
        float d = dtype_f16_to_f32(load_u16(p));
        for (int i = 0; i < 32; i++, out += 8) {
            const uint8_t *group = p + 2 + 8 * (i / 4);
            uint32_t rest = load_u32(group + 4);
            float scale = d * (0.5f + (float)(rest >> 28)) * 0.25f;
            put_row(out, &iq_grid_iq2_xxs, group[i % 4], scale, iq_signs(rest >> 7 * (i % 4) & 127));
        }
    }
}

/* bytes: d, 32 u16 of row number (9 bits) and sign code (7), 8 bytes of 4-bit scales for each 16. */
DEQUANTISE(iq2_xs)
{
    const uint8_t *p = blocks;
    for (int64_t b = 0; b < n / K_BLOCK; b++, p += 74) {
        float d = dtype_f16_to_f32(load_u16(p));
        for (int i = 0; i < 32; i++, out += 8) {
            int code = load_u16(p + 2 + 2 * i), sc = p[66 + i / 4] >> 4 * (i / 2 & 1) & 15;
            float scale = d * (0.5f + (float)sc) * 0.25f;
            put_row(out, &iq_grid_iq2_xs, code & 511, scale, iq_signs((unsigned)code >> 9));
        }
    }
}

/* bytes: d, 32 low row bytes, 32 sign bytes, 8 bytes of upper row bits (2 each), 8 of scales. */
DEQUANTISE(iq2_s)
{
    const uint8_t *p = blocks;
    for (int64_t b = 0; b < n / K_BLOCK; b++, p += 82) {
        float d = dtype_f16_to_f32(load_u16(p));
        for (int i = 0; i < 32; i++, out += 8) {
            int row = p[2 + i] | (p[66 + i / 4] >> 2 * (i % 4) & 3) << 8;
            int sc = p[74 + i / 4] >> 4 * (i / 2 & 1) & 15;
            put_row(out, &iq_grid_iq2_s, row, d * (0.5f + (float)sc) * 0.25f, p[34 + i]);
        }
    }
}

/* bytes: d, 64 row numbers, for each 32 elements a u32 of 4 sign codes and a scale. */
DEQUANTISE(iq3_xxs)
{
    const uint8_t *p = blocks;
    for (int64_t b = 0; b < n / K_BLOCK; b++, p += 98) {
        float d = dtype_f16_to_f32(load_u16(p));
        for (int i = 0; i < 32; i++, out += 8) {
            uint32_t rest = load_u32(p + 66 + 4 * (i / 4));
            float scale = d * (0.5f + (float)(rest >> 28)) * 0.5f;
            int signs = iq_signs(rest >> 7 * (i % 4) & 127);
            put_row(out, &iq_grid_iq3_xxs, p[2 + 2 * i], scale, signs);
            put_row(out + 4, &iq_grid_iq3_xxs, p[3 + 2 * i], scale, signs >> 4);
        }
    }
}

/* bytes: d, 64 low row bytes, 8 bytes of upper row bits, 32 sign bytes, 4 bytes of scales for each 32. */
DEQUANTISE(iq3_s)
{
    const uint8_t *p = blocks;
    for (int64_t b = 0; b < n / K_BLOCK; b++, p += 110) {
        float d = dtype_f16_to_f32(load_u16(p));
        for (int i = 0; i < 32; i++, out += 8) {
            int high = p[66 + i / 4] >> 2 * (i % 4), signs = p[74 + i];
            int sc = p[106 + i / 8] >> 4 * (i / 4 & 1) & 15;
            float scale = d * (float)(1 + 2 * sc);
            put_row(out, &iq_grid_iq3_s, p[2 + 2 * i] | (high & 1) << 8, scale, signs);
            put_row(out + 4, &iq_grid_iq3_s, p[3 + 2 * i] | (high & 2) << 7, scale, signs >> 4);
        }
    }
}

/* IQ1: the grid's -1, 0, 1 are shifted by an eighth, up or down. */
static void put_ternary(float *out, int row, float scale, int down)
{
    float delta = down ? -0.125f : 0.125f;
    for (int j = 0; j < 8; j++)
        out[j] = scale * ((float)iq_grid_value(&iq_grid_iq1_s, row, j) + delta);
}

/* bytes: d, 32 low row bytes, for each 32 elements a u16: 4 x 3 upper row bits, scale, direction. */
DEQUANTISE(iq1_s)
{
    const uint8_t *p = blocks;
    for (int64_t b = 0; b < n / K_BLOCK; b++, p += 50) {
        float d = dtype_f16_to_f32(load_u16(p));
        for (int i = 0; i < 32; i++, out += 8) {
            int high = load_u16(p + 34 + 2 * (i / 4));
            float scale = d * (float)(2 * (high >> 12 & 7) + 1);
            put_ternary(out, p[2 + i] | (high >> 3 * (i % 4) & 7) << 8, scale, high >> 15);
        }
    }
}

/* bytes: 32 low row bytes, 16 bytes of nibbles (3 upper row bits, direction), 4 u16 of four 3-bit
 * scales for each 16 elements; their top nibbles together are d. */
DEQUANTISE(iq1_m)
{
    const uint8_t *p = blocks;
    for (int64_t b = 0; b < n / K_BLOCK; b++, p += 56) {
        unsigned bits = 0;
        for (int i = 0; i < 4; i++)
            bits |= (unsigned)(load_u16(p + 48 + 2 * i) >> 12) << 4 * i;
        float d = dtype_f16_to_f32((uint16_t)bits);
        for (int i = 0; i < 32; i++, out += 8) {
            int high = p[32 + i / 2] >> 4 * (i & 1);
            int sc = load_u16(p + 48 + 2 * (i / 8)) >> 3 * (i / 2 % 4) & 7;
            put_ternary(out, p[i] | (high & 7) << 8, d * (float)(2 * sc + 1), high & 8);
        }
    }
}
