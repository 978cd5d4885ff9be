#include "workers/tensor/dtype.h"

#include "workers/tensor/dtype_rows.h"

#include <string.h>

/* clang-format off */
static const struct dtype_info rows[] = {
    {DT_F32,     "f32",     1,   4,   dequantise_f32,     quantise_f32},
    {DT_F16,     "f16",     1,   2,   dequantise_f16,     quantise_f16},
    {DT_BF16,    "bf16",    1,   2,   dequantise_bf16,    quantise_bf16},
    {DT_Q4_0,    "q4_0",    32,  18,  dequantise_q4_0,    quantise_q4_0},
    {DT_Q4_1,    "q4_1",    32,  20,  dequantise_q4_1,    quantise_q4_1},
    {DT_Q5_0,    "q5_0",    32,  22,  dequantise_q5_0,    quantise_q5_0},
    {DT_Q5_1,    "q5_1",    32,  24,  dequantise_q5_1,    quantise_q5_1},
    {DT_Q8_0,    "q8_0",    32,  34,  dequantise_q8_0,    quantise_q8_0},
    {DT_Q8_1,    "q8_1",    32,  36,  NULL,               NULL},
    {DT_Q2_K,    "q2_k",    256, 84,  dequantise_q2_k,    NULL},
    {DT_Q3_K,    "q3_k",    256, 110, dequantise_q3_k,    NULL},
    {DT_Q4_K,    "q4_k",    256, 144, dequantise_q4_k,    NULL},
    {DT_Q5_K,    "q5_k",    256, 176, dequantise_q5_k,    NULL},
    {DT_Q6_K,    "q6_k",    256, 210, dequantise_q6_k,    NULL},
    {DT_Q8_K,    "q8_k",    256, 292, NULL,               NULL},
    {DT_IQ2_XXS, "iq2_xxs", 256, 66,  NULL,               NULL},
    {DT_IQ2_XS,  "iq2_xs",  256, 74,  NULL,               NULL},
    {DT_IQ3_XXS, "iq3_xxs", 256, 98,  NULL,               NULL},
    {DT_IQ1_S,   "iq1_s",   256, 50,  NULL,               NULL},
    {DT_IQ4_NL,  "iq4_nl",  32,  18,  NULL,               NULL},
    {DT_IQ3_S,   "iq3_s",   256, 110, NULL,               NULL},
    {DT_IQ2_S,   "iq2_s",   256, 82,  NULL,               NULL},
    {DT_IQ4_XS,  "iq4_xs",  256, 136, NULL,               NULL},
    {DT_IQ1_M,   "iq1_m",   256, 56,  NULL,               NULL},
    {DT_TQ1_0,   "tq1_0",   256, 54,  NULL,               NULL},
    {DT_TQ2_0,   "tq2_0",   256, 66,  NULL,               NULL},
    {DT_MXFP4,   "mxfp4",   32,  17,  NULL,               NULL},
    {DT_NVFP4,   "nvfp4",   64,  36,  NULL,               NULL},
    {DT_I8,      "i8",      1,   1,   NULL,               NULL},
    {DT_I16,     "i16",     1,   2,   NULL,               NULL},
    {DT_I32,     "i32",     1,   4,   NULL,               NULL},
    {DT_I64,     "i64",     1,   8,   NULL,               NULL},
    {DT_F64,     "f64",     1,   8,   dequantise_f64,     NULL},
    {DT_U8,      "u8",      1,   1,   NULL,               NULL},
    {DT_BOOL,    "bool",    1,   1,   NULL,               NULL},
    {DT_F8_E4M3, "f8_e4m3", 1,   1,   dequantise_f8_e4m3, NULL},
    {DT_F8_E5M2, "f8_e5m2", 1,   1,   dequantise_f8_e5m2, NULL},
};
/* clang-format on */
enum { N_ROWS = sizeof rows / sizeof *rows };

const struct dtype_info *dtype_info(int id)
{
    for (int i = 0; i < N_ROWS; i++)
        if ((int)rows[i].id == id)
            return &rows[i];
    return NULL;
}

const struct dtype_info *dtype_named(const char *name)
{
    for (int i = 0; i < N_ROWS; i++)
        if (strcmp(rows[i].name, name) == 0)
            return &rows[i];
    return NULL;
}

size_t dtype_bytes(enum dtype type, int64_t n)
{
    const struct dtype_info *row = dtype_info(type);
    ASSERT(row != NULL && n >= 0 && n % row->block == 0);
    return (size_t)(n / row->block) * (size_t)row->bytes;
}
