/* vaekl.c - the autoencoder of latent diffusion: diffusers' AutoencoderKL, and its row.
 * Source: Rombach et al. 2112.10752. How many blocks and layers there are is read off the tensors;
 * with and without the 1 x 1 convolutions around the latent. Shapes: decode.in [b, z, h, w]
 * (unscaled) -> decode.out [b, 3, 8 h, 8 w]; encode.in -> encode.mean, encode.logvar [b, z, h / 8,
 * w / 8]. Ranks:  not collective. */
#include "workers/models/imagerows.h"

#include "workers/models/netlayers.h"
#include "workers/models/netparts.h"

#include <stdio.h>
#include <string.h>

enum { BLOCKS_MAX = 16, LAYERS_MAX = 64 };
static const double NORM_EPS = 1e-6, LOGVAR_LEAST = -30, LOGVAR_MOST = 20;

struct coder {
    struct params_reader *r;
    int groups;
    const char *side;
}; /* "encoder", "decoder" */

static bool has(const struct params *w, const char *name, const char *end)
{
    char full[200];
    snprintf(full, sizeof full, "%s.%s", name, end);
    return params_find(w, full) != NULL;
}

static struct nn_tensor *norm(const struct coder *c, struct nn_tensor *x, const char *name,
                              const char *part)
{
    char full[160];
    snprintf(full, sizeof full, "%s.%s", name, part);
    return netlayer_group_norm(c->r, x, full, c->groups, NORM_EPS);
}

static struct nn_tensor *conv(const struct coder *c, struct nn_tensor *x, const char *name,
                              const char *part, int padding)
{
    char full[160];
    snprintf(full, sizeof full, "%s.%s", name, part);
    return netlayer_conv(c->r, x, full, 1, padding);
}

/* x + conv2(silu(norm2(conv1(silu(norm1 x))))) */
static struct nn_tensor *residual(const struct coder *c, struct nn_tensor *x, const char *name)
{
    struct nn_tensor *h = netlayer_act(c->r, norm(c, x, name, "norm1"), NN_SILU);
    h = netlayer_act(c->r, norm(c, conv(c, h, name, "conv1", 1), name, "norm2"), NN_SILU);
    h = conv(c, h, name, "conv2", 1);
    if (has(c->r->set, name, "conv_shortcut.weight"))
        x = conv(c, x, name, "conv_shortcut", 0);
    return netlayer_add(c->r, x, h);
}

/* One head over all pixels; its layers' names are those of today, or of the first folders. */
static struct nn_tensor *attention(const struct coder *c, struct nn_tensor *x, const char *name)
{
    static const char *const names[2][4] = {{"to_q", "to_k", "to_v", "to_out.0"},
                                            {"query", "key", "value", "proj_attn"}};
    const char *const *layer = names[has(c->r->set, name, "query.weight")];
    struct nn *nn = c->r->nn;
    struct nn_tensor *h = norm(c, x, name, "group_norm"), *part[3];
    char full[160];
    if (h == NULL)
        return NULL;
    const int64_t b = x->shape[0], d = x->shape[1], area = x->shape[2] * x->shape[3];
    h = nn_transpose(nn, nn_reshape(nn, h, 3, (const int64_t[]){b, d, area}),
                     (const int[]){0, 2, 1});
    for (int i = 0; i < 3; i++) {
        snprintf(full, sizeof full, "%s.%s", name, layer[i]);
        part[i] = netlayer_shape(c->r, netlayer_linear(c->r, h, full), 4,
                                 (const int64_t[]){b, 1, area, d});
        if (part[i] == NULL)
            return NULL;
    }
    h = nn_attention(nn, part[0], part[1], part[2], false, NULL);
    snprintf(full, sizeof full, "%s.%s", name, layer[3]);
    h = netlayer_linear(c->r, nn_reshape(nn, h, 3, (const int64_t[]){b, area, d}), full);
    h = netlayer_shape(c->r, h, 3, (const int64_t[]){b, area, d});
    if (h == NULL)
        return NULL;
    return nn_add(nn, x, nn_reshape(nn, nn_transpose(nn, h, (const int[]){0, 2, 1}), 4, x->shape));
}

static struct nn_tensor *middle(const struct coder *c, struct nn_tensor *x)
{
    char name[96];
    snprintf(name, sizeof name, "%s.mid_block.resnets.0", c->side);
    x = residual(c, x, name);
    snprintf(name, sizeof name, "%s.mid_block.attentions.0", c->side);
    if (has(c->r->set, name, "group_norm.weight"))
        x = attention(c, x, name);
    snprintf(name, sizeof name, "%s.mid_block.resnets.1", c->side);
    return residual(c, x, name);
}

static struct nn_tensor *residuals(const struct coder *c, struct nn_tensor *x, const char *block)
{
    char name[96];
    for (int k = 0; k < LAYERS_MAX; k++) {
        snprintf(name, sizeof name, "%s.resnets.%d", block, k);
        if (!has(c->r->set, name, "conv1.weight"))
            break;
        x = residual(c, x, name);
    }
    return x;
}

/* A row and a column of zeros at the end, then 3 x 3 in steps of two. */
static struct nn_tensor *halve(const struct coder *c, struct nn_tensor *x, const char *name)
{
    struct nn *nn = c->r->nn;
    if (x == NULL)
        return NULL;
    for (int axis = 2; axis < 4; axis++) {
        int64_t shape[4];
        memcpy(shape, x->shape, sizeof shape);
        shape[axis] = 1;
        struct nn_tensor *zeros = nn_new(nn, 4, shape);
        memset(zeros->data, 0, (size_t)zeros->n * sizeof *zeros->data);
        x = nn_concat(nn, x, zeros, axis);
    }
    return netlayer_conv(c->r, x, name, 2, 0);
}

static struct nn_tensor *last_layers(const struct coder *c, struct nn_tensor *x)
{
    x = netlayer_act(c->r, norm(c, x, c->side, "conv_norm_out"), NN_SILU);
    return conv(c, x, c->side, "conv_out", 1);
}

static struct nn_tensor *decode(const struct coder *c, struct nn_tensor *z)
{
    char name[96];
    if (params_find(c->r->set, "post_quant_conv.weight") != NULL)
        z = netlayer_conv(c->r, z, "post_quant_conv", 1, 0);
    struct nn_tensor *x = middle(c, conv(c, z, c->side, "conv_in", 1));
    for (int i = 0; i < BLOCKS_MAX; i++) {
        snprintf(name, sizeof name, "decoder.up_blocks.%d", i);
        if (!has(c->r->set, name, "resnets.0.conv1.weight"))
            break;
        x = residuals(c, x, name);
        if (has(c->r->set, name, "upsamplers.0.conv.weight"))
            x = conv(c, netlayer_up2(c->r, x), name, "upsamplers.0.conv", 1);
    }
    return last_layers(c, x);
}

static struct nn_tensor *encode(const struct coder *c, struct nn_tensor *x)
{
    char name[96];
    x = conv(c, x, c->side, "conv_in", 1);
    for (int i = 0; i < BLOCKS_MAX; i++) {
        snprintf(name, sizeof name, "encoder.down_blocks.%d", i);
        if (!has(c->r->set, name, "resnets.0.conv1.weight"))
            break;
        x = residuals(c, x, name);
        snprintf(name, sizeof name, "encoder.down_blocks.%d.downsamplers.0.conv", i);
        if (has(c->r->set, name, "weight"))
            x = halve(c, x, name);
    }
    x = last_layers(c, middle(c, x));
    return params_find(c->r->set, "quant_conv.weight") != NULL
               ? netlayer_conv(c->r, x, "quant_conv", 1, 0)
               : x;
}

/* --- the row */

static int64_t size_of(const struct params *w, const char *name, int axis)
{
    const struct param *p = params_find(w, name);
    return p != NULL && p->n_dims == 4 ? p->shape[axis] : 0;
}

static int vaekl_open(struct imagepart *p, struct err *err)
{
    const json_t *scaling = json_object_get(p->config, "scaling_factor");
    const json_t *shift = json_object_get(p->config, "shift_factor");
    int scale = 1, groups;
    TRY(netparts_size(p->config, "norm_num_groups", 32, 1, 4096, &groups, p->file, err));
    if (size_of(&p->w, "decoder.conv_in.weight", 1) < 1 ||
        size_of(&p->w, "encoder.conv_in.weight", 1) < 1)
        return err_set(err, ERR_FORMAT,
                       "%s: tensor decoder.conv_in.weight or encoder.conv_in.weight is "
                       "missing",
                       p->file);
    for (int i = 0; i < BLOCKS_MAX; i++) {
        char name[64];
        snprintf(name, sizeof name, "decoder.up_blocks.%d", i);
        scale *= has(&p->w, name, "upsamplers.0.conv.weight") ? 2 : 1;
    }
    p->facts = (struct imagefacts){.channels_in = (int)size_of(&p->w, "decoder.conv_in.weight", 1),
                                   .channels_out = (int)size_of(&p->w, "encoder.conv_in.weight", 1),
                                   .scale = scale,
                                   .scaling = json_is_number(scaling) ? json_number_value(scaling)
                                                                      : 0.18215,
                                   .shift = json_is_number(shift) ? json_number_value(shift) : 0};
    return ERR_OK;
}

static int run_decode(struct imagepart *p, struct coder *c, const struct imagetensors *in,
                      struct imagetensors *out, struct err *err)
{
    struct nn_tensor *z;
    TRY(imageinput_tensor(c->r->nn, in, "decode.in", true, 4,
                          (const int64_t[]){0, p->facts.channels_in, 0, 0}, &z, err));
    TRY(imageinput_parts(c->r->nn, z->shape[0], err));
    c->side = "decoder";
    struct nn_tensor *x = decode(c, z);
    if (x == NULL)
        return c->r->rc;
    imageoutput(out, "decode.out", x);
    return ERR_OK;
}

static int run_encode(struct imagepart *p, struct coder *c, const struct imagetensors *in,
                      struct imagetensors *out, struct err *err)
{
    struct nn_tensor *x;
    int scale = p->facts.scale;
    TRY(imageinput_tensor(c->r->nn, in, "encode.in", true, 4,
                          (const int64_t[]){0, p->facts.channels_out, 0, 0}, &x, err));
    if (x->shape[2] % scale != 0 || x->shape[3] % scale != 0)
        return err_set(err, ERR_INVAL,
                       "%s: a picture of %lld x %lld; sides must be multiples of %d", p->file,
                       (long long)x->shape[3], (long long)x->shape[2], scale);
    TRY(imageinput_parts(c->r->nn, x->shape[0], err));
    c->side = "encoder";
    struct nn_tensor *m = encode(c, x);
    if (m == NULL)
        return c->r->rc;
    struct nn_tensor *logvar = nn_slice(c->r->nn, m, 1, m->shape[1] / 2, m->shape[1]);
    for (int64_t i = 0; i < logvar->n; i++) {
        float v = logvar->data[i];
        logvar->data[i] = v < (float)LOGVAR_LEAST  ? (float)LOGVAR_LEAST
                          : v > (float)LOGVAR_MOST ? (float)LOGVAR_MOST
                                                   : v;
    }
    imageoutput(out, "encode.mean", nn_slice(c->r->nn, m, 1, 0, m->shape[1] / 2));
    imageoutput(out, "encode.logvar", logvar);
    return ERR_OK;
}

static int vaekl_run(struct imagepart *p, struct nn *nn, const struct imagetensors *in,
                     struct imagetensors *out, struct err *err)
{
    struct params_reader r = {&p->w, nn, p->file, err, ERR_OK};
    struct coder c = {.r = &r};
    TRY(netparts_size(p->config, "norm_num_groups", 32, 1, 4096, &c.groups, p->file, err));
    return imagetensors_find(in, "encode.in") != NULL ? run_encode(p, &c, in, out, err)
                                                      : run_decode(p, &c, in, out, err);
}

const struct imagefamily imagefamily_vaekl = {
    .kind = "AutoencoderKL",
    .role = IMAGE_VAE,
    .prefix = "vae",
    .open = vaekl_open,
    .run = vaekl_run,
    .input = {{"decode.in", NULL, true}, {"encode.in", NULL, true}}};
