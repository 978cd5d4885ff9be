#include "workers/models/gan.h"

#include <stdio.h>
#include <string.h>

enum { LAYERS_MAX = 64, BLOCKS_MAX = 32 };
static const double LEAK = 0.2;

/* One network being run: the first thing that does not fit is kept in rc, and what follows is skipped. */
struct run { struct nn *nn; struct params *w; const char *file; struct err *err; int rc; };

static const struct param *find(const struct run *r, const char *prefix, const char *what)
{
    char name[160];
    snprintf(name, sizeof name, "%s%s", prefix, what);
    return params_find(r->w, name);
}

static struct nn_tensor *get(struct run *r, const char *prefix, const char *what)
{
    return params_maybe(r->w, r->nn, "%s%s", prefix, what);
}

static void wants(struct run *r, const char *prefix, const char *what)
{
    if (r->rc == ERR_OK)
        r->rc = err_set(r->err, ERR_FORMAT, "%s: tensor %s%s is missing or of the wrong shape", r->file,
                        prefix, what);
}

/* A vector of n numbers, NULL (and rc set) otherwise. */
static struct nn_tensor *vector(struct run *r, const char *prefix, const char *what, int64_t n)
{
    const struct param *p = find(r, prefix, what);
    if (p != NULL && p->n == n)
        return get(r, prefix, what);
    wants(r, prefix, what);
    return NULL;
}

static struct nn_tensor *optional_bias(struct run *r, const char *prefix, int64_t n)
{
    return find(r, prefix, "bias") != NULL ? vector(r, prefix, "bias", n) : NULL;
}

/* --- DCGAN: a numbered sequence */

static bool is_convolution(const struct param *p) { return p != NULL && p->n_dims == 4; }

/* x through the batch norm `prefix`; its statistics are buffers of the set. */
static struct nn_tensor *batch_norm(struct run *r, const char *prefix, struct nn_tensor *x, bool training,
                                    double eps, bool affine)
{
    int64_t c = x->shape[1];
    struct nn_tensor *mean = vector(r, prefix, "running_mean", c);
    struct nn_tensor *var = vector(r, prefix, "running_var", c);
    struct nn_tensor *w = affine ? vector(r, prefix, "weight", c) : NULL;
    struct nn_tensor *b = affine ? vector(r, prefix, "bias", c) : NULL;
    if (r->rc != ERR_OK)
        return x;
    return nn_batch_norm(r->nn, x, w, b, mean->data, var->data, training, 0.1, eps);
}

/* Number of the last convolution; -1 when there is none. */
static int last_convolution(struct run *r)
{
    int last = -1;
    for (int i = 0; i < LAYERS_MAX; i++) {
        char prefix[32];
        snprintf(prefix, sizeof prefix, "main.%d.", i);
        if (is_convolution(find(r, prefix, "weight")))
            last = i;
    }
    if (last < 0)
        wants(r, "main.0.", "weight");
    return last;
}

static struct nn_tensor *dcgan_convolution(struct run *r, const char *prefix, struct nn_tensor *x,
                                           bool transposed, bool edge)
{
    const struct param *p = find(r, prefix, "weight");
    int64_t side = x->shape[2];
    int stride = edge ? 1 : 2, padding = edge ? 0 : 1;
    if (p->shape[transposed ? 0 : 1] != x->shape[1] ||
        (!transposed && side + 2 * padding < p->shape[2])) {
        wants(r, prefix, "weight");
        return x;
    }
    struct nn_tensor *w = get(r, prefix, "weight");
    struct nn_tensor *b = optional_bias(r, prefix, p->shape[transposed ? 1 : 0]);
    return transposed ? nn_conv_transpose2d(r->nn, x, w, b, stride, padding, 0)
                      : nn_conv2d(r->nn, x, w, b, stride, padding, 1);
}

static int dcgan(struct nn *nn, struct params *w, const char *file, struct nn_tensor *x, bool training,
                 bool generator, struct nn_tensor **out, struct err *err)
{
    struct run r = {nn, w, file, err, ERR_OK};
    int last = last_convolution(&r);
    for (int i = 0; i <= last && r.rc == ERR_OK; i++) {
        char prefix[32], next[32];
        snprintf(prefix, sizeof prefix, "main.%d.", i);
        snprintf(next, sizeof next, "main.%d.", i + 1);
        if (!is_convolution(find(&r, prefix, "weight")))
            continue;
        x = dcgan_convolution(&r, prefix, x, generator, generator ? i == 0 : i == last);
        if (r.rc == ERR_OK && find(&r, next, "running_mean") != NULL)
            x = batch_norm(&r, next, x, training, 1e-5, true);
        if (i < last)
            x = nn_activation(nn, x, generator ? NN_RELU : NN_LEAKY_RELU, LEAK);
        else if (generator)
            x = nn_activation(nn, x, NN_TANH, 0);
    }
    *out = x;
    return r.rc;
}

int dcgan_generator(struct nn *nn, struct params *w, const char *file, struct nn_tensor *z, bool training,
                    struct nn_tensor **image, struct err *err)
{
    return dcgan(nn, w, file, z, training, true, image, err);
}

int dcgan_discriminator(struct nn *nn, struct params *w, const char *file, struct nn_tensor *x,
                        bool training, struct nn_tensor **logit, struct err *err)
{
    return dcgan(nn, w, file, x, training, false, logit, err);
}

/* --- residual GAN */

/* Same-size convolution (k 3 or 1). */
static struct nn_tensor *same_conv(struct run *r, const char *prefix, struct nn_tensor *x,
                                   struct nn_tensor *w)
{
    if (r->rc != ERR_OK || w == NULL || w->n_dims != 4 || w->shape[1] != x->shape[1]) {
        wants(r, prefix, "weight");
        return x;
    }
    return nn_conv2d(r->nn, x, w, optional_bias(r, prefix, w->shape[0]), 1, (int)w->shape[2] / 2, 1);
}

static struct nn_tensor *plain_conv(struct run *r, const char *prefix, struct nn_tensor *x)
{
    return same_conv(r, prefix, x, get(r, prefix, "weight"));
}

/* Row labels[b] of a table [classes, c] as [b, c, 1, 1]. */
static struct nn_tensor *class_rows(struct run *r, const char *prefix, const char *what,
                                    const int32_t *labels, int64_t b, int64_t c)
{
    const struct param *p = find(r, prefix, what);
    if (p == NULL || p->n_dims != 2 || p->shape[1] != c) {
        wants(r, prefix, what);
        return NULL;
    }
    for (int64_t i = 0; i < b; i++)
        if (labels[i] < 0 || labels[i] >= p->shape[0]) {
            r->rc = err_set(r->err, ERR_INVAL, "class %d: %s knows 0 to %lld", labels[i], r->file,
                            (long long)p->shape[0] - 1);
            return NULL;
        }
    struct nn_tensor *rows = nn_embedding(r->nn, labels, 1, (const int64_t[]){b}, get(r, prefix, what));
    return nn_reshape(r->nn, rows, 4, (const int64_t[]){b, c, 1, 1});
}

/* batchnorm(x) (1 + gain[y]) + bias[y] */
static struct nn_tensor *conditional_norm(struct run *r, const char *prefix, struct nn_tensor *x,
                                          const int32_t *labels)
{
    char inner[96];
    snprintf(inner, sizeof inner, "%sbn.", prefix);
    struct nn_tensor *n = batch_norm(r, inner, x, false, 1e-4, false);
    struct nn_tensor *gain = class_rows(r, prefix, "gain.weight", labels, x->shape[0], x->shape[1]);
    struct nn_tensor *bias = class_rows(r, prefix, "bias_.weight", labels, x->shape[0], x->shape[1]);
    if (r->rc != ERR_OK)
        return x;
    return nn_add(r->nn, nn_add(r->nn, n, nn_mul(r->nn, n, gain)), bias);
}

static struct nn_tensor *up_block(struct run *r, int i, struct nn_tensor *x, const int32_t *labels)
{
    char name[4][64];
    static const char *const parts[4] = {"bn1.", "bn2.", "conv1.", "conv2."};
    for (int k = 0; k < 4; k++)
        snprintf(name[k], sizeof name[k], "blocks.%d.%s", i, parts[k]);
    struct nn_tensor *h = conditional_norm(r, name[0], x, labels);
    h = nn_upsample_nearest2(r->nn, nn_activation(r->nn, h, NN_RELU, 0));
    h = conditional_norm(r, name[1], plain_conv(r, name[2], h), labels);
    h = plain_conv(r, name[3], nn_activation(r->nn, h, NN_RELU, 0));
    snprintf(name[0], sizeof name[0], "blocks.%d.conv_sc.", i);
    struct nn_tensor *skip = plain_conv(r, name[0], nn_upsample_nearest2(r->nn, x));
    return r->rc == ERR_OK ? nn_add(r->nn, h, skip) : x;
}

/* Channels of the first block's input, from its shortcut. */
static int64_t first_width(struct run *r, const char *name)
{
    const struct param *p = find(r, "blocks.0.", name);
    return is_convolution(p) ? p->shape[1] : 0;
}

int resgan_generator(struct nn *nn, struct params *w, const char *file, struct nn_tensor *z,
                     const int32_t *labels, struct nn_tensor **image, struct err *err)
{
    struct run r = {nn, w, file, err, ERR_OK};
    const struct param *linear = find(&r, "linear.", "weight");
    int64_t c = first_width(&r, "conv_sc.weight"), area = c > 0 && linear != NULL ? linear->shape[0] / c : 0;
    int64_t side = 1;
    while (side * side < area)
        side++;
    if (area == 0 || side * side * c != linear->shape[0] || linear->n_dims != 2 ||
        linear->shape[1] != z->shape[1]) {
        wants(&r, "linear.", "weight");
        return r.rc;
    }
    struct nn_tensor *h = nn_linear(nn, z, get(&r, "linear.", "weight"),
                                    optional_bias(&r, "linear.", linear->shape[0]));
    h = nn_reshape(nn, h, 4, (const int64_t[]){z->shape[0], c, side, side});
    for (int i = 0; i < BLOCKS_MAX && r.rc == ERR_OK; i++) {
        char name[64];
        snprintf(name, sizeof name, "blocks.%d.", i);
        if (find(&r, name, "conv1.weight") == NULL)
            break;
        h = up_block(&r, i, h, labels);
    }
    h = nn_activation(nn, batch_norm(&r, "bn.", h, false, 1e-5, true), NN_RELU, 0);
    *image = nn_activation(nn, plain_conv(&r, "conv.", h), NN_TANH, 0);
    return r.rc;
}

/* weight_orig / sigma with the stored u and v. */
static struct nn_tensor *spectral(struct run *r, const char *prefix)
{
    const struct param *w = find(r, prefix, "weight_orig");
    if (w == NULL || w->n_dims < 2) {
        wants(r, prefix, "weight_orig");
        return NULL;
    }
    struct nn_tensor *u = vector(r, prefix, "weight_u", w->shape[0]);
    struct nn_tensor *v = vector(r, prefix, "weight_v", w->n / w->shape[0]);
    if (r->rc != ERR_OK)
        return NULL;
    return nn_spectral_norm(r->nn, get(r, prefix, "weight_orig"), u->data, v->data, false);
}

static struct nn_tensor *spectral_conv(struct run *r, int block, const char *conv, struct nn_tensor *x)
{
    char prefix[64];
    snprintf(prefix, sizeof prefix, "blocks.%d.%s.", block, conv);
    return same_conv(r, prefix, x, spectral(r, prefix));
}

/* The first block pools before its shortcut and begins without ReLU; a block whose convolutions keep the
 * channels and that has no shortcut of its own adds its input and does not pool. */
static struct nn_tensor *down_block(struct run *r, int i, struct nn_tensor *x)
{
    char name[64];
    snprintf(name, sizeof name, "blocks.%d.", i);
    bool shortcut = find(r, name, "conv_sc.weight_orig") != NULL;
    struct nn_tensor *h = i == 0 ? x : nn_activation(r->nn, x, NN_RELU, 0), *skip = x;
    h = nn_activation(r->nn, spectral_conv(r, i, "conv1", h), NN_RELU, 0);
    h = spectral_conv(r, i, "conv2", h);
    if (shortcut) {
        h = nn_avg_pool2(r->nn, h);
        skip = i == 0 ? spectral_conv(r, i, "conv_sc", nn_avg_pool2(r->nn, x))
                      : nn_avg_pool2(r->nn, spectral_conv(r, i, "conv_sc", x));
    }
    return r->rc == ERR_OK ? nn_add(r->nn, h, skip) : x;
}

int resgan_discriminator(struct nn *nn, struct params *w, const char *file, struct nn_tensor *x,
                         const int32_t *labels, struct nn_tensor **logit, struct err *err)
{
    struct run r = {nn, w, file, err, ERR_OK};
    struct nn_tensor *h = x;
    for (int i = 0; i < BLOCKS_MAX && r.rc == ERR_OK; i++) {
        char name[64];
        snprintf(name, sizeof name, "blocks.%d.", i);
        if (find(&r, name, "conv1.weight_orig") == NULL)
            break;
        h = down_block(&r, i, h);
    }
    h = nn_sum_pool(nn, nn_activation(nn, h, NN_RELU, 0));
    struct nn_tensor *linear = spectral(&r, "linear."), *embed = spectral(&r, "embed.");
    if (r.rc == ERR_OK && (linear->shape[1] != h->shape[1] || embed->shape[1] != h->shape[1]))
        wants(&r, "linear.", "weight_orig");
    for (int64_t i = 0; r.rc == ERR_OK && i < x->shape[0]; i++)
        if (labels[i] < 0 || labels[i] >= embed->shape[0])
            r.rc = err_set(err, ERR_INVAL, "class %d: %s knows 0 to %lld", labels[i], file,
                           (long long)embed->shape[0] - 1);
    if (r.rc != ERR_OK)
        return r.rc;
    struct nn_tensor *classes = nn_embedding(nn, labels, 1, x->shape, embed);
    struct nn_tensor *along = nn_sum(nn, nn_mul(nn, h, classes), 1u << 1);      /* [b] */
    along = nn_reshape(nn, along, 2, (const int64_t[]){x->shape[0], 1});
    *logit = nn_add(nn, nn_linear(nn, h, linear, optional_bias(&r, "linear.", 1)), along);
    return r.rc;
}
