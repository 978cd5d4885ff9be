/* vaetiny.c - the tiny autoencoders (TAESD and its kin): diffusers' AutoencoderTiny, and the files
 * with bare indices that they come from; and their row. Source: madebyollin/taesd. Layers stand in
 * a row and are told by their tensors: a block of three convolutions (with or without a pool before
 * it), or one convolution; one without a bias halves the sides (encoder) or follows nearest
 * up-sampling (decoder). Shapes: pictures [b, 3, h, w], latents [b, z, h / 8, w / 8]. diffusers'
 * pictures are -1..1, the others 0..1. Ranks:  not collective. */
#include "workers/models/imagerows.h"

#include "workers/models/netlayers.h"

#include <stdio.h>
#include <string.h>

enum { LAYERS_MAX = 64, POOL_GROUPS = 4 };
static const double POOL_EPS = 1e-5, CLAMP = 3;

struct side {
    struct params_reader *r;
    const char *prefix; /* of a layer's index */
    bool decoder;
};

static bool has(const struct params *w, const char *prefix, int i, const char *end)
{
    char name[96];
    snprintf(name, sizeof name, "%s%d.%s", prefix, i, end);
    return params_find(w, name) != NULL;
}

/* What a file holds: the prefix of its encoder or decoder, NULL for none. In bare files a decoder's
 * layer 0, which clamps, has no tensors. */
static const char *prefix_of(const struct params *w, bool decoder)
{
    const char *full = decoder ? "decoder.layers." : "encoder.layers.";
    if (has(w, full, 0, "weight"))
        return full;
    if (has(w, "encoder.layers.", 0, "weight") || has(w, "decoder.layers.", 0, "weight"))
        return NULL;
    bool bare = decoder ? has(w, "", 1, "weight") && has(w, "", 3, "conv.4.weight")
                        : has(w, "", 0, "weight") && has(w, "", 1, "conv.4.weight");
    return bare ? "" : NULL;
}

static bool is_tiny(const struct params *w)
{
    return prefix_of(w, false) != NULL || prefix_of(w, true) != NULL;
}

static struct nn_tensor *conv(const struct side *s, struct nn_tensor *x, int i, const char *part,
                              int stride, int padding)
{
    char name[96];
    snprintf(name, sizeof name, "%s%d%s", s->prefix, i, part);
    return netlayer_conv(s->r, x, name, stride, padding);
}

/* x + pool.3(relu(norm(pool.0 x))) */
static struct nn_tensor *pool(const struct side *s, struct nn_tensor *x, int i)
{
    char name[96];
    snprintf(name, sizeof name, "%s%d.pool.1", s->prefix, i);
    struct nn_tensor *h =
        netlayer_group_norm(s->r, conv(s, x, i, ".pool.0", 1, 0), name, POOL_GROUPS, POOL_EPS);
    return netlayer_add(s->r, x, conv(s, netlayer_act(s->r, h, NN_RELU), i, ".pool.3", 1, 0));
}

static struct nn_tensor *block(const struct side *s, struct nn_tensor *x, int i)
{
    if (has(s->r->set, s->prefix, i, "pool.0.weight"))
        x = pool(s, x, i);
    struct nn_tensor *h = netlayer_act(s->r, conv(s, x, i, ".conv.0", 1, 1), NN_RELU);
    h = conv(s, netlayer_act(s->r, conv(s, h, i, ".conv.2", 1, 1), NN_RELU), i, ".conv.4", 1, 1);
    if (has(s->r->set, s->prefix, i, "skip.weight"))
        x = conv(s, x, i, ".skip", 1, 0);
    return netlayer_act(s->r, netlayer_add(s->r, x, h), NN_RELU);
}

static struct nn_tensor *layers(const struct side *s, struct nn_tensor *x)
{
    bool first = true;
    for (int i = 0; i < LAYERS_MAX; i++) {
        if (has(s->r->set, s->prefix, i, "conv.0.weight")) {
            x = block(s, x, i);
        } else if (has(s->r->set, s->prefix, i, "weight")) {
            bool resizes = !has(s->r->set, s->prefix, i, "bias");
            if (resizes && s->decoder)
                x = netlayer_up2(s->r, x);
            x = conv(s, x, i, "", resizes && !s->decoder ? 2 : 1, 1);
            if (first && s->decoder)
                x = netlayer_act(s->r, x, NN_RELU);
            first = false;
        }
    }
    return x;
}

/* a x + b in place of x */
static void affine(struct nn_tensor *x, float a, float b)
{
    for (int64_t i = 0; i < x->n; i++)
        x->data[i] = a * x->data[i] + b;
}

static struct nn_tensor *copy_of(struct nn *nn, const struct nn_tensor *x, double factor)
{
    struct nn_tensor *y = nn_new(nn, x->n_dims, x->shape);
    memcpy(y->data, x->data, (size_t)x->n * sizeof *x->data);
    affine(y, (float)factor, 0);
    return y;
}

/* --- the row */

static int64_t inputs_of(const struct params *w, const char *prefix, int i)
{
    char name[96];
    snprintf(name, sizeof name, "%s%d.weight", prefix, i);
    const struct param *p = params_find(w, name);
    return p != NULL && p->n_dims == 4 ? p->shape[1] : 0;
}

static int vaetiny_open(struct imagepart *p, struct err *err)
{
    const char *e = prefix_of(&p->w, false), *d = prefix_of(&p->w, true);
    const json_t *scaling = json_object_get(p->config, "scaling_factor");
    const json_t *shift = json_object_get(p->config, "shift_factor");
    if (e == NULL && d == NULL)
        return err_set(err, ERR_FORMAT, "%s: tensor decoder.layers.0.weight is missing", p->file);
    p->facts = (struct imagefacts){
        .channels_in = d != NULL ? (int)inputs_of(&p->w, d, d[0] != '\0' ? 0 : 1) : 0,
        .channels_out = e != NULL ? (int)inputs_of(&p->w, e, 0) : 3,
        .scale = 8,
        .scaling = json_is_number(scaling) ? json_number_value(scaling) : 1,
        .shift = json_is_number(shift) ? json_number_value(shift) : 0};
    return ERR_OK;
}

static int decode(struct imagepart *p, struct params_reader *r, const struct imagetensors *in,
                  const char *name, const char *answer, struct imagetensors *out, struct err *err)
{
    struct side s = {r, prefix_of(&p->w, true), true};
    struct nn_tensor *z;
    if (s.prefix == NULL) /* an encoder alone: what it misses is a picture */
        return imageinput_tensor(r->nn, &(struct imagetensors){.n = 0}, "image", true, 4, NULL, &z,
                                 err);
    TRY(imageinput_tensor(r->nn, in, name, true, 4,
                          (const int64_t[]){0, p->facts.channels_in, 0, 0}, &z, err));
    TRY(imageinput_parts(r->nn, z->shape[0], err));
    struct nn_tensor *x = nn_activation(r->nn, copy_of(r->nn, z, 1 / CLAMP), NN_TANH, 0);
    x = layers(&s, copy_of(r->nn, x, CLAMP));
    if (x == NULL)
        return r->rc;
    if (s.prefix[0] != '\0')
        affine(x, 2, -1);
    imageoutput(out, answer, x);
    return ERR_OK;
}

static int encode(struct imagepart *p, struct params_reader *r, const struct imagetensors *in,
                  const char *name, const char *answer, struct imagetensors *out, struct err *err)
{
    struct side s = {r, prefix_of(&p->w, false), false};
    struct nn_tensor *x;
    if (s.prefix == NULL)
        return imageinput_tensor(r->nn, &(struct imagetensors){.n = 0}, "latent", true, 4, NULL, &x,
                                 err);
    TRY(imageinput_tensor(r->nn, in, name, true, 4,
                          (const int64_t[]){0, p->facts.channels_out, 0, 0}, &x, err));
    TRY(imageinput_parts(r->nn, x->shape[0], err));
    x = copy_of(r->nn, x, 1);
    if (s.prefix[0] != '\0')
        affine(x, 0.5f, 0.5f);
    x = layers(&s, x);
    if (x == NULL)
        return r->rc;
    imageoutput(out, answer, x);
    return ERR_OK;
}

static int vaetiny_run(struct imagepart *p, struct nn *nn, const struct imagetensors *in,
                       struct imagetensors *out, struct err *err)
{
    struct params_reader r = {&p->w, nn, p->file, err, ERR_OK};
    if (imagetensors_find(in, "encode.in") != NULL)
        return encode(p, &r, in, "encode.in", "encode.out", out, err);
    if (imagetensors_find(in, "image") != NULL)
        return encode(p, &r, in, "image", "latent", out, err);
    if (imagetensors_find(in, "latent") != NULL)
        return decode(p, &r, in, "latent", "decoded", out, err);
    return decode(p, &r, in, "decode.in", "decode.out", out, err);
}

const struct imagefamily imagefamily_vaetiny = {.kind = "AutoencoderTiny",
                                                .role = IMAGE_VAE,
                                                .prefix = "vae",
                                                .recognise = is_tiny,
                                                .open = vaetiny_open,
                                                .run = vaetiny_run,
                                                .input = {{"decode.in", NULL, true},
                                                          {"encode.in", NULL, true},
                                                          {"latent", NULL, true},
                                                          {"image", NULL, true}}};
