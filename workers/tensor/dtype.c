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
    {DT_Q8_1,    "q8_1",    32,  36,  NULL,               quantise_q8_1},
    {DT_Q2_K,    "q2_k",    256, 84,  dequantise_q2_k,    quantise_q2_k},
    {DT_Q3_K,    "q3_k",    256, 110, dequantise_q3_k,    quantise_q3_k},
    {DT_Q4_K,    "q4_k",    256, 144, dequantise_q4_k,    quantise_q4_k},
    {DT_Q5_K,    "q5_k",    256, 176, dequantise_q5_k,    quantise_q5_k},
    {DT_Q6_K,    "q6_k",    256, 210, dequantise_q6_k,    quantise_q6_k},
    {DT_Q8_K,    "q8_k",    256, 292, NULL,               quantise_q8_k},
    {DT_IQ2_XXS, "iq2_xxs", 256, 66,  dequantise_iq2_xxs, NULL},
    {DT_IQ2_XS,  "iq2_xs",  256, 74,  dequantise_iq2_xs,  NULL},
    {DT_IQ3_XXS, "iq3_xxs", 256, 98,  dequantise_iq3_xxs, quantise_iq3_xxs},
    {DT_IQ1_S,   "iq1_s",   256, 50,  dequantise_iq1_s,   NULL},
    {DT_IQ4_NL,  "iq4_nl",  32,  18,  dequantise_iq4_nl,  quantise_iq4_nl},
    {DT_IQ3_S,   "iq3_s",   256, 110, dequantise_iq3_s,   quantise_iq3_s},
    {DT_IQ2_S,   "iq2_s",   256, 82,  dequantise_iq2_s,   quantise_iq2_s},
    {DT_IQ4_XS,  "iq4_xs",  256, 136, dequantise_iq4_xs,  quantise_iq4_xs},
    {DT_IQ1_M,   "iq1_m",   256, 56,  dequantise_iq1_m,   NULL},
    {DT_TQ1_0,   "tq1_0",   256, 54,  dequantise_tq1_0,   quantise_tq1_0},
    {DT_TQ2_0,   "tq2_0",   256, 66,  dequantise_tq2_0,   quantise_tq2_0},
    {DT_MXFP4,   "mxfp4",   32,  17,  dequantise_mxfp4,   quantise_mxfp4},
    {DT_NVFP4,   "nvfp4",   64,  36,  dequantise_nvfp4,   NULL},
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
