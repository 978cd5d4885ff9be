/* lenet.c - LeNet-5 as a scorer of digits, and its row.
 * Source: LeCun et al. 1998; csinva/gan-vae-pretrained-pytorch (mnist_classifier).
 * Shapes: image [b, 1, h, w] in 0..1, resized to 32 x 32 -> features [b, 120], logits [b, 10].
 * Ranks:  not collective. */
#include "workers/models/imagerows.h"

#include "workers/models/netlayers.h"

enum { SIDE = 32 };

static bool is_lenet(const struct params *w)
{
    return params_find(w, "convnet.c1.weight") != NULL && params_find(w, "fc.f7.weight") != NULL;
}

static int lenet_open(struct imagepart *p, struct err *err)
{
    const struct param *last = params_find(&p->w, "fc.f7.weight"),
                       *c1 = params_find(&p->w, "convnet.c1.weight");
    if (last->n_dims != 2 || c1->n_dims != 4)
        return err_set(err, ERR_FORMAT, "%s: fc.f7.weight or convnet.c1.weight is of another kind",
                       p->file);
    p->facts.classes = (int)last->shape[0];
    p->facts.channels_in = (int)c1->shape[1];
    p->facts.side = SIDE;
    return ERR_OK;
}

/* Where place i of SIDE lies among n: the left neighbour, and how far it is to the next. Half-pixel
 * centres; past the edges the edge goes on. */
static int64_t source(int64_t n, int64_t i, float *share)
{
    float at = ((float)i + 0.5f) * (float)n / SIDE - 0.5f;
    at = at < 0 ? 0 : at;
    int64_t left = (int64_t)at < n - 1 ? (int64_t)at : n - 1;
    *share = left < n - 1 ? at - (float)left : 0;
    return left;
}

static struct nn_tensor *resize(struct nn *nn, const struct nn_tensor *x)
{
    int64_t h = x->shape[2], w = x->shape[3];
    struct nn_tensor *y = nn_new(nn, 4, (const int64_t[]){x->shape[0], x->shape[1], SIDE, SIDE});
    for (int64_t i = 0; i < y->n; i++) {
        float fy, fx;
        int64_t y0 = source(h, i / SIDE % SIDE, &fy), x0 = source(w, i % SIDE, &fx);
        const float *from = x->data + i / (SIDE * SIDE) * h * w + y0 * w + x0;
        int64_t right = x0 < w - 1, down = y0 < h - 1 ? w : 0;
        float top = from[0] + (from[right] - from[0]) * fx;
        float bottom = from[down] + (from[down + right] - from[down]) * fx;
        y->data[i] = top + (bottom - top) * fy;
    }
    return y;
}

static int lenet_run(struct imagepart *p, struct nn *nn, const struct imagetensors *in,
                     struct imagetensors *out, struct err *err)
{
    struct params_reader r = {&p->w, nn, p->file, err, ERR_OK};
    struct nn_tensor *x;
    TRY(imageinput_tensor(nn, in, "image", true, 4,
                          (const int64_t[]){0, p->facts.channels_in, 0, 0}, &x, err));
    int64_t b = x->shape[0];
    TRY(imageinput_parts(nn, b, err));
    x = netlayer_act(&r, netlayer_conv(&r, resize(nn, x), "convnet.c1", 1, 0), NN_RELU);
    x = netlayer_act(&r, netlayer_conv(&r, netlayer_max_pool2(&r, x), "convnet.c3", 1, 0), NN_RELU);
    x = netlayer_act(&r, netlayer_conv(&r, netlayer_max_pool2(&r, x), "convnet.c5", 1, 0), NN_RELU);
    struct nn_tensor *features =
        netlayer_shape(&r, x, 2, (const int64_t[]){b, x != NULL ? x->n / b : 0});
    x = netlayer_linear(&r, netlayer_act(&r, netlayer_linear(&r, features, "fc.f6"), NN_RELU),
                        "fc.f7");
    if (x == NULL)
        return r.rc;
    imageoutput(out, "features", features);
    imageoutput(out, "logits", x);
    imageoutput(out, "probability", nn_softmax(nn, x));
    return ERR_OK;
}

const struct imagefamily imagefamily_lenet = {.kind = "LeNet",
                                              .role = IMAGE_SCORER,
                                              .recognise = is_lenet,
                                              .open = lenet_open,
                                              .run = lenet_run,
                                              .input = {{"image", NULL, true}}};
