/* stylegan.c - the generator of StyleGAN2, and its row.
 * Source: Karras et al. 1912.04958. Modulated convolution: the styles scale the input's channels
 * and the norm of the scaled weights divides the output's, which is the same product as a weight
 * for each sample, with one weight for all. Shapes: z [b, n] -> image [b, 3, h, w], w [b, n] before
 * and after truncation, and each layer's output. Ranks:  not collective. */
#include "workers/models/imagerows.h"

#include "workers/models/netlayers.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { FC_MAX = 64, SIDE_MAX = 4096, TAPS = 4 };
static const double MAPPING_LR = 0.01, SLOPE = 0.2, SMALL = 1e-8, PSI = 0.7, CLAMP = 256;

struct synthesis {
    struct params_reader *r;
    struct nn *nn;
    struct nn_tensor *w; /* [b, n], truncated */
    struct imagetensors *out;
};

static bool is_stylegan(const struct params *w)
{
    return params_find(w, "synthesis.b4.const") != NULL &&
           params_find(w, "mapping.fc0.weight") != NULL;
}

static const struct param *find(const struct params *w, const char *fmt, int side, const char *part)
{
    char name[96];
    snprintf(name, sizeof name, fmt, side, part);
    return params_find(w, name);
}

/* max(-256, min(256, sqrt(2) lrelu(x + bias of a channel))), in place; n numbers a sample, bias
 * [c]. */
static void activate(struct nn_tensor *x, const float *bias, int64_t c, double limit)
{
    int64_t area = x->n / x->shape[0] / c;
    for (int64_t i = 0; i < x->n; i++) {
        float v = x->data[i] + bias[i / area % c];
        v = (v < 0 ? v * (float)SLOPE : v) * sqrtf(2);
        x->data[i] = v > (float)limit ? (float)limit : v < (float)-limit ? (float)-limit : v;
    }
}

static void scale(struct nn_tensor *x, double factor)
{
    for (int64_t i = 0; i < x->n; i++)
        x->data[i] *= (float)factor;
}

/* --- z to w */

static struct nn_tensor *unit_moment(struct nn *nn, const struct nn_tensor *z)
{
    struct nn_tensor *y = nn_new(nn, 2, z->shape);
    int64_t n = z->shape[1];
    for (int64_t s = 0; s < z->shape[0]; s++) {
        double sum = 0;
        for (int64_t i = 0; i < n; i++)
            sum += (double)z->data[s * n + i] * (double)z->data[s * n + i];
        for (int64_t i = 0; i < n; i++)
            y->data[s * n + i] =
                (float)((double)z->data[s * n + i] / sqrt(sum / (double)n + SMALL));
    }
    return y;
}

/* Weights are kept large and learn slowly: both factors of the published code are undone here. */
static struct nn_tensor *mapping(struct params_reader *r, const struct nn_tensor *z)
{
    struct nn_tensor *x = unit_moment(r->nn, z);
    for (int i = 0; i < FC_MAX && find(r->set, "mapping.fc%d.%s", i, "weight") != NULL; i++) {
        char name[64];
        snprintf(name, sizeof name, "mapping.fc%d.weight", i);
        struct nn_tensor *w = netlayer_tensor(r, name, x->shape[1] * x->shape[1]);
        snprintf(name, sizeof name, "mapping.fc%d.bias", i);
        struct nn_tensor *b = netlayer_tensor(r, name, x->shape[1]);
        if (w == NULL || b == NULL)
            return NULL;
        float *bias = nn_take(r->nn, (size_t)b->n * sizeof *bias);
        for (int64_t k = 0; k < b->n; k++)
            bias[k] = b->data[k] * (float)MAPPING_LR;
        x = nn_linear(r->nn, x, nn_reshape(r->nn, w, 2, (const int64_t[]){b->n, b->n}), NULL);
        scale(x, MAPPING_LR / sqrt((double)b->n));
        activate(x, bias, b->n, INFINITY);
    }
    return x;
}

static struct nn_tensor *truncate(struct params_reader *r, const struct nn_tensor *w, double psi)
{
    struct nn_tensor *mean = netlayer_tensor(r, "mapping.w_avg", w->shape[1]);
    struct nn_tensor *y = nn_new(r->nn, 2, w->shape);
    for (int64_t i = 0; mean != NULL && i < w->n; i++) {
        float m = mean->data[i % w->shape[1]];
        y->data[i] = m + (float)psi * (w->data[i] - m);
    }
    return mean != NULL ? y : NULL;
}

/* --- layers */

/* NAME.affine of w: [b, c]. */
static struct nn_tensor *style(struct synthesis *s, const char *name, int64_t c)
{
    char full[96];
    int64_t n = s->w->shape[1];
    snprintf(full, sizeof full, "%s.affine.weight", name);
    struct nn_tensor *a = netlayer_tensor(s->r, full, c * n);
    snprintf(full, sizeof full, "%s.affine.bias", name);
    struct nn_tensor *b = netlayer_tensor(s->r, full, c);
    if (a == NULL || b == NULL)
        return NULL;
    struct nn_tensor *y =
        nn_linear(s->nn, s->w, nn_reshape(s->nn, a, 2, (const int64_t[]){c, n}), NULL);
    scale(y, 1 / sqrt((double)n));
    for (int64_t i = 0; i < y->n; i++)
        y->data[i] += b->data[i % c];
    return y;
}

/* x [b, c, ..] times s [b, c] */
static struct nn_tensor *scale_channels(struct nn *nn, struct nn_tensor *x, struct nn_tensor *s)
{
    return nn_mul(nn, x, nn_reshape(nn, s, 4, (const int64_t[]){x->shape[0], x->shape[1], 1, 1}));
}

/* 1 / |w s| of each output channel: [b, out]. */
static struct nn_tensor *demodulation(struct nn *nn, const struct param *w,
                                      const struct nn_tensor *s)
{
    int64_t out = w->shape[0], in = w->shape[1], taps = w->n / out / in;
    struct nn_tensor *y = nn_new(nn, 2, (const int64_t[]){s->shape[0], out});
    for (int64_t o = 0; o < out; o++)
        for (int64_t b = 0; b < s->shape[0]; b++) {
            double sum = 0;
            for (int64_t i = 0; i < in; i++)
                for (int64_t t = 0; t < taps; t++) {
                    double v =
                        (double)w->data[(o * in + i) * taps + t] * (double)s->data[b * in + i];
                    sum += v * v;
                }
            y->data[b * out + o] = (float)(1 / sqrt(sum + SMALL));
        }
    return y;
}

/* Zeros between the pixels of x (up 2), `before` and `after` around it, then the FIR filter [1, 3,
 * 3, 1] both ways, whose sum is 4. */
struct fir {
    struct nn *nn;
    const struct nn_tensor *x;
    struct nn_tensor *y;
    int up, before;
};

static void filter_part(void *ctx, int part)
{
    static const float tap[TAPS] = {0.25f, 0.75f, 0.75f, 0.25f};
    const struct fir *f = ctx;
    struct nn_range range = nn_part(f->nn, f->y, part);
    int64_t c = f->y->shape[1], h = f->y->shape[2], w = f->y->shape[3], ih = f->x->shape[2],
            iw = f->x->shape[3];
    for (int64_t p = range.begin * c; p < range.end * c; p++)
        for (int64_t i = 0; i < h * w; i++) {
            float sum = 0;
            for (int64_t ky = 0; ky < TAPS; ky++) {
                int64_t y = i / w + ky - f->before;
                if (y < 0 || y % f->up != 0 || y / f->up >= ih)
                    continue;
                float line = 0;
                for (int64_t kx = 0; kx < TAPS; kx++) {
                    int64_t x = i % w + kx - f->before;
                    if (x >= 0 && x % f->up == 0 && x / f->up < iw)
                        line += tap[kx] * f->x->data[(p * ih + y / f->up) * iw + x / f->up];
                }
                sum += tap[ky] * line;
            }
            f->y->data[p * h * w + i] = sum;
        }
}

static struct nn_tensor *fir(struct nn *nn, const struct nn_tensor *x, int up, int before,
                             int after)
{
    int64_t grow = before + after - (TAPS - 1);
    struct nn_tensor *y =
        nn_new(nn, 4,
               (const int64_t[]){x->shape[0], x->shape[1], x->shape[2] * up + grow,
                                 x->shape[3] * up + grow});
    struct fir f = {nn, x, y, up, before};
    nn_parts(nn, filter_part, &f);
    return y;
}

/* w [out, in, k, k] as [in, out, k, k], for a transposed convolution. */
static struct nn_tensor *turned(struct nn *nn, const struct param *w)
{
    int64_t out = w->shape[0], in = w->shape[1], taps = w->n / out / in;
    struct nn_tensor *y = nn_new(nn, 4, (const int64_t[]){in, out, w->shape[2], w->shape[3]});
    y->unbatched = true;
    for (int64_t o = 0; o < out; o++)
        for (int64_t i = 0; i < in; i++)
            memcpy(y->data + (i * out + o) * taps, w->data + (o * in + i) * taps,
                   (size_t)taps * sizeof(float));
    return y;
}

static const struct param *conv_weight(struct synthesis *s, const char *name, int64_t in,
                                       int kernel)
{
    char full[96];
    snprintf(full, sizeof full, "%s.weight", name);
    const struct param *w = params_find(s->r->set, full);
    if (w != NULL && w->n_dims == 4 && w->shape[1] == in && w->shape[2] == kernel &&
        w->shape[3] == kernel)
        return w;
    netlayer_tensor(s->r, full, -1); /* notes what is wrong */
    return NULL;
}

/* A numbered noise picture, the same for every sample. */
static bool add_noise(struct synthesis *s, struct nn_tensor *x, const char *name)
{
    char full[96];
    int64_t area = x->shape[2] * x->shape[3];
    snprintf(full, sizeof full, "%s.noise_const", name);
    struct nn_tensor *noise = netlayer_tensor(s->r, full, area);
    snprintf(full, sizeof full, "%s.noise_strength", name);
    struct nn_tensor *strength = netlayer_tensor(s->r, full, 1);
    for (int64_t i = 0; noise != NULL && strength != NULL && i < x->n; i++)
        x->data[i] += noise->data[i % area] * strength->data[0];
    return noise != NULL && strength != NULL;
}

static struct nn_tensor *layer(struct synthesis *s, struct nn_tensor *x, int side,
                               const char *which, bool up)
{
    char name[64], full[96];
    snprintf(name, sizeof name, "synthesis.b%d.%s", side, which);
    const struct param *w = x != NULL ? conv_weight(s, name, x->shape[1], 3) : NULL;
    struct nn_tensor *m = w != NULL ? style(s, name, x->shape[1]) : NULL;
    if (m == NULL)
        return NULL;
    snprintf(full, sizeof full, "%s.bias", name);
    struct nn_tensor *bias = netlayer_tensor(s->r, full, w->shape[0]),
                     *h = scale_channels(s->nn, x, m);
    if (bias == NULL)
        return NULL;
    if (up)
        h = fir(s->nn, nn_conv_transpose2d(s->nn, h, turned(s->nn, w), NULL, 2, 0, 0), 1, 1, 1);
    else
        h = nn_conv2d(s->nn, h, params_maybe(s->r->set, s->nn, "%s.weight", name), NULL, 1, 1, 1);
    h = scale_channels(s->nn, h, demodulation(s->nn, w, m));
    if (!add_noise(s, h, name))
        return NULL;
    activate(h, bias->data, w->shape[0], CLAMP);
    imageoutput(s->out, name, h);
    return h;
}

/* The picture so far, enlarged, plus the colours of this block's features. */
static struct nn_tensor *to_rgb(struct synthesis *s, struct nn_tensor *x, struct nn_tensor *picture,
                                int side)
{
    char name[64], full[96];
    snprintf(name, sizeof name, "synthesis.b%d.torgb", side);
    const struct param *w = x != NULL ? conv_weight(s, name, x->shape[1], 1) : NULL;
    struct nn_tensor *m = w != NULL ? style(s, name, x->shape[1]) : NULL;
    snprintf(full, sizeof full, "%s.bias", name);
    struct nn_tensor *bias = m != NULL ? netlayer_tensor(s->r, full, w->shape[0]) : NULL;
    if (bias == NULL)
        return NULL;
    scale(m, 1 / sqrt((double)x->shape[1]));
    struct nn_tensor *rgb =
        nn_conv2d(s->nn, scale_channels(s->nn, x, m),
                  params_maybe(s->r->set, s->nn, "%s.weight", name), bias, 1, 0, 1);
    if (picture != NULL)
        rgb = netlayer_add(s->r, fir(s->nn, picture, 2, 2, 1), rgb);
    snprintf(name, sizeof name, "rgb%d", side);
    if (rgb != NULL)
        imageoutput(s->out, name, rgb);
    return rgb;
}

static struct nn_tensor *first(struct synthesis *s)
{
    const struct param *c = params_find(s->r->set, "synthesis.b4.const");
    if (c->n_dims != 3 || c->shape[1] != 4 || c->shape[2] != 4) {
        netlayer_tensor(s->r, "synthesis.b4.const", -1);
        return NULL;
    }
    struct nn_tensor *x = nn_new(s->nn, 4, (const int64_t[]){s->w->shape[0], c->shape[0], 4, 4});
    for (int64_t i = 0; i < s->w->shape[0]; i++)
        memcpy(x->data + i * c->n, c->data, (size_t)c->n * sizeof *c->data);
    return x;
}

static struct nn_tensor *synthesis(struct synthesis *s)
{
    struct nn_tensor *x = layer(s, first(s), 4, "conv1", false), *picture = to_rgb(s, x, NULL, 4);
    for (int side = 8; side <= SIDE_MAX && picture != NULL; side *= 2) {
        if (find(s->r->set, "synthesis.b%d.%s", side, "conv0.weight") == NULL)
            break;
        x = layer(s, layer(s, x, side, "conv0", true), side, "conv1", false);
        picture = to_rgb(s, x, picture, side);
    }
    return picture;
}

/* --- the row */

static int stylegan_open(struct imagepart *p, struct err *err)
{
    const struct param *fc = params_find(&p->w, "mapping.fc0.weight");
    const struct param *rgb = params_find(&p->w, "synthesis.b4.torgb.weight");
    if (fc->n_dims != 2 || fc->shape[0] != fc->shape[1] || rgb == NULL || rgb->n_dims != 4)
        return err_set(err, ERR_FORMAT,
                       "%s: tensor mapping.fc0.weight is no square, or "
                       "synthesis.b4.torgb.weight is missing",
                       p->file);
    p->facts.latent = (int)fc->shape[1];
    p->facts.channels_out = (int)rgb->shape[0];
    p->facts.side = 4;
    while (p->facts.side < SIDE_MAX &&
           find(&p->w, "synthesis.b%d.%s", 2 * p->facts.side, "conv0.weight") != NULL)
        p->facts.side *= 2;
    return ERR_OK;
}

static int stylegan_run(struct imagepart *p, struct nn *nn, const struct imagetensors *in,
                        struct imagetensors *out, struct err *err)
{
    struct params_reader r = {&p->w, nn, p->file, err, ERR_OK};
    struct synthesis s = {.r = &r, .nn = nn, .out = out};
    struct nn_tensor *z;
    double *psi;
    char name[32];
    TRY(imageinput_tensor(nn, in, "z", true, 2, (const int64_t[]){0, p->facts.latent}, &z, err));
    TRY(imageinput_doubles(nn, in, "truncation_psi", false, 1, &psi, err));
    TRY(imageinput_parts(nn, z->shape[0], err));
    struct nn_tensor *w = mapping(&r, z);
    s.w = w != NULL ? truncate(&r, w, psi != NULL ? *psi : PSI) : NULL;
    struct nn_tensor *image = s.w != NULL ? synthesis(&s) : NULL;
    if (image == NULL)
        return r.rc;
    snprintf(name, sizeof name, "w_psi%g", psi != NULL ? *psi : PSI);
    imageoutput(out, "image", image);
    imageoutput(out, "w", w);
    imageoutput(out, name, s.w);
    return ERR_OK;
}

const struct imagefamily imagefamily_stylegan = {
    .kind = "StyleGAN2 generator",
    .role = IMAGE_GENERATOR,
    .recognise = is_stylegan,
    .open = stylegan_open,
    .run = stylegan_run,
    .input = {{"z", NULL, true}, {"truncation_psi", "truncation_psi", false}}};
