#define TALLEST 6       /* rows of a tile: 12 of the 16 registers accumulate */
#define MATMUL_NAME matmul_avx2
#include "workers/kernels/matmul_body.h"
