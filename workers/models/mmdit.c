#include "workers/models/mmdit.h"

#include "workers/models/netparts.h"
#include "workers/models/netshard.h"

#include <stdio.h>
#include <string.h>

enum { TIME_WIDTH = 256, SIZE_LIMIT = 1 << 20 };
static const double NORM_EPS = 1e-6;

/* --- configuration */

int mmdit_config_read(struct mmdit_config *c, const json_t *config, const char *file, struct err *err)
{
    const json_t *norm = json_object_get(config, "qk_norm");
    const json_t *dual = json_object_get(config, "dual_attention_layers");
    memset(c, 0, sizeof *c);
    TRY(netparts_size(config, "in_channels", 16, 1, SIZE_LIMIT, &c->in_channels, file, err));
    TRY(netparts_size(config, "out_channels", 16, 1, SIZE_LIMIT, &c->out_channels, file, err));
    TRY(netparts_size(config, "patch_size", 2, 1, SIZE_LIMIT, &c->patch, file, err));
    TRY(netparts_size(config, "sample_size", 128, 1, SIZE_LIMIT, &c->sample, file, err));
    TRY(netparts_size(config, "num_layers", 18, 1, SIZE_LIMIT, &c->layers, file, err));
    TRY(netparts_size(config, "num_attention_heads", 18, 1, SIZE_LIMIT, &c->heads, file, err));
    TRY(netparts_size(config, "attention_head_dim", 64, 1, SIZE_LIMIT, &c->head_dim, file, err));
    TRY(netparts_size(config, "joint_attention_dim", 4096, 1, SIZE_LIMIT, &c->joint, file, err));
    TRY(netparts_size(config, "caption_projection_dim", 1152, 1, SIZE_LIMIT, &c->caption, file, err));
    TRY(netparts_size(config, "pooled_projection_dim", 2048, 1, SIZE_LIMIT, &c->pooled, file, err));
    TRY(netparts_size(config, "pos_embed_max_size", 96, 1, SIZE_LIMIT, &c->positions, file, err));
    if (c->layers > MMDIT_LAYERS_MAX || c->caption != c->heads * c->head_dim)
        return err_set(err, ERR_FORMAT, "%s: %d layers (at most %d), caption_projection_dim %d is not "
                       "%d heads of %d", file, c->layers, MMDIT_LAYERS_MAX, c->caption, c->heads,
                       c->head_dim);
    if (json_is_string(norm) && strcmp(json_string_value(norm), "rms_norm") != 0)
        return err_set(err, ERR_FORMAT, "%s: qk_norm %s: rms_norm is known", file,
                       json_string_value(norm));
    c->qk_norm = json_is_string(norm);
    for (size_t i = 0; i < json_array_size(dual); i++) {
        json_int_t at = json_integer_value(json_array_get(dual, i));
        if (at < 0 || at >= c->layers)
            return err_set(err, ERR_FORMAT, "%s: dual_attention_layers names layer %lld of %d", file,
                           (long long)at, c->layers);
        c->dual[at] = true;
    }
    return ERR_OK;
}

/* --- what must be there */

struct checker { const struct params *w; const char *file; struct err *err; char prefix[64]; };

static int expect_linear(const struct checker *k, const char *name, int out, int in)
{
    return netparts_expect_linear(k->w, k->prefix, name, out, in, k->file, k->err);
}

static int expect_norms(const struct checker *k, const char *attn, bool added, int head_dim)
{
    static const char *const names[4] = {"norm_q", "norm_k", "norm_added_q", "norm_added_k"};
    for (int i = 0; i < (added ? 4 : 2); i++) {
        char full[256];
        snprintf(full, sizeof full, "%s%s.%s.weight", k->prefix, attn, names[i]);
        TRY(params_expect(k->w, full, k->file, k->err, 1, head_dim));
    }
    return ERR_OK;
}

static int check_block(const struct mmdit_config *c, struct checker *k, int i)
{
    static const char *const both[6] = {"attn.to_q", "attn.to_k", "attn.to_v", "attn.add_q_proj",
                                        "attn.add_k_proj", "attn.add_v_proj"};
    static const char *const second[4] = {"attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0"};
    bool last = i == c->layers - 1;
    int d = c->caption;
    snprintf(k->prefix, sizeof k->prefix, "transformer_blocks.%d.", i);
    TRY(expect_linear(k, "norm1.linear", (c->dual[i] ? 9 : 6) * d, d));
    TRY(expect_linear(k, "norm1_context.linear", (last ? 2 : 6) * d, d));
    for (int n = 0; n < 6; n++)
        TRY(expect_linear(k, both[n], d, d));
    TRY(expect_linear(k, "attn.to_out.0", d, d));
    if (c->qk_norm)
        TRY(expect_norms(k, "attn", true, c->head_dim));
    for (int n = 0; n < 4 && c->dual[i]; n++)
        TRY(expect_linear(k, second[n], d, d));
    if (c->dual[i] && c->qk_norm)
        TRY(expect_norms(k, "attn2", false, c->head_dim));
    TRY(expect_linear(k, "ff.net.0.proj", 4 * d, d));
    TRY(expect_linear(k, "ff.net.2", d, 4 * d));
    if (last)
        return ERR_OK;
    TRY(expect_linear(k, "attn.to_add_out", d, d));
    TRY(expect_linear(k, "ff_context.net.0.proj", 4 * d, d));
    return expect_linear(k, "ff_context.net.2", d, 4 * d);
}

int mmdit_check(const struct mmdit_config *c, const struct params *w, const char *file, struct err *err)
{
    struct checker k = {w, file, err, ""};
    int d = c->caption, tokens = c->positions * c->positions;
    TRY(params_expect(w, "pos_embed.proj.weight", file, err, 4, d, c->in_channels, c->patch, c->patch));
    TRY(params_expect(w, "pos_embed.proj.bias", file, err, 1, d));
    TRY(params_expect(w, "pos_embed.pos_embed", file, err, 3, 1, tokens, d));
    TRY(expect_linear(&k, "time_text_embed.timestep_embedder.linear_1", d, TIME_WIDTH));
    TRY(expect_linear(&k, "time_text_embed.timestep_embedder.linear_2", d, d));
    TRY(expect_linear(&k, "time_text_embed.text_embedder.linear_1", d, c->pooled));
    TRY(expect_linear(&k, "time_text_embed.text_embedder.linear_2", d, d));
    TRY(expect_linear(&k, "context_embedder", d, c->joint));
    TRY(expect_linear(&k, "norm_out.linear", 2 * d, d));
    TRY(expect_linear(&k, "proj_out", c->patch * c->patch * c->out_channels, d));
    for (int i = 0; i < c->layers; i++)
        TRY(check_block(c, &k, i));
    return ERR_OK;
}

/* --- forward */

/* The layers' heads and columns are this rank's. */
struct forward {
    struct nn *nn;
    const struct mmdit_config *c;
    struct params_reader *r;
    struct nn_tensor *active;       /* silu(temb) [b, d]: what every modulation starts from */
    int block, heads;               /* heads: that this rank holds */
};

static struct nn_tensor *block_linear(struct forward *f, struct nn_tensor *x, const char *name)
{
    char full[128];
    snprintf(full, sizeof full, "transformer_blocks.%d.%s", f->block, name);
    return netparts_linear(f->r, x, full);
}

/* A layer whose inputs are shared out over the group. */
static struct nn_tensor *block_sum(struct forward *f, struct nn_tensor *x, const struct nn_tensor *like,
                                   const char *name, int k, int unit)
{
    char full[128];
    snprintf(full, sizeof full, "transformer_blocks.%d.%s", f->block, name);
    return netshard_sum(f->r, x, like, full, k, unit);
}

/* The sum over heads of an attention's output. */
static struct nn_tensor *block_out(struct forward *f, struct nn_tensor *y, const struct nn_tensor *like,
                                   const char *name)
{
    const struct mmdit_config *c = f->c;
    return block_sum(f, y, like, name, c->caption, split_head_unit(c->head_dim) * c->head_dim);
}

static struct nn_tensor *modulation(struct forward *f, const char *name, int chunks)
{
    char full[128];
    snprintf(full, sizeof full, "transformer_blocks.%d.%s", f->block, name);
    return netshard_gather(f->r, f->active, full, chunks * f->c->caption);
}

static struct nn_tensor *chunk(struct forward *f, struct nn_tensor *m, int i)
{
    return netparts_chunk(f->nn, m, f->c->caption, i);
}

/* LN(x) (1 + scale) + shift, with chunks of m. */
static struct nn_tensor *adaptive(struct forward *f, struct nn_tensor *x, struct nn_tensor *m, int scale,
                                  int shift)
{
    return netparts_adaptive(f->nn, x, chunk(f, m, scale), chunk(f, m, shift), NORM_EPS);
}

/* Heads [b, h, t, head_dim] of a projection, normalised where the model does (norm NULL: v). */
static struct nn_tensor *heads_of(struct forward *f, struct nn_tensor *x, const char *proj,
                                  const char *norm)
{
    struct nn_tensor *y = nn_split_heads(f->nn, block_linear(f, x, proj), f->heads);
    if (norm == NULL || !f->c->qk_norm)
        return y;
    return nn_rms_norm(f->nn, y,
                       params_get(f->r, "transformer_blocks.%d.%s.weight", f->block, norm), NORM_EPS);
}

static struct nn_tensor *feed_forward(struct forward *f, struct nn_tensor *x, const char *first,
                                      const char *second)
{
    struct nn_tensor *h = nn_activation(f->nn, block_linear(f, x, first), NN_GELU_TANH, 0);
    return block_sum(f, h, x, second, 4 * f->c->caption, SPLIT_GROUP);
}

/* One attention over the tokens of both streams, the picture's first: [b, tokens, this rank's heads]. */
static struct nn_tensor *joint_heads(struct forward *f, struct nn_tensor *x, struct nn_tensor *c)
{
    struct nn *nn = f->nn;
    struct nn_tensor *q = nn_concat(nn, heads_of(f, x, "attn.to_q", "attn.norm_q"),
                                    heads_of(f, c, "attn.add_q_proj", "attn.norm_added_q"), 2);
    struct nn_tensor *k = nn_concat(nn, heads_of(f, x, "attn.to_k", "attn.norm_k"),
                                    heads_of(f, c, "attn.add_k_proj", "attn.norm_added_k"), 2);
    struct nn_tensor *v = nn_concat(nn, heads_of(f, x, "attn.to_v", NULL),
                                    heads_of(f, c, "attn.add_v_proj", NULL), 2);
    return nn_join_heads(nn, nn_attention(nn, q, k, v, false, NULL));
}

/* Its halves into x_out, c_out. */
static void joint_attention(struct forward *f, struct nn_tensor *x, struct nn_tensor *c, bool last,
                            struct nn_tensor **x_out, struct nn_tensor **c_out)
{
    struct nn *nn = f->nn;
    struct nn_tensor *y = f->heads > 0 ? joint_heads(f, x, c) : NULL, *of_x = NULL, *of_c = NULL;
    if (y != NULL)
        of_x = nn_slice(nn, y, 1, 0, x->shape[1]);
    if (y != NULL && !last)
        of_c = nn_slice(nn, y, 1, x->shape[1], y->shape[1]);
    *x_out = block_out(f, of_x, x, "attn.to_out.0");
    if (!last)
        *c_out = block_out(f, of_c, c, "attn.to_add_out");
}

static struct nn_tensor *self_heads(struct forward *f, struct nn_tensor *x)
{
    struct nn_tensor *q = heads_of(f, x, "attn2.to_q", "attn2.norm_q");
    struct nn_tensor *k = heads_of(f, x, "attn2.to_k", "attn2.norm_k");
    struct nn_tensor *v = heads_of(f, x, "attn2.to_v", NULL);
    return nn_join_heads(f->nn, nn_attention(f->nn, q, k, v, false, NULL));
}

static struct nn_tensor *self_attention(struct forward *f, struct nn_tensor *x)
{
    return block_out(f, f->heads > 0 ? self_heads(f, x) : NULL, x, "attn2.to_out.0");
}

/* Modulations come as shift, scale, gate for attention, then for the MLP (then shift, scale, gate of the
 * second attention); the last block's context only as scale, shift. */
static void run_block(struct forward *f, struct nn_tensor **x, struct nn_tensor **c)
{
    struct nn *nn = f->nn;
    bool last = f->block == f->c->layers - 1, dual = f->c->dual[f->block];
    struct nn_tensor *m = modulation(f, "norm1.linear", dual ? 9 : 6);
    struct nn_tensor *n = modulation(f, "norm1_context.linear", last ? 2 : 6);
    struct nn_tensor *u = adaptive(f, *x, m, 1, 0);
    struct nn_tensor *w = last ? adaptive(f, *c, n, 0, 1) : adaptive(f, *c, n, 1, 0);
    struct nn_tensor *from_x = NULL, *from_c = NULL, *before = *x;
    joint_attention(f, u, w, last, &from_x, &from_c);
    *x = nn_gate(nn, *x, chunk(f, m, 2), from_x);
    if (dual)
        *x = nn_gate(nn, *x, chunk(f, m, 8), self_attention(f, adaptive(f, before, m, 7, 6)));
    *x = nn_gate(nn, *x, chunk(f, m, 5),
                 feed_forward(f, adaptive(f, *x, m, 4, 3), "ff.net.0.proj", "ff.net.2"));
    if (last)
        return;
    *c = nn_gate(nn, *c, chunk(f, n, 2), from_c);
    *c = nn_gate(nn, *c, chunk(f, n, 5),
                 feed_forward(f, adaptive(f, *c, n, 4, 3), "ff_context.net.0.proj",
                              "ff_context.net.2"));
}

/* The stored table cropped to rows x cols from its centre, [1, rows cols, d]. */
static struct nn_tensor *cropped_positions(struct forward *f, int64_t rows, int64_t cols)
{
    int64_t m = f->c->positions, d = f->c->caption, top = (m - rows) / 2, left = (m - cols) / 2;
    const float *table = params_find(f->r->set, "pos_embed.pos_embed")->data;
    struct nn_tensor *y = nn_new(f->nn, 3, (const int64_t[]){1, rows * cols, d});
    for (int64_t r = 0; r < rows; r++)
        memcpy(y->data + r * cols * d, table + ((top + r) * m + left) * d,
               (size_t)(cols * d) * sizeof(float));
    return y;
}

static struct nn_tensor *embed_time(struct forward *f, const double *time, int64_t b,
                                    struct nn_tensor *pooled)
{
    struct nn_tensor *t = nn_timestep_embedding(f->nn, time, b, TIME_WIDTH);
    t = netparts_two_linears(f->r, t, "time_text_embed.timestep_embedder", NN_SILU);
    return nn_add(f->nn, t,
                  netparts_two_linears(f->r, pooled, "time_text_embed.text_embedder", NN_SILU));
}

static int check_input(const struct mmdit_config *c, const char *file, const struct nn_tensor *x,
                       const struct nn_tensor *context, const struct nn_tensor *pooled, struct err *err)
{
    int64_t rows = x->shape[2] / c->patch, cols = x->shape[3] / c->patch;
    if (x->shape[1] != c->in_channels || x->shape[2] % c->patch != 0 || x->shape[3] % c->patch != 0 ||
        rows > c->positions || cols > c->positions || rows < 1 || cols < 1)
        return err_set(err, ERR_INVAL,
                       "%s: a picture of %lld x %lld with %lld channels; it takes %d channels and "
                       "multiples of %d up to %d", file, (long long)x->shape[3],
                       (long long)x->shape[2], (long long)x->shape[1], c->in_channels, c->patch,
                       c->patch * c->positions);
    if (context->shape[2] != c->joint || pooled->shape[1] != c->pooled)
        return err_set(err, ERR_INVAL, "%s: the text is %lld and %lld wide, expected %d and %d", file,
                       (long long)context->shape[2], (long long)pooled->shape[1], c->joint, c->pooled);
    return ERR_OK;
}

/* What comes before the layers: f->active, and both streams. */
static int prepare(struct forward *f, struct nn_tensor *x, const double *time, struct nn_tensor *context,
                   struct nn_tensor *pooled, struct netrows *h)
{
    const struct mmdit_config *c = f->c;
    TRY(check_input(c, f->r->file, x, context, pooled, f->r->err));
    f->active = nn_activation(f->nn, embed_time(f, time, x->shape[0], pooled), NN_SILU, 0);
    h->x = netparts_patches(f->r, x, "pos_embed.proj", c->patch);
    h->text = netparts_linear(f->r, context, "context_embedder");
    h->x = nn_add(f->nn, h->x, cropped_positions(f, x->shape[2] / c->patch, x->shape[3] / c->patch));
    return f->r->rc;
}

static int run_layers(struct forward *f, int first, int end, struct netrows *h)
{
    struct split_range heads = netshard_heads(f->r->shard, f->c->heads, f->c->head_dim);
    f->heads = heads.end - heads.begin;
    for (f->block = first; f->block < end && f->r->rc == ERR_OK; f->block++)
        run_block(f, &h->x, &h->text);
    return f->r->rc;
}

static int finish(struct forward *f, const struct netrows *h, int rows, int cols, struct nn_tensor **out)
{
    struct nn_tensor *m = netparts_linear(f->r, f->active, "norm_out.linear");
    struct nn_tensor *y = netparts_linear(f->r, adaptive(f, h->x, m, 0, 1), "proj_out");
    *out = nn_unpatchify(f->nn, y, f->c->patch, rows, cols);
    return f->r->rc;
}

int mmdit_begin(struct params_reader *r, const struct mmdit_config *c, struct nn_tensor *x,
                const double *time, struct nn_tensor *context, struct nn_tensor *pooled,
                struct netrows *h)
{
    struct forward f = {.nn = r->nn, .c = c, .r = r};
    TRY(prepare(&f, x, time, context, pooled, h));
    h->extra = nn_reshape(r->nn, f.active, 3, (const int64_t[]){x->shape[0], 1, c->caption});
    return ERR_OK;
}

/* [b, 1, d] as [b, d]. */
static struct nn_tensor *active_of(struct nn *nn, const struct netrows *h)
{
    const int64_t *s = h->extra->shape;
    return nn_reshape(nn, h->extra, 2, (const int64_t[]){s[0], s[2]});
}

int mmdit_layers(struct params_reader *r, const struct mmdit_config *c, int first, int end,
                 struct netrows *h)
{
    struct forward f = {.nn = r->nn, .c = c, .r = r, .active = active_of(r->nn, h)};
    return run_layers(&f, first, end, h);
}

int mmdit_end(struct params_reader *r, const struct mmdit_config *c, const struct netrows *h, int rows,
              int cols, struct nn_tensor **out)
{
    struct forward f = {.nn = r->nn, .c = c, .r = r, .active = active_of(r->nn, h)};
    return finish(&f, h, rows, cols, out);
}

int mmdit_forward(struct nn *nn, const struct mmdit_config *c, struct params *w, const char *file,
                  struct nn_tensor *x, const double *time, struct nn_tensor *context,
                  struct nn_tensor *pooled, struct nn_tensor **out, struct err *err)
{
    struct params_reader r = {.set = w, .nn = nn, .file = file, .err = err};
    struct forward f = {.nn = nn, .c = c, .r = &r};
    struct netrows h;
    TRY(prepare(&f, x, time, context, pooled, &h));
    TRY(run_layers(&f, 0, c->layers, &h));
    return finish(&f, &h, (int)x->shape[2] / c->patch, (int)x->shape[3] / c->patch, out);
}
