/* imagediffusion.c - rows of the diffusers folders: text encoders and denoisers. */
#include "workers/models/imagerows.h"

#include "workers/models/cliptext.h"
#include "workers/models/mmdit.h"
#include "workers/models/pixart.h"

#include <stdlib.h>

/* The family's own struct, freed with the part. */
static int take_state(struct imagepart *p, size_t bytes, struct err *err)
{
    p->state = calloc(1, bytes);
    return p->state != NULL ? ERR_OK : err_set(err, ERR_NOMEM, "no memory for %s", p->name);
}

/* --- CLIP */

static int clip_open(struct imagepart *p, struct err *err)
{
    TRY(take_state(p, sizeof(struct cliptext_config), err));
    struct cliptext_config *c = p->state;
    TRY(cliptext_config_read(c, p->config, p->file, err));
    p->facts = (struct imagefacts){.tokens = c->positions, .vocab = c->vocab, .text_width = c->width,
                                   .pooled_width = c->projection, .layers = c->layers,
                                   .heads = c->heads, .bos = c->bos, .eos = c->eos, .pad = c->pad};
    return ERR_OK;
}

static int clip_run(struct imagepart *p, struct nn *nn, const struct imagetensors *in,
                    struct imagetensors *out, struct err *err)
{
    const struct cliptext_config *c = p->state;
    struct nn_tensor *shape;
    struct cliptext_out text;
    int32_t *ids;
    TRY(imageinput_tensor(nn, in, "ids", true, 2, (const int64_t[]){0, 0}, &shape, err));
    TRY(imageinput_whole(nn, in, "ids", true, shape->n, c->vocab, &ids, err));
    TRY(imageinput_parts(nn, shape->shape[0], err));
    TRY(cliptext_forward(nn, c, &p->w, p->file, ids, shape->shape[0], shape->shape[1], &text, err));
    imageoutput(out, "hidden", text.hidden);
    imageoutput(out, "pooled", text.pooled);
    if (text.embeds != NULL)
        imageoutput(out, "text_embeds", text.embeds);
    if (imagetensors_find(in, "penultimate") != NULL)
        imageoutput(out, "penultimate", text.penultimate);
    return ERR_OK;
}

const struct imagefamily imagefamily_clip = {
    .kind = "CLIPTextModel", .role = IMAGE_TEXT, .prefix = "text", .open = clip_open, .run = clip_run,
    .input = {{"ids", "ids", true}}};
const struct imagefamily imagefamily_clip_projected = {
    .kind = "CLIPTextModelWithProjection", .role = IMAGE_TEXT, .prefix = "text", .open = clip_open,
    .run = clip_run, .input = {{"ids", "ids", true}}};

/* --- SD3 */

static int mmdit_open(struct imagepart *p, struct err *err)
{
    TRY(take_state(p, sizeof(struct mmdit_config), err));
    struct mmdit_config *c = p->state;
    TRY(mmdit_config_read(c, p->config, p->file, err));
    TRY(mmdit_check(c, &p->w, p->file, err));
    p->facts = (struct imagefacts){
        .channels_in = c->in_channels, .channels_out = c->out_channels, .patch = c->patch,
        .side = c->sample, .side_max = c->positions * c->patch, .text_width = c->joint,
        .pooled_width = c->pooled, .layers = c->layers, .heads = c->heads, .head_dim = c->head_dim};
    return ERR_OK;
}

static int mmdit_first(struct imagepart *p, struct nn *nn, const struct imagetensors *in, struct netrows *h,
                       struct err *err)
{
    const struct mmdit_config *c = p->state;
    struct params_reader r = imagepart_reader(p, nn, err);
    struct nn_tensor *x, *context, *pooled;
    double *times;
    TRY(imageinput_tensor(nn, in, "in", true, 4, (const int64_t[]){0, c->in_channels, 0, 0}, &x, err));
    int64_t b = x->shape[0];
    TRY(imageinput_doubles(nn, in, "t", true, b, &times, err));
    TRY(imageinput_tensor(nn, in, "context", true, 3, (const int64_t[]){b, 0, c->joint}, &context, err));
    TRY(imageinput_tensor(nn, in, "pooled", true, 2, (const int64_t[]){b, c->pooled}, &pooled, err));
    TRY(imageinput_parts(nn, b, err));
    return mmdit_begin(&r, c, x, times, context, pooled, h);
}

static int mmdit_middle(struct imagepart *p, struct nn *nn, const struct netshard_held *held,
                        struct netrows *h, struct err *err)
{
    const struct mmdit_config *c = p->state;
    struct params_reader r = imagepart_reader(p, nn, err);
    r.shard = held != NULL ? held->shard : NULL;
    return mmdit_layers(&r, c, held != NULL ? held->first : 0, held != NULL ? held->end : c->layers, h);
}

static int mmdit_last(struct imagepart *p, struct nn *nn, const struct netrows *h, int rows, int cols,
                      struct nn_tensor **out, struct err *err)
{
    struct params_reader r = imagepart_reader(p, nn, err);
    return mmdit_end(&r, p->state, h, rows, cols, out);
}

static int mmdit_extra(const struct imagepart *p, int text_tokens) { return 1; }

static const struct imagesplit mmdit_split = {mmdit_first, mmdit_middle, mmdit_last, mmdit_extra};

const struct imagefamily imagefamily_mmdit = {
    .kind = "SD3Transformer2DModel", .role = IMAGE_DENOISER, .prefix = "mmdit", .open = mmdit_open,
    .run = imagesplit_run, .split = &mmdit_split,
    .input = {{"in", NULL, true}, {"t", "t", false}, {"context", "text.hidden", false},
              {"pooled", "text.text_embeds", false}}};

/* --- PixArt */

static int pixart_open(struct imagepart *p, struct err *err)
{
    TRY(take_state(p, sizeof(struct pixart_config), err));
    struct pixart_config *c = p->state;
    TRY(pixart_config_read(c, p->config, p->file, err));
    TRY(pixart_check(c, &p->w, p->file, err));
    p->facts = (struct imagefacts){
        .channels_in = c->in_channels, .channels_out = c->out_channels, .patch = c->patch,
        .side = c->sample, .text_width = c->caption, .layers = c->layers, .heads = c->heads,
        .head_dim = c->head_dim};
    return ERR_OK;
}

static int pixart_first(struct imagepart *p, struct nn *nn, const struct imagetensors *in,
                        struct netrows *h, struct err *err)
{
    const struct pixart_config *c = p->state;
    struct params_reader r = imagepart_reader(p, nn, err);
    struct pixart_input i = {0};
    int32_t *keep;
    double *times, *resolution, *aspect;
    TRY(imageinput_tensor(nn, in, "in", true, 4, (const int64_t[]){0, c->in_channels, 0, 0}, &i.x, err));
    int64_t b = i.x->shape[0];
    TRY(imageinput_doubles(nn, in, "t", true, b, &times, err));
    TRY(imageinput_tensor(nn, in, "context", true, 3, (const int64_t[]){b, 0, c->caption}, &i.caption,
                          err));
    int64_t l = i.caption->shape[1];
    TRY(imageinput_whole(nn, in, "mask", false, b * l, 2, &keep, err));
    TRY(imageinput_doubles(nn, in, "resolution", c->sizes, 2 * b, &resolution, err));
    TRY(imageinput_doubles(nn, in, "aspect_ratio", c->sizes, b, &aspect, err));
    if (keep != NULL) {
        uint8_t *mask = nn_take(nn, (size_t)(b * l));
        for (int64_t k = 0; k < b * l; k++)
            mask[k] = (uint8_t)keep[k];
        i.mask = mask;
    }
    i.time = times;
    i.resolution = resolution;
    i.aspect = aspect;
    TRY(imageinput_parts(nn, b, err));
    return pixart_begin(&r, c, &i, h);
}

static int pixart_middle(struct imagepart *p, struct nn *nn, const struct netshard_held *held,
                         struct netrows *h, struct err *err)
{
    const struct pixart_config *c = p->state;
    struct params_reader r = imagepart_reader(p, nn, err);
    r.shard = held != NULL ? held->shard : NULL;
    return pixart_layers(&r, c, held != NULL ? held->first : 0, held != NULL ? held->end : c->layers, h);
}

static int pixart_last(struct imagepart *p, struct nn *nn, const struct netrows *h, int rows, int cols,
                       struct nn_tensor **out, struct err *err)
{
    struct params_reader r = imagepart_reader(p, nn, err);
    return pixart_end(&r, p->state, h, rows, cols, out);
}

static int pixart_extra(const struct imagepart *p, int text_tokens)
{
    return pixart_extra_rows(p->state, text_tokens);
}

static const struct imagesplit pixart_split = {pixart_first, pixart_middle, pixart_last, pixart_extra};

const struct imagefamily imagefamily_pixart = {
    .kind = "PixArtTransformer2DModel", .role = IMAGE_DENOISER, .prefix = "dit", .open = pixart_open,
    .run = imagesplit_run, .split = &pixart_split,
    .input = {{"in", NULL, true}, {"t", "t", false}, {"context", "text.hidden", false},
              {"mask", "mask", false}, {"resolution", "resolution", false},
              {"aspect_ratio", "aspect_ratio", false}}};
