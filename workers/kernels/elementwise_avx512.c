#include "workers/kernels/elementwise_body.h"

const struct kernels elementwise_avx512 = ELEMENTWISE_ROW(ISA_AVX512, &attention_avx512, matmul_avx512);
const struct kernels elementwise_amx = ELEMENTWISE_ROW(ISA_AMX, &attention_avx512, matmul_avx512);
