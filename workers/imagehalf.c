#include "workers/imagehalf.h"

#include "proto/wire.h"
#include "workers/imageworkerstate.h"

#include <stdlib.h>
#include <string.h>

/* --- the first rank */

/* The unconditional halves to the second rank. */
int imagehalf_ask(struct imageworker *w, struct imagestep *s, struct err *err)
{
    Muster__Envelope m = MUSTER__ENVELOPE__INIT;
    Muster__ImageHalf h = MUSTER__IMAGE_HALF__INIT;
    Muster__ImageTask prompt[IMAGEWORKER_SLOTS_MAX], *list[IMAGEWORKER_SLOTS_MAX];
    double times[IMAGEWORKER_SLOTS_MAX];
    float *x = w->in + s->n * s->floats;        /* the places of the halves that are not made here */
    for (int i = 0, k = 0; i < s->n; i++) {
        if (!s->member[i]->guided)
            continue;
        muster__image_task__init(list[k] = &prompt[k]);
        prompt[k].negative = s->member[i]->task->negative;
        prompt[k].n_negative = s->member[i]->task->n_negative;
        times[k] = s->times[i];
        memcpy(x + k++ * s->floats, w->in + i * s->floats, (size_t)s->floats * sizeof *x);
    }
    h.n = (uint32_t)s->n_guided;
    h.height = (uint32_t)s->member[0]->rows;
    h.width = (uint32_t)s->member[0]->cols;
    h.n_times = h.n_prompts = (size_t)s->n_guided;
    h.times = times;
    h.prompts = list;
    h.data = (ProtobufCBinaryData){(size_t)(s->n_guided * s->floats) * sizeof *x, (uint8_t *)x};
    m.body_case = MUSTER__ENVELOPE__BODY_IMAGE_HALF;
    m.image_half = &h;
    return wire_send(w->comm, w->helper, COMM_CONTROL, &m, err);
}

int imagehalf_hear(struct imageworker *w, const struct imagestep *s, const float **uncond, struct err *err)
{
    struct wire_tensor t;
    size_t got, cap = (size_t)w->in_cap * sizeof(float) + WIRE_HEADER_MAX;
    TRY(comm_recv(w->comm, w->helper, COMM_DP, w->other, cap, &got, err));
    TRY(wire_tensor_view((const uint8_t *)w->other, got, w->comm->epoch, &t, err));
    if (t.dtype != WIRE_F32 || t.data_bytes != (size_t)(s->n_guided * s->answer) * sizeof(float))
        return err_set(err, ERR_PEER, "rank %d could not compute its half of the guidance", w->helper);
    *uncond = t.data;
    return ERR_OK;
}

/* --- the second rank */

static int answer_half(struct imageworker *w, const float *data, int n, int64_t floats, int peer,
                       struct err *err)
{
    struct wire_tensor t = {.dtype = WIRE_F32, .n_dims = 2, .shape = {(uint64_t)n, (uint64_t)floats},
                            .data_bytes = (size_t)(n * floats) * sizeof *data};
    uint8_t *msg = aligned_alloc(64, (WIRE_HEADER_MAX + t.data_bytes + 63) / 64 * 64);
    void *at;
    if (msg == NULL)
        return err_set(err, ERR_NOMEM, "no memory for an answer");
    size_t size = wire_tensor_begin(msg, w->comm->epoch, &t, &at);
    if (t.data_bytes > 0)
        memcpy(at, data, t.data_bytes);
    int rc = comm_send(w->comm, peer, COMM_DP, msg, size, err);
    free(msg);
    return rc;
}

/* Shapes a message's step like one of this rank's own. */
static int check_half(struct imageworker *w, const Muster__ImageHalf *h, struct err *err)
{
    const struct imagepipe_facts *f = w->pipe != NULL ? imagepipe_facts(w->pipe) : NULL;
    if (f == NULL || w->n_slots == 0 || h->n < 1 || h->n > IMAGEWORKER_SLOTS_MAX ||
        h->n_times != h->n || h->n_prompts != h->n || h->height < 1 ||
        h->height > (uint32_t)f->side_max || h->width < 1 || h->width > (uint32_t)f->side_max ||
        h->height * (uint32_t)f->pixels % (uint32_t)f->patch != 0 ||
        h->width * (uint32_t)f->pixels % (uint32_t)f->patch != 0 ||
        h->data.len != (size_t)h->n * (size_t)f->channels * h->height * h->width * sizeof(float))
        return err_set(err, ERR_PEER, "half of a step that does not fit the model");
    return ERR_OK;
}

static int compute_half(struct imageworker *w, const Muster__ImageHalf *h, struct imagestep *s,
                        struct err *err)
{
    const struct imagepipe_facts *f = imagepipe_facts(w->pipe);
    struct prompt *held[IMAGEWORKER_SLOTS_MAX] = {0};
    struct imageslot shape = {.rows = (int)h->height, .cols = (int)h->width};
    int rc = ERR_OK;
    s->floats = (int64_t)f->channels * h->height * h->width;
    s->answer = (int64_t)f->channels_out * h->height * h->width;
    s->n_samples = (int)h->n;
    s->member[0] = &shape;
    TRY(imageworker_room(w, (int64_t)h->n * s->floats, err));
    memcpy(w->in, h->data.data, h->data.len);
    for (uint32_t i = 0; i < h->n && rc == ERR_OK; i++) {
        rc = imageworker_negative(w, h->prompts[i], &held[i], err);
        s->prompts[i] = rc == ERR_OK ? held[i]->values : NULL;
        s->times[i] = h->times[i];
    }
    if (rc == ERR_OK) {
        team_enter(&w->team, imageworker_denoise, s);
        rc = s->rc;
    }
    for (uint32_t i = 0; i < h->n; i++)
        promptcache_put(held[i]);
    return rc;
}

int imagehalf_serve(struct imageworker *w, const Muster__ImageHalf *h, int peer, struct err *err)
{
    struct imagestep s = {.worker = w, .err = err};
    int rc = peer >= 0 && peer < w->comm->n_workers ? check_half(w, h, err)
                                                     : err_set(err, ERR_PEER,
                                                               "half of a step from party %d", peer);
    if (rc == ERR_OK)
        rc = compute_half(w, h, &s, err);
    if (rc == ERR_OK)
        return answer_half(w, s.out, s.n_samples, s.answer, peer, err);
    answer_half(w, NULL, 0, 0, peer, NULL);     /* so that the other one does not wait in vain */
    return rc;
}
