/* attention_body.h - the vector rows of attention, over the names of vmath_vec.h.
 * Why:    AVX2 and AVX512 differ in width only. Included by attention_avx2.c and attention_avx512.c.
 * How:    tiles of up to 8 query rows by two or four registers of keys (scores) or of value dims (sums);
 *         a row's arithmetic does not depend on the shape of its tile. */
#include "workers/kernels/attention.h"
#include "workers/kernels/vmath_vec.h"

#include <string.h>

#define INLINE static inline __attribute__((always_inline))

enum { TILE = 8, WIDEST = 4, GROUP = ATTENTION_GROUP, MARGIN = 8 };

/* What a call keeps for its M query rows (position by position, heads inside). */
struct work {
    int n;                              /* M */
    const float *q[ATTENTION_ROWS];
    float *out[ATTENTION_ROWS];
    float *sums;                        /* [M][sums_stride] */
    int64_t sums_stride;
    float *scores;                      /* [M][ATTENTION_BLOCK] */
    float *total;                       /* [M][VEC], added up at the end */
    float *top;                         /* [M] */
};

static void work_init(struct work *w, const struct attention_cache *c,
                      const struct attention_call *call, void *scratch)
{
    const struct attention_page *l = &c->layout;
    w->n = call->n_rows * call->n_group;
    w->sums_stride = (l->value_dim + 15) / 16 * 16;
    w->sums = scratch;
    w->scores = w->sums + ATTENTION_ROWS * w->sums_stride;
    w->total = w->scores + ATTENTION_ROWS * ATTENTION_BLOCK;
    w->top = w->total + ATTENTION_ROWS * 16;
    memset(w->sums, 0, sizeof(float) * (size_t)(w->n * w->sums_stride));
    memset(w->total, 0, sizeof(float) * (size_t)w->n * VEC);
    for (int m = 0; m < w->n; m++) {
        int r = m / call->n_group, g = m % call->n_group;
        w->q[m] = call->q + r * call->q_stride + (int64_t)g * l->head_dim;
        w->out[m] = call->out + r * call->out_stride + (int64_t)g * l->value_dim;
        w->top[m] = -__builtin_inff();
        if (call->sinks != NULL) {
            w->top[m] = call->sinks[g];
            w->total[(int64_t)m * VEC] = 1.0f;
        }
    }
}

INLINE vf load_numbers(enum dtype type, const uint8_t *p, int64_t i)
{
    if (type == DT_F32)
        return vf_load((const float *)p + i);
    if (type == DT_F16)
        return vf_load_f16((const uint16_t *)p + i);
    return vf_load_i8((const int8_t *)p + i);
}

INLINE vf load_numbers_first(enum dtype type, const uint8_t *p, int64_t i, int n)
{
    if (type == DT_F32)
        return vf_load_first((const float *)p + i, n);
    if (type == DT_F16)
        return vf_load_f16_first((const uint16_t *)p + i, n);
    return vf_load_i8_first((const int8_t *)p + i, n);
}

/* acc[r][i] += q[r] k over dims [d0, d1), for WIDE registers of keys from `at` on. */
INLINE void dot_tile(enum dtype type, const int rows, const int wide, vf acc[TILE][WIDEST],
                     const float *const *q, const uint8_t *k, int64_t tokens, int64_t at, int d0, int d1)
{
    for (int d = d0; d < d1; d++) {
        vf key[WIDEST];
        for (int i = 0; i < wide; i++)
            key[i] = load_numbers(type, k, d * tokens + at + i * VEC);
        for (int r = 0; r < rows; r++) {
            vf x = vf_set(q[r][d]);
            for (int i = 0; i < wide; i++)
                acc[r][i] = vf_fma(x, key[i], acc[r][i]);
        }
    }
}

INLINE void clear_tile(const int rows, const int wide, vf acc[TILE][WIDEST])
{
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < wide; i++)
            acc[r][i] = vf_set(0);
}

/* scores[r] of `wide` registers of keys from `token` on. Q8_0: each group's dot product times its
 * scales, in order of the groups. */
INLINE void score_tile(enum dtype type, const int rows, const int wide, float *scores,
                       const float *const *q, const struct attention_page *l, const uint8_t *page,
                       int64_t token)
{
    vf acc[TILE][WIDEST], dot[TILE][WIDEST];
    int64_t t = l->page_tokens;
    clear_tile(rows, wide, acc);
    if (type != DT_Q8_0)
        dot_tile(type, rows, wide, acc, q, page, t, token, 0, l->head_dim);
    for (int d = 0; type == DT_Q8_0 && d < l->head_dim; d += GROUP) {
        const uint16_t *s = (const uint16_t *)(page + l->k_scales) + d / GROUP * t + token;
        clear_tile(rows, wide, dot);
        dot_tile(type, rows, wide, dot, q, page, t, token, d,
                 d + GROUP < l->head_dim ? d + GROUP : l->head_dim);
        for (int r = 0; r < rows; r++)
            for (int i = 0; i < wide; i++)
                acc[r][i] = vf_fma(dot[r][i], vf_load_f16(s + i * VEC), acc[r][i]);
    }
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < wide; i++)
            vf_store(scores + r * ATTENTION_BLOCK + i * VEC, acc[r][i]);
}

/* Registers side by side: as many as the height of the tile leaves accumulators for. */
#define WIDTH(rows) (2 * (rows) <= TALLEST ? WIDEST : 2)

/* scores [rows][ATTENTION_BLOCK] of n_keys keys (rounded up to two registers) from `token` on. */
INLINE void score_rows(enum dtype type, const int rows, float *scores, const float *const *q,
                       const struct attention_page *l, const uint8_t *page, int token, int n_keys)
{
    int key = 0;
    for (; n_keys - key > 2 * VEC && WIDTH(rows) == WIDEST; key += WIDEST * VEC)
        score_tile(type, rows, WIDTH(rows), scores + key, q, l, page, token + key);
    for (; key < n_keys; key += 2 * VEC)
        score_tile(type, rows, 2, scores + key, q, l, page, token + key);
}

/* sums[r][0 .. wide VEC) += sum over keys of scores[r][key] v[key][d ..]; of the last register only
 * `last` lanes exist where that is not VEC. */
INLINE void sum_tile(enum dtype type, const int rows, const int wide, float *sums, int64_t sums_stride,
                     const float *scores, const struct attention_page *l, const uint8_t *page,
                     int token, int n_keys, int d, const bool whole, int last)
{
    vf acc[TILE][WIDEST];
    const uint8_t *v = page + l->v;
    const uint16_t *scale = (const uint16_t *)(page + l->v_scales);
    int64_t dim = l->value_dim, groups = (dim + GROUP - 1) / GROUP;
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < wide; i++)
            acc[r][i] = vf_load(sums + r * sums_stride + d + i * VEC);
    for (int key = 0; key < n_keys; key++) {
        vf value[WIDEST];
        for (int i = 0; i < wide; i++) {
            int64_t at = (token + key) * dim + d + i * VEC;
            value[i] = whole ? load_numbers(type, v, at) : load_numbers_first(type, v, at, last);
            if (type == DT_Q8_0)
                value[i] = value[i] * vf_set(_cvtsh_ss(scale[(token + key) * groups +
                                                             (d + i * VEC) / GROUP]));
        }
        for (int r = 0; r < rows; r++) {
            vf p = vf_set(scores[r * ATTENTION_BLOCK + key]);
            for (int i = 0; i < wide; i++)
                acc[r][i] = vf_fma(p, value[i], acc[r][i]);
        }
    }
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < wide; i++)
            vf_store(sums + r * sums_stride + d + i * VEC, acc[r][i]);
}

INLINE void sum_rows(enum dtype type, const int rows, float *sums, int64_t sums_stride,
                     const float *scores, const struct attention_page *l, const uint8_t *page,
                     int token, int n_keys)
{
    int d = 0, dim = l->value_dim;
    for (; d + WIDTH(rows) * VEC <= dim; d += WIDTH(rows) * VEC)
        sum_tile(type, rows, WIDTH(rows), sums, sums_stride, scores, l, page, token, n_keys, d, true, 0);
    for (; d + VEC <= dim; d += VEC)
        sum_tile(type, rows, 1, sums, sums_stride, scores, l, page, token, n_keys, d, true, 0);
    if (d < dim)
        sum_tile(type, rows, 1, sums, sums_stride, scores, l, page, token, n_keys, d, false, dim - d);
}

static vf masked(vf s, int key, int position, int window)
{
    /* Lanes are keys key, key + 1, ..; kept: key <= position, and position - key < window. */
    int n = position - key + 1;
    vf none = vf_set(-__builtin_inff());
    if (n < VEC)
        s = vf_select(vf_first(n < 0 ? 0 : n), s, none);
    int gone = window > 0 ? position - window + 1 - key : 0;
    if (gone > 0)
        s = vf_select(vf_first(gone < VEC ? gone : VEC), none, s);
    return s;
}

/* Turns row m's scores into weights relative to its running maximum. That moves only when it is
 * left behind by MARGIN (e^8 harms no float): a move is a mispredicted branch and a pass over the
 * sums. Keys that the row does not see get weight 0, and adding 0 changes nothing: so n_keys, which
 * neighbours set, never shows. */
static void soften(struct work *w, const struct attention_call *call, int value_dim, int m, int start,
                   int n_keys)
{
    int n = (n_keys + VEC - 1) / VEC;
    float *scores = w->scores + m * ATTENTION_BLOCK, *total = w->total + m * VEC;
    int position = call->position + m / call->n_group;
    vf s[ATTENTION_BLOCK / VEC], most = vf_set(-__builtin_inff());
    for (int i = 0; i < n; i++) {
        s[i] = vf_load(scores + i * VEC) * vf_set(call->scale);
        if (call->softcap > 0)
            s[i] = vf_set(call->softcap) * vmath_tanh_vec(s[i] / vf_set(call->softcap));
        s[i] = masked(s[i], start + i * VEC, position, call->window);
        most = vf_max(s[i], most);
    }
    float top = vf_max_lane(most);
    vf sum = vf_load(total);
    if (w->top[m] == -__builtin_inff()) {
        w->top[m] = top;
    } else if (top > w->top[m] + MARGIN) {
        vf shrink = vmath_exp_vec(vf_set(w->top[m] - top));
        float *sums = w->sums + m * w->sums_stride;
        for (int d = 0; d < value_dim; d += VEC)
            vf_store(sums + d, vf_load(sums + d) * shrink);
        sum = sum * shrink;
        w->top[m] = top;
    }
    for (int i = 0; i < n; i++) {
        s[i] = vmath_exp_vec(s[i] - vf_set(w->top[m]));
        sum = sum + s[i];
        vf_store(scores + i * VEC, s[i]);
    }
    vf_store(total, sum);
}

/* Calls f with a constant height for rows [m, m1), tallest first. */
#define TILES(m, m1, f)                                                                            \
    while (m < m1) {                                                                               \
        int left_ = m1 - m, height_ = left_ == 6 ? 3 : left_ >= 4 ? 4 : left_;                     \
        if (left_ >= 8 && TALLEST >= 8)                                                            \
            height_ = 8;                                                                           \
        switch (height_) {                                                                         \
        case 8: f(8); break;                                                                       \
        case 4: f(4); break;                                                                       \
        case 3: f(3); break;                                                                       \
        case 2: f(2); break;                                                                       \
        default: f(1);                                                                             \
        }                                                                                          \
        m += height_;                                                                              \
    }

INLINE void run_block(enum dtype type, const struct attention_cache *c,
                      const struct attention_call *call, struct work *w, int start)
{
    const struct attention_page *l = &c->layout;
    const uint8_t *page = c->base + (size_t)c->pages[start / l->page_tokens] * c->page_stride;
    int token = start % l->page_tokens, first, end;
    attention_active(call, start, &first, &end);
    int m0 = first * call->n_group, m1 = end * call->n_group;
    /* Values past the last query's position may be anything: another sequence's, or never written. */
    int n_keys = call->position + end - start;
    n_keys = n_keys < ATTENTION_BLOCK ? n_keys : ATTENTION_BLOCK;
    int m = m0;
#define SCORE(rows) score_rows(type, rows, w->scores + m * ATTENTION_BLOCK, w->q + m, l, page, token,   \
                               n_keys)
    TILES(m, m1, SCORE)
#undef SCORE
    for (m = m0; m < m1; m++)
        soften(w, call, l->value_dim, m, start, n_keys);
    m = m0;
#define SUM(rows) sum_rows(type, rows, w->sums + m * w->sums_stride, w->sums_stride,               \
                           w->scores + m * ATTENTION_BLOCK, l, page, token, n_keys)
    TILES(m, m1, SUM)
#undef SUM
}

static void finish(const struct work *w, int value_dim)
{
    for (int m = 0; m < w->n; m++) {
        vf total = vf_set(vf_sum(vf_load(w->total + (int64_t)m * VEC)));
        for (int d = 0; d < value_dim; d += VEC) {
            vf y = vf_load(w->sums + m * w->sums_stride + d) / total;
            vf_store_first(w->out[m] + d, y, value_dim - d < VEC ? value_dim - d : VEC);
        }
    }
}

INLINE void run_type(enum dtype type, const struct attention_cache *c,
                     const struct attention_call *call, void *scratch)
{
    struct work w;
    work_init(&w, c, call, scratch);
    int first = call->window > 0 ? call->position - call->window + 1 : 0;
    first = first > 0 ? first / ATTENTION_BLOCK * ATTENTION_BLOCK : 0;
    for (int start = first; start < call->position + call->n_rows; start += ATTENTION_BLOCK)
        run_block(type, c, call, &w, start);
    finish(&w, c->layout.value_dim);
}

/* One function for each type, so that a tile's loads are chosen when it is compiled. */
static void run_f32(const struct attention_cache *c, const struct attention_call *call, void *scratch)
{
    run_type(DT_F32, c, call, scratch);
}
static void run_f16(const struct attention_cache *c, const struct attention_call *call, void *scratch)
{
    run_type(DT_F16, c, call, scratch);
}
static void run_q8_0(const struct attention_cache *c, const struct attention_call *call, void *scratch)
{
    run_type(DT_Q8_0, c, call, scratch);
}

static void run(const struct attention_cache *c, const struct attention_call *call, void *scratch)
{
    if (c->layout.type == DT_F32)
        run_f32(c, call, scratch);
    else if (c->layout.type == DT_F16)
        run_f16(c, call, scratch);
    else
        run_q8_0(c, call, scratch);
}

static void to_f16(uint16_t *out, const float *x, int n)
{
    for (int i = 0; i < n; i += 8) {
        int k = n - i < 8 ? n - i : 8;
        __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        __m256i lanes = _mm256_cmpgt_epi32(_mm256_set1_epi32(k), index);
        __m256 y = _mm256_maskload_ps(x + i, lanes), top = _mm256_set1_ps(65504.0f);
        y = _mm256_min_ps(top, _mm256_max_ps(_mm256_set1_ps(-65504.0f), y));
        __m128i h = _mm256_cvtps_ph(y, _MM_FROUND_TO_NEAREST_INT);
        uint16_t part[8];
        _mm_storeu_si128((__m128i *)part, h);
        memcpy(out + i, part, sizeof *out * (size_t)k);
    }
}

/* K rows are converted side by side, then written down their columns. */
static void store_f16(const struct attention_page *l, uint8_t *page, int token, const float *k,
                      const float *v)
{
    uint16_t row[ATTENTION_DIM_MAX], *column = (uint16_t *)page + token;
    to_f16(row, k, l->head_dim);
    for (int d = 0; d < l->head_dim; d++)
        column[(int64_t)d * l->page_tokens] = row[d];
    to_f16((uint16_t *)(page + l->v) + (int64_t)token * l->value_dim, v, l->value_dim);
}

/* x [n] as groups: numbers out [n], scales [groups]; the bits of attention_quantise. */
static void to_q8(int8_t *out, uint16_t *scales, const float *x, int n)
{
    for (int at = 0; at < n; at += GROUP) {
        int size = n - at < GROUP ? n - at : GROUP;
        vf most = vf_set(0);
        for (int i = 0; i < size; i += VEC)
            most = vf_max(vf_abs(vf_load_first(x + at + i, size - i < VEC ? size - i : VEC)), most);
        scales[at / GROUP] = attention_f16(vf_max_lane(most) / 127.0f);
        float d = _cvtsh_ss(scales[at / GROUP]), inverse = d > 0 ? 1.0f / d : 0.0f;
        for (int i = 0; i < size; i++) {
            float q = x[at + i] * inverse;
            q = q > 127.0f ? 127.0f : q < -127.0f ? -127.0f : q;
            out[at + i] = (int8_t)(q + (q < 0 ? -0.5f : 0.5f));
        }
    }
}

static void store_q8(const struct attention_page *l, uint8_t *page, int token, const float *k,
                     const float *v)
{
    int8_t row[ATTENTION_DIM_MAX], *column = (int8_t *)page + token;
    uint16_t scale[ATTENTION_DIM_MAX / GROUP], *scales = (uint16_t *)(page + l->k_scales) + token;
    int64_t groups = (l->value_dim + GROUP - 1) / GROUP;
    to_q8(row, scale, k, l->head_dim);
    for (int d = 0; d < l->head_dim; d++)
        column[(int64_t)d * l->page_tokens] = row[d];
    for (int g = 0; g * GROUP < l->head_dim; g++)
        scales[(int64_t)g * l->page_tokens] = scale[g];
    to_q8((int8_t *)(page + l->v) + (int64_t)token * l->value_dim,
          (uint16_t *)(page + l->v_scales) + token * groups, v, l->value_dim);
}

static void store(const struct attention_cache *c, const float *k, int64_t k_stride, const float *v,
                  int64_t v_stride, int position, int n)
{
    if (c->layout.type == DT_F32) {
        attention_scalar.store(c, k, k_stride, v, v_stride, position, n);
        return;
    }
    for (int i = 0; i < n; i++) {
        int t = c->layout.page_tokens, key = position + i;
        uint8_t *page = c->base + (size_t)c->pages[key / t] * c->page_stride;
        (c->layout.type == DT_F16 ? store_f16 : store_q8)(&c->layout, page, key % t, k + i * k_stride,
                                                          v + i * v_stride);
    }
}
