#include "workers/models/upscaler.h"

#include "proto/err.h"

#include <stdio.h>
#include <string.h>

enum { BLOCKS_MAX = 256, DENSE_CONVS = 5 };
static const double SLOPE = 0.2, RESIDUAL = 0.2;

/* --- names: one layer, two spellings */

enum layer { CONV_FIRST, CONV_BODY, CONV_UP1, CONV_UP2, CONV_HR, CONV_LAST };

static void layer_name(const struct upscaler *u, enum layer l, char out[64])
{
    static const char *const new_names[] = {"conv_first", "conv_body", "conv_up1",
                                            "conv_up2",   "conv_hr",   "conv_last"};
    static const char *const old_names[] = {"model.0", NULL, "model.3", "model.6", "model.8", "model.10"};
    if (!u->old_names)
        snprintf(out, 64, "%s", new_names[l]);
    else if (l == CONV_BODY)
        snprintf(out, 64, "model.1.sub.%d", u->blocks);
    else
        snprintf(out, 64, "%s", old_names[l]);
}

static void dense_name(const struct upscaler *u, int block, int rdb, int conv, char out[64])
{
    snprintf(out, 64, u->old_names ? "model.1.sub.%d.RDB%d.conv%d.0" : "body.%d.rdb%d.conv%d", block, rdb,
             conv);
}

/* --- description */

static const struct param *weight_of(const struct params *w, const char *name)
{
    char full[80];
    snprintf(full, sizeof full, "%s.weight", name);
    return params_find(w, full);
}

/* A 3 x 3 convolution from `in` to `out` channels with a bias is there; 0 of out: any, returned. */
static int expect_conv(const struct params *w, const char *name, int in, int *out, const char *file,
                       struct err *err)
{
    const struct param *p = weight_of(w, name);
    char full[80];
    if (*out == 0 && p != NULL && p->n_dims == 4)
        *out = (int)p->shape[0];
    snprintf(full, sizeof full, "%s.weight", name);
    TRY(params_expect(w, full, file, err, 4, *out, in, 3, 3));
    snprintf(full, sizeof full, "%s.bias", name);
    return params_expect(w, full, file, err, 1, *out);
}

static int describe_rrdb(struct upscaler *u, const struct params *w, const char *file, struct err *err)
{
    char name[64];
    int width = 0, growth = 0, colours = 3;
    while (u->blocks < BLOCKS_MAX && (dense_name(u, u->blocks, 1, 1, name), weight_of(w, name) != NULL))
        u->blocks++;
    layer_name(u, CONV_FIRST, name);
    const struct param *first = weight_of(w, name);
    int in = first->n_dims == 4 ? (int)first->shape[1] : 0;
    u->unshuffle = in == 12 ? 2 : in == 48 ? 4 : 1;
    u->scale = 4 / u->unshuffle;
    TRY(expect_conv(w, name, 3 * u->unshuffle * u->unshuffle, &width, file, err));
    for (int i = 0; i < u->blocks * 3 * DENSE_CONVS; i++) {
        int conv = i % DENSE_CONVS;
        dense_name(u, i / (3 * DENSE_CONVS), i / DENSE_CONVS % 3 + 1, conv + 1, name);
        TRY(expect_conv(w, name, width + conv * growth, conv == DENSE_CONVS - 1 ? &width : &growth, file,
                        err));
    }
    for (int l = CONV_BODY; l <= CONV_HR; l++) {
        layer_name(u, (enum layer)l, name);
        TRY(expect_conv(w, name, width, &width, file, err));
    }
    layer_name(u, CONV_LAST, name);
    TRY(expect_conv(w, name, width, &colours, file, err));
    u->reach = u->unshuffle * (3 + u->blocks * 3 * DENSE_CONVS + 1);
    return ERR_OK;
}

static int describe_srvgg(struct upscaler *u, const struct params *w, const char *file, struct err *err)
{
    char name[64];
    int width = 0, in = 3;
    while (u->blocks < BLOCKS_MAX) {        /* conv, PReLU, conv, PReLU, ..., conv */
        int out = 0;
        snprintf(name, sizeof name, "body.%d", 2 * u->blocks);
        TRY(expect_conv(w, name, in, &out, file, err));
        snprintf(name, sizeof name, "body.%d.weight", 2 * u->blocks + 1);
        if (params_find(w, name) == NULL) {
            u->scale = out == 3 ? 1 : out == 12 ? 2 : out == 27 ? 3 : out == 48 ? 4 : 0;
            break;
        }
        width = out;
        TRY(params_expect(w, name, file, err, 1, width));
        in = width;
        u->blocks++;
    }
    u->unshuffle = 1;
    u->reach = u->blocks + 1;
    if (u->scale == 0 || u->blocks == 0)
        return err_set(err, ERR_FORMAT, "%s: its last convolution gives no 3 s^2 channels (s = 1..4)", file);
    return ERR_OK;
}

int upscaler_describe(struct upscaler *u, const struct params *w, const char *file, struct err *err)
{
    memset(u, 0, sizeof *u);
    if (weight_of(w, "conv_first") != NULL || weight_of(w, "model.0") != NULL) {
        u->kind = UPSCALER_RRDB;
        u->old_names = weight_of(w, "conv_first") == NULL;
        return describe_rrdb(u, w, file, err);
    }
    if (weight_of(w, "body.0") != NULL) {
        u->kind = UPSCALER_SRVGG;
        return describe_srvgg(u, w, file, err);
    }
    return err_set(err, ERR_FORMAT, "%s: neither RRDBNet (conv_first, model.0) nor SRVGGNetCompact "
                   "(body.0)", file);
}

/* --- forward */

struct forward { struct nn *nn; const struct upscaler *u; struct params *w; };

static struct nn_tensor *conv(const struct forward *f, const char *name, struct nn_tensor *x)
{
    return nn_conv2d(f->nn, x, params_maybe(f->w, f->nn, "%s.weight", name),
                     params_maybe(f->w, f->nn, "%s.bias", name), 1, 1, 1);
}

static struct nn_tensor *named_conv(const struct forward *f, enum layer l, struct nn_tensor *x)
{
    char name[64];
    layer_name(f->u, l, name);
    return conv(f, name, x);
}

static struct nn_tensor *lrelu(const struct forward *f, struct nn_tensor *x)
{
    return nn_activation(f->nn, x, NN_LEAKY_RELU, SLOPE);
}

/* x + 0.2 conv5([x, c1, .., c4]), c_i = lrelu(conv_i of what came before) */
static struct nn_tensor *dense_block(const struct forward *f, int block, int rdb, struct nn_tensor *x)
{
    struct nn_tensor *all = x, *y = NULL;
    for (int i = 1; i <= DENSE_CONVS; i++) {
        char name[64];
        dense_name(f->u, block, rdb, i, name);
        y = conv(f, name, all);
        if (i < DENSE_CONVS)
            all = nn_concat(f->nn, all, lrelu(f, y), 1);
    }
    return nn_add(f->nn, x, nn_scale(f->nn, y, RESIDUAL));
}

static struct nn_tensor *rrdb_forward(const struct forward *f, struct nn_tensor *x)
{
    struct nn *nn = f->nn;
    if (f->u->unshuffle > 1)
        x = nn_pixel_unshuffle(nn, x, f->u->unshuffle);
    struct nn_tensor *first = named_conv(f, CONV_FIRST, x), *h = first;
    for (int i = 0; i < f->u->blocks; i++) {
        struct nn_tensor *y = h;
        for (int rdb = 1; rdb <= 3; rdb++)
            y = dense_block(f, i, rdb, y);
        h = nn_add(nn, h, nn_scale(nn, y, RESIDUAL));
    }
    h = nn_add(nn, first, named_conv(f, CONV_BODY, h));
    h = lrelu(f, named_conv(f, CONV_UP1, nn_upsample_nearest2(nn, h)));
    h = lrelu(f, named_conv(f, CONV_UP2, nn_upsample_nearest2(nn, h)));
    return named_conv(f, CONV_LAST, lrelu(f, named_conv(f, CONV_HR, h)));
}

/* Slopes per channel may have either sign and any size: chosen by the sign of x. */
static struct nn_tensor *prelu(const struct forward *f, int layer, struct nn_tensor *x)
{
    struct nn_tensor *slope = params_maybe(f->w, f->nn, "body.%d.weight", layer);
    const int64_t shape[3] = {slope->n, 1, 1};
    struct nn_tensor *below = nn_activation(f->nn, nn_scale(f->nn, x, -1), NN_RELU, 0);
    below = nn_mul(f->nn, below, nn_reshape(f->nn, slope, 3, shape));       /* -min(x, 0) a */
    return nn_add(f->nn, nn_activation(f->nn, x, NN_RELU, 0), nn_scale(f->nn, below, -1));
}

static struct nn_tensor *srvgg_forward(const struct forward *f, struct nn_tensor *x)
{
    struct nn_tensor *h = x;
    for (int i = 0; i <= f->u->blocks; i++) {
        char name[64];
        snprintf(name, sizeof name, "body.%d", 2 * i);
        h = conv(f, name, h);
        if (i < f->u->blocks)
            h = prelu(f, 2 * i + 1, h);
    }
    return nn_add(f->nn, nn_pixel_shuffle(f->nn, h, f->u->scale),
                  nn_repeat_pixels(f->nn, x, f->u->scale));
}

struct nn_tensor *upscaler_forward(struct nn *nn, const struct upscaler *u, struct params *w,
                                   struct nn_tensor *x)
{
    struct forward f = {nn, u, w};
    ASSERT(x->n_dims == 4 && x->shape[1] == 3);
    return u->kind == UPSCALER_RRDB ? rrdb_forward(&f, x) : srvgg_forward(&f, x);
}
