/* Attention over whole sequences (no cache), rotary positions, softmax. The probabilities are kept for
 * the way back: training sequences are short. */
#include "workers/models/nn.h"

#include "proto/err.h"
#include "workers/models/nngemm.h"
#include "workers/models/nnangle.h"
#include "workers/models/nnrows.h"

#include <math.h>
#include <string.h>

struct attn_job {
    struct nn *nn;
    struct nn_tensor *q, *k, *v, *y;
    const uint8_t *mask;        /* [b, t] or NULL */
    const int32_t *first;       /* [b, s] or NULL: the first key that a query sees */
    float *prob;                /* [b, h, s, t] */
    bool causal;
    bool fresh_q, fresh_k, fresh_v;     /* way back: written, not added to */
};

/* x [n] in place: softmax of the first `live` numbers under the mask, zeros elsewhere. */
static void masked_softmax(const struct kernels *k, float *x, int64_t n, int64_t live,
                           const uint8_t *mask)
{
    float top = -INFINITY;
    if (mask == NULL && live > 0)
        top = nnrows_max(x, live);
    for (int64_t i = 0; mask != NULL && i < live; i++)
        if (mask[i])
            top = x[i] > top ? x[i] : top;
    if (mask == NULL && live == n)
        nnrows_subtract(x, top, n);
    else
        for (int64_t i = 0; i < n; i++)
            x[i] = i < live && (mask == NULL || mask[i]) ? x[i] - top : -INFINITY;
    k->exp(x, x, n);
    double sum = nnrows_sum(x, n);
    nnrows_multiply(x, sum > 0 ? (float)(1 / sum) : 0, n);
}

static void attn_head(const struct attn_job *j, int64_t sample, int64_t head)
{
    int64_t h = j->q->shape[1], s = j->q->shape[2], d = j->q->shape[3], kv = j->k->shape[1];
    int64_t t = j->k->shape[2], kv_head = head / (h / kv);
    const float *q = j->q->data + (sample * h + head) * s * d;
    const float *k = j->k->data + (sample * kv + kv_head) * t * d;
    const float *v = j->v->data + (sample * kv + kv_head) * t * d;
    float *p = j->prob + (sample * h + head) * s * t, *y = j->y->data + (sample * h + head) * s * d;
    nn_gemm(false, true, s, t, d, (float)(1 / sqrt((double)d)), q, d, k, d, 0, p, t);
    for (int64_t i = 0; i < s; i++) {
        int64_t since = j->first != NULL ? j->first[sample * s + i] : 0;
        memset(p + i * t, 0, (size_t)since * sizeof *p);
        masked_softmax(j->nn->kernels, p + i * t + since, t - since, (j->causal ? i + 1 + t - s : t) - since,
                       j->mask != NULL ? j->mask + sample * t + since : NULL);
    }
    nn_gemm(false, false, s, d, t, 1, p, t, v, d, 0, y, d);
}

static void attn_forward(void *ctx, int part)
{
    const struct attn_job *j = ctx;
    struct nn_range r = nn_part(j->nn, j->q, part);
    for (int64_t b = r.begin; b < r.end; b++)
        for (int64_t h = 0; h < j->q->shape[1]; h++)
            attn_head(j, b, h);
}

/* dP = g V^T; dS = P (dP - sum(P dP)) scale; dQ += dS K, dK += dS^T Q, dV += P^T g. */
static void attn_head_back(const struct attn_job *j, int64_t sample, int64_t head, float *ds)
{
    int64_t h = j->q->shape[1], s = j->q->shape[2], d = j->q->shape[3], kv = j->k->shape[1];
    int64_t t = j->k->shape[2], kv_head = head / (h / kv);
    int64_t at_q = (sample * h + head) * s * d, at_k = (sample * kv + kv_head) * t * d;
    const float *p = j->prob + (sample * h + head) * s * t, *g = j->y->grad + at_q;
    float scale = (float)(1 / sqrt((double)d));
    nn_gemm(false, true, s, t, d, 1, g, d, j->v->data + at_k, d, 0, ds, t);
    for (int64_t i = 0; i < s; i++) {
        float sum = (float)nnrows_dot(p + i * t, ds + i * t, t);
        nnrows_softmax_back(ds + i * t, p + i * t, sum, scale, t);
    }
    if (j->v->grad != NULL)
        nn_gemm(true, false, t, d, s, 1, p, t, g, d, j->fresh_v ? 0 : 1, j->v->grad + at_k, d);
    if (j->q->grad != NULL)
        nn_gemm(false, false, s, d, t, 1, ds, t, j->k->data + at_k, d, j->fresh_q ? 0 : 1,
                j->q->grad + at_q, d);
    if (j->k->grad != NULL)
        nn_gemm(true, false, t, d, s, 1, ds, t, j->q->data + at_q, d, j->fresh_k ? 0 : 1,
                j->k->grad + at_k, d);
}

static void attn_back_part(void *ctx, int part)
{
    const struct attn_job *j = ctx;
    struct nn_range r = nn_part(j->nn, j->q, part);
    float *ds = nn_scratch(j->nn, part, j->q->shape[2] * j->k->shape[2]);
    for (int64_t b = r.begin; b < r.end; b++)
        for (int64_t h = 0; h < j->q->shape[1]; h++)
            attn_head_back(j, b, h, ds);
}

static void attn_backward(struct nn *nn, const struct nn_node *node)
{
    struct attn_job j = {.nn = nn, .q = node->in[0], .k = node->in[1], .v = node->in[2],
                         .y = node->out, .prob = node->saved[0]};
    bool alone = j.q->shape[1] == j.k->shape[1];        /* else several heads add to one of k and v */
    j.fresh_q = nn_grad_fresh(nn, j.q);
    j.fresh_k = alone && nn_grad_fresh(nn, j.k);
    j.fresh_v = alone && nn_grad_fresh(nn, j.v);
    nn_grad(nn, j.k);
    nn_grad(nn, j.v);
    nn_parts(nn, attn_back_part, &j);
}

static struct nn_tensor *attend(struct attn_job *j)
{
    const struct nn_tensor *q = j->q, *k = j->k;
    ASSERT(q->n_dims == 4 && k->n_dims == 4 && q->shape[1] % k->shape[1] == 0);
    j->y = nn_new(j->nn, 4, q->shape);
    j->prob = nn_take(j->nn, (size_t)(q->shape[0] * q->shape[1] * q->shape[2] * k->shape[2]) * sizeof(float));
    nn_parts(j->nn, attn_forward, j);
    struct nn_node *node = nn_record(j->nn, j->y, attn_backward, j->q, j->k, j->v);
    if (node != NULL)
        node->saved[0] = j->prob;
    return j->y;
}

struct nn_tensor *nn_attention(struct nn *nn, struct nn_tensor *q, struct nn_tensor *k,
                               struct nn_tensor *v, bool causal, const uint8_t *mask)
{
    struct attn_job j = {.nn = nn, .q = q, .k = k, .v = v, .causal = causal, .mask = mask};
    return attend(&j);
}

struct nn_tensor *nn_attention_since(struct nn *nn, struct nn_tensor *q, struct nn_tensor *k,
                                     struct nn_tensor *v, const int32_t *first)
{
    ASSERT(q->shape[2] == k->shape[2]);
    struct attn_job j = {.nn = nn, .q = q, .k = k, .v = v, .causal = true, .first = first};
    return attend(&j);
}

/* --- rotary positions */

struct rope_job {
    struct nn *nn;
    struct nn_tensor *x, *y;
    struct nn_rotation r;
    int64_t heads;              /* lines of head_dim that stand at one position, one after the other */
    bool back;
};

static void rope_line(const struct rope_job *j, int64_t l)
{
    int64_t h = j->r.n_rot / 2, d = j->r.head_dim, position = l / j->heads % j->r.positions;
    const float *c = j->r.cosine + position * h, *sn = j->r.sine + position * h;
    const float *in = (j->back ? j->y->grad : j->x->data) + l * d;
    float *out = (j->back ? j->x->grad : j->y->data) + l * d;
    for (int64_t i = 0; i < h; i++) {
        int64_t a = j->r.half ? i : 2 * i, b = j->r.half ? i + h : 2 * i + 1;
        float sign = j->back ? -sn[i] : sn[i];      /* back: the other way round */
        float u = in[a] * c[i] - in[b] * sign, v = in[b] * c[i] + in[a] * sign;
        out[a] = j->back ? out[a] + u : u;
        out[b] = j->back ? out[b] + v : v;
    }
    for (int64_t i = 2 * h; i < d; i++)
        out[i] = j->back ? out[i] + in[i] : in[i];
}

static void rope_part(void *ctx, int part)
{
    const struct rope_job *j = ctx;
    struct nn_range r = nn_part(j->nn, j->x, part);
    int64_t lines = nn_row(j->x) / j->r.head_dim;
    for (int64_t l = r.begin * lines; l < r.end * lines; l++)
        rope_line(j, l);
}

static void rope_backward(struct nn *nn, const struct nn_node *node)
{
    struct rope_job j = {nn, node->in[0], node->out, *(const struct nn_rotation *)node->saved[0],
                         node->i[0], true};
    nn_grad(nn, j.x);
    nn_parts(nn, rope_part, &j);
}

static struct nn_tensor *rotate(struct nn *nn, struct nn_tensor *x, const struct nn_rotation *r,
                                int64_t heads)
{
    struct rope_job j = {nn, x, nn_new(nn, x->n_dims, x->shape), *r, heads, false};
    nn_parts(nn, rope_part, &j);
    struct nn_node *node = nn_record(nn, j.y, rope_backward, x, NULL, NULL);
    if (node != NULL) {
        node->saved[0] = memcpy(nn_take(nn, sizeof *r), r, sizeof *r);
        node->i[0] = heads;
    }
    return j.y;
}

struct nn_tensor *nn_rotate(struct nn *nn, struct nn_tensor *x, const struct nn_rotation *r)
{
    ASSERT(x->n_dims == 2 && x->shape[1] % r->head_dim == 0);
    return rotate(nn, x, r, x->shape[1] / r->head_dim);
}

struct nn_tensor *nn_rope(struct nn *nn, struct nn_tensor *x, const int64_t *positions, double theta,
                          bool half)
{
    int64_t s = x->shape[x->n_dims - 2], d = x->shape[x->n_dims - 1], h = d / 2;
    float *table = nn_take(nn, (size_t)(2 * s * h) * sizeof *table);
    for (int64_t p = 0; p < s; p++)
        for (int64_t i = 0; i < h; i++) {
            double sine, cosine;
            double angle = (double)positions[p] * nn_power(theta, -(double)i / (double)h);
            nn_sincos(angle, &sine, &cosine);
            table[p * h + i] = (float)cosine;
            table[(s + p) * h + i] = (float)sine;
        }
    struct nn_rotation r = {table, table + s * h, s, d, d, half};
    return rotate(nn, x, &r, 1);
}

/* --- softmax over the last axis */

struct soft_job { struct nn *nn; struct nn_tensor *x, *y; bool back; };

static void soft_part(void *ctx, int part)
{
    const struct soft_job *j = ctx;
    int64_t d = j->x->shape[j->x->n_dims - 1], lines = nn_row(j->x) / d;
    struct nn_range r = nn_part(j->nn, j->x, part);
    for (int64_t l = r.begin * lines; l < r.end * lines; l++) {
        float *y = j->y->data + l * d;
        if (!j->back) {
            memcpy(y, j->x->data + l * d, (size_t)d * sizeof *y);
            masked_softmax(j->nn->kernels, y, d, d, NULL);
            continue;
        }
        const float *g = j->y->grad + l * d;
        double sum = 0;
        for (int64_t i = 0; i < d; i++)
            sum += (double)g[i] * y[i];
        for (int64_t i = 0; i < d; i++)
            j->x->grad[l * d + i] += y[i] * (g[i] - (float)sum);
    }
}

static void soft_backward(struct nn *nn, const struct nn_node *node)
{
    struct soft_job j = {nn, node->in[0], node->out, true};
    nn_grad(nn, j.x);
    nn_parts(nn, soft_part, &j);
}

struct nn_tensor *nn_softmax(struct nn *nn, struct nn_tensor *x)
{
    struct soft_job j = {nn, x, nn_new(nn, x->n_dims, x->shape), false};
    nn_parts(nn, soft_part, &j);
    nn_record(nn, j.y, soft_backward, x, NULL, NULL);
    return j.y;
}
