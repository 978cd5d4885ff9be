#include "workers/models/pixart.h"

#include "workers/models/netparts.h"
#include "workers/models/netshard.h"

#include <stdio.h>
#include <string.h>

enum { TIME_WIDTH = 256, SIZE_LIMIT = 1 << 20, SIZES_SAMPLE = 128 };
static const double NORM_EPS = 1e-6;

int pixart_config_read(struct pixart_config *c, const json_t *config, const char *file,
                       struct err *err)
{
    const json_t *sizes = json_object_get(config, "use_additional_conditions");
    const json_t *scale = json_object_get(config, "interpolation_scale");
    memset(c, 0, sizeof *c);
    TRY(netparts_size(config, "in_channels", 4, 1, SIZE_LIMIT, &c->in_channels, file, err));
    TRY(netparts_size(config, "out_channels", 8, 1, SIZE_LIMIT, &c->out_channels, file, err));
    TRY(netparts_size(config, "patch_size", 2, 1, 256, &c->patch, file, err));
    TRY(netparts_size(config, "sample_size", 128, 1, SIZE_LIMIT, &c->sample, file, err));
    TRY(netparts_size(config, "num_layers", 28, 1, 1024, &c->layers, file, err));
    TRY(netparts_size(config, "num_attention_heads", 16, 1, 1024, &c->heads, file, err));
    TRY(netparts_size(config, "attention_head_dim", 72, 1, 4096, &c->head_dim, file, err));
    TRY(netparts_size(config, "caption_channels", 4096, 1, SIZE_LIMIT, &c->caption, file, err));
    c->sizes = json_is_boolean(sizes) ? json_is_true(sizes) : c->sample == SIZES_SAMPLE;
    c->interpolation = json_is_number(scale) ? json_number_value(scale)
                       : c->sample / 64 > 1  ? c->sample / 64
                                             : 1;
    if (!(c->interpolation > 0) || c->heads * c->head_dim % 4 != 0)
        return err_set(err, ERR_FORMAT, "%s: interpolation_scale %g must be positive, and %d heads of %d "
                       "a multiple of 4", file, c->interpolation, c->heads, c->head_dim);
    return ERR_OK;
}

static int check_block(const struct pixart_config *c, const struct params *w, int i, const char *file,
                       struct err *err)
{
    static const char *const names[] = {"to_q", "to_k", "to_v", "to_out.0"};
    int d = c->heads * c->head_dim;
    char prefix[64], name[128];
    snprintf(prefix, sizeof prefix, "transformer_blocks.%d.", i);
    for (int k = 0; k < 8; k++) {
        snprintf(name, sizeof name, "attn%d.%s", k / 4 + 1, names[k % 4]);
        TRY(netparts_expect_linear(w, prefix, name, d, d, file, err));
    }
    TRY(netparts_expect_linear(w, prefix, "ff.net.0.proj", 4 * d, d, file, err));
    TRY(netparts_expect_linear(w, prefix, "ff.net.2", d, 4 * d, file, err));
    snprintf(name, sizeof name, "%sscale_shift_table", prefix);
    return params_expect(w, name, file, err, 2, 6, d);
}

int pixart_check(const struct pixart_config *c, const struct params *w, const char *file,
                 struct err *err)
{
    static const char *const time = "adaln_single.emb.timestep_embedder.";
    int d = c->heads * c->head_dim, third = d / 3;
    TRY(params_expect(w, "pos_embed.proj.weight", file, err, 4, d, c->in_channels, c->patch, c->patch));
    TRY(params_expect(w, "pos_embed.proj.bias", file, err, 1, d));
    TRY(netparts_expect_linear(w, time, "linear_1", d, TIME_WIDTH, file, err));
    TRY(netparts_expect_linear(w, time, "linear_2", d, d, file, err));
    TRY(netparts_expect_linear(w, "", "adaln_single.linear", 6 * d, d, file, err));
    for (int k = 0; k < 4 && c->sizes; k++) {
        const char *prefix = k / 2 == 0 ? "adaln_single.emb.resolution_embedder."
                                        : "adaln_single.emb.aspect_ratio_embedder.";
        TRY(netparts_expect_linear(w, prefix, k % 2 == 0 ? "linear_1" : "linear_2", third,
                                   k % 2 == 0 ? TIME_WIDTH : third, file, err));
    }
    TRY(netparts_expect_linear(w, "", "caption_projection.linear_1", d, c->caption, file, err));
    TRY(netparts_expect_linear(w, "", "caption_projection.linear_2", d, d, file, err));
    TRY(params_expect(w, "scale_shift_table", file, err, 2, 2, d));
    TRY(netparts_expect_linear(w, "", "proj_out", c->patch * c->patch * c->out_channels, d, file, err));
    for (int i = 0; i < c->layers; i++)
        TRY(check_block(c, w, i, file, err));
    return ERR_OK;
}

/* --- forward */

/* The layers' heads and columns are this rank's. */
struct forward {
    struct nn *nn;
    const struct pixart_config *c;
    struct params_reader *r;
    struct nn_tensor *shared, *time;        /* [b, 6 d] and [b, d] of the time */
    const uint8_t *mask;
    int block, heads;                       /* heads: that this rank holds */
};

static int width_of(const struct pixart_config *c) { return c->heads * c->head_dim; }

static struct nn_tensor *block_linear(struct forward *f, struct nn_tensor *x, const char *name)
{
    char full[128];
    snprintf(full, sizeof full, "transformer_blocks.%d.%s", f->block, name);
    return netparts_linear(f->r, x, full);
}

/* A layer whose inputs are shared out over the group; like: for the rows. */
static struct nn_tensor *block_sum(struct forward *f, struct nn_tensor *x, const struct nn_tensor *like,
                                   const char *name, int k, int unit)
{
    char full[128];
    snprintf(full, sizeof full, "transformer_blocks.%d.%s", f->block, name);
    return netshard_sum(f->r, x, like, full, k, unit);
}

/* [b, tokens, this rank's heads] */
static struct nn_tensor *attention_heads(struct forward *f, const char *attn, struct nn_tensor *x,
                                         struct nn_tensor *keys, const uint8_t *mask)
{
    struct nn_tensor *part[3];
    char name[64];
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "%s.to_%c", attn, "qkv"[i]);
        part[i] = nn_split_heads(f->nn, block_linear(f, i == 0 ? x : keys, name), f->heads);
    }
    return nn_join_heads(f->nn, nn_attention(f->nn, part[0], part[1], part[2], false, mask));
}

static struct nn_tensor *attention(struct forward *f, const char *attn, struct nn_tensor *x,
                                   struct nn_tensor *keys, const uint8_t *mask)
{
    char name[64];
    struct nn_tensor *y = f->heads > 0 ? attention_heads(f, attn, x, keys, mask) : NULL;
    snprintf(name, sizeof name, "%s.to_out.0", attn);
    return block_sum(f, y, x, name, width_of(f->c), split_head_unit(f->c->head_dim) * f->c->head_dim);
}

/* table [n, d] as one row [1, n d] plus m [b, n d]. */
static struct nn_tensor *with_table(struct forward *f, struct nn_tensor *m, const char *name)
{
    struct nn_tensor *table = params_get(f->r, "%s", name);
    return nn_add(f->nn, m, nn_reshape(f->nn, table, 1, (const int64_t[]){table->n}));
}

/* Cross-attention has neither norm nor gate. */
static struct nn_tensor *run_block(struct forward *f, struct nn_tensor *h, struct nn_tensor *caption)
{
    struct nn *nn = f->nn;
    int d = width_of(f->c);
    char name[64];
    snprintf(name, sizeof name, "transformer_blocks.%d.scale_shift_table", f->block);
    struct nn_tensor *m = with_table(f, f->shared, name), *part[6];
    for (int i = 0; i < 6; i++)
        part[i] = netparts_chunk(nn, m, d, i);
    struct nn_tensor *n = netparts_adaptive(nn, h, part[1], part[0], NORM_EPS);
    h = nn_gate(nn, h, part[2], attention(f, "attn1", n, n, NULL));
    h = nn_add(nn, h, attention(f, "attn2", h, caption, f->mask));
    n = netparts_adaptive(nn, h, part[4], part[3], NORM_EPS);
    n = nn_activation(nn, block_linear(f, n, "ff.net.0.proj"), NN_GELU_TANH, 0);
    return nn_gate(nn, h, part[5], block_sum(f, n, h, "ff.net.2", 4 * d, SPLIT_GROUP));
}

/* Conditions of n numbers a sample, each embedded like a time: [b, n width]. */
static struct nn_tensor *embed_sizes(struct forward *f, const double *values, int64_t b, int n,
                                     const char *name)
{
    struct nn_tensor *t = nn_timestep_embedding(f->nn, values, b * n, TIME_WIDTH);
    t = netparts_two_linears(f->r, t, name, NN_SILU);
    return nn_reshape(f->nn, t, 2, (const int64_t[]){b, t->n / b});
}

static struct nn_tensor *embed_time(struct forward *f, const struct pixart_input *in)
{
    int64_t b = in->x->shape[0];
    struct nn_tensor *t = nn_timestep_embedding(f->nn, in->time, b, TIME_WIDTH);
    t = netparts_two_linears(f->r, t, "adaln_single.emb.timestep_embedder", NN_SILU);
    if (!f->c->sizes)
        return t;
    struct nn_tensor *r = embed_sizes(f, in->resolution, b, 2, "adaln_single.emb.resolution_embedder");
    struct nn_tensor *a = embed_sizes(f, in->aspect, b, 1, "adaln_single.emb.aspect_ratio_embedder");
    return nn_add(f->nn, t, nn_concat(f->nn, r, a, 1));
}

/* Positions count in units of grid / base, base the grid that the model was trained on. */
static struct nn_tensor *positions(struct forward *f, int rows, int cols)
{
    int d = width_of(f->c);
    double base = (double)f->c->sample / f->c->patch;
    struct nn_tensor *y = nn_new(f->nn, 3, (const int64_t[]){1, (int64_t)rows * cols, d});
    nn_pos_embed_2d(y->data, d, rows, cols, base / rows / f->c->interpolation,
                    base / cols / f->c->interpolation);
    return y;
}

static int check_input(const struct pixart_config *c, const struct pixart_input *in, const char *file,
                       struct err *err)
{
    const int64_t *s = in->x->shape;
    if (s[1] != c->in_channels || s[2] % c->patch != 0 || s[3] % c->patch != 0 || s[2] < 1 || s[3] < 1)
        return err_set(err, ERR_INVAL,
                       "%s: a picture of %lld x %lld with %lld channels; it takes %d channels and "
                       "multiples of %d", file, (long long)s[3], (long long)s[2], (long long)s[1],
                       c->in_channels, c->patch);
    if (in->caption->shape[2] != c->caption)
        return err_set(err, ERR_INVAL, "%s: the caption is %lld wide, expected %d", file,
                       (long long)in->caption->shape[2], c->caption);
    if (c->sizes && (in->resolution == NULL || in->aspect == NULL))
        return err_set(err, ERR_INVAL, "%s: it wants resolution and aspect ratio", file);
    return ERR_OK;
}

/* What comes before the layers: f->time, f->shared, f->mask, and both streams. */
static int prepare(struct forward *f, const struct pixart_input *in, struct netrows *h)
{
    const struct pixart_config *c = f->c;
    TRY(check_input(c, in, f->r->file, f->r->err));
    int rows = (int)in->x->shape[2] / c->patch, cols = (int)in->x->shape[3] / c->patch;
    f->time = embed_time(f, in);
    f->shared = netparts_linear(f->r, nn_activation(f->nn, f->time, NN_SILU, 0), "adaln_single.linear");
    f->mask = in->mask;
    h->text = netparts_two_linears(f->r, in->caption, "caption_projection", NN_GELU_TANH);
    h->x = netparts_patches(f->r, in->x, "pos_embed.proj", c->patch);
    h->x = nn_add(f->nn, h->x, positions(f, rows, cols));
    return f->r->rc;
}

static int run_layers(struct forward *f, int first, int end, struct netrows *h)
{
    struct split_range heads = netshard_heads(f->r->shard, f->c->heads, f->c->head_dim);
    f->heads = heads.end - heads.begin;
    for (f->block = first; f->block < end && f->r->rc == ERR_OK; f->block++)
        h->x = run_block(f, h->x, h->text);
    return f->r->rc;
}

/* The time itself, not its modulation; shift first. */
static int finish(struct forward *f, const struct netrows *h, int rows, int cols, struct nn_tensor **out)
{
    struct nn *nn = f->nn;
    int d = width_of(f->c);
    const int64_t flat[1] = {(int64_t)2 * d};
    struct nn_tensor *twice = nn_concat(nn, f->time, f->time, 1);
    struct nn_tensor *table = params_get(f->r, "scale_shift_table");
    struct nn_tensor *m = nn_add(nn, twice, nn_reshape(nn, table, 1, flat));
    struct nn_tensor *scale = netparts_chunk(nn, m, d, 1), *shift = netparts_chunk(nn, m, d, 0);
    struct nn_tensor *y = netparts_adaptive(nn, h->x, scale, shift, NORM_EPS);
    *out = nn_unpatchify(nn, netparts_linear(f->r, y, "proj_out"), f->c->patch, rows, cols);
    return f->r->rc;
}

/* --- in three */

enum { SHARED_ROWS = 6, TIME_ROW = 6, MASK_ROW = 7 };

static int mask_rows(const struct pixart_config *c, int64_t tokens)
{
    return (int)((tokens + width_of(c) - 1) / width_of(c));
}

int pixart_begin(struct params_reader *r, const struct pixart_config *c, const struct pixart_input *in,
                 struct netrows *h)
{
    struct forward f = {.nn = r->nn, .c = c, .r = r};
    TRY(prepare(&f, in, h));
    int64_t b = in->x->shape[0], l = h->text->shape[1], d = width_of(c);
    h->extra = nn_new(r->nn, 3, (const int64_t[]){b, MASK_ROW + mask_rows(c, l), d});
    for (int64_t i = 0; i < b; i++) {
        float *to = h->extra->data + i * h->extra->shape[1] * d;
        memcpy(to, f.shared->data + i * SHARED_ROWS * d, (size_t)(SHARED_ROWS * d) * sizeof *to);
        memcpy(to + TIME_ROW * d, f.time->data + i * d, (size_t)d * sizeof *to);
        for (int64_t k = 0; k < mask_rows(c, l) * d; k++)
            to[MASK_ROW * d + k] = k < l && (f.mask == NULL || f.mask[i * l + k]) ? 1 : 0;
    }
    return ERR_OK;
}

/* What pixart_begin put into h->extra; the mask only where there is a text still. */
static void unpack(struct forward *f, const struct netrows *h)
{
    int64_t b = h->x->shape[0], l = h->text != NULL ? h->text->shape[1] : 0, d = width_of(f->c);
    uint8_t *mask = nn_take(f->nn, (size_t)(b * l));
    f->shared = nn_new(f->nn, 2, (const int64_t[]){b, SHARED_ROWS * d});
    f->time = nn_new(f->nn, 2, (const int64_t[]){b, d});
    for (int64_t i = 0; i < b; i++) {
        const float *from = h->extra->data + i * h->extra->shape[1] * d;
        memcpy(f->shared->data + i * SHARED_ROWS * d, from, (size_t)(SHARED_ROWS * d) * sizeof *from);
        memcpy(f->time->data + i * d, from + TIME_ROW * d, (size_t)d * sizeof *from);
        for (int64_t k = 0; k < l; k++)
            mask[i * l + k] = from[MASK_ROW * d + k] != 0;
    }
    f->mask = mask;
}

int pixart_extra_rows(const struct pixart_config *c, int tokens) { return MASK_ROW + mask_rows(c, tokens); }

int pixart_layers(struct params_reader *r, const struct pixart_config *c, int first, int end,
                  struct netrows *h)
{
    struct forward f = {.nn = r->nn, .c = c, .r = r};
    unpack(&f, h);
    return run_layers(&f, first, end, h);
}

int pixart_end(struct params_reader *r, const struct pixart_config *c, const struct netrows *h, int rows,
               int cols, struct nn_tensor **out)
{
    struct forward f = {.nn = r->nn, .c = c, .r = r};
    unpack(&f, h);
    return finish(&f, h, rows, cols, out);
}

int pixart_forward(struct nn *nn, const struct pixart_config *c, struct params *w, const char *file,
                   const struct pixart_input *in, struct nn_tensor **out, struct err *err)
{
    struct params_reader r = {.set = w, .nn = nn, .file = file, .err = err};
    struct forward f = {.nn = nn, .c = c, .r = &r};
    struct netrows h;
    TRY(prepare(&f, in, &h));
    TRY(run_layers(&f, 0, c->layers, &h));
    return finish(&f, &h, (int)in->x->shape[2] / c->patch, (int)in->x->shape[3] / c->patch, out);
}
