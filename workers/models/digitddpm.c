/* digitddpm.c - a small convolutional denoiser of digits, and its row.
 * Source: Yichizz/hot_vs_cold_diffusion. Four 7 x 7 convolutions, each with a norm over the whole
 * sample; the time joins after the first. Predicts the noise; pictures are -0.5..0.5. Shapes: in
 * [b, 1, 28, 28] (the norms know the size), t [b] in 1..1000 -> out. As its own file of calls has
 * it: x_t, t in 0..1 -> eps. Ranks:  not collective. */
#include "workers/models/imagerows.h"

#include "workers/models/netlayers.h"
#include "workers/models/nnangle.h"

#include <stdio.h>

enum { TIMES = 1000, KERNEL_PAD = 3, TIME_LAYERS = 4 };
static const double NORM_EPS = 1e-5;

static bool is_ddpm(const struct params *w)
{
    return params_find(w, "gt.blocks.0.net.1.weight") != NULL &&
           params_find(w, "gt.frequencies") != NULL;
}

static int blocks_of(const struct params *w)
{
    for (int i = 0; i < 64; i++) {
        char name[48];
        snprintf(name, sizeof name, "gt.blocks.%d.net.0.weight", i);
        if (params_find(w, name) == NULL)
            return i;
    }
    return 64;
}

static int ddpm_open(struct imagepart *p, struct err *err)
{
    const struct param *norm = params_find(&p->w, "gt.blocks.0.net.1.weight");
    const struct param *conv = params_find(&p->w, "gt.blocks.0.net.0.weight");
    if (norm->n_dims != 3 || norm->shape[1] != norm->shape[2] || conv == NULL || conv->n_dims != 4)
        return err_set(err, ERR_FORMAT,
                       "%s: gt.blocks.0.net.1.weight is no norm of square pictures", p->file);
    p->facts = (struct imagefacts){.channels_in = (int)conv->shape[1],
                                   .channels_out = (int)conv->shape[1],
                                   .patch = 1,
                                   .side = (int)norm->shape[1],
                                   .side_max = (int)norm->shape[1],
                                   .layers = blocks_of(&p->w)};
    return ERR_OK;
}

/* [sin(t f), cos(t f) - 1]: [b, 2 frequencies] */
static struct nn_tensor *angles(struct params_reader *r, const double *t, int64_t b)
{
    const struct param *f = params_find(r->set, "gt.frequencies");
    struct nn_tensor *y = nn_new(r->nn, 2, (const int64_t[]){b, 2 * f->n});
    for (int64_t i = 0; i < b * f->n; i++) {
        double sine, cosine;
        nn_sincos((double)((float)t[i / f->n] * f->data[i % f->n]), &sine, &cosine);
        y->data[i / f->n * 2 * f->n + i % f->n] = (float)sine;
        y->data[i / f->n * 2 * f->n + f->n + i % f->n] = (float)cosine - 1;
    }
    return y;
}

static struct nn_tensor *embed(struct params_reader *r, const double *t, int64_t b)
{
    struct nn_tensor *x = angles(r, t, b);
    for (int i = 0; i < TIME_LAYERS; i++) {
        char name[32];
        snprintf(name, sizeof name, "gt.time_embed.%d", 2 * i);
        x = netlayer_linear(r, i > 0 ? netlayer_act(r, x, NN_GELU_ERF) : x, name);
    }
    return x;
}

static struct nn_tensor *forward(struct params_reader *r, struct nn_tensor *x, const double *t,
                                 int blocks)
{
    struct nn_tensor *time = embed(r, t, x->shape[0]);
    char name[48];
    for (int i = 0; i < blocks; i++) {
        snprintf(name, sizeof name, "gt.blocks.%d.net.0", i);
        x = netlayer_conv(r, x, name, 1, KERNEL_PAD);
        snprintf(name, sizeof name, "gt.blocks.%d.net.1", i);
        x = netlayer_act(r, netlayer_norm_sample(r, x, name, NORM_EPS), NN_GELU_ERF);
        if (i > 0 || x == NULL)
            continue;
        time = netlayer_shape(r, time, 4, (const int64_t[]){x->shape[0], x->shape[1], 1, 1});
        x = time != NULL ? nn_add(r->nn, x, time) : NULL;
    }
    snprintf(name, sizeof name, "gt.blocks.%d", blocks);
    return netlayer_conv(r, x, name, 1, 1);
}

static int ddpm_run(struct imagepart *p, struct nn *nn, const struct imagetensors *in,
                    struct imagetensors *out, struct err *err)
{
    struct params_reader r = {&p->w, nn, p->file, err, ERR_OK};
    const struct imagefacts *f = &p->facts;
    bool own = imagetensors_find(in, "x_t") != NULL;
    struct nn_tensor *x;
    double *t;
    TRY(imageinput_tensor(nn, in, own ? "x_t" : "in", true, 4,
                          (const int64_t[]){0, f->channels_in, f->side, f->side}, &x, err));
    TRY(imageinput_doubles(nn, in, "t", true, x->shape[0], &t, err));
    TRY(imageinput_parts(nn, x->shape[0], err));
    for (int64_t i = 0; i < x->shape[0] && !own; i++)
        t[i] /= TIMES;
    x = forward(&r, x, t, f->layers);
    if (x == NULL)
        return r.rc;
    imageoutput(out, own ? "eps" : "out", x);
    return ERR_OK;
}

const struct imagefamily imagefamily_ddpm = {
    .kind = "DDPM of digits",
    .role = IMAGE_DENOISER,
    .recognise = is_ddpm,
    .open = ddpm_open,
    .run = ddpm_run,
    .input = {{"in", NULL, true}, {"x_t", NULL, true}, {"t", "t", false}}};
