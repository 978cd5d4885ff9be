/* imageupscale.c - rows of the upscalers. */
#include "workers/models/imagerows.h"

#include "workers/models/upscaler.h"

#include <stdlib.h>

static bool is_rrdb(const struct params *w)
{
    return params_find(w, "conv_first.weight") != NULL ||
           (params_find(w, "model.0.weight") != NULL &&
            params_find(w, "model.1.sub.0.RDB1.conv1.0.weight") != NULL);
}

static bool is_srvgg(const struct params *w)
{
    const struct param *first = params_find(w, "body.0.weight"), *slope = params_find(w, "body.1.weight");
    return first != NULL && first->n_dims == 4 && slope != NULL && slope->n_dims == 1;
}

static int upscaler_open(struct imagepart *p, struct err *err)
{
    struct upscaler *u = p->state = calloc(1, sizeof *u);
    if (u == NULL)
        return err_set(err, ERR_NOMEM, "no memory for %s", p->name);
    TRY(upscaler_describe(u, &p->w, p->file, err));
    p->facts = (struct imagefacts){.channels_in = 3, .channels_out = 3, .patch = u->unshuffle,
                                   .scale = u->scale, .reach = u->reach};
    return ERR_OK;
}

static int upscaler_run(struct imagepart *p, struct nn *nn, const struct imagetensors *in,
                        struct imagetensors *out, struct err *err)
{
    const struct upscaler *u = p->state;
    struct nn_tensor *x;
    bool spelled = imagetensors_find(in, "in") == NULL && imagetensors_find(in, "input") != NULL;
    TRY(imageinput_tensor(nn, in, spelled ? "input" : "in", true, 4, (const int64_t[]){0, 3, 0, 0}, &x,
                          err));
    if (x->shape[2] % u->unshuffle != 0 || x->shape[3] % u->unshuffle != 0)
        return err_set(err, ERR_INVAL, "%s: a picture of %lld x %lld; sides must be multiples of %d",
                       p->file, (long long)x->shape[3], (long long)x->shape[2], u->unshuffle);
    TRY(imageinput_parts(nn, x->shape[0], err));
    imageoutput(out, spelled ? "output" : "out", upscaler_forward(nn, u, &p->w, x));
    return ERR_OK;
}

const struct imagefamily imagefamily_rrdb = {
    .kind = "RRDBNet", .role = IMAGE_UPSCALER, .recognise = is_rrdb, .open = upscaler_open,
    .run = upscaler_run, .input = {{"in", NULL, true}, {"input", NULL, true}}};
const struct imagefamily imagefamily_srvgg = {
    .kind = "SRVGGNetCompact", .role = IMAGE_UPSCALER, .recognise = is_srvgg, .open = upscaler_open,
    .run = upscaler_run, .input = {{"in", NULL, true}, {"input", NULL, true}}};
