/* linear_avx512.h - codes and scales of a block in AVX-512 registers, for the files that have them.
 * Ranks:  not collective. */
#ifndef MUSTER_LINEAR_AVX512_H
#define MUSTER_LINEAR_AVX512_H

#include "workers/kernels/linear_traits.h"

#include <immintrin.h>

FOLDED __m512i load(const void *p) { return _mm512_loadu_si512(p); }
FOLDED __m512 load_f16(const void *p) { return _mm512_cvtph_ps(_mm256_loadu_si256(p)); }
FOLDED __m512 load_u8(const uint8_t *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)p)));
}
FOLDED __m512 load_i8(const uint8_t *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)p)));
}

/* Bits moved by n (left when positive), kept where mask has them, joined to low. */
FOLDED __m512i join(__m512i low, __m512i high, int n, int mask)
{
    __m512i moved =
        n >= 0 ? _mm512_slli_epi32(high, (unsigned)n) : _mm512_srli_epi32(high, (unsigned)-n);
    enum { a_or_b_and_c = 0xf8 };
    return _mm512_ternarylogic_epi32(low, moved, _mm512_set1_epi8((char)mask), a_or_b_and_c);
}

/* The codebooks as unsigned bytes, value + offset. */
FOLDED __m512i codebook(enum dtype type)
{
    return _mm512_broadcast_i32x4(
        type == DT_MXFP4
            ? _mm_setr_epi8(16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4)
            : _mm_setr_epi8(1, 24, 45, 63, 79, 93, 106, 118, (char)129, (char)141, (char)153,
                            (char)166, (char)181, (char)197, (char)217, (char)241));
}

/* w[g]: unsigned bytes k = 4 g + b of each lane. */
FOLDED void load_codes(enum dtype type, const uint8_t *q, __m512i w[8])
{
    const __m512i low4 = _mm512_set1_epi8(15), low2 = _mm512_set1_epi8(3);
    int bits = code_bits(type);
    if (bits == 8) {
        UNROLL (int g = 0; g < 8; g++)
            w[g] = _mm512_xor_si512(load(q + 64 * g), _mm512_set1_epi8((char)0x80));
        return;
    }
    if (bits >= 4) {
        UNROLL (int j = 0; j < 4; j++) {
            __m512i v = load(q + 64 * j);
            w[j] = _mm512_and_si512(v, low4);
            w[j + 4] = _mm512_and_si512(_mm512_srli_epi32(v, 4), low4);
        }
    } else {
        UNROLL (int g = 0; g < 8; g++)
            w[g] = _mm512_and_si512(_mm512_srli_epi32(load(q + 64 * (g / 4)), 2 * (g % 4)), low2);
    }
    if (bits == 6) {
        UNROLL (int g = 0; g < 8; g++)
            w[g] = join(w[g], load(q + 256 + 64 * (g / 4)), 4 - 2 * (g % 4), 0x30);
    } else if (bits % 2) {
        __m512i high = load(q + 64 * (bits - 1));
        UNROLL (int g = 0; g < 8; g++)
            w[g] = join(w[g], high, bits - 1 - g, 1 << (bits - 1));
    }
    if (has_codebook(type)) {
        UNROLL (int g = 0; g < 8; g++)
            w[g] = _mm512_shuffle_epi8(codebook(type), w[g]);
    }
}

/* 2^(e - 128) */
FOLDED __m512 load_e8m0(const uint8_t *p)
{
    __m512i e = _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)p));
    __m512 d = _mm512_mul_ps(_mm512_castsi512_ps(_mm512_slli_epi32(e, 23)), _mm512_set1_ps(0.5f));
    return _mm512_mask_mov_ps(d, _mm512_testn_epi32_mask(e, e), _mm512_set1_ps(0x1p-128f));
}

/* d and m of block b, for each half where they differ. */
FOLDED void load_scales(enum dtype type, const struct linear_panel *w, int b, __m512 d[2],
                        __m512 m[2])
{
    const uint8_t *h = w->h + (size_t)((w->phase + b) / 8) * header_bytes(type);
    const uint8_t *s = w->s + (size_t)b * scale_bytes(type);
    const __m512 sign = _mm512_set1_ps(-0.0f);
    switch (type) {
    case DT_Q4_1:
    case DT_Q5_1:
        d[0] = load_f16(s);
        m[0] = load_f16(s + 32);
        return;
    case DT_MXFP4:
        d[0] = load_e8m0(s);
        return;
    case DT_Q4_K:
    case DT_Q5_K:
        d[0] = _mm512_mul_ps(load_f16(h), load_u8(s));
        m[0] = _mm512_xor_ps(sign, _mm512_mul_ps(load_f16(h + 32), load_u8(s + 16)));
        return;
    case DT_Q2_K:
        UNROLL (int i = 0; i < 2; i++) {
            __m512i both = _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)(s + 16 * i)));
            __m512i scale = _mm512_and_si512(both, _mm512_set1_epi32(15));
            __m512i min = _mm512_srli_epi32(both, 4);
            d[i] = _mm512_mul_ps(load_f16(h), _mm512_cvtepi32_ps(scale));
            m[i] = _mm512_xor_ps(sign, _mm512_mul_ps(load_f16(h + 32), _mm512_cvtepi32_ps(min)));
        }
        return;
    case DT_IQ4_XS:
        d[0] = _mm512_mul_ps(load_f16(h), load_i8(s));
        return;
    case DT_Q6_K:
    case DT_Q3_K:
        d[0] = _mm512_mul_ps(load_f16(h), load_i8(s));
        d[1] = _mm512_mul_ps(load_f16(h), load_i8(s + 16));
        return;
    default:
        d[0] = load_f16(s);
    }
}

#endif
