/* dit.c - the class-conditional denoiser: diffusers' DiTTransformer2DModel, and its row.
 * Source: Peebles & Xie 2212.09748. Every block holds its own copy of the embedders of time and class; the
 *         last layer is told by the first block's.
 * Shapes: x [b, c, h, w], time [b], y [b] (the last row of the table: no class) -> [b, out, h, w], noise,
 *         then variance where out is 2 c.
 * Ranks:  not collective, but for layers that are shared out. */
#include "workers/models/imagerows.h"

#include "workers/models/netparts.h"
#include "workers/models/netshard.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TIME_WIDTH = 256, SIZE_LIMIT = 1 << 20 };
static const double NORM_EPS = 1e-6;

struct dit {
    int in_channels, out_channels, patch, sample, layers, heads, head_dim, classes;
    double eps;                 /* of the norm before the MLP */
};

static int read_config(struct dit *c, const struct imagepart *p, struct err *err)
{
    const json_t *eps = json_object_get(p->config, "norm_eps");
    TRY(netparts_size(p->config, "in_channels", 4, 1, SIZE_LIMIT, &c->in_channels, p->file, err));
    TRY(netparts_size(p->config, "out_channels", c->in_channels, 1, SIZE_LIMIT, &c->out_channels, p->file,
                      err));
    TRY(netparts_size(p->config, "patch_size", 2, 1, 256, &c->patch, p->file, err));
    TRY(netparts_size(p->config, "sample_size", 32, 1, SIZE_LIMIT, &c->sample, p->file, err));
    TRY(netparts_size(p->config, "num_layers", 28, 1, 1024, &c->layers, p->file, err));
    TRY(netparts_size(p->config, "num_attention_heads", 16, 1, 1024, &c->heads, p->file, err));
    TRY(netparts_size(p->config, "attention_head_dim", 72, 1, 4096, &c->head_dim, p->file, err));
    TRY(netparts_size(p->config, "num_embeds_ada_norm", 1000, 1, SIZE_LIMIT, &c->classes, p->file, err));
    c->eps = json_is_number(eps) ? json_number_value(eps) : 1e-5;
    if (!(c->eps > 0) || c->heads * c->head_dim % 4 != 0)
        return err_set(err, ERR_FORMAT, "%s: norm_eps %g must be positive, and %d heads of %d a multiple "
                       "of 4", p->file, c->eps, c->heads, c->head_dim);
    return ERR_OK;
}

static int check_block(const struct dit *c, const struct params *w, int i, const char *file,
                       struct err *err)
{
    static const char *const names[] = {"to_q", "to_k", "to_v", "to_out.0"};
    int d = c->heads * c->head_dim;
    char prefix[64], name[128];
    snprintf(prefix, sizeof prefix, "transformer_blocks.%d.", i);
    for (int k = 0; k < 4; k++) {
        snprintf(name, sizeof name, "attn1.%s", names[k]);
        TRY(netparts_expect_linear(w, prefix, name, d, d, file, err));
    }
    TRY(netparts_expect_linear(w, prefix, "ff.net.0.proj", 4 * d, d, file, err));
    TRY(netparts_expect_linear(w, prefix, "ff.net.2", d, 4 * d, file, err));
    TRY(netparts_expect_linear(w, prefix, "norm1.linear", 6 * d, d, file, err));
    TRY(netparts_expect_linear(w, prefix, "norm1.emb.timestep_embedder.linear_1", d, TIME_WIDTH, file, err));
    TRY(netparts_expect_linear(w, prefix, "norm1.emb.timestep_embedder.linear_2", d, d, file, err));
    snprintf(name, sizeof name, "%snorm1.emb.class_embedder.embedding_table.weight", prefix);
    return params_expect(w, name, file, err, 2, c->classes + 1, d);
}

static int dit_open(struct imagepart *p, struct err *err)
{
    struct dit *c = p->state = calloc(1, sizeof *c);
    if (c == NULL)
        return err_set(err, ERR_NOMEM, "no memory for %s", p->name);
    TRY(read_config(c, p, err));
    int d = c->heads * c->head_dim;
    TRY(params_expect(&p->w, "pos_embed.proj.weight", p->file, err, 4, d, c->in_channels, c->patch,
                      c->patch));
    TRY(params_expect(&p->w, "pos_embed.proj.bias", p->file, err, 1, d));
    TRY(netparts_expect_linear(&p->w, "", "proj_out_1", 2 * d, d, p->file, err));
    TRY(netparts_expect_linear(&p->w, "", "proj_out_2", c->patch * c->patch * c->out_channels, d, p->file,
                               err));
    for (int i = 0; i < c->layers; i++)
        TRY(check_block(c, &p->w, i, p->file, err));
    p->facts = (struct imagefacts){
        .channels_in = c->in_channels, .channels_out = c->out_channels, .patch = c->patch,
        .side = c->sample, .classes = c->classes, .layers = c->layers, .heads = c->heads,
        .head_dim = c->head_dim};
    return ERR_OK;
}

/* --- forward */

/* The layers' heads and columns are this rank's. */
struct forward {
    struct nn *nn;
    const struct dit *c;
    struct params_reader r;
    struct nn_tensor *time;     /* [b, TIME_WIDTH] */
    const int32_t *y;           /* [b] */
    int block, heads;           /* heads: that this rank holds */
};

static int width_of(const struct dit *c) { return c->heads * c->head_dim; }

static const char *block_name(const struct forward *f, const char *name, char out[128])
{
    snprintf(out, 128, "transformer_blocks.%d.%s", f->block, name);
    return out;
}

static struct nn_tensor *block_linear(struct forward *f, struct nn_tensor *x, const char *name)
{
    char full[128];
    return netparts_linear(&f->r, x, block_name(f, name, full));
}

/* silu(time + class) by the block's own embedders: [b, d] */
static struct nn_tensor *condition(struct forward *f)
{
    int64_t b = f->time->shape[0];
    char name[128];
    struct nn_tensor *t = netparts_two_linears(
        &f->r, f->time, block_name(f, "norm1.emb.timestep_embedder", name), NN_SILU);
    struct nn_tensor *table = params_get(
        &f->r, "transformer_blocks.%d.norm1.emb.class_embedder.embedding_table.weight", f->block);
    return nn_activation(f->nn, nn_add(f->nn, t, nn_embedding(f->nn, f->y, 1, &b, table)), NN_SILU, 0);
}

/* [b, tokens, this rank's heads] */
static struct nn_tensor *attention_heads(struct forward *f, struct nn_tensor *x)
{
    struct nn_tensor *part[3];
    char name[32];
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "attn1.to_%c", "qkv"[i]);
        part[i] = nn_split_heads(f->nn, block_linear(f, x, name), f->heads);
    }
    return nn_join_heads(f->nn, nn_attention(f->nn, part[0], part[1], part[2], false, NULL));
}

static struct nn_tensor *attention(struct forward *f, struct nn_tensor *x)
{
    char name[128];
    struct nn_tensor *y = f->heads > 0 ? attention_heads(f, x) : NULL;
    return netshard_sum(&f->r, y, x, block_name(f, "attn1.to_out.0", name), width_of(f->c),
                        split_head_unit(f->c->head_dim) * f->c->head_dim);
}

static struct nn_tensor *run_block(struct forward *f, struct nn_tensor *h)
{
    struct nn *nn = f->nn;
    int d = width_of(f->c);
    char name[128];
    struct nn_tensor *m = netshard_gather(&f->r, condition(f), block_name(f, "norm1.linear", name), 6 * d);
    struct nn_tensor *part[6];
    for (int i = 0; i < 6; i++)
        part[i] = netparts_chunk(nn, m, d, i);
    struct nn_tensor *n = netparts_adaptive(nn, h, part[1], part[0], NORM_EPS);
    h = nn_gate(nn, h, part[2], attention(f, n));
    n = netparts_adaptive(nn, h, part[4], part[3], f->c->eps);
    n = nn_activation(nn, block_linear(f, n, "ff.net.0.proj"), NN_GELU_TANH, 0);
    return nn_gate(nn, h, part[5],
                   netshard_sum(&f->r, n, h, block_name(f, "ff.net.2", name), 4 * d, SPLIT_GROUP));
}

/* Positions count in units of grid / base, base the grid that the model was trained on. */
static struct nn_tensor *positions(struct nn *nn, const struct dit *c, int rows, int cols)
{
    double base = c->sample / c->patch;
    struct nn_tensor *y = nn_new(nn, 3, (const int64_t[]){1, (int64_t)rows * cols, width_of(c)});
    nn_pos_embed_2d(y->data, width_of(c), rows, cols, base / rows, base / cols);
    return y;
}

/* --- in three */

/* Of a sample's extra rows: its time's sines, its class, nothing. */
static int told_rows(const struct dit *c) { return TIME_WIDTH / width_of(c) + 1; }

static int dit_extra(const struct imagepart *p, int text_tokens) { return told_rows(p->state); }

static int dit_begin(struct imagepart *p, struct nn *nn, const struct imagetensors *in, struct netrows *h,
                     struct err *err)
{
    const struct dit *c = p->state;
    struct params_reader r = imagepart_reader(p, nn, err);
    struct nn_tensor *x;
    double *times;
    int32_t *y;
    TRY(imageinput_tensor(nn, in, "in", true, 4, (const int64_t[]){0, c->in_channels, 0, 0}, &x, err));
    if (x->shape[2] % c->patch != 0 || x->shape[3] % c->patch != 0)
        return err_set(err, ERR_INVAL, "%s: a picture of %lld x %lld; sides must be multiples of %d", p->file,
                       (long long)x->shape[3], (long long)x->shape[2], c->patch);
    int64_t b = x->shape[0], d = width_of(c), each = told_rows(c) * d;
    TRY(imageinput_doubles(nn, in, "t", true, b, &times, err));
    TRY(imageinput_whole(nn, in, "y", true, b, c->classes + 1, &y, err));
    TRY(imageinput_parts(nn, b, err));
    h->x = nn_add(nn, netparts_patches(&r, x, "pos_embed.proj", c->patch),
                  positions(nn, c, (int)x->shape[2] / c->patch, (int)x->shape[3] / c->patch));
    struct nn_tensor *sines = nn_timestep_embedding_shifted(nn, times, b, TIME_WIDTH, 1);
    h->extra = nn_new(nn, 3, (const int64_t[]){b, told_rows(c), d});
    memset(h->extra->data, 0, (size_t)h->extra->n * sizeof(float));
    for (int64_t i = 0; i < b; i++) {
        memcpy(h->extra->data + i * each, sines->data + i * TIME_WIDTH, TIME_WIDTH * sizeof(float));
        h->extra->data[i * each + TIME_WIDTH] = (float)y[i];
    }
    return r.rc;
}

/* What dit_begin put into h->extra; a class out of range is a peer's mistake and becomes none. */
static struct forward unpack(struct imagepart *p, struct nn *nn, const struct netrows *h, struct err *err)
{
    struct forward f = {.nn = nn, .c = p->state, .r = imagepart_reader(p, nn, err)};
    int64_t b = h->x->shape[0], each = told_rows(f.c) * width_of(f.c);
    int32_t *y = nn_take(nn, (size_t)b * sizeof *y);
    f.time = nn_new(nn, 2, (const int64_t[]){b, TIME_WIDTH});
    for (int64_t i = 0; i < b; i++) {
        float label = h->extra->data[i * each + TIME_WIDTH];
        memcpy(f.time->data + i * TIME_WIDTH, h->extra->data + i * each, TIME_WIDTH * sizeof(float));
        y[i] = label >= 0 && label <= (float)f.c->classes ? (int32_t)label : f.c->classes;
    }
    f.y = y;
    return f;
}

static int dit_layers(struct imagepart *p, struct nn *nn, const struct netshard_held *held,
                      struct netrows *h, struct err *err)
{
    struct forward f = unpack(p, nn, h, err);
    int end = held != NULL ? held->end : f.c->layers;
    f.r.shard = held != NULL ? held->shard : NULL;
    struct split_range heads = netshard_heads(f.r.shard, f.c->heads, f.c->head_dim);
    f.heads = heads.end - heads.begin;
    for (f.block = held != NULL ? held->first : 0; f.block < end && f.r.rc == ERR_OK; f.block++)
        h->x = run_block(&f, h->x);
    return f.r.rc;
}

static int dit_end(struct imagepart *p, struct nn *nn, const struct netrows *h, int rows, int cols,
                   struct nn_tensor **out, struct err *err)
{
    struct forward f = unpack(p, nn, h, err);
    int d = width_of(f.c);
    struct nn_tensor *m = netparts_linear(&f.r, condition(&f), "proj_out_1");       /* shift first */
    struct nn_tensor *y = netparts_adaptive(nn, h->x, netparts_chunk(nn, m, d, 1),
                                            netparts_chunk(nn, m, d, 0), NORM_EPS);
    *out = nn_unpatchify(nn, netparts_linear(&f.r, y, "proj_out_2"), f.c->patch, rows, cols);
    return f.r.rc;
}

static const struct imagesplit dit_split = {dit_begin, dit_layers, dit_end, dit_extra};

const struct imagefamily imagefamily_dit = {
    .kind = "DiTTransformer2DModel", .role = IMAGE_DENOISER, .prefix = "dit", .open = dit_open,
    .run = imagesplit_run, .split = &dit_split,
    .input = {{"in", NULL, true}, {"t", "t", false}, {"y", "y", false}}};
