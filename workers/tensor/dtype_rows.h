/* dtype_rows.h - the row functions that the dtype table is made of; private to workers/tensor.
 * Shapes: dequantise_X(out [n] f32, blocks, n), quantise_X(blocks, in [n] f32, n); n is a multiple of
 *         the block.
 * Values: every product and sum is rounded to f32 in the written order; the build has no contraction.
 * Ranks:  not collective. */
#ifndef MUSTER_DTYPE_ROWS_H
#define MUSTER_DTYPE_ROWS_H

#include <stdint.h>
#include <string.h>

#define DEQUANTISE(x) void dequantise_##x(float *out, const void *blocks, int64_t n)
#define QUANTISE(x) void quantise_##x(void *blocks, const float *in, int64_t n)

/* dtype_plain.c: one number per block. */
DEQUANTISE(f32);
DEQUANTISE(f16);
DEQUANTISE(bf16);
DEQUANTISE(f64);
DEQUANTISE(f8_e4m3);
DEQUANTISE(f8_e5m2);
QUANTISE(f32);
QUANTISE(f16);
QUANTISE(bf16);

/* dtype_q.c: 32 elements, one scale. */
DEQUANTISE(q4_0);
DEQUANTISE(q4_1);
DEQUANTISE(q5_0);
DEQUANTISE(q5_1);
DEQUANTISE(q8_0);
QUANTISE(q8_1);
QUANTISE(q4_0);
QUANTISE(q4_1);
QUANTISE(q5_0);
QUANTISE(q5_1);
QUANTISE(q8_0);
QUANTISE(q8_1);

/* dtype_k.c: superblocks of 256 elements. */
DEQUANTISE(q2_k);
DEQUANTISE(q3_k);
DEQUANTISE(q4_k);
DEQUANTISE(q5_k);
DEQUANTISE(q6_k);
QUANTISE(q8_k);

/* dtype_fp4.c: codebooks of 16. */
DEQUANTISE(iq4_nl);
DEQUANTISE(iq4_xs);
DEQUANTISE(mxfp4);
DEQUANTISE(nvfp4);
QUANTISE(mxfp4);

/* dtype_tq.c: ternary. */
DEQUANTISE(tq1_0);
DEQUANTISE(tq2_0);
QUANTISE(tq1_0);
QUANTISE(tq2_0);

/* dtype_iq.c: grids. */
DEQUANTISE(iq2_xxs);
DEQUANTISE(iq2_xs);
DEQUANTISE(iq2_s);
DEQUANTISE(iq3_xxs);
DEQUANTISE(iq3_s);
DEQUANTISE(iq1_s);
DEQUANTISE(iq1_m);

/* dtype_kwrite.c: encoders that search for scales. */
QUANTISE(q2_k);
QUANTISE(q3_k);
QUANTISE(q4_k);
QUANTISE(q5_k);
QUANTISE(q6_k);
QUANTISE(q8_k);
QUANTISE(iq4_nl);
QUANTISE(iq4_xs);

/* dtype_iqwrite.c: encoders that search grids. */
QUANTISE(iq2_s);
QUANTISE(iq3_xxs);
QUANTISE(iq3_s);

/* Scales and codes are little-endian in files, as on every machine this is built for. */
static inline uint16_t load_u16(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline uint32_t load_u32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void store_u16(uint8_t *p, uint16_t v) { memcpy(p, &v, sizeof v); }
static inline void store_u32(uint8_t *p, uint32_t v) { memcpy(p, &v, sizeof v); }

#endif
