#include "workers/train/ganbuild.h"

#include "workers/models/gan.h"
#include "workers/train/traindraw.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH_MAX = 8192, D_SEED = 0x100000 };   /* tensors of D are numbered from there */

int ganbuild_widths(const char *text, const char *key, int *widths, int *n, struct err *err)
{
    *n = 0;
    for (const char *at = text; *n < GANBUILD_WIDTHS_MAX; at++) {
        char *end;
        long v = strtol(at, &end, 10);
        if (end == at || v < 1 || v > WIDTH_MAX || (*end != '-' && *end != '\0'))
            break;
        widths[(*n)++] = (int)v;
        if (*end == '\0')
            return ERR_OK;
        at = end;
    }
    return err_set(err, ERR_INVAL, "%s \"%.60s\" is no list of 1 to %d widths of 1 to %d (128-64-32)", key,
                   text, GANBUILD_WIDTHS_MAX, WIDTH_MAX);
}

int ganbuild_check(const struct ganbuild *b, struct err *err)
{
    int up = b->dcgan ? b->n_g : b->n_g - 1, down = b->dcgan ? b->n_d : b->n_d - 1;
    int first = b->side >> up << up == b->side ? b->side >> up : 0;
    if (up < 1 || first < 1 || (b->dcgan && first != 4))
        return err_set(err, ERR_INVAL, "g doubles the first picture %d times, which does not make %d "
                       "pixels%s", up, b->side, b->dcgan ? " from 4" : "");
    if (down < 1 || b->side >> down < 1 || (b->dcgan && b->side >> down != 4))
        return err_set(err, ERR_INVAL, "d halves %d pixels %d times%s", b->side, down,
                       b->dcgan ? ", which does not leave 4" : "");
    return ERR_OK;
}

/* --- adding tensors; the first failure stays */

struct adder { struct params *w; uint64_t seed; uint32_t next; struct err *err; int rc; };

/* [.., fan in ..]: deviation < 0: 1 / sqrt(fan in); fill: a constant when deviation is 0. */
static void add(struct adder *a, double deviation, double fill, int n_dims, const int64_t *shape,
                const char *fmt, ...) __attribute__((format(printf, 6, 7)));
static void add(struct adder *a, double deviation, double fill, int n_dims, const int64_t *shape,
                const char *fmt, ...)
{
    char name[160];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    if (a->rc != ERR_OK)
        return;
    struct param *p = params_add(a->w, name, n_dims, shape);
    if (p == NULL) {
        a->rc = err_set(a->err, ERR_NOMEM, "no memory for tensor %s", name);
        return;
    }
    if (deviation < 0)
        deviation = 1 / sqrt((double)(p->n / p->shape[0]));
    if (deviation > 0)
        traindraw_weights_normal(a->seed, a->next, deviation, p->data, p->n);
    for (int64_t i = 0; (fill != 0 || deviation == 0) && i < p->n; i++)
        p->data[i] += (float)fill;
    a->next++;
}

static void add_matrix(struct adder *a, double deviation, int64_t out, int64_t in, const char *name)
{
    add(a, deviation, 0, 2, (const int64_t[]){out, in}, "%s.weight", name);
}

static void add_vector(struct adder *a, double fill, int64_t n, const char *name)
{
    add(a, 0, fill, 1, (const int64_t[]){n}, "%s", name);
}

static void add_statistics(struct adder *a, int64_t c, const char *prefix)
{
    char name[96];
    snprintf(name, sizeof name, "%srunning_mean", prefix);
    add_vector(a, 0, c, name);
    snprintf(name, sizeof name, "%srunning_var", prefix);
    add_vector(a, 1, c, name);
}

static void add_norm(struct adder *a, double deviation, int64_t c, const char *prefix)
{
    add(a, deviation, 1, 1, (const int64_t[]){c}, "%sweight", prefix);
    add(a, 0, 0, 1, (const int64_t[]){c}, "%sbias", prefix);
    add_statistics(a, c, prefix);
}

/* --- residual */

/* What a picture is told becomes a vector: a row for each class, or a linear map of a caption. */
static void add_condition(struct adder *a, const struct ganbuild *b)
{
    if (b->pooled > 0) {
        add_matrix(a, -1, b->condition, b->pooled, "caption");
        add_vector(a, 0, b->condition, "caption.bias");
    } else {
        add_matrix(a, 1, b->classes, b->condition, "embed");
    }
}

static void add_conditional_norm(struct adder *a, const struct ganbuild *b, int block, int which, int64_t c)
{
    char name[64];
    snprintf(name, sizeof name, "blocks.%d.cbn%d.gamma", block, which);
    add_matrix(a, 0.02, c, b->condition, name);
    snprintf(name, sizeof name, "blocks.%d.cbn%d.beta", block, which);
    add_matrix(a, 0.02, c, b->condition, name);
    snprintf(name, sizeof name, "blocks.%d.cbn%d.bn.", block, which);
    add_statistics(a, c, name);
}

static void add_conv(struct adder *a, int64_t out, int64_t in, int64_t k, const char *name, int block)
{
    add(a, -1, 0, 4, (const int64_t[]){out, in, k, k}, "blocks.%d.%s.weight", block, name);
}

static void residual_generator(struct adder *a, const struct ganbuild *b)
{
    int first = b->side >> (b->n_g - 1);
    add_condition(a, b);
    add_matrix(a, -1, (int64_t)b->g[0] * first * first, b->z + b->condition, "fc");
    add_vector(a, 0, (int64_t)b->g[0] * first * first, "fc.bias");
    for (int i = 0; i + 1 < b->n_g; i++) {
        add_conditional_norm(a, b, i, 1, b->g[i]);
        add_conv(a, b->g[i + 1], b->g[i], 3, "conv1", i);
        add_conditional_norm(a, b, i, 2, b->g[i + 1]);
        add_conv(a, b->g[i + 1], b->g[i + 1], 3, "conv2", i);
        add_conv(a, b->g[i + 1], b->g[i], 1, "conv_sc", i);
    }
    int last = b->g[b->n_g - 1];
    add_norm(a, 0, last, "bn_out.");
    add(a, -1, 0, 4, (const int64_t[]){3, last, 3, 3}, "conv_out.weight");
    add_vector(a, 0, 3, "conv_out.bias");
}

/* A normalised matrix [out, rest]: u and v begin as unit vectors. */
static void add_spectral(struct adder *a, const char *name)
{
    char weight[96];
    snprintf(weight, sizeof weight, "%s.weight", name);
    const struct param *p = params_find(a->w, weight);
    if (p == NULL)
        return;
    const int64_t n[2] = {p->shape[0], p->n / p->shape[0]};
    for (int i = 0; i < 2; i++) {
        add(a, 1, 0, 1, &n[i], "%s.%c", name, "uv"[i]);
        char full[96];
        snprintf(full, sizeof full, "%s.%c", name, "uv"[i]);
        struct param *v = params_find(a->w, full);
        double squares = 0;
        for (int64_t k = 0; v != NULL && k < v->n; k++)
            squares += (double)v->data[k] * v->data[k];
        for (int64_t k = 0; v != NULL && k < v->n; k++)
            v->data[k] = (float)(v->data[k] / sqrt(squares > 0 ? squares : 1));
    }
}

static void add_spectral_conv(struct adder *a, int64_t out, int64_t in, int64_t k, const char *name,
                              int block)
{
    char full[64];
    snprintf(full, sizeof full, "blocks.%d.%s", block, name);
    add_conv(a, out, in, k, name, block);
    add(a, 0, 0, 1, (const int64_t[]){out}, "%s.bias", full);
    add_spectral(a, full);
}

static void residual_discriminator(struct adder *a, const struct ganbuild *b)
{
    for (int i = 0; i < b->n_d; i++) {
        int in = i == 0 ? 3 : b->d[i - 1];
        add_spectral_conv(a, b->d[i], in, 3, "conv1", i);
        add_spectral_conv(a, b->d[i], b->d[i], 3, "conv2", i);
        add_spectral_conv(a, b->d[i], in, 1, "conv_sc", i);
    }
    int last = b->d[b->n_d - 1];
    add_matrix(a, -1, 1, last, "fc");
    add_vector(a, 0, 1, "fc.bias");
    add_spectral(a, "fc");
    add_condition(a, b);
    add_matrix(a, -1, last, b->condition, "proj");
    add_spectral(a, "proj");
}

/* --- DCGAN: numbered layers; a norm after all convolutions but G's last and D's first and last */

static void dcgan_layers(struct adder *a, const struct ganbuild *b, bool generator)
{
    const int *width = generator ? b->g : b->d;
    int n = generator ? b->n_g : b->n_d, layer = 0;
    for (int i = 0; i <= n; i++) {
        int in = i > 0 ? width[i - 1] : generator ? b->z : 3, out = i < n ? width[i] : generator ? 3 : 1;
        const int64_t shape[4] = {generator ? in : out, generator ? out : in, 4, 4};
        char norm[32];
        add(a, 0.02, 0, 4, shape, "main.%d.weight", layer);
        snprintf(norm, sizeof norm, "main.%d.", layer + 1);
        bool normed = i < n && (generator || i > 0);
        if (normed)
            add_norm(a, 0.02, out, norm);
        layer += normed ? 3 : 2;
    }
}

int ganbuild_generator(const struct ganbuild *b, struct params *w, uint64_t seed, struct err *err)
{
    struct adder a = {w, seed, 0, err, ERR_OK};
    if (b->dcgan)
        dcgan_layers(&a, b, true);
    else
        residual_generator(&a, b);
    gan_freeze_buffers(w);
    return a.rc;
}

int ganbuild_discriminator(const struct ganbuild *b, struct params *w, uint64_t seed, struct err *err)
{
    struct adder a = {w, seed, D_SEED, err, ERR_OK};
    if (b->dcgan)
        dcgan_layers(&a, b, false);
    else
        residual_discriminator(&a, b);
    gan_freeze_buffers(w);
    return a.rc;
}
