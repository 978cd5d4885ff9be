/* digitgans.c - two small generators of digits, and their rows: linear layers alone, and upsampling
 * convolutions told by a class.
 * Source: csinva/gan-vae-pretrained-pytorch (mnist_gan_mlp); HayatoHongo/MNIST-Conditional-WGAN-gp.
 * Shapes: z [b, n], labels [b] -> image [b, 1, h, h] in -1..1.
 * Ranks:  not collective. */
#include "workers/models/imagerows.h"

#include "workers/models/netlayers.h"

#include <stdio.h>

enum { LAYERS_MAX = 64 };
/* The second is what the published network was trained with: its author meant a momentum. */
static const double FIRST_EPS = 1e-5, EPS = 0.8;

static const struct param *matrix(const struct params *w, int i)
{
    char name[32];
    snprintf(name, sizeof name, "%d.weight", i);
    const struct param *p = params_find(w, name);
    return p != NULL && p->n_dims == 2 ? p : NULL;
}

static int64_t root_of(int64_t area)
{
    int64_t side = 0;
    while (side * side < area)
        side++;
    return side * side == area ? side : 0;
}

/* --- linear layers 0, 2, 4, .. with ReLU between, tanh at the end */

static bool is_mlp(const struct params *w)
{
    return matrix(w, 0) != NULL && matrix(w, 2) != NULL;
}

static int mlp_open(struct imagepart *p, struct err *err)
{
    int64_t area = 0;
    for (int i = 0; i < LAYERS_MAX; i += 2)
        area = matrix(&p->w, i) != NULL ? matrix(&p->w, i)->shape[0] : area;
    p->facts.latent = (int)matrix(&p->w, 0)->shape[1];
    p->facts.side = (int)root_of(area);
    p->facts.channels_out = 1;
    return p->facts.side > 0 ? ERR_OK
                             : err_set(err, ERR_FORMAT, "%s: %lld outputs are no square picture",
                                       p->file, (long long)area);
}

static int mlp_run(struct imagepart *p, struct nn *nn, const struct imagetensors *in,
                   struct imagetensors *out, struct err *err)
{
    struct params_reader r = {&p->w, nn, p->file, err, ERR_OK};
    struct nn_tensor *x;
    char name[16];
    TRY(imageinput_tensor(nn, in, "z", true, 2, (const int64_t[]){0, p->facts.latent}, &x, err));
    int64_t b = x->shape[0];
    TRY(imageinput_parts(nn, b, err));
    for (int i = 0; i < LAYERS_MAX && matrix(&p->w, i) != NULL; i += 2) {
        snprintf(name, sizeof name, "%d", i);
        x = netlayer_linear(&r, i > 0 ? netlayer_act(&r, x, NN_RELU) : x, name);
    }
    x = netlayer_shape(&r, netlayer_act(&r, x, NN_TANH), 4,
                       (const int64_t[]){b, 1, p->facts.side, p->facts.side});
    if (x == NULL)
        return r.rc;
    imageoutput(out, "image", x);
    return ERR_OK;
}

const struct imagefamily imagefamily_gan_mlp = {.kind = "GAN of linear layers",
                                                .role = IMAGE_GENERATOR,
                                                .recognise = is_mlp,
                                                .open = mlp_open,
                                                .run = mlp_run,
                                                .input = {{"z", NULL, true}}};

/* --- a class's row beside z, then convolutions */

static bool is_digits(const struct params *w)
{
    return params_find(w, "label_emb.weight") != NULL && params_find(w, "l1.0.weight") != NULL &&
           params_find(w, "conv_blocks.9.weight") != NULL;
}

static int digits_open(struct imagepart *p, struct err *err)
{
    const struct param *labels = params_find(&p->w, "label_emb.weight");
    const struct param *first = params_find(&p->w, "l1.0.weight");
    const struct param *norm = params_find(&p->w, "conv_blocks.0.weight");
    if (labels->n_dims != 2 || first->n_dims != 2 || norm == NULL || norm->n < 1 ||
        first->shape[1] <= labels->shape[1] || first->shape[0] % norm->n != 0 ||
        root_of(first->shape[0] / norm->n) == 0)
        return err_set(err, ERR_FORMAT,
                       "%s: l1.0.weight does not fit label_emb.weight and conv_blocks.0", p->file);
    p->facts.classes = (int)labels->shape[0];
    p->facts.latent = (int)(first->shape[1] - labels->shape[1]);
    p->facts.side = 4 * (int)root_of(first->shape[0] / norm->n);
    p->facts.channels_out = 1;
    return ERR_OK;
}

static struct nn_tensor *digits_forward(struct params_reader *r, struct nn_tensor *z,
                                        const int32_t *labels, int side)
{
    int64_t b = z->shape[0];
    struct nn_tensor *rows = netlayer_rows(r, labels, b, "label_emb");
    struct nn_tensor *x =
        rows != NULL ? netlayer_linear(r, nn_concat(r->nn, z, rows, 1), "l1.0") : NULL;
    int64_t channels = x != NULL ? x->shape[1] * 16 / (side * side) : 0;
    x = netlayer_shape(r, x, 4, (const int64_t[]){b, channels, side / 4, side / 4});
    x = netlayer_up2(r, netlayer_batch_norm(r, x, "conv_blocks.0", FIRST_EPS));
    x = netlayer_batch_norm(r, netlayer_conv(r, x, "conv_blocks.2", 1, 1), "conv_blocks.3", EPS);
    x = netlayer_up2(r, netlayer_act(r, x, NN_RELU));
    x = netlayer_batch_norm(r, netlayer_conv(r, x, "conv_blocks.6", 1, 1), "conv_blocks.7", EPS);
    x = netlayer_conv(r, netlayer_act(r, x, NN_RELU), "conv_blocks.9", 1, 1);
    return netlayer_act(r, x, NN_TANH);
}

static int digits_run(struct imagepart *p, struct nn *nn, const struct imagetensors *in,
                      struct imagetensors *out, struct err *err)
{
    struct params_reader r = {&p->w, nn, p->file, err, ERR_OK};
    struct nn_tensor *z;
    int32_t *labels;
    TRY(imageinput_tensor(nn, in, "z", true, 2, (const int64_t[]){0, p->facts.latent}, &z, err));
    TRY(imageinput_whole(nn, in, "labels", true, z->shape[0], p->facts.classes, &labels, err));
    TRY(imageinput_parts(nn, z->shape[0], err));
    struct nn_tensor *x = digits_forward(&r, z, labels, p->facts.side);
    if (x == NULL)
        return r.rc;
    imageoutput(out, "image", x);
    return ERR_OK;
}

const struct imagefamily imagefamily_gan_digits = {
    .kind = "GAN of digits by class",
    .role = IMAGE_GENERATOR,
    .recognise = is_digits,
    .open = digits_open,
    .run = digits_run,
    .input = {{"z", NULL, true}, {"labels", "labels", false}}};
