#include "workers/upscaleworker.h"

#include "workers/filehash.h"
#include "workers/kernels/linear.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { TILE_MAX = 8192 };

void upscaleworker_free(struct upscaleworker *u)
{
    if (u->loaded)
        nn_free(&u->nn);
    imagemodel_close(&u->model);
    free(u->in);
    free(u->out);
    memset(u, 0, sizeof *u);
}

int upscaleworker_load(struct upscaleworker *u, const Muster__UpscaleLoad *l, int threads,
                       Muster__UpscaleLoaded *done, struct err *err)
{
    int isa = isa_named(l->isa);
    upscaleworker_free(u);
    if (isa < 0 || (enum isa)isa > isa_detect())
        return err_set(err, ERR_PEER, "this rank cannot run instruction set '%s'", l->isa);
    TRY(imagemodel_open(&u->model, l->path, err));
    u->part = imagemodel_role(&u->model, IMAGE_UPSCALER);
    if (u->part == NULL)
        return err_set(err, ERR_FORMAT, "%s: no upscaler in it (RRDBNet and SRVGGNetCompact are known)",
                       l->path);
    TRY(imagepart_load(u->part, err));
    omp_set_num_threads(threads);
    linear_disable(l->refused, l->blas_tiles);
    team_init(&u->team, threads);
    nn_init(&u->nn, kernels_get((enum isa)isa), &u->team);
    u->loaded = true;
    const struct imagefacts *f = &u->part->facts;
    done->kind = (char *)(uintptr_t)imagepart_kind(u->part);
    done->scale = (uint32_t)f->scale;
    done->reach = (uint32_t)f->reach;
    done->multiple = f->patch > 1 ? (uint32_t)f->patch : 1;
    done->parameters = u->part->parameters;
    done->threads = (uint32_t)threads;
    char *const one[] = {u->part->path};
    return filehash_hex(one, 1, done->hash, err);
}

static int take_room(struct upscaleworker *u, size_t in, size_t out, struct err *err)
{
    if (u->in_cap < in) {
        free(u->in);
        u->in = malloc(in * sizeof *u->in);
        u->in_cap = u->in != NULL ? in : 0;
    }
    if (u->out_cap < out) {
        free(u->out);
        u->out = malloc(out);
        u->out_cap = u->out != NULL ? out : 0;
    }
    return u->in_cap >= in && u->out_cap >= out ? ERR_OK : err_set(err, ERR_NOMEM, "no memory for a tile");
}

struct call { struct upscaleworker *u; struct imagetensors in, out; int rc; struct err *err; };

static void forward(void *arg)
{
    struct call *c = arg;
    c->rc = imagepart_run(c->u->part, &c->u->nn, &c->in, &c->out, c->err);
}

/* 8-bit [n, h, w, 3] to [n, 3, h, w] in 0..1, and back. */
static void spread(float *out, const uint8_t *in, size_t n, size_t area)
{
    for (size_t s = 0; s < n; s++)
        for (size_t c = 0; c < 3; c++)
            for (size_t i = 0; i < area; i++)
                out[(s * 3 + c) * area + i] = (float)in[(s * area + i) * 3 + c] / 255;
}

static void gather(uint8_t *out, const float *in, size_t n, size_t area)
{
    for (size_t s = 0; s < n; s++)
        for (size_t c = 0; c < 3; c++)
            for (size_t i = 0; i < area; i++) {
                float v = in[(s * 3 + c) * area + i] * 255 + 0.5f;
                out[(s * area + i) * 3 + c] = (uint8_t)(v >= 255 ? 255 : v >= 0 ? v : 0);
            }
}

int upscaleworker_run(struct upscaleworker *u, const Muster__UpscaleTile *t, Muster__UpscaleTile *out,
                      struct err *err)
{
    struct call c = {.u = u, .err = err};
    if (!u->loaded || t->n < 1 || t->n > IMAGE_BATCH_MAX || t->width < 1 || t->width > TILE_MAX ||
        t->height < 1 || t->height > TILE_MAX || t->data.len != (size_t)t->n * t->width * t->height * 3)
        return err_set(err, ERR_PEER, "tiles that make no sense came");
    size_t n = t->n, area = (size_t)t->width * t->height, scale = (size_t)u->part->facts.scale;
    const int64_t shape[4] = {t->n, 3, t->height, t->width};
    TRY(take_room(u, n * 3 * area, n * 3 * area * scale * scale, err));
    spread(u->in, t->data.data, n, area);
    nn_reset(&u->nn);
    imagetensors_put(&c.in, "in", u->in, 4, shape);
    team_enter(&u->team, forward, &c);
    TRY(c.rc);
    const struct imagetensor *y = imagetensors_find(&c.out, "out");
    if (y == NULL || y->n != (int64_t)(n * 3 * area * scale * scale))
        return err_set(err, ERR_FORMAT, "%s: an answer of another size than it said", u->part->file);
    gather(u->out, y->data, n, area * scale * scale);
    out->id = t->id;
    out->n = t->n;
    out->width = t->width * (uint32_t)scale;
    out->height = t->height * (uint32_t)scale;
    out->data = (ProtobufCBinaryData){n * 3 * area * scale * scale, u->out};
    return ERR_OK;
}
