/* AVX512_BF16: the bf16 row with hardware pairs, for processors where one is as fast as an fma
 * (AMD; on Intel it is half as fast, and the plain AVX-512 row with widened numbers wins). The
 * instruction adds the odd product, then the even one, as the other rows do; it takes subnormal
 * numbers and results for zero, which they do not. */
#include "workers/kernels/linear_traits.h"

#include <immintrin.h>
#include <string.h>

FOLDED void bf16_rows(int rows, const uint16_t *w, int n, size_t ahead, const uint8_t *x, size_t xs,
                      float *acc)
{
    __m512 even[8], odd[8];
    UNROLL (int r = 0; r < rows; r++) {
        even[r] = _mm512_loadu_ps(acc + 32 * r);
        odd[r] = _mm512_loadu_ps(acc + 32 * r + 16);
    }
    for (int i = 0; i < 8 * n; i++, w += 64) {
        size_t at = (size_t)(i / 8) * sizeof(struct linear_xpairs) + (size_t)(i % 8) * 8;
        if (ahead) {
            __builtin_prefetch((const uint8_t *)w + ahead, 0, 2);
            __builtin_prefetch((const uint8_t *)w + ahead + 64, 0, 2);
        }
        __m512bh w0 = (__m512bh)_mm512_loadu_si512(w), w1 = (__m512bh)_mm512_loadu_si512(w + 32);
        UNROLL (int r = 0; r < rows; r++) {
            int32_t pair[2];
            memcpy(pair, x + (size_t)r * xs + at, sizeof pair);
            even[r] = _mm512_dpbf16_ps(even[r], w0, (__m512bh)_mm512_set1_epi32(pair[0]));
            odd[r] = _mm512_dpbf16_ps(odd[r], w1, (__m512bh)_mm512_set1_epi32(pair[1]));
        }
    }
    UNROLL (int r = 0; r < rows; r++) {
        _mm512_storeu_ps(acc + 32 * r, even[r]);
        _mm512_storeu_ps(acc + 32 * r + 16, odd[r]);
    }
}

void linear_dot_bf16_avx512bf16(const uint16_t *w, int n, size_t ahead, const uint8_t *x, size_t xs,
                                int n_rows, float *acc)
{
    int r = 0;
    for (; r + 8 <= n_rows; r += 8, ahead = 0)
        bf16_rows(8, w, n, ahead, x + (size_t)r * xs, xs, acc + 32 * r);
    if (n_rows & 4) {
        bf16_rows(4, w, n, ahead, x + (size_t)r * xs, xs, acc + 32 * r);
        ahead = 0;
        r += 4;
    }
    if (n_rows & 2) {
        bf16_rows(2, w, n, ahead, x + (size_t)r * xs, xs, acc + 32 * r);
        ahead = 0;
        r += 2;
    }
    if (n_rows & 1)
        bf16_rows(1, w, n, ahead, x + (size_t)r * xs, xs, acc + 32 * r);
}
