/* vmath_vec.h - a register of floats, and exp, tanh, erf, sigmoid of it, for AVX2 and AVX512.
 * Why:    the vector kernels are written once, over these names; a file that is compiled for an
 *         instruction set includes this first.
 * Bits:   each lane's result depends on its own number only, so that a number's place in an array and
 *         the length of the array never show; AVX2 and AVX512 agree with each other too.
 * Ranks:  not collective. */
#ifndef MUSTER_VMATH_VEC_H
#define MUSTER_VMATH_VEC_H

#include <immintrin.h>
#include <stdint.h>

#if defined(__AVX512F__)

enum { VEC = 16 };      /* lanes */
typedef __m512 vf;
typedef __mmask16 vmask;

static inline vf vf_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void vf_store(float *p, vf x) { _mm512_storeu_ps(p, x); }
static inline vmask vf_first(int n) { return (vmask)((1u << n) - 1); }
static inline vf vf_load_first(const float *p, int n) { return _mm512_maskz_loadu_ps(vf_first(n), p); }
static inline void vf_store_first(float *p, vf x, int n) { _mm512_mask_storeu_ps(p, vf_first(n), x); }
static inline vf vf_set(float x) { return _mm512_set1_ps(x); }
static inline vf vf_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }      /* a b + c */
static inline vf vf_fnma(vf a, vf b, vf c) { return _mm512_fnmadd_ps(a, b, c); }    /* c - a b */
static inline vf vf_min(vf a, vf b) { return _mm512_min_ps(a, b); }     /* b where one is NaN */
static inline vf vf_max(vf a, vf b) { return _mm512_max_ps(a, b); }
static inline vf vf_nearest(vf a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT); }
static inline vmask vf_less(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
static inline vf vf_select(vmask m, vf a, vf b) { return _mm512_mask_blend_ps(m, b, a); }
static inline vf vf_abs(vf a)
{
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(a), _mm512_set1_epi32(INT32_MAX)));
}
static inline vf vf_with_sign_of(vf a, vf sign)
{
    __m512i s = _mm512_and_si512(_mm512_castps_si512(sign), _mm512_set1_epi32(INT32_MIN));
    return _mm512_castsi512_ps(_mm512_or_si512(_mm512_castps_si512(a), s));
}
/* x 2^n for whole n in -254 .. 254, rounded once. */
static inline vf vf_scale2(vf x, vf n) { return _mm512_scalef_ps(x, n); }
/* 16 halves; 16 signed bytes. */
static inline vf vf_load_f16(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
static inline vf vf_load_f16_first(const uint16_t *p, int n)
{
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(vf_first(n), p));
}
static inline vf vf_load_i8(const int8_t *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
static inline vf vf_load_i8_first(const int8_t *p, int n)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(vf_first(n), p)));
}
/* Lanes 0 0 1 1 2 2 ..; lanes 1 0 3 2 ..; a b - c in even lanes, a b + c in odd ones. */
static inline vf vf_double(vf x)
{
    return _mm512_permutexvar_ps(_mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7), x);
}
static inline vf vf_swap(vf x) { return _mm512_permute_ps(x, 0xb1); }
static inline vf vf_turn(vf a, vf b, vf c) { return _mm512_fmaddsub_ps(a, b, c); }
/* Halves of a register, to add up lanes in one order on every instruction set. */
static inline __m256 vf_low8(vf x) { return _mm512_castps512_ps256(x); }
static inline __m256 vf_high8(vf x) { return _mm512_extractf32x8_ps(x, 1); }

#elif defined(__AVX2__)

enum { VEC = 8 };
typedef __m256 vf;
typedef __m256 vmask;

static inline vf vf_load(const float *p) { return _mm256_loadu_ps(p); }
static inline void vf_store(float *p, vf x) { _mm256_storeu_ps(p, x); }
static inline vmask vf_first(int n)
{
    __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(n), lane));
}
static inline vf vf_load_first(const float *p, int n)
{
    return _mm256_maskload_ps(p, _mm256_castps_si256(vf_first(n)));
}
static inline void vf_store_first(float *p, vf x, int n)
{
    _mm256_maskstore_ps(p, _mm256_castps_si256(vf_first(n)), x);
}
static inline vf vf_set(float x) { return _mm256_set1_ps(x); }
static inline vf vf_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
static inline vf vf_fnma(vf a, vf b, vf c) { return _mm256_fnmadd_ps(a, b, c); }
static inline vf vf_min(vf a, vf b) { return _mm256_min_ps(a, b); }
static inline vf vf_max(vf a, vf b) { return _mm256_max_ps(a, b); }
static inline vf vf_nearest(vf a)
{
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline vmask vf_less(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
static inline vf vf_select(vmask m, vf a, vf b) { return _mm256_blendv_ps(b, a, m); }
static inline vf vf_abs(vf a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
static inline vf vf_with_sign_of(vf a, vf sign)
{
    return _mm256_or_ps(a, _mm256_and_ps(sign, _mm256_set1_ps(-0.0f)));
}
static inline vf vf_scale2(vf x, vf n)
{
    /* Two factors: 2^n alone may leave the range where the product does not; the first is exact. */
    __m256i k = _mm256_cvtps_epi32(n), a = _mm256_srai_epi32(k, 1), b = _mm256_sub_epi32(k, a);
    __m256i bias = _mm256_set1_epi32(127);
    vf fa = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(a, bias), 23));
    vf fb = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(b, bias), 23));
    return x * fa * fb;
}
static inline vf vf_load_f16(const uint16_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}
static inline vf vf_load_f16_first(const uint16_t *p, int n)
{
    uint16_t part[8] = {0};
    for (int i = 0; i < n; i++)
        part[i] = p[i];
    return vf_load_f16(part);
}
static inline vf vf_load_i8(const int8_t *p)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}
static inline vf vf_load_i8_first(const int8_t *p, int n)
{
    int8_t part[8] = {0};
    for (int i = 0; i < n; i++)
        part[i] = p[i];
    return vf_load_i8(part);
}

static inline vf vf_double(vf x)
{
    return _mm256_permutevar8x32_ps(x, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3));
}
static inline vf vf_swap(vf x) { return _mm256_permute_ps(x, 0xb1); }
static inline vf vf_turn(vf a, vf b, vf c) { return _mm256_fmaddsub_ps(a, b, c); }

#else
#error "vmath_vec.h is for files compiled with AVX2 or AVX512"
#endif

/* The eight lanes of a half: 0+4, 1+5, .. then 0+2, 1+3, then 0+1. */
static inline float vf_sum8(__m256 x)
{
    __m128 a = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    a = _mm_add_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_add_ss(a, _mm_movehdup_ps(a)));
}
static inline float vf_max8(__m256 x)
{
    __m128 a = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    a = _mm_max_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_max_ss(a, _mm_movehdup_ps(a)));
}
#if defined(__AVX512F__)
static inline float vf_sum(vf x) { return vf_sum8(_mm256_add_ps(vf_low8(x), vf_high8(x))); }
static inline float vf_max_lane(vf x) { return vf_max8(_mm256_max_ps(vf_low8(x), vf_high8(x))); }
#else
static inline float vf_sum(vf x) { return vf_sum8(x); }
static inline float vf_max_lane(vf x) { return vf_max8(x); }
#endif

/* e^x to about 1 ulp: 0 below -104, infinity above 88.73, NaN stays NaN. Polynomials here are minimax
 * fits made in 40 digits; their own error is below 5e-9. */
static inline vf vmath_exp_vec(vf x)
{
    vf c = vf_min(vf_set(89.0f), vf_max(vf_set(-105.0f), x));      /* NaN: the second operand stays */
    vf n = vf_nearest(c * vf_set(0x1.715476p0f));
    vf r = vf_fnma(n, vf_set(0x1.62ep-1f), c);
    r = vf_fnma(n, vf_set(0x1.0bfbe8p-15f), r);
    vf p = vf_fma(vf_set(0x1.6db40ep-10f), r, vf_set(0x1.123b46p-7f));
    p = vf_fma(p, r, vf_set(0x1.55545ep-5f));
    p = vf_fma(p, r, vf_set(0x1.55548ep-3f));
    p = vf_fma(p, r, vf_set(0.5f));
    p = vf_fma(p * r, r, r) + vf_set(1.0f);
    return vf_scale2(p, n);
}

static inline vf vmath_sigmoid_vec(vf x)
{
    vf one = vf_set(1.0f);
    return one / (one + vmath_exp_vec(vf_set(0.0f) - x));
}

static inline vf vmath_tanh_vec(vf x)
{
    vf a = vf_abs(x), u = x * x;
    vf p = vf_fma(vf_set(-0x1.76abf4p-8f), u, vf_set(0x1.5256cep-6f));
    p = vf_fma(p, u, vf_set(-0x1.b84448p-5f));
    p = vf_fma(p, u, vf_set(0x1.110768p-3f));
    p = vf_fma(p, u, vf_set(-0x1.555534p-2f));
    vf small = vf_fma(x * u, p, x);
    vf e = vmath_exp_vec(a + a), one = vf_set(1.0f);
    vf large = vf_with_sign_of(one - vf_set(2.0f) / (e + one), x);
    return vf_select(vf_less(a, vf_set(0.625f)), small, large);
}

static inline vf vmath_erf_vec(vf x)
{
    vf a = vf_abs(x), u = x * x;
    vf p = vf_fma(vf_set(0x1.4ae4b8p-14f), u, vf_set(-0x1.a485e4p-11f));
    p = vf_fma(p, u, vf_set(0x1.5419f4p-8f));
    p = vf_fma(p, u, vf_set(-0x1.b7fbb4p-6f));
    p = vf_fma(p, u, vf_set(0x1.ce2d20p-4f));
    p = vf_fma(p, u, vf_set(-0x1.81273ep-2f));
    p = vf_fma(p, u, vf_set(0x1.06eba8p-3f));
    vf small = vf_fma(x, p, x);
    vf b = vf_min(vf_set(4.0f), a);     /* erfc(4) is below half an ulp of 1 */
    vf q = vf_fma(vf_set(0x1.dd69d8p-19f), b, vf_set(-0x1.dd1108p-16f));
    q = vf_fma(q, b, vf_set(-0x1.22faa2p-13f));
    q = vf_fma(q, b, vf_set(0x1.a112b8p-9f));
    q = vf_fma(q, b, vf_set(-0x1.7a555ep-6f));
    q = vf_fma(q, b, vf_set(0x1.b0d20ap-4f));
    q = vf_fma(q, b, vf_set(0x1.45547ap-1f));
    q = vf_fma(q, b, vf_set(0x1.20ebe8p+0f));
    vf large = vf_with_sign_of(vf_set(1.0f) - vmath_exp_vec(vf_set(0.0f) - q * b), x);
    return vf_select(vf_less(a, vf_set(1.0f)), small, large);
}

#endif
