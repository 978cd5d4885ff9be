/* AVX2 rows: one output row per 32-bit lane, a panel as two halves of 8 lanes. maddubs multiplies
 * unsigned codes with activations and adds pairs in 16 bits, where up to 6 bits of code cannot
 * overflow; 8-bit codes go as |w| times x with w's sign. The sums are those of the plain C row bit
 * for bit. */
#include "workers/kernels/linear_traits.h"

#include <immintrin.h>
#include <string.h>

FOLDED __m256i load(const void *p) { return _mm256_loadu_si256(p); }
FOLDED __m256 load_f16(const void *p) { return _mm256_cvtph_ps(_mm_loadu_si128(p)); }
FOLDED __m256 load_u8(const uint8_t *p)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)p)));
}
FOLDED __m256 load_i8(const uint8_t *p)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)p)));
}

/* Do the codes need the sign trick? Then they are signed bytes here, else unsigned. */
FOLDED bool signed_codes(enum dtype t) { return offset_shift(t) == 7; }

FOLDED __m256i codebook(enum dtype type)
{
    return _mm256_broadcastsi128_si256(
        type == DT_MXFP4
            ? _mm_setr_epi8(16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4)
            : _mm_setr_epi8(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89,
                            113));
}

FOLDED __m256i shifted(__m256i v, int left)
{
    return left >= 0 ? _mm256_slli_epi32(v, left) : _mm256_srli_epi32(v, -left);
}

/* w[g]: bytes k = 4 g + b of each lane; q points at the half's lanes. */
FOLDED void load_codes(enum dtype type, const uint8_t *q, __m256i w[8])
{
    const __m256i low4 = _mm256_set1_epi8(15), low2 = _mm256_set1_epi8(3);
    int bits = code_bits(type);
    if (bits == 8) {
        UNROLL (int g = 0; g < 8; g++)
            w[g] = load(q + 64 * g);
        return;
    }
    if (bits >= 4) {
        UNROLL (int j = 0; j < 4; j++) {
            __m256i v = load(q + 64 * j);
            w[j] = _mm256_and_si256(v, low4);
            w[j + 4] = _mm256_and_si256(_mm256_srli_epi32(v, 4), low4);
        }
    } else {
        UNROLL (int g = 0; g < 8; g++)
            w[g] = _mm256_and_si256(shifted(load(q + 64 * (g / 4)), -2 * (g % 4)), low2);
    }
    if (bits == 6) {
        UNROLL (int g = 0; g < 8; g++)
            w[g] = _mm256_or_si256(w[g], _mm256_and_si256(shifted(load(q + 256 + 64 * (g / 4)),
                                                                  4 - 2 * (g % 4)),
                                                          _mm256_set1_epi8(0x30)));
    } else if (bits % 2) {
        __m256i high = load(q + 64 * (bits - 1));
        UNROLL (int g = 0; g < 8; g++)
            w[g] =
                _mm256_or_si256(w[g], _mm256_and_si256(shifted(high, bits - 1 - g),
                                                       _mm256_set1_epi8((char)(1 << (bits - 1)))));
    }
    if (has_codebook(type)) {
        UNROLL (int g = 0; g < 8; g++)
            w[g] = _mm256_shuffle_epi8(codebook(type), w[g]);
    }
}

/* 2^(e - 128) */
FOLDED __m256 load_e8m0(const uint8_t *p)
{
    __m256i e = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)p));
    __m256 d = _mm256_mul_ps(_mm256_castsi256_ps(_mm256_slli_epi32(e, 23)), _mm256_set1_ps(0.5f));
    __m256i zero = _mm256_cmpeq_epi32(e, _mm256_setzero_si256());
    return _mm256_blendv_ps(d, _mm256_set1_ps(0x1p-128f), _mm256_castsi256_ps(zero));
}

/* d and m of block b for lanes [8 half, 8 half + 8), for each half of K where they differ. */
FOLDED void load_scales(enum dtype type, const struct linear_panel *w, int b, int half, __m256 d[2],
                        __m256 m[2])
{
    const uint8_t *h = w->h + (size_t)((w->phase + b) / 8) * header_bytes(type) + 16 * half;
    const uint8_t *s = w->s + (size_t)b * scale_bytes(type);
    const __m256 sign = _mm256_set1_ps(-0.0f);
    switch (type) {
    case DT_Q4_1:
    case DT_Q5_1:
        d[0] = load_f16(s + 16 * half);
        m[0] = load_f16(s + 32 + 16 * half);
        return;
    case DT_MXFP4:
        d[0] = load_e8m0(s + 8 * half);
        return;
    case DT_Q4_K:
    case DT_Q5_K:
        d[0] = _mm256_mul_ps(load_f16(h), load_u8(s + 8 * half));
        m[0] = _mm256_xor_ps(sign, _mm256_mul_ps(load_f16(h + 32), load_u8(s + 16 + 8 * half)));
        return;
    case DT_Q2_K:
        UNROLL (int i = 0; i < 2; i++) {
            __m256i both =
                _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)(s + 16 * i + 8 * half)));
            __m256i scale = _mm256_and_si256(both, _mm256_set1_epi32(15));
            __m256i min = _mm256_srli_epi32(both, 4);
            d[i] = _mm256_mul_ps(load_f16(h), _mm256_cvtepi32_ps(scale));
            m[i] = _mm256_xor_ps(sign, _mm256_mul_ps(load_f16(h + 32), _mm256_cvtepi32_ps(min)));
        }
        return;
    case DT_IQ4_XS:
        d[0] = _mm256_mul_ps(load_f16(h), load_i8(s + 8 * half));
        return;
    case DT_Q6_K:
    case DT_Q3_K:
        d[0] = _mm256_mul_ps(load_f16(h), load_i8(s + 8 * half));
        d[1] = _mm256_mul_ps(load_f16(h), load_i8(s + 16 + 8 * half));
        return;
    default:
        d[0] = load_f16(s + 16 * half);
    }
}

/* Sum over 4 groups of codes times x, per lane; offsets are taken off by the caller. */
FOLDED __m256i dot4(enum dtype type, const __m256i w[4], const int8_t *x)
{
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i product[4], sum;
    UNROLL (int g = 0; g < 4; g++) {
        int32_t four;
        memcpy(&four, x + 4 * g, 4);
        __m256i xg = _mm256_set1_epi32(four);
        product[g] = signed_codes(type)
                         ? _mm256_maddubs_epi16(_mm256_abs_epi8(w[g]), _mm256_sign_epi8(xg, w[g]))
                         : _mm256_maddubs_epi16(w[g], xg);
    }
    if (code_bits(type) <= 5 && !signed_codes(type)) {      /* 4 x 2 x 31 x 127 < 2^15 */
        sum = _mm256_add_epi16(_mm256_add_epi16(product[0], product[1]),
                               _mm256_add_epi16(product[2], product[3]));
        return _mm256_madd_epi16(sum, ones);
    }
    if (!signed_codes(type))                                /* 2 x 2 x 63 x 127 < 2^15 */
        return _mm256_add_epi32(
            _mm256_madd_epi16(_mm256_add_epi16(product[0], product[1]), ones),
            _mm256_madd_epi16(_mm256_add_epi16(product[2], product[3]), ones));
    sum =
        _mm256_add_epi32(_mm256_madd_epi16(product[0], ones), _mm256_madd_epi16(product[1], ones));
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(product[2], ones));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(product[3], ones));
}

FOLDED __m256 less_offset(enum dtype type, __m256i sum, int32_t neg_sum)
{
    if (!signed_codes(type) && offset_shift(type) >= 0)
        sum = _mm256_add_epi32(sum, _mm256_set1_epi32(neg_sum * (1 << (offset_shift(type) & 7))));
    return _mm256_cvtepi32_ps(sum);
}

FOLDED __m256 block_dot(enum dtype type, const __m256i w[8], const __m256 d[2], const __m256 m[2],
                        const struct linear_xblock *x, __m256 acc)
{
    __m256 xd = _mm256_set1_ps(x->d);
    __m256i low = dot4(type, w, x->q), high = dot4(type, w + 4, x->q + 16);
    if (half_scales(type)) {
        acc = _mm256_fmadd_ps(less_offset(type, low, x->neg_half[0]), _mm256_mul_ps(d[0], xd), acc);
        acc =
            _mm256_fmadd_ps(less_offset(type, high, x->neg_half[1]), _mm256_mul_ps(d[1], xd), acc);
        if (has_minimum(type)) {
            acc = _mm256_fmadd_ps(m[0], _mm256_set1_ps(x->xs_half[0]), acc);
            acc = _mm256_fmadd_ps(m[1], _mm256_set1_ps(x->xs_half[1]), acc);
        }
        return acc;
    }
    __m256 sum = less_offset(type, _mm256_add_epi32(low, high), x->neg_sum);
    acc = _mm256_fmadd_ps(sum, _mm256_mul_ps(d[0], xd), acc);
    return has_minimum(type) ? _mm256_fmadd_ps(m[0], _mm256_set1_ps(x->xs), acc) : acc;
}

/* Blocks [b, b1), whose prefetches go `ahead` bytes on; both halves of the panel in one walk, so that
 * its lines are read once. */
FOLDED void dot_span(enum dtype type, int rows, const struct linear_panel *w, int b, int b1,
                     const uint8_t *x, size_t xs, struct prefetch next, size_t ahead,
                     __m256 acc[2][4])
{
    const size_t bytes = 64 * (size_t)code_bits(type);
    const uint8_t *q = w->q + (size_t)b * bytes;
    for (; b < b1; b++, q += bytes) {
        prefetch_codes(type, q, ahead, next);
        prefetch_scales(type, w, b, next);
        UNROLL (int half = 0; half < 2; half++) {
            __m256i codes[8];
            __m256 d[2], m[2];
            load_codes(type, q + 32 * half, codes);
            load_scales(type, w, b, half, d, m);
            UNROLL (int r = 0; r < rows; r++)
                acc[half][r] = block_dot(type, codes, d, m,
                                         (const struct linear_xblock *)(x + (size_t)r * xs) + b,
                                         acc[half][r]);
        }
    }
}

FOLDED void dot_rows(enum dtype type, int rows, const struct linear_panel *w, int b0, int b1,
                     const uint8_t *x, size_t xs, float *out, int pass, int n_pass)
{
    __m256 acc[2][4];
    struct prefetch next = prefetch_share(type, w, pass, n_pass);
    struct prefetch_reach reach = prefetch_reach(type, w, b0, b1);
    UNROLL (int r = 0; r < rows; r++)
        acc[0][r] = acc[1][r] = _mm256_setzero_ps();
    dot_span(type, rows, w, b0, reach.turn, x, xs, next, reach.inside, acc);
    dot_span(type, rows, w, reach.turn, b1, x, xs, next, reach.beyond, acc);
    UNROLL (int r = 0; r < rows; r++) {
        _mm256_storeu_ps(out + 16 * r, acc[0][r]);
        _mm256_storeu_ps(out + 16 * r + 8, acc[1][r]);
    }
}

FOLDED void dot_all(enum dtype type, const struct linear_panel *w, int b0, int b1, const uint8_t *x,
                    size_t xs, int n_rows, float *acc)
{
    int r = 0, pass = 0, n_pass = n_rows / 4 + n_rows % 4;
    for (; r + 4 <= n_rows; r += 4)
        dot_rows(type, 4, w, b0, b1, x + (size_t)r * xs, xs, acc + 16 * r, pass++, n_pass);
    for (; r < n_rows; r++)
        dot_rows(type, 1, w, b0, b1, x + (size_t)r * xs, xs, acc + 16 * r, pass++, n_pass);
}

/* out [32][16] per block: (code - offset) d, then + m, each rounded as dtype's dequantise does. */
FOLDED void expand_all(enum dtype type, const struct linear_panel *w, int b0, int b1, float *out,
                       int ld)
{
    const __m256i byte = _mm256_set1_epi32(255);
    for (int b = b0; b < b1; b++, out += 32 * ld)
        UNROLL (int half = 0; half < 2; half++) {
            __m256i codes[8];
            __m256 d[2], m[2];
            load_codes(type, w->q + (size_t)b * 64 * (size_t)code_bits(type) + 32 * half, codes);
            load_scales(type, w, b, half, d, m);
            UNROLL (int g = 0; g < 8; g++)
                UNROLL (int i = 0; i < 4; i++) {
                    int khalf = half_scales(type) ? g / 4 : 0;
                    __m256i v = signed_codes(type)
                                    ? _mm256_srai_epi32(_mm256_slli_epi32(codes[g], 24 - 8 * i), 24)
                                    : _mm256_and_si256(_mm256_srli_epi32(codes[g], 8 * i), byte);
                    if (!signed_codes(type) && offset_shift(type) >= 0)
                        v = _mm256_sub_epi32(v, _mm256_set1_epi32(1 << (offset_shift(type) & 7)));
                    __m256 f = _mm256_mul_ps(d[khalf], _mm256_cvtepi32_ps(v));
                    if (has_minimum(type))
                        f = _mm256_add_ps(f, m[khalf]);
                    _mm256_storeu_ps(out + (4 * g + i) * ld + 8 * half, f);
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
    for (int i = 0; i < (b1 - b0) * 32; i++, q += 32, out += ld) {
        if (w->ahead && i % 2 == 0)
            __builtin_prefetch(q + w->ahead, 0, 2);
        _mm256_storeu_ps(out, load_f16(q));
        _mm256_storeu_ps(out + 8, load_f16(q + 16));
    }
}

static void expand_bf16(const struct linear_panel *w, int b0, int b1, float *out, int ld)
{
    const uint8_t *q = w->q + (size_t)b0 * 1024;
    const __m256i high = _mm256_set1_epi32((int)0xffff0000);
    for (int i = 0; i < (b1 - b0) * 32; i += 2, q += 64, out += 2 * ld) {
        if (w->ahead)
            __builtin_prefetch(q + w->ahead, 0, 2);
        UNROLL (int half = 0; half < 2; half++) {
            __m256i v = load(q + 32 * half);
            _mm256_storeu_si256((__m256i *)(out + 8 * half), _mm256_slli_epi32(v, 16));
            _mm256_storeu_si256((__m256i *)(out + ld + 8 * half), _mm256_and_si256(v, high));
        }
    }
}

FOLDED void load_acc(int rows, const float *acc, __m256 a[3][4])
{
    UNROLL (int r = 0; r < rows; r++)
        UNROLL (int i = 0; i < 4; i++)
            a[r][i] = _mm256_loadu_ps(acc + 32 * r + 8 * i);
}

FOLDED void store_acc(int rows, float *acc, __m256 a[3][4])
{
    UNROLL (int r = 0; r < rows; r++)
        UNROLL (int i = 0; i < 4; i++)
            _mm256_storeu_ps(acc + 32 * r + 8 * i, a[r][i]);
}

FOLDED void prefetch_pair(const void *at, size_t ahead)
{
    if (ahead) {
        __builtin_prefetch((const uint8_t *)at + ahead, 0, 2);
        __builtin_prefetch((const uint8_t *)at + ahead + 64, 0, 2);
    }
}

/* 8 weights from lane `lane` on, f32 or (half) f16. */
FOLDED __m256 load_weights(bool half, const uint8_t *w, int lane)
{
    return half ? load_f16(w + 2 * lane) : _mm256_loadu_ps((const float *)w + lane);
}

FOLDED void f32_rows(int rows, bool half, const uint8_t *w, int k, size_t ahead, const uint8_t *x,
                     size_t xs, float *acc)
{
    __m256 a[3][4];     /* even low, even high, odd low, odd high lanes */
    load_acc(rows, acc, a);
    for (int i = 0; i < k; i += 2) {
        prefetch_pair(w, ahead);
        UNROLL (int j = 0; j < 2; j++, w += half ? 32 : 64) {
            __m256 low = load_weights(half, w, 0), high = load_weights(half, w, 8);
            UNROLL (int r = 0; r < rows; r++) {
                __m256 xr = _mm256_broadcast_ss((const float *)(x + (size_t)r * xs) + i + j);
                a[r][2 * j] = _mm256_fmadd_ps(low, xr, a[r][2 * j]);
                a[r][2 * j + 1] = _mm256_fmadd_ps(high, xr, a[r][2 * j + 1]);
            }
        }
    }
    store_acc(rows, acc, a);
}

FOLDED void f32_all(bool half, const void *w, int k, size_t ahead, const uint8_t *x, size_t xs,
                    int n_rows, float *acc)
{
    int r = 0;
    for (; r + 3 <= n_rows; r += 3, ahead = 0)
        f32_rows(3, half, w, k, ahead, x + (size_t)r * xs, xs, acc + 32 * r);
    for (; r < n_rows; r++, ahead = 0)
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
FOLDED __m256 pair(__m256 even, __m256 odd, const float *x, __m256 acc)
{
    acc = _mm256_fmadd_ps(odd, _mm256_broadcast_ss(x + 1), acc);
    return _mm256_fmadd_ps(even, _mm256_broadcast_ss(x), acc);
}

FOLDED void bf16_rows(int rows, const uint16_t *w, int n, size_t ahead, const uint8_t *x, size_t xs,
                      float *acc)
{
    const __m256i high = _mm256_set1_epi32((int)0xffff0000);
    __m256 a[3][4];
    load_acc(rows, acc, a);
    for (int i = 0; i < 8 * n; i++, w += 64) {
        size_t at = (size_t)(i / 8) * sizeof(struct linear_xpairs) + 64 + (size_t)(i % 8) * 16;
        prefetch_pair(w, ahead);
        UNROLL (int j = 0; j < 4; j++) {        /* half j % 2 of the lanes of pair j / 2 */
            __m256i v = load(w + 16 * j);
            __m256 even = _mm256_castsi256_ps(_mm256_slli_epi32(v, 16));
            __m256 odd = _mm256_castsi256_ps(_mm256_and_si256(v, high));
            UNROLL (int r = 0; r < rows; r++)
                a[r][j] =
                    pair(even, odd, (const float *)(x + (size_t)r * xs + at) + j / 2 * 2, a[r][j]);
        }
    }
    store_acc(rows, acc, a);
}

static void dot_bf16(const uint16_t *w, int n, size_t ahead, const uint8_t *x, size_t xs,
                     int n_rows, float *acc)
{
    int r = 0;
    for (; r + 3 <= n_rows; r += 3, ahead = 0)
        bf16_rows(3, w, n, ahead, x + (size_t)r * xs, xs, acc + 32 * r);
    for (; r < n_rows; r++, ahead = 0)
        bf16_rows(1, w, n, ahead, x + (size_t)r * xs, xs, acc + 32 * r);
}

FOLDED float largest(__m256 v)
{
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

FOLDED int32_t sum_bytes(__m128i v)
{
    __m256i wide = _mm256_madd_epi16(_mm256_cvtepi8_epi16(v), _mm256_set1_epi16(1));
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}

/* As the plain row, NaN included: max and min take the second operand then. */
static void prepare_q8_block(struct linear_xblock *out, const float *x)
{
    const __m256 sign = _mm256_set1_ps(-0.0f);
    __m256 v[4], top = _mm256_setzero_ps();
    UNROLL (int i = 0; i < 4; i++) {
        v[i] = _mm256_loadu_ps(x + 8 * i);
        top = _mm256_max_ps(_mm256_andnot_ps(sign, v[i]), top);
    }
    float amax = largest(top);
    bool zero = amax < 0x1p-100f;
    __m256 inverse = _mm256_set1_ps(zero ? 0 : 127.0f / amax);
    __m256i q[4];
    UNROLL (int i = 0; i < 4; i++) {
        __m256 f = _mm256_max_ps(_mm256_mul_ps(v[i], inverse), _mm256_set1_ps(-127.0f));
        q[i] = _mm256_cvtps_epi32(_mm256_min_ps(f, _mm256_set1_ps(127.0f)));
    }
    __m256i bytes =
        _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
    bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    _mm256_storeu_si256((__m256i *)out->q, bytes);
    int32_t low = sum_bytes(_mm256_castsi256_si128(bytes));
    int32_t high = sum_bytes(_mm256_extracti128_si256(bytes, 1));
    out->d = zero ? 0 : amax / 127.0f;
    out->xs = out->d * (float)(low + high);
    out->xs_half[0] = out->d * (float)low;
    out->xs_half[1] = out->d * (float)high;
    out->neg_sum = -(low + high);
    out->neg_half[0] = -low;
    out->neg_half[1] = -high;
    out->spare = 0;
}

static void prepare_q8(uint8_t *dst, size_t step, const float *x, int k)
{
    for (int i = 0; i < k; i += 32, dst += step) {
        float tail[32] = {0};
        if (k - i < 32)
            memcpy(tail, x + i, (size_t)(k - i) * sizeof *x);
        prepare_q8_block((struct linear_xblock *)dst, k - i < 32 ? tail : x + i);
    }
}

/* 8 numbers to bf16 in the low halves of 32-bit lanes: nearest even, NaN kept quiet. */
FOLDED __m256i round_bf16(const float *x)
{
    __m256 f = _mm256_loadu_ps(x);
    __m256i u = _mm256_castps_si256(f), top = _mm256_srli_epi32(u, 16);
    __m256i odd = _mm256_and_si256(top, _mm256_set1_epi32(1));
    __m256i near = _mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)), odd);
    __m256i quiet = _mm256_or_si256(top, _mm256_set1_epi32(0x40));
    __m256 nan = _mm256_cmp_ps(f, f, _CMP_UNORD_Q);
    return _mm256_blendv_epi8(_mm256_srli_epi32(near, 16), quiet, _mm256_castps_si256(nan));
}

static void prepare_bf16(uint8_t *dst, size_t step, const float *x, int k)
{
    for (int i = 0; i < k; i += 32, dst += step) {
        struct linear_xpairs *out = (struct linear_xpairs *)dst;
        float tail[32] = {0};
        if (k - i < 32)
            memcpy(tail, x + i, (size_t)(k - i) * sizeof *x);
        const float *from = k - i < 32 ? tail : x + i;
        UNROLL (int j = 0; j < 32; j += 16) {
            __m256i low = round_bf16(from + j), high = round_bf16(from + j + 8);
            __m256i v = _mm256_permute4x64_epi64(_mm256_packus_epi32(low, high), 0xd8);
            _mm256_storeu_si256((__m256i *)(out->h + j), v);
            _mm256_storeu_si256((__m256i *)(out->f + j), _mm256_slli_epi32(low, 16));
            _mm256_storeu_si256((__m256i *)(out->f + j + 8), _mm256_slli_epi32(high, 16));
        }
    }
}

#define DOT(name, type) [type] = dot_##name,
#define EXPAND(name, type) [type] = expand_##name,
const struct linear_kernels linear_kernels_avx2 = {
    .dot_q8 = (linear_dot_q8 *const[DT_MAX]){LINEAR_CODE_TYPES(DOT)},
    .expand = {[DT_F16] = expand_f16, [DT_BF16] = expand_bf16, LINEAR_CODE_TYPES(EXPAND)},
    .dot_f32 = dot_f32,
    .dot_f16 = dot_f16,
    .dot_bf16 = dot_bf16,
    .prepare_q8 = prepare_q8,
    .prepare_bf16 = prepare_bf16,
};
