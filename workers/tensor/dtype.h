/* dtype.h - the number formats of model files: one row of a table each.
 * Why:    a tensor type is block geometry + functions; nothing else in the program branches on it.
 * Source: ggml block layouts; ids are GGUF's. Values are bit-exact in the written order of
 *         operations, without FMA.
 * Ranks:  not collective. */
#ifndef MUSTER_DTYPE_H
#define MUSTER_DTYPE_H

#include "proto/err.h"

#include <stddef.h>
#include <stdint.h>

enum dtype {    /* GGUF ids */
    DT_F32 = 0, DT_F16 = 1, DT_Q4_0 = 2, DT_Q4_1 = 3, DT_Q5_0 = 6, DT_Q5_1 = 7, DT_Q8_0 = 8,
    DT_Q8_1 = 9, DT_Q2_K = 10, DT_Q3_K = 11, DT_Q4_K = 12, DT_Q5_K = 13, DT_Q6_K = 14, DT_Q8_K = 15,
    DT_IQ2_XXS = 16, DT_IQ2_XS = 17, DT_IQ3_XXS = 18, DT_IQ1_S = 19, DT_IQ4_NL = 20, DT_IQ3_S = 21,
    DT_IQ2_S = 22, DT_IQ4_XS = 23, DT_I8 = 24, DT_I16 = 25, DT_I32 = 26, DT_I64 = 27, DT_F64 = 28,
    DT_IQ1_M = 29, DT_BF16 = 30, DT_TQ1_0 = 34, DT_TQ2_0 = 35, DT_MXFP4 = 39, DT_NVFP4 = 40,
    DT_U8 = 100, DT_BOOL = 101, DT_F8_E4M3 = 102, DT_F8_E5M2 = 103,     /* safetensors only */
    DT_MAX = 104
};

struct dtype_info {
    enum dtype id;
    const char *name;           /* lower case, as in file names: "q4_k" */
    int block;                  /* elements of a block; 1 for plain numbers */
    int bytes;                  /* of a block */
    /* out [n] f32 from n / block blocks; NULL: not a weight type. */
    void (*dequantise)(float *out, const void *blocks, int64_t n);
    /* n / block blocks from in [n] f32 as ggml's reference row quantiser; NULL where none is defined. */
    void (*quantise)(void *blocks, const float *in, int64_t n);
};

/* NULL for an unknown id or name. */
const struct dtype_info *dtype_info(int id);
const struct dtype_info *dtype_named(const char *name);
/* Bytes of n elements; n is a multiple of the block. */
size_t dtype_bytes(enum dtype id, int64_t n);

float dtype_f16_to_f32(uint16_t h);
uint16_t dtype_f32_to_f16(float f);         /* nearest even */
static inline float dtype_bf16_to_f32(uint16_t b)
{
    union { uint32_t u; float f; } v = {.u = (uint32_t)b << 16};
    return v.f;
}
uint16_t dtype_f32_to_bf16(float f);        /* nearest even, NaN kept quiet */

#endif
