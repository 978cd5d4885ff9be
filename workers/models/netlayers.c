#include "workers/models/netlayers.h"

#include <stdio.h>
#include <string.h>

static struct nn_tensor *misfit(struct params_reader *r, const char *name, const char *what)
{
    if (r->rc == ERR_OK)
        r->rc = err_set(r->err, ERR_FORMAT, "%s: tensor %s %s", r->file, name, what);
    return NULL;
}

struct nn_tensor *netlayer_tensor(struct params_reader *r, const char *name, int64_t n)
{
    const struct param *p = params_find(r->set, name);
    if (p == NULL)
        return misfit(r, name, "is missing");
    if (p->n != n)
        return misfit(r, name, "does not fit what comes before it");
    return params_maybe(r->set, r->nn, "%s", name);
}

/* NAME.END with n numbers. */
static struct nn_tensor *vector_of(struct params_reader *r, const char *name, const char *end, int64_t n)
{
    char full[200];
    snprintf(full, sizeof full, "%s.%s", name, end);
    return netlayer_tensor(r, full, n);
}

/* NAME.weight with n_dims dimensions, the second one `in`. */
static struct nn_tensor *weight_of(struct params_reader *r, const char *name, int n_dims, int64_t in)
{
    char full[200];
    snprintf(full, sizeof full, "%s.weight", name);
    const struct param *p = params_find(r->set, full);
    if (p == NULL)
        return misfit(r, full, "is missing");
    if (p->n_dims != n_dims || p->shape[1] != in || p->n < 1)
        return misfit(r, full, "does not fit what comes before it");
    return params_maybe(r->set, r->nn, "%s", full);
}

/* The bias of n numbers; NULL in *b where the file has none. */
static bool bias_of(struct params_reader *r, const char *name, int64_t n, struct nn_tensor **b)
{
    char full[200];
    snprintf(full, sizeof full, "%s.bias", name);
    *b = params_find(r->set, full) != NULL ? netlayer_tensor(r, full, n) : NULL;
    return r->rc == ERR_OK;
}

struct nn_tensor *netlayer_conv(struct params_reader *r, struct nn_tensor *x, const char *name, int stride,
                                int padding)
{
    struct nn_tensor *b, *w = x != NULL ? weight_of(r, name, 4, x->shape[1]) : NULL;
    if (w == NULL || !bias_of(r, name, w->shape[0], &b))
        return NULL;
    if (x->shape[2] + 2 * padding < w->shape[2] || x->shape[3] + 2 * padding < w->shape[3])
        return misfit(r, name, "is larger than the picture");
    return nn_conv2d(r->nn, x, w, b, stride, padding, 1);
}

struct nn_tensor *netlayer_linear(struct params_reader *r, struct nn_tensor *x, const char *name)
{
    struct nn_tensor *b, *w = x != NULL ? weight_of(r, name, 2, x->shape[x->n_dims - 1]) : NULL;
    if (w == NULL || !bias_of(r, name, w->shape[0], &b))
        return NULL;
    return nn_linear(r->nn, x, w, b);
}

struct nn_tensor *netlayer_group_norm(struct params_reader *r, struct nn_tensor *x, const char *name,
                                      int groups, double eps)
{
    if (x == NULL)
        return NULL;
    if (groups < 1 || x->shape[1] % groups != 0)
        return misfit(r, name, "is a norm whose groups do not divide the channels");
    struct nn_tensor *w = vector_of(r, name, "weight", x->shape[1]);
    struct nn_tensor *b = vector_of(r, name, "bias", x->shape[1]);
    return w != NULL && b != NULL ? nn_group_norm(r->nn, x, w, b, groups, eps) : NULL;
}

struct nn_tensor *netlayer_batch_norm(struct params_reader *r, struct nn_tensor *x, const char *name,
                                      double eps)
{
    if (x == NULL)
        return NULL;
    struct nn_tensor *w = vector_of(r, name, "weight", x->shape[1]);
    struct nn_tensor *b = vector_of(r, name, "bias", x->shape[1]);
    struct nn_tensor *mean = vector_of(r, name, "running_mean", x->shape[1]);
    struct nn_tensor *var = vector_of(r, name, "running_var", x->shape[1]);
    if (w == NULL || b == NULL || mean == NULL || var == NULL)
        return NULL;
    return nn_batch_norm(r->nn, x, w, b, mean->data, var->data, false, 0.1, eps);
}

struct nn_tensor *netlayer_norm_sample(struct params_reader *r, struct nn_tensor *x, const char *name,
                                       double eps)
{
    if (x == NULL)
        return NULL;
    int64_t n = x->n / x->shape[0];
    struct nn_tensor *w = vector_of(r, name, "weight", n), *b = vector_of(r, name, "bias", n);
    if (w == NULL || b == NULL)
        return NULL;
    struct nn_tensor *flat = nn_reshape(r->nn, x, 2, (const int64_t[]){x->shape[0], n});
    flat = nn_layer_norm(r->nn, flat, nn_reshape(r->nn, w, 1, &n), nn_reshape(r->nn, b, 1, &n), eps);
    return nn_reshape(r->nn, flat, x->n_dims, x->shape);
}

struct nn_tensor *netlayer_rows(struct params_reader *r, const int32_t *label, int64_t b, const char *name)
{
    char full[200];
    snprintf(full, sizeof full, "%s.weight", name);
    const struct param *p = params_find(r->set, full);
    if (p == NULL || p->n_dims != 2)
        return misfit(r, full, "is missing");
    for (int64_t i = 0; i < b; i++)
        if (label[i] < 0 || label[i] >= p->shape[0])
            return misfit(r, full, "has no row of that number");
    return nn_embedding(r->nn, label, 1, &b, params_maybe(r->set, r->nn, "%s", full));
}

struct nn_tensor *netlayer_act(struct params_reader *r, struct nn_tensor *x, enum nn_act act)
{
    return x != NULL ? nn_activation(r->nn, x, act, 0) : NULL;
}

struct nn_tensor *netlayer_add(struct params_reader *r, struct nn_tensor *a, struct nn_tensor *b)
{
    if (a == NULL || b == NULL)
        return NULL;
    if (a->n != b->n)
        return misfit(r, "of a sum", "has another size than the other");
    return nn_add(r->nn, a, b);
}

struct nn_tensor *netlayer_up2(struct params_reader *r, struct nn_tensor *x)
{
    return x != NULL ? nn_upsample_nearest2(r->nn, x) : NULL;
}

struct nn_tensor *netlayer_max_pool2(struct params_reader *r, struct nn_tensor *x)
{
    if (x == NULL)
        return NULL;
    int64_t h = x->shape[2] / 2, w = x->shape[3] / 2;
    struct nn_tensor *y = nn_new(r->nn, 4, (const int64_t[]){x->shape[0], x->shape[1], h, w});
    for (int64_t p = 0; p < x->shape[0] * x->shape[1]; p++)
        for (int64_t i = 0; i < h * w; i++) {
            const float *at = x->data + p * x->shape[2] * x->shape[3] + i / w * 2 * x->shape[3] + i % w * 2;
            float a = at[0] > at[1] ? at[0] : at[1];
            const float *below = at + x->shape[3];
            float b = below[0] > below[1] ? below[0] : below[1];
            y->data[p * h * w + i] = a > b ? a : b;
        }
    return y;
}

struct nn_tensor *netlayer_shape(struct params_reader *r, struct nn_tensor *x, int n_dims,
                                 const int64_t *shape)
{
    int64_t n = 1;
    for (int i = 0; i < n_dims; i++)
        n *= shape[i];
    if (x == NULL)
        return NULL;
    return n == x->n ? nn_reshape(r->nn, x, n_dims, shape)
                     : misfit(r, "of a layer", "has a size that fits no picture");
}
