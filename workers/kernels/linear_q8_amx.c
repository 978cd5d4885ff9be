/* AMX: many generated rows. Integer dots of 16 rows x 16 outputs x 32 k in one tile product, scaled
 * and added exactly as the one-row kernel does, so that a row has the same bits alone and among
 * others. One tile product per block is half of what the unit could do; the other half of the time
 * goes into scaling its 256 sums (20 ns per block and 16 rows on one core; the VNNI rows need
 * 50). */
#include "workers/kernels/linear_avx512.h"

#include <string.h>

enum {
    LEAST_WHOLE = 10, LEAST_HALF = 14,          /* fewer rows go through VNNI */
    CHUNK = 32                  /* blocks decoded at once: 16 KB */
};

/* C 0-3: sums [16 rows][16]; A 4, 6: activations [16 rows][k bytes]; B 5, 7: codes [k / 4][16][4].
 * k is a whole block, or half a block where the halves have scales of their own. */
struct tile_config {
    uint8_t palette, start_row, zero[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};
static const struct tile_config config_whole = {.palette = 1,
                                                .row_bytes = {64, 64, 64, 64, 32, 64, 32, 64},
                                                .rows = {16, 16, 16, 16, 16, 8, 16, 8}};
static const struct tile_config config_half = {.palette = 1,
                                               .row_bytes = {64, 64, 64, 64, 16, 64, 16, 64},
                                               .rows = {16, 16, 16, 16, 16, 4, 16, 4}};

/* The tile intrinsics say nothing about memory to the compiler. */
#define FENCE() __asm__ volatile("" ::: "memory")

/* Codes of block b as signed bytes. */
FOLDED void decode_block(enum dtype type, const struct linear_panel *w, int b, int8_t *out)
{
    __m512i codes[8];
    load_codes(type, w->q + (size_t)b * 64 * (size_t)code_bits(type), codes);
    int offset = offset_shift(type) < 0 ? 0 : 1 << (offset_shift(type) & 7);
    UNROLL (int g = 0; g < 8; g++)
        _mm512_store_si512(out + 64 * g, _mm512_sub_epi8(codes[g], _mm512_set1_epi8((char)offset)));
}

/* acc += sums [16][16] of one block (of its half) for 16 rows, as block_dot of the VNNI rows. */
FOLDED void scale_sums(const int32_t *sums, __m512 d, const uint8_t *x, size_t xs, __m512 acc[16])
{
    UNROLL (int r = 0; r < 16; r++) {
        const struct linear_xblock *xb = (const struct linear_xblock *)(x + (size_t)r * xs);
        __m512 sum = _mm512_cvtepi32_ps(_mm512_load_si512(sums + 16 * r));
        acc[r] = _mm512_fmadd_ps(sum, _mm512_mul_ps(d, _mm512_set1_ps(xb->d)), acc[r]);
    }
}

FOLDED void add_minimum(__m512 m, const uint8_t *x, size_t xs, size_t member, __m512 acc[16])
{
    UNROLL (int r = 0; r < 16; r++)
        acc[r] = _mm512_fmadd_ps(m, _mm512_set1_ps(*(const float *)(x + (size_t)r * xs + member)),
                                 acc[r]);
}

#define MULTIPLY(c, a, bt, xq, codes, sums)                                                        \
    _tile_loadd(a, xq, xs);                                                                        \
    _tile_loadd(bt, codes, 64);                                                                    \
    _tile_zero(c);                                                                                 \
    _tile_dpbssd(c, a, bt);                                                                        \
    _tile_stored(c, sums, 64)

struct sums { _Alignas(64) int32_t of[4][256]; };

/* Blocks two at a time, the tiles of the next two on their way while these are scaled. Prefetches
 * are spread over the blocks: in a burst they would only wait for each other. */
FOLDED void whole_blocks(enum dtype type, const struct linear_panel *w, int b0, int n,
                         struct prefetch next, const int8_t *codes, const uint8_t *x, size_t xs,
                         __m512 acc[16])
{
    struct sums s;
#define START(j, c, a, bt)                                                                         \
    if (i + (j) < n) {                                                                             \
        MULTIPLY(c, a, bt, x + 64 * (size_t)(i + (j)), codes + 512 * (size_t)(i + (j)), s.of[c]);  \
    }
#define FINISH(j, c)                                                                               \
    if (i + (j) < n) {                                                                             \
        const uint8_t *at = x + 64 * (size_t)(i + (j));                                            \
        __m512 d[2], m[2];                                                                         \
        prefetch_far(type, w, b0 + i + (j), next);                                                 \
        load_scales(type, w, b0 + i + (j), d, m);                                                  \
        scale_sums(s.of[c], d[0], at, xs, acc);                                                    \
        if (has_minimum(type))                                                                     \
            add_minimum(m[0], at, xs, offsetof(struct linear_xblock, xs), acc);                    \
    }
    int i = 0;
    START(0, 0, 4, 5)
    START(1, 1, 6, 7)
    for (; i < n; i += 4) {
        START(2, 2, 4, 5)
        START(3, 3, 6, 7)
        FENCE();
        FINISH(0, 0)
        FINISH(1, 1)
        FENCE();
        START(4, 0, 4, 5)
        START(5, 1, 6, 7)
        FENCE();
        FINISH(2, 2)
        FINISH(3, 3)
        FENCE();
    }
#undef START
#undef FINISH
}

/* Both halves of a block apart: sums 0, 1 of even blocks, 2, 3 of odd ones. */
FOLDED void half_blocks(enum dtype type, const struct linear_panel *w, int b0, int n,
                        struct prefetch next, const int8_t *codes, const uint8_t *x, size_t xs,
                        __m512 acc[16])
{
    struct sums s;
#define START(j, c0, c1)                                                                           \
    if (i + (j) < n) {                                                                             \
        const uint8_t *at = x + 64 * (size_t)(i + (j));                                            \
        const int8_t *from = codes + 512 * (size_t)(i + (j));                                      \
        MULTIPLY(c0, 4, 5, at, from, s.of[c0]);                                                    \
        MULTIPLY(c1, 6, 7, at + 16, from + 256, s.of[c1]);                                         \
    }
#define FINISH(j, c0, c1)                                                                          \
    if (i + (j) < n) {                                                                             \
        const uint8_t *at = x + 64 * (size_t)(i + (j));                                            \
        __m512 d[2], m[2];                                                                         \
        prefetch_far(type, w, b0 + i + (j), next);                                                 \
        load_scales(type, w, b0 + i + (j), d, m);                                                  \
        scale_sums(s.of[c0], d[0], at, xs, acc);                                                   \
        scale_sums(s.of[c1], d[1], at, xs, acc);                                                   \
        if (has_minimum(type)) {                                                                   \
            add_minimum(m[0], at, xs, offsetof(struct linear_xblock, xs_half), acc);               \
            add_minimum(m[1], at, xs, offsetof(struct linear_xblock, xs_half) + 4, acc);           \
        }                                                                                          \
    }
    int i = 0;
    START(0, 0, 1)
    for (; i < n; i += 2) {
        START(1, 2, 3)
        FENCE();
        FINISH(0, 0, 1)
        FENCE();
        START(2, 0, 1)
        FENCE();
        FINISH(1, 2, 3)
        FENCE();
    }
#undef START
#undef FINISH
}

/* Up to 16 rows; x has 16 (what the others hold is computed and dropped). */
FOLDED void dot_16(enum dtype type, const struct linear_panel *w, int b0, int n,
                   struct prefetch next, const int8_t *codes, const uint8_t *x, size_t xs, int rows,
                   bool fresh, float *out)
{
    __m512 acc[16];
    UNROLL (int r = 0; r < 16; r++)
        acc[r] = fresh || r >= rows ? _mm512_setzero_ps() : _mm512_loadu_ps(out + 16 * r);
    if (half_scales(type))
        half_blocks(type, w, b0, n, next, codes, x, xs, acc);
    else
        whole_blocks(type, w, b0, n, next, codes, x, xs, acc);
    UNROLL (int r = 0; r < 16; r++)
        if (r < rows)
            _mm512_storeu_ps(out + 16 * r, acc[r]);
}

FOLDED void dot_all(enum dtype type, linear_dot_q8 *few, const struct linear_panel *w, int b0,
                    int b1, const uint8_t *x, size_t xs, int n_rows, float *acc)
{
    _Alignas(64) int8_t decoded[CHUNK * 512];
    int least = half_scales(type) ? LEAST_HALF : LEAST_WHOLE;
    int tiled = n_rows % 16 < least ? n_rows / 16 * 16 : n_rows;
    int chunk = type == DT_Q8_0 ? b1 - b0 : CHUNK;
    struct linear_panel rest = *w;
    if (tiled > 0) {
        int groups = (tiled + 15) / 16;
        rest.ahead = 0;
        _tile_loadconfig(half_scales(type) ? &config_half : &config_whole);
        for (int b = b0; b < b1; b += chunk) {
            int n = b + chunk < b1 ? chunk : b1 - b;
            const int8_t *codes = decoded;
            if (type == DT_Q8_0)            /* packed as tiles of signed bytes */
                codes = (const int8_t *)w->q + 512 * (size_t)b;
            else
                for (int i = 0; i < n; i++)
                    decode_block(type, w, b + i, decoded + 512 * i);
            FENCE();
            for (int r = 0; r < tiled; r += 16)
                dot_16(type, w, b, n, prefetch_share(type, w, r / 16, groups), codes,
                       x + (size_t)r * xs + 64 * (size_t)b, xs, tiled - r < 16 ? tiled - r : 16,
                       b == b0, acc + 16 * r);
        }
        _tile_release();
    }
    if (tiled < n_rows)
        few(&rest, b0, b1, x + (size_t)tiled * xs, xs, n_rows - tiled, acc + 16 * tiled);
}

#define KERNEL(name, type)                                                                         \
    static void dot_##name(const struct linear_panel *w, int b0, int b1, const uint8_t *x,        \
                           size_t xs, int n_rows, float *acc)                                      \
    {                                                                                              \
        dot_all(type, linear_kernels_avx512.dot_q8[type], w, b0, b1, x, xs, n_rows, acc);          \
    }
LINEAR_CODE_TYPES(KERNEL)

#define ENTRY(name, type) [type] = dot_##name,
linear_dot_q8 *const linear_dot_q8_amx[DT_MAX] = {LINEAR_CODE_TYPES(ENTRY)};
