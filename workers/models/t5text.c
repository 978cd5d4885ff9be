/* t5text.c - the text encoder of PixArt and SD3: transformers' T5EncoderModel, and its row.
 * Source: Raffel et al. 1910.10683; v1.1's gated feed-forward. Scores are not divided by anything; what a
 *         token is told of place is a number for each head and distance, the first layer's for all.
 * Shapes: ids [b, t], mask [b, t] (1: may be looked at; without one all may) -> hidden [b, t, width].
 * Ranks:  not collective. */
#include "workers/models/imagerows.h"

#include "workers/kernels/vmath.h"
#include "workers/models/netlayers.h"
#include "workers/models/netparts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SIZE_LIMIT = 1 << 20, TOKENS_MAX = 4096 };
static const double HIDDEN = -1e30;     /* the score of what may not be looked at */

struct t5 {
    int vocab, width, heads, head_dim, layers, buckets, distance;
    double eps;
    enum nn_act act;
    bool gated;
};

static int read_config(struct t5 *c, const struct imagepart *p, struct err *err)
{
    const json_t *eps = json_object_get(p->config, "layer_norm_epsilon");
    const char *ff = json_string_value(json_object_get(p->config, "feed_forward_proj"));
    TRY(netparts_size(p->config, "vocab_size", 32128, 1, 1 << 24, &c->vocab, p->file, err));
    TRY(netparts_size(p->config, "d_model", -1, 1, SIZE_LIMIT, &c->width, p->file, err));
    TRY(netparts_size(p->config, "num_heads", -1, 1, 1024, &c->heads, p->file, err));
    TRY(netparts_size(p->config, "d_kv", 64, 1, 4096, &c->head_dim, p->file, err));
    TRY(netparts_size(p->config, "num_layers", -1, 1, 1024, &c->layers, p->file, err));
    TRY(netparts_size(p->config, "relative_attention_num_buckets", 32, 4, 4096, &c->buckets, p->file, err));
    TRY(netparts_size(p->config, "relative_attention_max_distance", 128, 2, 1 << 20, &c->distance, p->file,
                      err));
    c->eps = json_is_number(eps) ? json_number_value(eps) : 1e-6;
    c->gated = ff != NULL && strncmp(ff, "gated-", 6) == 0;
    c->act = ff == NULL || strcmp(ff, "relu") == 0 ? NN_RELU : NN_GELU_TANH;
    if (ff != NULL && strcmp(ff, "relu") != 0 && strcmp(ff, "gated-gelu") != 0)
        return err_set(err, ERR_FORMAT, "%s: feed_forward_proj %.40s: relu and gated-gelu are known", p->file,
                       ff);
    if (c->buckets % 4 != 0 || c->distance <= c->buckets / 4)
        return err_set(err, ERR_FORMAT, "%s: %d buckets for distances up to %d make no sense", p->file,
                       c->buckets, c->distance);
    return ERR_OK;
}

static const char *table_name(const struct params *w)
{
    return params_find(w, "shared.weight") != NULL ? "shared" : "encoder.embed_tokens";
}

static int t5_open(struct imagepart *p, struct err *err)
{
    struct t5 *c = p->state = calloc(1, sizeof *c);
    char name[64];
    if (c == NULL)
        return err_set(err, ERR_NOMEM, "no memory for %s", p->name);
    TRY(read_config(c, p, err));
    snprintf(name, sizeof name, "%s.weight", table_name(&p->w));
    TRY(params_expect(&p->w, name, p->file, err, 2, c->vocab, c->width));
    p->facts = (struct imagefacts){.tokens = TOKENS_MAX, .vocab = c->vocab, .text_width = c->width,
                                   .layers = c->layers, .heads = c->heads};
    return ERR_OK;
}

/* --- distances */

/* Which bucket a key `ahead` places after the query is in: half of them for each direction; of those, half
 * exact, the rest by the logarithm. */
static int bucket_of(const struct t5 *c, int ahead)
{
    int half = c->buckets / 2, exact = half / 2, n = ahead > 0 ? ahead : -ahead, k = 0;
    int base = ahead > 0 ? half : 0;
    if (n < exact)
        return base + n;
    /* the largest k with n >= exact (distance / exact)^(k / exact); a hair less, for the exact powers */
    while (k < half - exact - 1 &&
           n >= exact * vmath_pow((double)c->distance / exact, (double)(k + 1) / (half - exact)) * (1 - 1e-9))
        k++;
    return base + exact + k;
}

/* [heads, 2 t - 1]: what is added where the key is i - (t - 1) places ahead. */
static float *place_bias(struct params_reader *r, const struct t5 *c, int t)
{
    struct nn_tensor *table = netlayer_tensor(
        r, "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
        (int64_t)c->buckets * c->heads);
    int n = 2 * t - 1;
    float *bias = nn_take(r->nn, (size_t)c->heads * (size_t)n * sizeof *bias);
    for (int i = 0; table != NULL && i < n; i++)
        for (int h = 0; h < c->heads; h++)
            bias[h * n + i] = table->data[bucket_of(c, i - (t - 1)) * c->heads + h];
    return table != NULL ? bias : NULL;
}

/* --- attention */

struct look {
    struct nn *nn;
    const struct t5 *c;
    const struct nn_tensor *q, *k, *v;      /* [b, t, heads head_dim] */
    struct nn_tensor *y;                    /* like q */
    const float *bias;
    const int32_t *mask;                    /* [b, t] or NULL */
};

/* One query of one head: y [head_dim] of keys [head_dim, t], values v [t, stride]. score [t]. */
static void one_query(const struct look *l, const float *q, const float *keys, const float *v, int64_t stride,
                      const float *bias, const int32_t *mask, float *score, float *y)
{
    int t = (int)l->q->shape[1], d = l->c->head_dim;
    for (int j = 0; j < t; j++)
        score[j] = 0;
    for (int i = 0; i < d; i++)
        for (int j = 0; j < t; j++)
            score[j] += q[i] * keys[i * t + j];
    float most = -INFINITY, sum = 0;
    for (int j = 0; j < t; j++) {
        score[j] = mask == NULL || mask[j] != 0 ? score[j] + bias[j] : (float)HIDDEN;
        most = score[j] > most ? score[j] : most;
    }
    for (int j = 0; j < t; j++)
        score[j] -= most;
    l->nn->kernels->exp(score, score, t);
    for (int i = 0; i < d; i++)
        y[i] = 0;
    for (int j = 0; j < t; j++) {
        sum += score[j];
        for (int i = 0; i < d; i++)
            y[i] += score[j] * v[j * stride + i];
    }
    for (int i = 0; i < d; i++)
        y[i] /= sum;
}

static void look_part(void *ctx, int part)
{
    const struct look *l = ctx;
    struct nn_range range = nn_part(l->nn, l->q, part);
    int t = (int)l->q->shape[1], d = l->c->head_dim, heads = l->c->heads;
    int64_t stride = (int64_t)heads * d;
    float *keys = nn_scratch(l->nn, part, (int64_t)(d + 1) * t), *score = keys + d * t;
    for (int64_t s = range.begin; s < range.end; s++)
        for (int h = 0; h < heads; h++) {
            int64_t at = s * t * stride + (int64_t)h * d;
            for (int j = 0; j < t; j++)
                for (int i = 0; i < d; i++)
                    keys[i * t + j] = l->k->data[at + j * stride + i];
            for (int i = 0; i < t; i++)
                one_query(l, l->q->data + at + i * stride, keys, l->v->data + at, stride,
                          l->bias + (int64_t)h * (2 * t - 1) + (t - 1 - i),
                          l->mask != NULL ? l->mask + s * t : NULL, score, l->y->data + at + i * stride);
        }
}

/* --- layers */

struct encoder {
    struct params_reader r;
    const struct t5 *c;
    const float *bias;
    const int32_t *mask;
    int block;
};

static struct nn_tensor *linear(struct encoder *e, struct nn_tensor *x, const char *part)
{
    char name[96];
    snprintf(name, sizeof name, "encoder.block.%d.%s", e->block, part);
    return netlayer_linear(&e->r, x, name);
}

static struct nn_tensor *norm(struct encoder *e, struct nn_tensor *x, const char *name)
{
    struct nn_tensor *w = x != NULL ? netlayer_tensor(&e->r, name, e->c->width) : NULL;
    return w != NULL ? nn_rms_norm(e->r.nn, x, w, e->c->eps) : NULL;
}

static struct nn_tensor *block_norm(struct encoder *e, struct nn_tensor *x, int layer)
{
    char name[96];
    snprintf(name, sizeof name, "encoder.block.%d.layer.%d.layer_norm.weight", e->block, layer);
    return norm(e, x, name);
}

static struct nn_tensor *attention(struct encoder *e, struct nn_tensor *x)
{
    struct nn_tensor *n = block_norm(e, x, 0);
    const int64_t inner = (int64_t)e->c->heads * e->c->head_dim;
    struct look l = {.nn = e->r.nn, .c = e->c, .bias = e->bias, .mask = e->mask};
    struct nn_tensor *part[3];
    for (int i = 0; i < 3; i++) {
        char name[32];
        snprintf(name, sizeof name, "layer.0.SelfAttention.%c", "qkv"[i]);
        part[i] = netlayer_shape(&e->r, linear(e, n, name), 3,
                                 (const int64_t[]){x->shape[0], x->shape[1], inner});
        if (part[i] == NULL)
            return NULL;
    }
    l.q = part[0];
    l.k = part[1];
    l.v = part[2];
    l.y = nn_new(e->r.nn, 3, part[0]->shape);
    nn_parts(e->r.nn, look_part, &l);
    return netlayer_add(&e->r, x, linear(e, l.y, "layer.0.SelfAttention.o"));
}

static struct nn_tensor *feed_forward(struct encoder *e, struct nn_tensor *x)
{
    struct nn_tensor *n = block_norm(e, x, 1), *h;
    if (e->c->gated) {
        h = netlayer_act(&e->r, linear(e, n, "layer.1.DenseReluDense.wi_0"), e->c->act);
        struct nn_tensor *up = linear(e, n, "layer.1.DenseReluDense.wi_1");
        h = h != NULL && up != NULL && h->n == up->n ? nn_mul(e->r.nn, h, up) : NULL;
    } else {
        h = netlayer_act(&e->r, linear(e, n, "layer.1.DenseReluDense.wi"), e->c->act);
    }
    return netlayer_add(&e->r, x, linear(e, h, "layer.1.DenseReluDense.wo"));
}

static int t5_run(struct imagepart *p, struct nn *nn, const struct imagetensors *in,
                  struct imagetensors *out, struct err *err)
{
    struct encoder e = {.r = {&p->w, nn, p->file, err, ERR_OK}, .c = p->state};
    struct nn_tensor *shape;
    int32_t *ids, *mask;
    TRY(imageinput_tensor(nn, in, "ids", true, 2, (const int64_t[]){0, 0}, &shape, err));
    int64_t b = shape->shape[0], t = shape->shape[1];
    if (t > TOKENS_MAX)
        return err_set(err, ERR_INVAL, "%s: %lld tokens, at most %d are read", p->file, (long long)t,
                       TOKENS_MAX);
    TRY(imageinput_whole(nn, in, "ids", true, shape->n, e.c->vocab, &ids, err));
    TRY(imageinput_whole(nn, in, "mask", false, shape->n, 2, &mask, err));
    TRY(imageinput_parts(nn, b, err));
    e.mask = mask;
    e.bias = place_bias(&e.r, e.c, (int)t);
    struct nn_tensor *x = e.bias != NULL ? netlayer_rows(&e.r, ids, b * t, table_name(&p->w)) : NULL;
    x = netlayer_shape(&e.r, x, 3, (const int64_t[]){b, t, e.c->width});
    for (e.block = 0; e.block < e.c->layers && x != NULL; e.block++) {
        x = attention(&e, x);
        x = x != NULL ? feed_forward(&e, x) : NULL;
    }
    x = norm(&e, x, "encoder.final_layer_norm.weight");
    if (x == NULL)
        return e.r.rc != ERR_OK ? e.r.rc : err_set(err, ERR_FORMAT, "%s: wi_0 and wi_1 differ", p->file);
    imageoutput(out, "hidden", x);
    return ERR_OK;
}

const struct imagefamily imagefamily_t5 = {
    .kind = "T5EncoderModel", .role = IMAGE_TEXT, .prefix = "text", .open = t5_open, .run = t5_run,
    .input = {{"ids", "ids", true}, {"mask", "mask", false}}};
