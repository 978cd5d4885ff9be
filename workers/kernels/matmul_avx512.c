#define TALLEST 14      /* rows of a tile: 28 of the 32 registers accumulate */
#define MATMUL_NAME matmul_avx512
#include "workers/kernels/matmul_body.h"
