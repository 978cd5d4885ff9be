/* AVX-512 rows: one output row per 32-bit lane, VNNI for the integer dots.
 * The functions are written once over a constant `type` and row count and folded by the compiler;
 * each instance is one kernel of the table. */
#include "workers/kernels/linear_avx512.h"

#include <string.h>

FOLDED __m512i start(enum dtype type, int32_t neg_sum)
{
    int shift = offset_shift(type);
    return shift < 0 ? _mm512_setzero_si512()
                     : _mm512_slli_epi32(_mm512_set1_epi32(neg_sum), (unsigned)shift);
}

FOLDED __m512i dot4(__m512i sum, const __m512i w[4], const int8_t *x)
{
    UNROLL (int g = 0; g < 4; g++) {
        int32_t four;
        memcpy(&four, x + 4 * g, 4);
        sum = _mm512_dpbusd_epi32(sum, w[g], _mm512_set1_epi32(four));
    }
    return sum;
}

/* acc + the sums of a block, scaled. */
FOLDED __m512 add_block(enum dtype type, __m512i sum, const __m512 d[2], const __m512 m[2],
                        const struct linear_xblock *x, __m512 acc)
{
    __m512 scale = _mm512_mul_ps(d[0], _mm512_set1_ps(x->d));
    acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), scale, acc);
    return has_minimum(type) ? _mm512_fmadd_ps(m[0], _mm512_set1_ps(x->xs), acc) : acc;
}

/* acc + one block of 16 rows times one block of x. */
FOLDED __m512 block_dot(enum dtype type, const __m512i w[8], const __m512 d[2], const __m512 m[2],
                        const struct linear_xblock *x, __m512 acc)
{
    __m512 xd = _mm512_set1_ps(x->d);
    if (half_scales(type)) {
        __m512i low = dot4(start(type, x->neg_half[0]), w, x->q);
        __m512i high = dot4(start(type, x->neg_half[1]), w + 4, x->q + 16);
        acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(low), _mm512_mul_ps(d[0], xd), acc);
        acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(high), _mm512_mul_ps(d[1], xd), acc);
        if (has_minimum(type)) {
            acc = _mm512_fmadd_ps(m[0], _mm512_set1_ps(x->xs_half[0]), acc);
            acc = _mm512_fmadd_ps(m[1], _mm512_set1_ps(x->xs_half[1]), acc);
        }
        return acc;
    }
    return add_block(type, dot4(dot4(start(type, x->neg_sum), w, x->q), w + 4, x->q + 16), d, m, x,
                     acc);
}

/* The sum of one block for one row of x: of 4-bit codes the high ones are multiplied where they lie, 16
 * times too large, and the exact sum is shifted instead of each code. */
FOLDED __m512i sum_in_place(enum dtype type, const uint8_t *q, const struct linear_xblock *x)
{
    const __m512i low4 = _mm512_set1_epi8(15), high4 = _mm512_set1_epi8((char)0xf0);
    __m512i low[4], high[4];
    UNROLL (int j = 0; j < 4; j++) {
        __m512i v = load(q + 64 * j);
        low[j] = _mm512_and_si512(v, low4);
        high[j] = _mm512_and_si512(v, high4);
    }
    __m512i sixteenfold = dot4(_mm512_setzero_si512(), high, x->q + 16);
    return _mm512_add_epi32(dot4(start(type, x->neg_sum), low, x->q),
                            _mm512_srai_epi32(sixteenfold, 4));
}

FOLDED bool plain_nibbles(enum dtype type) { return code_bits(type) == 4 && !has_codebook(type); }

/* Blocks [b, b1), whose prefetches go `ahead` bytes on. */
FOLDED void dot_span(enum dtype type, int rows, const struct linear_panel *w, int b, int b1,
                     const uint8_t *x, size_t xs, struct prefetch next, size_t ahead, __m512 *acc)
{
    const size_t bytes = 64 * (size_t)code_bits(type);
    const uint8_t *q = w->q + (size_t)b * bytes;
    const struct linear_xblock *xb = (const struct linear_xblock *)x + b;
    for (; b < b1; b++, q += bytes, xb++) {
        __m512i codes[8];
        __m512 d[2], m[2];
        prefetch_codes(type, q, ahead, next);
        prefetch_scales(type, w, b, next);
        load_scales(type, w, b, d, m);
        if (rows == 1 && plain_nibbles(type)) {
            acc[0] = add_block(type, sum_in_place(type, q, xb), d, m, xb, acc[0]);
            continue;
        }
        load_codes(type, q, codes);
        UNROLL (int r = 0; r < rows; r++)
            acc[r] = block_dot(type, codes, d, m,
                               (const void *)((const uint8_t *)xb + (size_t)r * xs), acc[r]);
    }
}

FOLDED void dot_rows(enum dtype type, int rows, const struct linear_panel *w, int b0, int b1,
                     const uint8_t *x, size_t xs, float *out, int pass, int n_pass)
{
    __m512 acc[8];
    struct prefetch next = prefetch_share(type, w, pass, n_pass);
    struct prefetch_reach reach = prefetch_reach(type, w, b0, b1);
    UNROLL (int r = 0; r < rows; r++)
        acc[r] = _mm512_setzero_ps();
    dot_span(type, rows, w, b0, reach.turn, x, xs, next, reach.inside, acc);
    dot_span(type, rows, w, reach.turn, b1, x, xs, next, reach.beyond, acc);
    UNROLL (int r = 0; r < rows; r++)
        _mm512_storeu_ps(out + 16 * r, acc[r]);
}

FOLDED void dot_all(enum dtype type, const struct linear_panel *w, int b0, int b1, const uint8_t *x,
                    size_t xs, int n_rows, float *acc)
{
    int r = 0, pass = 0, n_pass = n_rows / 8 + (n_rows & 4) / 4 + (n_rows & 2) / 2 + (n_rows & 1);
    for (; r + 8 <= n_rows; r += 8)
        dot_rows(type, 8, w, b0, b1, x + (size_t)r * xs, xs, acc + 16 * r, pass++, n_pass);
    if (n_rows & 4) {
        dot_rows(type, 4, w, b0, b1, x + (size_t)r * xs, xs, acc + 16 * r, pass++, n_pass);
        r += 4;
    }
    if (n_rows & 2) {
        dot_rows(type, 2, w, b0, b1, x + (size_t)r * xs, xs, acc + 16 * r, pass++, n_pass);
        r += 2;
    }
    if (n_rows & 1)
        dot_rows(type, 1, w, b0, b1, x + (size_t)r * xs, xs, acc + 16 * r, pass, n_pass);
}

/* out [32][16] per block: (code - offset) d, then + m, each rounded as dtype's dequantise does. */
FOLDED void expand_all(enum dtype type, const struct linear_panel *w, int b0, int b1, float *out,
                       int ld)
{
    const __m512i byte = _mm512_set1_epi32(255);
    for (int b = b0; b < b1; b++, out += 32 * ld) {
        __m512i codes[8];
        __m512 d[2], m[2];
        load_codes(type, w->q + (size_t)b * 64 * (size_t)code_bits(type), codes);
        load_scales(type, w, b, d, m);
        UNROLL (int g = 0; g < 8; g++) {
            int half = half_scales(type) ? g / 4 : 0;
            for (int i = 0; i < 4; i++) {
                __m512i v = _mm512_and_si512(_mm512_srli_epi32(codes[g], 8 * (unsigned)i), byte);
                if (offset_shift(type) >= 0)
                    v = _mm512_sub_epi32(v, _mm512_set1_epi32(1 << (offset_shift(type) & 7)));
                __m512 f = _mm512_mul_ps(d[half], _mm512_cvtepi32_ps(v));
                if (has_minimum(type))
                    f = _mm512_add_ps(f, m[half]);
                _mm512_storeu_ps(out + (4 * g + i) * ld, f);
            }
        }
    }
}

#define KERNELS(name, type)                                                                        \
    static void dot_##name(const struct linear_panel *w, int b0, int b1, const uint8_t *x,        \
                           size_t xs, int n_rows, float *acc)                                      \
    {                                                                                              \
        dot_all(type, w, b0, b1, x, xs, n_rows, acc);                                              \
    }                                                                                              \
    static void expand_##name(const struct linear_panel *w, int b0, int b1, float *out, int ld)   \
    {                                                                                              \
        expand_all(type, w, b0, b1, out, ld);                                                      \
    }
LINEAR_CODE_TYPES(KERNELS)

static void expand_f16(const struct linear_panel *w, int b0, int b1, float *out, int ld)
{
    const uint8_t *q = w->q + (size_t)b0 * 1024;
    for (int i = 0; i < (b1 - b0) * 32; i += 2, q += 64, out += 2 * ld) {
        if (w->ahead)
            __builtin_prefetch(q + w->ahead, 0, 2);
        _mm512_storeu_ps(out, load_f16(q));
        _mm512_storeu_ps(out + ld, load_f16(q + 32));
    }
}

static void expand_bf16(const struct linear_panel *w, int b0, int b1, float *out, int ld)
{
    const uint8_t *q = w->q + (size_t)b0 * 1024;
    const __m512i high = _mm512_set1_epi32((int)0xffff0000);
    for (int i = 0; i < (b1 - b0) * 32; i += 2, q += 64, out += 2 * ld) {
        __m512i v = load(q);
        if (w->ahead)
            __builtin_prefetch(q + w->ahead, 0, 2);
        _mm512_storeu_si512(out, _mm512_slli_epi32(v, 16));
        _mm512_storeu_si512(out + ld, _mm512_and_si512(v, high));
    }
}

/* 16 weights, f32 or (half) f16. */
FOLDED __m512 load_weights(bool half, const uint8_t *w)
{
    return half ? load_f16(w) : _mm512_loadu_ps(w);
}

FOLDED void f32_rows(int rows, bool half, const uint8_t *w, int k, size_t ahead, const uint8_t *x,
                     size_t xs, float *acc)
{
    const int line = half ? 32 : 64;
    __m512 even[8], odd[8];
    UNROLL (int r = 0; r < rows; r++) {
        even[r] = _mm512_loadu_ps(acc + 32 * r);
        odd[r] = _mm512_loadu_ps(acc + 32 * r + 16);
    }
    for (int i = 0; i < k; i += 2, w += 2 * line) {
        if (ahead) {
            __builtin_prefetch(w + ahead, 0, 2);
            if (!half)
                __builtin_prefetch(w + ahead + 64, 0, 2);
        }
        __m512 w0 = load_weights(half, w), w1 = load_weights(half, w + line);
        UNROLL (int r = 0; r < rows; r++) {
            const float *xr = (const float *)(x + (size_t)r * xs) + i;
            even[r] = _mm512_fmadd_ps(w0, _mm512_set1_ps(xr[0]), even[r]);
            odd[r] = _mm512_fmadd_ps(w1, _mm512_set1_ps(xr[1]), odd[r]);
        }
    }
    UNROLL (int r = 0; r < rows; r++) {
        _mm512_storeu_ps(acc + 32 * r, even[r]);
        _mm512_storeu_ps(acc + 32 * r + 16, odd[r]);
    }
}

FOLDED void f32_all(bool half, const void *w, int k, size_t ahead, const uint8_t *x, size_t xs,
                    int n_rows, float *acc)
{
    int r = 0;
    for (; r + 8 <= n_rows; r += 8, ahead = 0)
        f32_rows(8, half, w, k, ahead, x + (size_t)r * xs, xs, acc + 32 * r);
    if (n_rows & 4) {
        f32_rows(4, half, w, k, ahead, x + (size_t)r * xs, xs, acc + 32 * r);
        ahead = 0;
        r += 4;
    }
    if (n_rows & 2) {
        f32_rows(2, half, w, k, ahead, x + (size_t)r * xs, xs, acc + 32 * r);
        ahead = 0;
        r += 2;
    }
    if (n_rows & 1)
        f32_rows(1, half, w, k, ahead, x + (size_t)r * xs, xs, acc + 32 * r);
}

static void dot_f32(const float *w, int k, size_t ahead, const uint8_t *x, size_t xs, int n_rows,
                    float *acc)
{
    f32_all(false, w, k, ahead, x, xs, n_rows, acc);
}

static void dot_f16(const uint16_t *w, int k, size_t ahead, const uint8_t *x, size_t xs, int n_rows,
                    float *acc)
{
    f32_all(true, w, k, ahead, x, xs, n_rows, acc);
}

/* One pair of bf16 per lane and of x: exact products, odd element first. */
FOLDED __m512 pair(__m512 even, __m512 odd, const float *x, __m512 acc)
{
    acc = _mm512_fmadd_ps(odd, _mm512_set1_ps(x[1]), acc);
    return _mm512_fmadd_ps(even, _mm512_set1_ps(x[0]), acc);
}

FOLDED void bf16_rows(int rows, const uint16_t *w, int n, size_t ahead, const uint8_t *x, size_t xs,
                      float *acc)
{
    const __m512i high = _mm512_set1_epi32((int)0xffff0000);
    __m512 a[8], b[8];
    UNROLL (int r = 0; r < rows; r++) {
        a[r] = _mm512_loadu_ps(acc + 32 * r);
        b[r] = _mm512_loadu_ps(acc + 32 * r + 16);
    }
    for (int i = 0; i < 8 * n; i++, w += 64) {
        if (ahead) {
            __builtin_prefetch((const uint8_t *)w + ahead, 0, 2);
            __builtin_prefetch((const uint8_t *)w + ahead + 64, 0, 2);
        }
        __m512i w0 = load(w), w1 = load(w + 32);
        __m512 even0 = _mm512_castsi512_ps(_mm512_slli_epi32(w0, 16));
        __m512 even1 = _mm512_castsi512_ps(_mm512_slli_epi32(w1, 16));
        __m512 odd0 = _mm512_castsi512_ps(_mm512_and_si512(w0, high));
        __m512 odd1 = _mm512_castsi512_ps(_mm512_and_si512(w1, high));
        size_t at = (size_t)(i / 8) * sizeof(struct linear_xpairs) + 64 + (size_t)(i % 8) * 16;
        UNROLL (int r = 0; r < rows; r++) {
            const float *xr = (const float *)(x + (size_t)r * xs + at);
            a[r] = pair(even0, odd0, xr, a[r]);
            b[r] = pair(even1, odd1, xr + 2, b[r]);
        }
    }
    UNROLL (int r = 0; r < rows; r++) {
        _mm512_storeu_ps(acc + 32 * r, a[r]);
        _mm512_storeu_ps(acc + 32 * r + 16, b[r]);
    }
}

static void dot_bf16(const uint16_t *w, int n, size_t ahead, const uint8_t *x, size_t xs,
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

/* As the plain row, NaN included: max and min take the second operand then. */
FOLDED void prepare_q8_block(struct linear_xblock *out, __m512 v0, __m512 v1)
{
    __m512 top = _mm512_max_ps(_mm512_abs_ps(v0), _mm512_setzero_ps());
    float amax = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(v1), top));
    bool zero = amax < 0x1p-100f;
    const __m512 limit = _mm512_set1_ps(127.0f), lower = _mm512_set1_ps(-127.0f);
    __m512 inverse = _mm512_set1_ps(zero ? 0 : 127.0f / amax);
    __m512i q0 = _mm512_cvtps_epi32(
        _mm512_min_ps(_mm512_max_ps(_mm512_mul_ps(v0, inverse), lower), limit));
    __m512i q1 = _mm512_cvtps_epi32(
        _mm512_min_ps(_mm512_max_ps(_mm512_mul_ps(v1, inverse), lower), limit));
    int low = _mm512_reduce_add_epi32(q0), high = _mm512_reduce_add_epi32(q1);
    float d = zero ? 0 : amax / 127.0f;
    _mm_storeu_si128((__m128i *)out->q, _mm512_cvtepi32_epi8(q0));
    _mm_storeu_si128((__m128i *)(out->q + 16), _mm512_cvtepi32_epi8(q1));
    out->d = d;
    out->xs = d * (float)(low + high);
    out->xs_half[0] = d * (float)low;
    out->xs_half[1] = d * (float)high;
    out->neg_sum = -(low + high);
    out->neg_half[0] = -low;
    out->neg_half[1] = -high;
    out->spare = 0;
}

static void prepare_q8(uint8_t *dst, size_t step, const float *x, int k)
{
    int i = 0;
    for (; i + 32 <= k; i += 32, dst += step)
        prepare_q8_block((struct linear_xblock *)dst, _mm512_loadu_ps(x + i),
                         _mm512_loadu_ps(x + i + 16));
    if (i < k) {
        float tail[32] = {0};
        memcpy(tail, x + i, (size_t)(k - i) * sizeof *x);
        prepare_q8_block((struct linear_xblock *)dst, _mm512_loadu_ps(tail),
                         _mm512_loadu_ps(tail + 16));
    }
}

#define DOT(name, type) [type] = dot_##name,
#define EXPAND(name, type) [type] = expand_##name,
const struct linear_kernels linear_kernels_avx512 = {
    .dot_q8 = (linear_dot_q8 *const[DT_MAX]){LINEAR_CODE_TYPES(DOT)},
    .expand = {[DT_F16] = expand_f16, [DT_BF16] = expand_bf16, LINEAR_CODE_TYPES(EXPAND)},
    .dot_f32 = dot_f32,
    .dot_f16 = dot_f16,
    .dot_bf16 = dot_bf16,
    .prepare_q8 = prepare_q8,
};
