/* The residual GAN in its two layouts (gan.h). */
#include "workers/models/ganparts.h"

#include <stdio.h>

enum { BLOCKS_MAX = 32 };

/* What a layout calls its tensors, and where it computes differently. */
struct layout {
    bool by_vector;             /* gains and biases are linear in a vector, not rows of tables */
    const char *fc, *norm[2], *gain, *bias, *norm_out, *conv_out;
    double eps;                 /* of conditional norms */
    const char *weight, *u, *v; /* of normalised matrices */
};

static const struct layout tables = {
    false, "linear.", {"bn1.", "bn2."}, "gain.weight", "bias_.weight", "bn.", "conv.", 1e-4,
    "weight_orig", "weight_u", "weight_v"};
static const struct layout vectors = {
    true, "fc.", {"cbn1.", "cbn2."}, "gamma.weight", "beta.weight", "bn_out.", "conv_out.", 1e-5,
    "weight", "u", "v"};

static const struct layout *layout_of(const struct gan_run *r)
{
    return ganparts_find(r, "fc.", "weight") != NULL ? &vectors : &tables;
}

/* --- conditions */

/* Row labels[b] of the table [classes, c], [b, c]. */
static struct nn_tensor *class_rows(struct gan_run *r, struct nn_tensor *table, const int32_t *labels,
                                    int64_t b)
{
    for (int64_t i = 0; i < b; i++)
        if (labels[i] < 0 || labels[i] >= table->shape[0]) {
            r->rc = err_set(r->err, ERR_INVAL, "class %d: %s knows 0 to %lld", labels[i], r->file,
                            (long long)table->shape[0] - 1);
            return NULL;
        }
    return nn_embedding(r->nn, labels, 1, (const int64_t[]){b}, table);
}

/* The vector [b, width] that a condition becomes in the layout that has one. */
static struct nn_tensor *condition_vector(struct gan_run *r, const struct gan_condition *y, int64_t b)
{
    struct param *embed = ganparts_find(r, "embed.", "weight");
    struct param *caption = ganparts_find(r, "caption.", "weight");
    if (y->caption != NULL && caption != NULL && caption->n_dims == 2 &&
        caption->shape[1] == y->caption->shape[1])
        return nn_linear(r->nn, y->caption, ganparts_get(r, "caption.", "weight"),
                         ganparts_optional_bias(r, "caption.", caption->shape[0]));
    if (y->caption == NULL && y->labels != NULL && embed != NULL && embed->n_dims == 2)
        return class_rows(r, ganparts_get(r, "embed.", "weight"), y->labels, b);
    ganparts_wants(r, y->caption != NULL ? "caption." : "embed.", "weight");
    return NULL;
}

/* A condition as the norms of a generator use it. */
struct told { const struct layout *l; const int32_t *labels; struct nn_tensor *vector; };

/* Gains or biases [b, c] of a norm. */
static struct nn_tensor *factors(struct gan_run *r, const char *prefix, const char *what,
                                 const struct told *told, int64_t b, int64_t c)
{
    const struct param *p = ganparts_find(r, prefix, what);
    int64_t width = told->l->by_vector && told->vector != NULL ? told->vector->shape[1] : 0;
    if (p == NULL || p->n_dims != 2 || p->shape[told->l->by_vector ? 0 : 1] != c ||
        (told->l->by_vector && p->shape[1] != width)) {
        ganparts_wants(r, prefix, what);
        return NULL;
    }
    struct nn_tensor *w = ganparts_get(r, prefix, what);
    return told->l->by_vector ? nn_linear(r->nn, told->vector, w, NULL)
                              : class_rows(r, w, told->labels, b);
}

/* batchnorm(x) (1 + gain) + bias */
static struct nn_tensor *conditional_norm(struct gan_run *r, const char *prefix, struct nn_tensor *x,
                                          const struct told *told)
{
    char inner[96];
    snprintf(inner, sizeof inner, "%sbn.", prefix);
    int64_t b = x->shape[0], c = x->shape[1];
    struct nn_tensor *n = ganparts_batch_norm(r, inner, x, told->l->eps, false);
    struct nn_tensor *gain = factors(r, prefix, told->l->gain, told, b, c);
    struct nn_tensor *bias = factors(r, prefix, told->l->bias, told, b, c);
    if (r->rc != ERR_OK)
        return x;
    return nn_modulate_channels(r->nn, n, gain, bias);
}

/* --- generator */

/* A change of size beside a convolution. */
enum resize { RESIZE_NONE, RESIZE_UP_BEFORE, RESIZE_POOL_AFTER };

/* Same-size convolution (k 3 or 1). */
static struct nn_tensor *same_conv(struct gan_run *r, const char *prefix, struct nn_tensor *x,
                                   struct nn_tensor *w, enum resize resize)
{
    if (r->rc != ERR_OK || w == NULL || w->n_dims != 4 || w->shape[1] != x->shape[1]) {
        ganparts_wants(r, prefix, "weight");
        return x;
    }
    struct nn_tensor *b = ganparts_optional_bias(r, prefix, w->shape[0]);
    if (resize != RESIZE_NONE && w->shape[2] == 3 && w->shape[3] == 3)
        return resize == RESIZE_UP_BEFORE ? nn_up2_conv3(r->nn, x, w, b) : nn_conv3_pool2(r->nn, x, w, b);
    x = resize == RESIZE_UP_BEFORE ? nn_upsample_nearest2(r->nn, x) : x;
    x = nn_conv2d(r->nn, x, w, b, 1, (int)w->shape[2] / 2, 1);
    return resize == RESIZE_POOL_AFTER ? nn_avg_pool2(r->nn, x) : x;
}

static struct nn_tensor *plain_conv(struct gan_run *r, const char *prefix, struct nn_tensor *x)
{
    return same_conv(r, prefix, x, ganparts_get(r, prefix, "weight"), RESIZE_NONE);
}

static struct nn_tensor *up_block(struct gan_run *r, int i, struct nn_tensor *x, const struct told *told)
{
    char name[5][64];
    const char *const parts[5] = {told->l->norm[0], told->l->norm[1], "conv1.", "conv2.", "conv_sc."};
    for (int k = 0; k < 5; k++)
        snprintf(name[k], sizeof name[k], "blocks.%d.%s", i, parts[k]);
    struct nn_tensor *h = conditional_norm(r, name[0], x, told);
    h = same_conv(r, name[2], nn_activation(r->nn, h, NN_RELU, 0), ganparts_get(r, name[2], "weight"),
                  RESIZE_UP_BEFORE);
    h = conditional_norm(r, name[1], h, told);
    h = plain_conv(r, name[3], nn_activation(r->nn, h, NN_RELU, 0));
    /* A 1 x 1 convolution and nearest up-sampling commute, bit for bit: a quarter of the products. */
    struct nn_tensor *skip = nn_upsample_nearest2(r->nn, plain_conv(r, name[4], x));
    return r->rc == ERR_OK ? nn_add(r->nn, h, skip) : x;
}

/* Channels of the first block's input, from its shortcut. */
static int64_t first_width(struct gan_run *r)
{
    const struct param *p = ganparts_find(r, "blocks.0.conv_sc.", "weight");
    return ganparts_is_convolution(p) ? p->shape[1] : 0;
}

/* z, joined with the condition's vector where the layout has one, as the first picture [b, c, side, side]. */
static struct nn_tensor *first_picture(struct gan_run *r, struct nn_tensor *z, const struct told *told)
{
    const char *fc = told->l->fc;
    const struct param *p = ganparts_find(r, fc, "weight");
    int64_t c = first_width(r), area = c > 0 && p != NULL ? p->shape[0] / c : 0, side = 1;
    if (told->vector != NULL)
        z = nn_concat(r->nn, z, told->vector, 1);
    while (side * side < area)
        side++;
    if (area == 0 || side * side * c != p->shape[0] || p->n_dims != 2 || p->shape[1] != z->shape[1]) {
        ganparts_wants(r, fc, "weight");
        return z;
    }
    struct nn_tensor *h = nn_linear(r->nn, z, ganparts_get(r, fc, "weight"),
                                    ganparts_optional_bias(r, fc, p->shape[0]));
    return nn_reshape(r->nn, h, 4, (const int64_t[]){z->shape[0], c, side, side});
}

int resgan_generator(const struct gan_net *net, struct nn_tensor *z, const struct gan_condition *y,
                     struct nn_tensor **image, struct err *err)
{
    struct gan_run r = ganparts_run(net, err);
    struct told told = {.l = layout_of(&r), .labels = y->labels};
    if (told.l->by_vector)
        told.vector = condition_vector(&r, y, z->shape[0]);
    struct nn_tensor *h = r.rc == ERR_OK ? first_picture(&r, z, &told) : z;
    for (int i = 0; i < BLOCKS_MAX && r.rc == ERR_OK; i++) {
        char name[64];
        snprintf(name, sizeof name, "blocks.%d.", i);
        if (ganparts_find(&r, name, "conv1.weight") == NULL)
            break;
        h = up_block(&r, i, h, &told);
    }
    if (r.rc != ERR_OK)
        return r.rc;
    h = nn_activation(r.nn, ganparts_batch_norm(&r, told.l->norm_out, h, 1e-5, true), NN_RELU, 0);
    *image = nn_activation(r.nn, plain_conv(&r, told.l->conv_out, h), NN_TANH, 0);
    return r.rc;
}

/* --- discriminator */

/* weight / sigma: the stored u and v, or in training one iteration of them, once a step. */
static struct nn_tensor *spectral(struct gan_run *r, const char *prefix)
{
    const struct layout *l = layout_of(r);
    struct param *w = ganparts_find(r, prefix, l->weight);
    if (w == NULL || w->n_dims < 2) {
        ganparts_wants(r, prefix, l->weight);
        return NULL;
    }
    float *u = ganparts_buffer(r, prefix, l->u, w->shape[0]);
    float *v = ganparts_buffer(r, prefix, l->v, w->n / w->shape[0]);
    if (r->rc == ERR_OK && w->derived == NULL)
        w->derived = nn_spectral_norm(r->nn, params_tensor(r->w, r->nn, w), u, v, r->training);
    return w->derived;
}

static struct nn_tensor *spectral_conv(struct gan_run *r, int block, const char *conv,
                                       struct nn_tensor *x, enum resize resize)
{
    char prefix[64];
    snprintf(prefix, sizeof prefix, "blocks.%d.%s.", block, conv);
    return same_conv(r, prefix, x, spectral(r, prefix), resize);
}

static bool has_block(struct gan_run *r, int i, const char *what)
{
    char name[64];
    snprintf(name, sizeof name, "blocks.%d.%s.", i, what);
    return ganparts_find(r, name, layout_of(r)->weight) != NULL;
}

/* The first block begins without ReLU and pools before its shortcut, the others after; a block without
 * a shortcut of its own adds its input. Tables: such a block does not pool; vectors: the last does not. */
static struct nn_tensor *down_block(struct gan_run *r, int i, struct nn_tensor *x)
{
    bool shortcut = has_block(r, i, "conv_sc");
    bool pools = layout_of(r)->by_vector ? has_block(r, i + 1, "conv1") : shortcut;
    struct nn_tensor *h = i == 0 ? x : nn_activation(r->nn, x, NN_RELU, 0), *skip = x;
    h = nn_activation(r->nn, spectral_conv(r, i, "conv1", h, RESIZE_NONE), NN_RELU, 0);
    h = spectral_conv(r, i, "conv2", h, pools ? RESIZE_POOL_AFTER : RESIZE_NONE);
    /* Averages and 1 x 1 convolutions commute but for rounding: pool first, a quarter of the products. */
    skip = pools ? nn_avg_pool2(r->nn, skip) : skip;
    skip = shortcut ? spectral_conv(r, i, "conv_sc", skip, RESIZE_NONE) : skip;
    return r->rc == ERR_OK ? nn_add(r->nn, h, skip) : x;
}

/* What features are projected on, [b, c]: a normalised table's rows, or a normalised map of the vector. */
static struct nn_tensor *direction(struct gan_run *r, const struct gan_condition *y, int64_t b, int64_t c)
{
    bool by_vector = layout_of(r)->by_vector;
    const char *name = by_vector ? "proj." : "embed.";
    struct nn_tensor *w = spectral(r, name), *vector = by_vector ? condition_vector(r, y, b) : NULL;
    if (r->rc == ERR_OK && (w->shape[by_vector ? 0 : 1] != c ||
                            (by_vector && w->shape[1] != vector->shape[1])))
        ganparts_wants(r, name, "weight");
    if (r->rc != ERR_OK)
        return NULL;
    return by_vector ? nn_linear(r->nn, vector, w, NULL) : class_rows(r, w, y->labels, b);
}

/* plain + h . direction(y), [b, 1] */
static struct nn_tensor *judge(struct gan_run *r, struct nn_tensor *h, struct nn_tensor *plain,
                               const struct gan_condition *y)
{
    struct nn_tensor *toward = direction(r, y, h->shape[0], h->shape[1]);
    if (r->rc != ERR_OK)
        return NULL;
    struct nn_tensor *along = nn_sum(r->nn, nn_mul(r->nn, h, toward), 1u << 1);
    along = nn_reshape(r->nn, along, 2, (const int64_t[]){h->shape[0], 1});
    return nn_add(r->nn, plain, along);
}

int resgan_discriminator(const struct gan_net *net, struct nn_tensor *x, const struct gan_condition *y,
                         const struct gan_condition *wrong, struct nn_tensor **logit,
                         struct nn_tensor **wrong_logit, struct err *err)
{
    struct gan_run r = ganparts_run(net, err);
    struct nn_tensor *h = x;
    for (int i = 0; i < BLOCKS_MAX && r.rc == ERR_OK && has_block(&r, i, "conv1"); i++)
        h = down_block(&r, i, h);
    const char *fc = layout_of(&r)->fc;
    struct nn_tensor *linear = spectral(&r, fc);
    if (r.rc != ERR_OK)
        return r.rc;
    h = nn_sum_pool(r.nn, nn_activation(r.nn, h, NN_RELU, 0));
    if (linear->n_dims != 2 || linear->shape[1] != h->shape[1] || linear->shape[0] != 1) {
        ganparts_wants(&r, fc, "weight");
        return r.rc;
    }
    struct nn_tensor *plain = nn_linear(r.nn, h, linear, ganparts_optional_bias(&r, fc, 1));
    *logit = judge(&r, h, plain, y);
    if (wrong != NULL && r.rc == ERR_OK)
        *wrong_logit = judge(&r, h, plain, wrong);
    return r.rc;
}
