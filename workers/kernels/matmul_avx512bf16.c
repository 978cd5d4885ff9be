/* Pairs of bfloat16 numbers: twice the products of an f32 tile in its time (AMD Zen 5, one core beside a busy
 * one: 228 against 114 GFLOP/s at 1,008 x 128 x 128; oneDNN 222). */
#define TALLEST 14
#define MATMUL_NAME matmul_pairs_avx512bf16
#define MATMUL_LINK(v, w, sum) _mm512_dpbf16_ps(sum, (__m512bh)(w), (__m512bh)(v))
#include "workers/kernels/matmul_body.h"
