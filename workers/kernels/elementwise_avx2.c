#include "workers/kernels/elementwise_body.h"

const struct kernels elementwise_avx2 = ELEMENTWISE_ROW(ISA_AVX2, &attention_avx2, matmul_avx2);
