/* imagegans.c - rows of the generators and discriminators. */
#include "workers/models/imagerows.h"

#include "workers/models/gan.h"

#include <stdio.h>

static bool has(const struct params *w, const char *name) { return params_find(w, name) != NULL; }

static int64_t size_of(const struct params *w, const char *name, int axis)
{
    const struct param *p = params_find(w, name);
    return p != NULL && axis < p->n_dims ? p->shape[axis] : 0;
}

/* The shared end of a generator's run: tanh pictures. */
static int give_image(struct nn_tensor *image, struct imagetensors *out)
{
    imageoutput(out, "image", image);
    return ERR_OK;
}

/* Logits [b, ..] -> [b] or as they are, and their sigmoid. */
static int give_logit(struct nn *nn, struct nn_tensor *logit, bool flat, struct imagetensors *out)
{
    if (flat)
        logit = nn_reshape(nn, logit, 1, logit->shape);
    imageoutput(out, "logit", logit);
    imageoutput(out, "probability", nn_activation(nn, logit, NN_SIGMOID, 0));
    return ERR_OK;
}

/* --- DCGAN: layers main.N or N; the norm after a generator's first counts the weight's second axis */

static const struct param *dcgan_layer(const struct params *w, int i, const char *what)
{
    char name[48];
    snprintf(name, sizeof name, "%s%d.%s", has(w, "main.0.weight") ? "main." : "", i, what);
    return params_find(w, name);
}

static bool is_dcgan(const struct params *w, bool generator)
{
    const struct param *p = dcgan_layer(w, 0, "weight"), *mean = dcgan_layer(w, 1, "running_mean");
    if (p == NULL || p->n_dims != 4)
        return false;
    if (generator)
        return mean != NULL && mean->n == p->shape[1];
    return mean == NULL && dcgan_layer(w, 3, "running_mean") != NULL;
}

static bool is_dcgan_generator(const struct params *w) { return is_dcgan(w, true); }
static bool is_dcgan_discriminator(const struct params *w) { return is_dcgan(w, false); }

/* Sides: 4 after the first layer, twice that after each further one. */
static int dcgan_side(const struct params *w, int *channels)
{
    int side = 0;
    for (int i = 0; i < 64; i++) {
        const struct param *p = dcgan_layer(w, i, "weight");
        if (p == NULL || p->n_dims != 4)
            continue;
        side = side == 0 ? (int)p->shape[2] : side * 2;
        *channels = (int)p->shape[1];
    }
    return side;
}

static int dcgan_open_generator(struct imagepart *p, struct err *err)
{
    (void)err;
    p->facts.latent = (int)dcgan_layer(&p->w, 0, "weight")->shape[0];
    p->facts.side = dcgan_side(&p->w, &p->facts.channels_out);
    return ERR_OK;
}

static int dcgan_open_discriminator(struct imagepart *p, struct err *err)
{
    (void)err;
    p->facts.channels_in = (int)dcgan_layer(&p->w, 0, "weight")->shape[1];
    return ERR_OK;
}

static int dcgan_run_generator(struct imagepart *p, struct nn *nn, const struct imagetensors *in,
                               struct imagetensors *out, struct err *err)
{
    struct gan_net net = {nn, &p->w, p->file, false};
    struct nn_tensor *z, *image;
    const struct imagetensor *given = imagetensors_find(in, "z");
    struct imagetensors shaped = {.n = 0};
    if (given != NULL && given->n_dims == 2) {       /* [b, n] will do as well */
        const int64_t shape[4] = {given->shape[0], given->shape[1], 1, 1};
        imagetensors_put(&shaped, "z", given->data, 4, shape);
        in = &shaped;
    }
    TRY(imageinput_tensor(nn, in, "z", true, 4, (const int64_t[]){0, p->facts.latent, 1, 1}, &z, err));
    TRY(imageinput_parts(nn, z->shape[0], err));
    TRY(dcgan_generator(&net, z, &image, err));
    return give_image(image, out);
}

static int dcgan_run_discriminator(struct imagepart *p, struct nn *nn, const struct imagetensors *in,
                                   struct imagetensors *out, struct err *err)
{
    struct gan_net net = {nn, &p->w, p->file, false};
    struct nn_tensor *x, *logit;
    TRY(imageinput_tensor(nn, in, "image", true, 4, (const int64_t[]){0, p->facts.channels_in, 0, 0}, &x,
                          err));
    TRY(imageinput_parts(nn, x->shape[0], err));
    TRY(dcgan_discriminator(&net, x, &logit, err));
    return give_logit(nn, logit, logit->n == logit->shape[0], out);
}

const struct imagefamily imagefamily_dcgan_generator = {
    .kind = "DCGAN generator", .role = IMAGE_GENERATOR, .recognise = is_dcgan_generator,
    .open = dcgan_open_generator, .run = dcgan_run_generator, .input = {{"z", NULL, true}}};
const struct imagefamily imagefamily_dcgan_discriminator = {
    .kind = "DCGAN discriminator", .role = IMAGE_DISCRIMINATOR, .recognise = is_dcgan_discriminator,
    .open = dcgan_open_discriminator, .run = dcgan_run_discriminator, .input = {{"image", NULL, true}}};

/* --- residual GAN, in the layouts of gan.h */

static bool is_resgan_generator(const struct params *w)
{
    return has(w, "blocks.0.bn1.gain.weight") || has(w, "blocks.0.cbn1.gamma.weight");
}

static bool is_resgan_discriminator(const struct params *w)
{
    return has(w, "blocks.0.conv1.weight_orig") || (has(w, "blocks.0.conv1.u") && has(w, "blocks.0.conv1.v"));
}

/* Classes, or the width of a caption's embedding: what the network is told. */
static void resgan_condition(struct imagepart *p, bool generator)
{
    bool tables = generator ? has(&p->w, "blocks.0.bn1.gain.weight") : has(&p->w, "embed.weight_orig");
    if (tables)
        p->facts.classes = (int)size_of(
            &p->w, generator ? "blocks.0.bn1.gain.weight" : "embed.weight_orig", 0);
    else if (has(&p->w, "caption.weight"))
        p->facts.pooled_width = (int)size_of(&p->w, "caption.weight", 1);
    else
        p->facts.classes = (int)size_of(&p->w, "embed.weight", 0);
}

static int resgan_open_generator(struct imagepart *p, struct err *err)
{
    bool vector = has(&p->w, "blocks.0.cbn1.gamma.weight");
    const char *fc = vector ? "fc.weight" : "linear.weight";
    int64_t rows = size_of(&p->w, fc, 0), width = size_of(&p->w, "blocks.0.conv1.weight", 1), side = 1;
    if (rows == 0 || width == 0)
        return err_set(err, ERR_FORMAT, "%s: tensor %s is missing", p->file, fc);
    resgan_condition(p, true);
    /* the condition's vector is joined to z */
    int64_t joined = !vector ? 0 : size_of(&p->w, "blocks.0.cbn1.gamma.weight", 1);
    p->facts.latent = (int)(size_of(&p->w, fc, 1) - joined);
    p->facts.channels_out = (int)size_of(&p->w, vector ? "conv_out.weight" : "conv.weight", 0);
    while (side * side < rows / width)
        side++;
    for (int i = 0; i < 32; i++) {
        char name[64];
        snprintf(name, sizeof name, "blocks.%d.conv1.weight", i);
        side *= has(&p->w, name) ? 2 : 1;
    }
    p->facts.side = (int)side;
    return ERR_OK;
}

static int resgan_open_discriminator(struct imagepart *p, struct err *err)
{
    (void)err;
    const char *first = has(&p->w, "blocks.0.conv1.weight_orig") ? "blocks.0.conv1.weight_orig"
                                                                  : "blocks.0.conv1.weight";
    p->facts.channels_in = (int)size_of(&p->w, first, 1);
    resgan_condition(p, false);
    return ERR_OK;
}

static int read_condition(const struct imagepart *p, struct nn *nn, const struct imagetensors *in, int64_t b,
                          struct gan_condition *y, struct err *err)
{
    int32_t *labels = NULL;
    int width = p->facts.pooled_width;
    *y = (struct gan_condition){NULL, NULL};
    if (width > 0)
        return imageinput_tensor(nn, in, "caption", true, 2, (const int64_t[]){b, width}, &y->caption, err);
    TRY(imageinput_whole(nn, in, "labels", true, b, p->facts.classes, &labels, err));
    y->labels = labels;
    return ERR_OK;
}

static int resgan_run_generator(struct imagepart *p, struct nn *nn, const struct imagetensors *in,
                                struct imagetensors *out, struct err *err)
{
    struct gan_net net = {nn, &p->w, p->file, false};
    struct gan_condition y;
    struct nn_tensor *z, *image;
    TRY(imageinput_tensor(nn, in, "z", true, 2, (const int64_t[]){0, p->facts.latent}, &z, err));
    TRY(read_condition(p, nn, in, z->shape[0], &y, err));
    TRY(imageinput_parts(nn, z->shape[0], err));
    TRY(resgan_generator(&net, z, &y, &image, err));
    return give_image(image, out);
}

static int resgan_run_discriminator(struct imagepart *p, struct nn *nn, const struct imagetensors *in,
                                    struct imagetensors *out, struct err *err)
{
    struct gan_net net = {nn, &p->w, p->file, false};
    struct gan_condition y;
    struct nn_tensor *x, *logit, *none;
    TRY(imageinput_tensor(nn, in, "image", true, 4, (const int64_t[]){0, p->facts.channels_in, 0, 0}, &x,
                          err));
    TRY(read_condition(p, nn, in, x->shape[0], &y, err));
    TRY(imageinput_parts(nn, x->shape[0], err));
    TRY(resgan_discriminator(&net, x, &y, NULL, &logit, &none, err));
    return give_logit(nn, logit, false, out);
}

const struct imagefamily imagefamily_resgan_generator = {
    .kind = "residual GAN generator", .role = IMAGE_GENERATOR, .recognise = is_resgan_generator,
    .open = resgan_open_generator, .run = resgan_run_generator,
    .input = {{"z", NULL, true}, {"labels", "labels", false}, {"caption", "caption", false}}};
const struct imagefamily imagefamily_resgan_discriminator = {
    .kind = "residual GAN discriminator", .role = IMAGE_DISCRIMINATOR,
    .recognise = is_resgan_discriminator, .open = resgan_open_discriminator,
    .run = resgan_run_discriminator,
    .input = {{"image", NULL, true}, {"labels", "labels", false}, {"caption", "caption", false}}};
