/* AMX: prompts. Weights are expanded, a few thousand at a time, to bf16 tiles in L2 and multiplied
 * with bf16 activations; sums are f32. A tile of weights is [k / 2 = 16][16 outputs][2], of
 * activations [16 rows][32 k], of sums [16 rows][16 outputs]; each is 1 KB. The unit adds the 32
 * products of a step in its own fixed order, row by row apart, so a row's bits do not depend on its
 * neighbours or its place. */
#include "workers/kernels/linear_avx512.h"

#include <string.h>

/* Values of the 16 codes as f32 (codebook or offset applied), for 4-bit types. */
FOLDED __m512 value_table(enum dtype type)
{
    const __m512 plain = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    switch (type) {
    case DT_Q4_0:
        return _mm512_sub_ps(plain, _mm512_set1_ps(8));
    case DT_MXFP4:
        return _mm512_setr_ps(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12);
    case DT_IQ4_NL:
    case DT_IQ4_XS:
        return _mm512_setr_ps(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89,
                              113);
    default:
        return plain;
    }
}

/* Two k of 16 outputs as a row of a tile: the nearest bf16, ties away from zero. Integer
 * operations, as the conversion and the permutation that it needs would all wait for one port: 24
 * ns per tile, not 33. */
FOLDED __m512i bf16_pair(__m512 even, __m512 odd)
{
    const __m512i half = _mm512_set1_epi32(0x8000);
    __m512i low = _mm512_srli_epi32(_mm512_add_epi32(_mm512_castps_si512(even), half), 16);
    __m512i high = _mm512_add_epi32(_mm512_castps_si512(odd), half);
    return _mm512_mask_blend_epi16(0xaaaaaaaa, low, high);
}

/* Byte i of each lane as the float 256 + byte: put under the exponent of 256. */
FOLDED __m512 byte_plus_256(__m512i v, int i)
{
    __m512i moved = i < 2 ? _mm512_slli_epi32(v, (unsigned)(15 - 8 * i))
                          : _mm512_srli_epi32(v, (unsigned)(8 * i - 15));
    return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(
        _mm512_set1_epi32(0x43800000), moved, _mm512_set1_epi32(0x007f8000), 0xf8));
}

/* One block of 4-bit codes: each nibble picks its value. */
FOLDED void expand_nibbles(enum dtype type, const uint8_t *q, __m512 d, __m512 m, uint16_t *tile)
{
    const __m512 table = value_table(type);
    UNROLL (int g = 0; g < 8; g++) {
        __m512i v = load(q + 64 * (g % 4));
        __m512 f[4];
        UNROLL (int i = 0; i < 4; i++) {
            f[i] =
                _mm512_permutexvar_ps(_mm512_srli_epi32(v, (unsigned)(8 * i + 4 * (g / 4))), table);
            f[i] = has_minimum(type) ? _mm512_fmadd_ps(f[i], d, m) : _mm512_mul_ps(f[i], d);
        }
        _mm512_storeu_si512(tile + 64 * g, bf16_pair(f[0], f[1]));
        _mm512_storeu_si512(tile + 64 * g + 32, bf16_pair(f[2], f[3]));
    }
}

/* One block of other codes: (256 + code) d + (m - (256 + offset) d). */
FOLDED void expand_bytes(enum dtype type, const uint8_t *q, const __m512 d[2], const __m512 m[2],
                         uint16_t *tile)
{
    __m512i codes[8];
    __m512 add[2];
    load_codes(type, q, codes);
    int offset = offset_shift(type) < 0 ? 0 : 1 << (offset_shift(type) & 7);
    for (int h = 0; h < (half_scales(type) ? 2 : 1); h++) {
        add[h] = _mm512_mul_ps(d[h], _mm512_set1_ps((float)(-256 - offset)));
        if (has_minimum(type))
            add[h] = _mm512_add_ps(add[h], m[h]);
    }
    UNROLL (int g = 0; g < 8; g++) {
        int h = half_scales(type) ? g / 4 : 0;
        __m512 f[4];
        UNROLL (int i = 0; i < 4; i++)
            f[i] = _mm512_fmadd_ps(byte_plus_256(codes[g], i), d[h], add[h]);
        _mm512_storeu_si512(tile + 64 * g, bf16_pair(f[0], f[1]));
        _mm512_storeu_si512(tile + 64 * g + 32, bf16_pair(f[2], f[3]));
    }
}

FOLDED void tiles_all(enum dtype type, const struct linear_panel *w, int b0, int b1,
                      uint16_t *tiles)
{
    struct prefetch next = prefetch_share(type, w, 0, 1);
    for (int b = b0; b < b1; b++, tiles += 512) {
        const uint8_t *q = w->q + (size_t)b * 64 * (size_t)code_bits(type);
        __m512 d[2], m[2];
        prefetch_far(type, w, b, next);
        load_scales(type, w, b, d, m);
        if (code_bits(type) == 4)
            expand_nibbles(type, q, d[0], m[0], tiles);
        else
            expand_bytes(type, q, d, m, tiles);
    }
}

#define KERNELS(name, type)                                                                        \
    static void tiles_##name(const struct linear_panel *w, int b0, int b1, uint16_t *tiles)       \
    {                                                                                              \
        tiles_all(type, w, b0, b1, tiles);                                                         \
    }
LINEAR_CODE_TYPES(KERNELS)

/* Packed bf16 is tiles already. */
static void tiles_bf16(const struct linear_panel *w, int b0, int b1, uint16_t *tiles)
{
    memcpy(tiles, w->q + (size_t)b0 * 1024, (size_t)(b1 - b0) * 1024);
}

/* Tile registers; the intrinsics paste the number into assembly, so no enum. */
#define C00 0
#define C01 1
#define C10 2
#define C11 3
#define A0 4
#define A1 5
#define B0 6
#define B1 7

/* 8 tiles of 16 rows of 64 bytes. */
static const struct {
    uint8_t palette, start_row, zero[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config = {.palette = 1, .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
                 .rows = {16, 16, 16, 16, 16, 16, 16, 16}};

static void tiles_begin(void) { _tile_loadconfig(&tile_config); }

#define LOAD(tile, from) _tile_loadd(tile, from, 64)
#define STORE(tile, to) _tile_stored(tile, to, 64)
/* The tile intrinsics say nothing about memory to the compiler. */
#define FENCE() __asm__ volatile("" ::: "memory")

/* 32 rows x 32 outputs. */
static void dot_2x2(const uint16_t *w0, const uint16_t *w1, int n, const uint8_t *x, size_t xs,
                    float *acc0, float *acc1)
{
    for (int b = 0; b < n; b++, x += 1024, w0 += 512, w1 += 512) {
        LOAD(A0, x);
        LOAD(B0, w0);
        _tile_dpbf16ps(C00, A0, B0);
        LOAD(B1, w1);
        _tile_dpbf16ps(C01, A0, B1);
        LOAD(A1, x + xs);
        _tile_dpbf16ps(C10, A1, B0);
        _tile_dpbf16ps(C11, A1, B1);
    }
    STORE(C00, acc0);
    STORE(C01, acc1);
    STORE(C10, acc0 + 256);
    STORE(C11, acc1 + 256);
}

/* 16 rows x 32 outputs. */
static void dot_1x2(const uint16_t *w0, const uint16_t *w1, int n, const uint8_t *x, float *acc0,
                    float *acc1)
{
    for (int b = 0; b < n; b++, x += 1024, w0 += 512, w1 += 512) {
        LOAD(A0, x);
        LOAD(B0, w0);
        LOAD(B1, w1);
        _tile_dpbf16ps(C00, A0, B0);
        _tile_dpbf16ps(C01, A0, B1);
    }
    STORE(C00, acc0);
    STORE(C01, acc1);
}

/* 16 rows x 16 outputs. */
static void dot_1x1(const uint16_t *w, int n, const uint8_t *x, float *acc)
{
    for (int b = 0; b < n; b++, x += 1024, w += 512) {
        LOAD(A0, x);
        LOAD(B0, w);
        _tile_dpbf16ps(C00, A0, B0);
    }
    STORE(C00, acc);
}

static void load_sums(bool fresh, int n_rows, const float *acc0, const float *acc1)
{
    if (fresh) {
        _tile_zero(C00);
        _tile_zero(C01);
        _tile_zero(C10);
        _tile_zero(C11);
        return;
    }
    LOAD(C00, acc0);
    if (acc1)
        LOAD(C01, acc1);
    if (n_rows > 16)
        LOAD(C10, acc0 + 256);
    if (n_rows > 16 && acc1)
        LOAD(C11, acc1 + 256);
}

static void dot_tiles(const uint16_t *w0, const uint16_t *w1, int n, const uint8_t *x, size_t xs,
                      int n_rows, bool fresh, float *acc0, float *acc1)
{
    FENCE();
    for (; n_rows > 0; n_rows -= w1 ? 32 : 16, x += (w1 ? 2 : 1) * xs) {
        load_sums(fresh, w1 ? n_rows : 16, acc0, w1 ? acc1 : NULL);
        if (w1 && n_rows > 16)
            dot_2x2(w0, w1, n, x, xs, acc0, acc1);
        else if (w1)
            dot_1x2(w0, w1, n, x, acc0, acc1);
        else
            dot_1x1(w0, n, x, acc0);
        acc0 += w1 ? 512 : 256;
        acc1 += w1 ? 512 : 256;
    }
    FENCE();
}

static void tiles_end(void) { _tile_release(); }

/* Nearest even; a NaN stays one, quiet; subnormal inputs count as zero. */
static void prepare_bf16(uint8_t *dst, size_t step, const float *x, int k)
{
    int i = 0;
    for (; i + 32 <= k; i += 32, dst += step)
        _mm512_storeu_si512(dst, (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + i + 16),
                                                              _mm512_loadu_ps(x + i)));
    if (i < k) {
        float tail[32] = {0};
        memcpy(tail, x + i, (size_t)(k - i) * sizeof *x);
        _mm512_storeu_si512(dst, (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(tail + 16),
                                                              _mm512_loadu_ps(tail)));
    }
}

#define TILES(name, type) [type] = tiles_##name,
const struct linear_kernels linear_kernels_amx = {
    .dot_q8 = linear_dot_q8_amx,
    .expand_tiles = {[DT_BF16] = tiles_bf16, LINEAR_CODE_TYPES(TILES)},
    .dot_tiles = dot_tiles,
    .tiles_begin = tiles_begin,
    .tiles_end = tiles_end,
    .prepare_tiles = prepare_bf16,
};
