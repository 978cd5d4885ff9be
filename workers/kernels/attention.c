/* Attention in plain C: the reference for the vector rows, and what they share. */
#include "workers/kernels/attention.h"

#include "workers/kernels/vmath.h"

#include <string.h>

static size_t round_up(size_t n) { return (n + 63) / 64 * 64; }

struct attention_page attention_page_layout(enum dtype type, int head_dim, int value_dim,
                                            int page_tokens)
{
    struct attention_page p = {type, head_dim, value_dim, page_tokens, 0, 0, 0, 0};
    size_t number = type == DT_F32 ? 4 : type == DT_F16 ? 2 : 1, t = (size_t)page_tokens;
    size_t k_groups = 0, v_groups = 0;
    if (type == DT_Q8_0) {
        k_groups = ((size_t)head_dim + ATTENTION_GROUP - 1) / ATTENTION_GROUP;
        v_groups = ((size_t)value_dim + ATTENTION_GROUP - 1) / ATTENTION_GROUP;
    }
    p.k_scales = round_up(number * (size_t)head_dim * t);
    p.v = p.k_scales + round_up(2 * k_groups * t);
    p.v_scales = p.v + round_up(number * (size_t)value_dim * t);
    p.bytes = p.v_scales + round_up(2 * v_groups * t);
    return p;
}

/* Vector rows keep, for each query row: scores [BLOCK], sums [value_dim], maximum, denominators. */
size_t attention_scratch_bytes(int value_dim)
{
    size_t row = round_up((size_t)value_dim * 4) + ATTENTION_BLOCK * 4 + 64 + 64;
    return row * ATTENTION_ROWS;
}

void attention_active(const struct attention_call *call, int start, int *first, int *end)
{
    int last = start + ATTENTION_BLOCK - 1;     /* key */
    *first = start - call->position > 0 ? start - call->position : 0;
    *end = call->n_rows;
    if (call->window > 0 && last + call->window - call->position < call->n_rows)
        *end = last + call->window - call->position;    /* row r sees keys > position + r - window */
    if (*end < *first)
        *end = *first;
}

uint16_t attention_f16(float x)
{
    return dtype_f32_to_f16(x > 65504.0f ? 65504.0f : x < -65504.0f ? -65504.0f : x);
}

void attention_quantise(int8_t *out, int64_t stride, uint16_t *scales, int64_t scale_stride,
                        const float *x, int n)
{
    for (int g = 0; g * ATTENTION_GROUP < n; g++) {
        int begin = g * ATTENTION_GROUP;
        int end = begin + ATTENTION_GROUP < n ? begin + ATTENTION_GROUP : n;
        float top = 0;
        for (int i = begin; i < end; i++) {
            float a = x[i] < 0 ? -x[i] : x[i];
            top = a > top ? a : top;
        }
        uint16_t h = attention_f16(top / 127.0f);
        float d = dtype_f16_to_f32(h), inverse = d > 0 ? 1.0f / d : 0.0f;
        scales[g * scale_stride] = h;
        for (int i = begin; i < end; i++) {
            float q = x[i] * inverse;
            q = q > 127.0f ? 127.0f : q < -127.0f ? -127.0f : q;
            out[i * stride] = (int8_t)(q < 0 ? q - 0.5f : q + 0.5f);
        }
    }
}

/* --- plain C row */

struct place { const uint8_t *page; int token; };

static struct place place_of(const struct attention_cache *c, int key)
{
    int t = c->layout.page_tokens;
    return (struct place){c->base + (size_t)c->pages[key / t] * c->page_stride, key % t};
}

static float number_at(enum dtype type, const uint8_t *numbers, const uint8_t *scales, int64_t i,
                       int64_t scale)
{
    if (type == DT_F32)
        return ((const float *)numbers)[i];
    if (type == DT_F16)
        return dtype_f16_to_f32(((const uint16_t *)numbers)[i]);
    return ((const int8_t *)numbers)[i] * dtype_f16_to_f32(((const uint16_t *)scales)[scale]);
}

static float key_at(const struct attention_cache *c, struct place p, int d)
{
    const struct attention_page *l = &c->layout;
    return number_at(l->type, p.page, p.page + l->k_scales, (int64_t)d * l->page_tokens + p.token,
                     (int64_t)(d / ATTENTION_GROUP) * l->page_tokens + p.token);
}

static float value_at(const struct attention_cache *c, struct place p, int d)
{
    const struct attention_page *l = &c->layout;
    int64_t groups = (l->value_dim + ATTENTION_GROUP - 1) / ATTENTION_GROUP;
    return number_at(l->type, p.page + l->v, p.page + l->v_scales,
                     (int64_t)p.token * l->value_dim + d, p.token * groups + d / ATTENTION_GROUP);
}

static float score_of(const struct attention_cache *c, const struct attention_call *call,
                      const float *q, int key)
{
    struct place p = place_of(c, key);
    float s = 0;
    for (int d = 0; d < c->layout.head_dim; d++)
        s += q[d] * key_at(c, p, d);
    s *= call->scale;
    return call->softcap > 0 ? (float)(call->softcap * vmath_tanh(s / (double)call->softcap)) : s;
}

/* out [value_dim] for the query q at `position`; sums [value_dim] double. */
static void attend(const struct attention_cache *c, const struct attention_call *call, const float *q,
                   int position, const float *sink, float *out, double *sums)
{
    int first = call->window > 0 && position - call->window + 1 > 0 ? position - call->window + 1 : 0;
    int dim = c->layout.value_dim;
    float top = sink != NULL ? *sink : -__builtin_inff();
    double total = sink != NULL ? 1.0 : 0.0;
    memset(sums, 0, sizeof *sums * (size_t)dim);
    for (int key = first; key <= position; key++) {
        float s = score_of(c, call, q, key);
        if (s > top) {
            double shrink = vmath_exp((double)top - s);
            total *= shrink;
            for (int d = 0; d < dim; d++)
                sums[d] *= shrink;
            top = s;
        }
        double p = vmath_exp((double)s - top);
        struct place at = place_of(c, key);
        total += p;
        for (int d = 0; d < dim; d++)
            sums[d] += p * value_at(c, at, d);
    }
    for (int d = 0; d < dim; d++)
        out[d] = (float)(sums[d] / total);
}

static void run(const struct attention_cache *c, const struct attention_call *call, void *scratch)
{
    for (int r = 0; r < call->n_rows; r++)
        for (int g = 0; g < call->n_group; g++)
            attend(c, call, call->q + r * call->q_stride + (int64_t)g * c->layout.head_dim,
                   call->position + r, call->sinks != NULL ? call->sinks + g : NULL,
                   call->out + r * call->out_stride + (int64_t)g * c->layout.value_dim, scratch);
}

static void store_one(const struct attention_cache *c, uint8_t *page, int token, const float *k,
                      const float *v)
{
    const struct attention_page *l = &c->layout;
    int64_t t = l->page_tokens, groups = (l->value_dim + ATTENTION_GROUP - 1) / ATTENTION_GROUP;
    if (l->type == DT_Q8_0) {
        attention_quantise((int8_t *)page + token, t, (uint16_t *)(page + l->k_scales) + token, t, k,
                           l->head_dim);
        attention_quantise((int8_t *)(page + l->v) + (int64_t)token * l->value_dim, 1,
                           (uint16_t *)(page + l->v_scales) + token * groups, 1, v, l->value_dim);
        return;
    }
    for (int d = 0; d < l->head_dim; d++) {
        if (l->type == DT_F32)
            ((float *)page)[d * t + token] = k[d];
        else
            ((uint16_t *)page)[d * t + token] = attention_f16(k[d]);
    }
    for (int d = 0; d < l->value_dim; d++) {
        int64_t i = (int64_t)token * l->value_dim + d;
        if (l->type == DT_F32)
            ((float *)(page + l->v))[i] = v[d];
        else
            ((uint16_t *)(page + l->v))[i] = attention_f16(v[d]);
    }
}

static void store(const struct attention_cache *c, const float *k, int64_t k_stride, const float *v,
                  int64_t v_stride, int position, int n)
{
    int t = c->layout.page_tokens;
    for (int i = 0; i < n; i++) {
        int key = position + i;
        store_one(c, c->base + (size_t)c->pages[key / t] * c->page_stride, key % t, k + i * k_stride,
                  v + i * v_stride);
    }
}

const struct attention_row attention_scalar = {run, store};
