/* DCGAN: a numbered sequence of layers. */
#include "workers/models/ganparts.h"

#include <stdio.h>

enum { LAYERS_MAX = 64 };
static const double LEAK = 0.2;

/* Number of the last convolution; -1 when there is none. */
static int last_convolution(struct gan_run *r, const char *stem)
{
    int last = -1;
    for (int i = 0; i < LAYERS_MAX; i++) {
        char prefix[32];
        snprintf(prefix, sizeof prefix, "%s%d.", stem, i);
        if (ganparts_is_convolution(ganparts_find(r, prefix, "weight")))
            last = i;
    }
    if (last < 0)
        ganparts_wants(r, stem, "0.weight");
    return last;
}

static struct nn_tensor *dcgan_convolution(struct gan_run *r, const char *prefix, struct nn_tensor *x,
                                           bool transposed, bool edge)
{
    const struct param *p = ganparts_find(r, prefix, "weight");
    int64_t side = x->shape[2];
    int stride = edge ? 1 : 2, padding = edge ? 0 : 1;
    if (p->shape[transposed ? 0 : 1] != x->shape[1] ||
        (!transposed && side + 2 * padding < p->shape[2])) {
        ganparts_wants(r, prefix, "weight");
        return x;
    }
    struct nn_tensor *w = ganparts_get(r, prefix, "weight");
    struct nn_tensor *b = ganparts_optional_bias(r, prefix, p->shape[transposed ? 1 : 0]);
    return transposed ? nn_conv_transpose2d(r->nn, x, w, b, stride, padding, 0)
                      : nn_conv2d(r->nn, x, w, b, stride, padding, 1);
}

/* Layers are main.0, main.1, .. or 0, 1, .. */
static int dcgan(const struct gan_net *net, struct nn_tensor *x, bool generator, struct nn_tensor **out,
                 struct err *err)
{
    struct gan_run r = ganparts_run(net, err);
    const char *stem = ganparts_find(&r, "0.", "weight") != NULL ? "" : "main.";
    int last = last_convolution(&r, stem);
    for (int i = 0; i <= last && r.rc == ERR_OK; i++) {
        char prefix[32], next[32];
        snprintf(prefix, sizeof prefix, "%s%d.", stem, i);
        snprintf(next, sizeof next, "%s%d.", stem, i + 1);
        if (!ganparts_is_convolution(ganparts_find(&r, prefix, "weight")))
            continue;
        x = dcgan_convolution(&r, prefix, x, generator, generator ? i == 0 : i == last);
        if (r.rc == ERR_OK && ganparts_find(&r, next, "running_mean") != NULL)
            x = ganparts_batch_norm(&r, next, x, 1e-5, true);
        if (i < last)
            x = nn_activation(net->nn, x, generator ? NN_RELU : NN_LEAKY_RELU, LEAK);
        else if (generator)
            x = nn_activation(net->nn, x, NN_TANH, 0);
    }
    *out = x;
    return r.rc;
}

int dcgan_generator(const struct gan_net *net, struct nn_tensor *z, struct nn_tensor **image,
                    struct err *err)
{
    return dcgan(net, z, true, image, err);
}

int dcgan_discriminator(const struct gan_net *net, struct nn_tensor *x, struct nn_tensor **logit,
                        struct err *err)
{
    return dcgan(net, x, false, logit, err);
}
