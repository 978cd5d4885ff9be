#include "workers/models/netparts.h"

#include <stdio.h>
#include <string.h>

int netparts_size(const json_t *config, const char *key, int otherwise, int least, int most, int *out,
                  const char *file, struct err *err)
{
    const json_t *v = json_object_get(config, key);
    json_int_t n = json_is_integer(v) ? json_integer_value(v) : otherwise;
    if (n < least || n > most)
        return err_set(err, ERR_FORMAT, "%s: %s is %lld, expected %d to %d", file, key, (long long)n,
                       least, most);
    *out = (int)n;
    return ERR_OK;
}

int netparts_expect_linear(const struct params *w, const char *prefix, const char *name, int out, int in,
                           const char *file, struct err *err)
{
    char full[256];
    snprintf(full, sizeof full, "%s%s.weight", prefix, name);
    TRY(params_expect(w, full, file, err, 2, out, in));
    snprintf(full, sizeof full, "%s%s.bias", prefix, name);
    return params_expect(w, full, file, err, 1, out);
}

struct nn_tensor *netparts_linear(struct params_reader *r, struct nn_tensor *x, const char *name)
{
    struct nn_tensor *bias = params_get(r, "%s.bias", name);
    char full[160];
    int64_t shape[NN_DIMS_MAX];
    if (!r->set->fixed)
        return nn_linear(r->nn, x, params_get(r, "%s.weight", name), bias);
    snprintf(full, sizeof full, "%s.weight", name);
    const struct nn_packed *w = params_packed(r, full);
    memcpy(shape, x->shape, sizeof shape);
    if (w != NULL)
        shape[x->n_dims - 1] = w->n;
    struct nn_tensor *y = nn_new(r->nn, x->n_dims, shape);
    if (w != NULL && w->n > 0)
        nn_packed_product(r->nn, w, NULL, bias->data, x->data, x->n / w->k, y->data, 0);
    return y;
}

struct nn_tensor *netparts_two_linears(struct params_reader *r, struct nn_tensor *x, const char *name,
                                       enum nn_act act)
{
    char full[160];
    snprintf(full, sizeof full, "%s.linear_1", name);
    x = nn_activation(r->nn, netparts_linear(r, x, full), act, 0);
    snprintf(full, sizeof full, "%s.linear_2", name);
    return netparts_linear(r, x, full);
}

struct nn_tensor *netparts_chunk(struct nn *nn, struct nn_tensor *m, int d, int i)
{
    return nn_slice(nn, m, 1, (int64_t)i * d, (int64_t)(i + 1) * d);
}

struct nn_tensor *netparts_adaptive(struct nn *nn, struct nn_tensor *x, struct nn_tensor *scale,
                                    struct nn_tensor *shift, double eps)
{
    return nn_modulate(nn, nn_layer_norm(nn, x, NULL, NULL, eps), scale, shift);
}

struct nn_tensor *netparts_patches(struct params_reader *r, struct nn_tensor *x, const char *name,
                                   int patch)
{
    struct nn_tensor *w = params_get(r, "%s.weight", name);
    const int64_t flat[2] = {w->shape[0], w->n / w->shape[0]};
    return nn_linear(r->nn, nn_patchify(r->nn, x, patch), nn_reshape(r->nn, w, 2, flat),
                     params_get(r, "%s.bias", name));
}
