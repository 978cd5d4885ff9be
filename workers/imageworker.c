#include "workers/imageworker.h"

#include "proto/wire.h"
#include "workers/imagehalf.h"
#include "workers/imagespec.h"
#include "workers/imageworkerstate.h"
#include "workers/kernels/linear.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { PROMPTS_KEPT = 64 };

/* A task that waits, as it came. */
struct waiting { struct waiting *next; uint64_t task; size_t n; uint8_t bytes[]; };

int imageworker_new(struct imageworker **out, struct comm *comm, const struct sink *sink, struct err *err)
{
    struct imageworker *w = calloc(1, sizeof *w);
    if ((*out = w) == NULL)
        return err_set(err, ERR_NOMEM, "no memory for pictures");
    w->comm = comm;
    w->sink = sink;
    w->helper = -1;
    w->last = &w->first;
    return ERR_OK;
}

static void drop_slots(struct imageworker *w)
{
    for (int i = 0; i < w->n_slots; i++)
        imageslot_free(&w->slot[i]);
    free(w->slot);
    w->slot = NULL;
    w->n_slots = 0;
    promptcache_free(&w->prompts);
    imagegroup_free(&w->group);
    if (w->loaded)
        nn_free(&w->nn);
    w->loaded = false;
}

void imageworker_destroy(struct imageworker *w)
{
    if (w == NULL)
        return;
    for (struct waiting *t = w->first, *next; t != NULL; t = next) {
        next = t->next;
        free(t);
    }
    drop_slots(w);
    imagepipe_close(w->pipe);
    free(w->in);
    free(w->scratch);
    free(w->other);
    free(w->rgb);
    free(w);
}

/* --- the model */

int imageworker_describe(struct imageworker *w, const char *path, struct arena *mem,
                         Muster__ImageSpec **spec, Muster__FileDigest *digest, struct err *err)
{
    drop_slots(w);
    imagepipe_close(w->pipe);
    w->pipe = NULL;
    TRY(imagepipe_open(&w->pipe, path, err));
    digest->rank = (uint32_t)w->comm->self;
    imagepipe_digest(w->pipe, &digest->size, &digest->hash);
    return w->comm->self == 0 ? imagespec_make(w->pipe, path, mem, spec, err) : ERR_OK;
}

/* This rank's place: leader of a replica (with a helper or without), or of its second group, or none. */
static int find_place(struct imageworker *w, const Muster__ImageLoad *l, bool *first, struct err *err)
{
    *first = false;
    w->helper = -1;
    for (size_t i = 0; i < l->n_replicas; i++) {
        const Muster__ImageReplica *r = l->replicas[i];
        if (r->n_ranks < 1 || r->n_ranks > 2)
            return err_set(err, ERR_PEER, "a replica of %zu ranks", r->n_ranks);
        if (r->ranks[0] != (uint32_t)w->comm->self)
            continue;
        *first = true;
        w->helper = r->n_ranks > 1 ? (int)r->ranks[1] : -1;
        if (w->helper >= w->comm->n_workers)
            return err_set(err, ERR_PEER, "rank %d is not among the workers", w->helper);
    }
    return ERR_OK;
}

int imageworker_load(struct imageworker *w, const Muster__ImageLoad *l, int threads, Muster__Loaded *done,
                     struct err *err)
{
    int isa = isa_named(l->isa);
    bool first;
    if (w->pipe == NULL)
        return err_set(err, ERR_PEER, "a model is loaded that was not described");
    if (isa < 0 || (enum isa)isa > isa_detect())
        return err_set(err, ERR_PEER, "this rank cannot run instruction set '%s'", l->isa);
    if (l->slots < 1 || l->slots > IMAGEWORKER_SLOTS_MAX)
        return err_set(err, ERR_INVAL, "%u pictures at a time: 1 to %d are possible", l->slots,
                       IMAGEWORKER_SLOTS_MAX);
    bool half = strcmp(l->compute, "bf16") == 0;
    if (half)
        TRY(isa_want_bf16(err));
    TRY(find_place(w, l, &first, err));
    drop_slots(w);
    omp_set_num_threads(threads);
    linear_disable(l->refused, l->blas_tiles);
    team_init(&w->team, threads);
    nn_init(&w->nn, kernels_get((enum isa)isa), &w->team);
    w->nn.half = half;
    w->loaded = true;
    const struct imagepipe_facts *f = imagepipe_facts(w->pipe);
    TRY(imagegroup_init(&w->group, w->comm, l->plan, f->layers > 0 ? f->layers : 1, f->head_dim, err));
    TRY(imagepipe_load(w->pipe, w->group.member ? &w->group.held : NULL, err));
    TRY(promptcache_init(&w->prompts, 3 * (int)l->slots + PROMPTS_KEPT, err));
    if ((w->slot = calloc(l->slots, sizeof *w->slot)) == NULL)
        return err_set(err, ERR_NOMEM, "no memory for pictures");
    w->n_slots = (int)l->slots;
    done->weights_bytes = imagepipe_weights_bytes(w->pipe);
    if (w->sink == NULL || l->sink == NULL)
        return ERR_OK;
    return w->sink->open(w->sink->ctx, l->sink, w->comm->self, err);
}

/* --- tasks come */

static int queue_task(struct imageworker *w, Muster__ImageTask *t, struct err *err)
{
    Muster__Envelope m = MUSTER__ENVELOPE__INIT;
    Muster__ImageChunk one = MUSTER__IMAGE_CHUNK__INIT;
    one.n_tasks = 1;
    one.tasks = &t;
    m.body_case = MUSTER__ENVELOPE__BODY_IMAGE_CHUNK;
    m.image_chunk = &one;
    size_t n = wire_packed_size(&m);
    struct waiting *q = malloc(sizeof *q + n);
    if (q == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a picture's task");
    q->next = NULL;
    q->task = t->task;
    q->n = wire_pack(&m, q->bytes);
    *w->last = q;
    w->last = &q->next;
    return ERR_OK;
}

int imageworker_chunk(struct imageworker *w, const Muster__ImageChunk *c, struct err *err)
{
    if (w->n_slots == 0)
        return err_set(err, ERR_PEER, "pictures came before a model was loaded");
    for (size_t i = 0; i < c->n_tasks; i++)
        TRY(queue_task(w, c->tasks[i], err));
    return ERR_OK;
}

static void take_first(struct imageworker *w)
{
    struct waiting *q = w->first;
    w->first = q->next;
    if (w->first == NULL)
        w->last = &w->first;
    free(q);
}

static int send_done(struct imageworker *w, const struct sink_done *d, struct err *err)
{
    Muster__Envelope m = MUSTER__ENVELOPE__INIT;
    Muster__ImageDone out = MUSTER__IMAGE_DONE__INIT;
    out.task = d->task;
    out.rank = (uint32_t)w->comm->self;
    out.code = d->code;
    out.message = (char *)(uintptr_t)d->message;
    out.file = (char *)(uintptr_t)d->file;
    out.offset = d->offset;
    out.bytes = d->bytes;
    if (d->code == ERR_OK)
        out.sha256 = (ProtobufCBinaryData){sizeof d->sha256, (uint8_t *)(uintptr_t)d->sha256};
    out.compute_us = w->used_us;
    w->used_us = 0;
    m.body_case = MUSTER__ENVELOPE__BODY_IMAGE_DONE;
    m.image_done = &out;
    return wire_send(w->comm, comm_coordinator(w->comm), COMM_CONTROL, &m, err);
}

int imageworker_drop(struct imageworker *w, struct err *err)
{
    while (w->first != NULL) {
        struct sink_done d = {.task = w->first->task, .code = ERR_CANCELLED};
        TRY(send_done(w, &d, err));
        take_first(w);
    }
    return ERR_OK;
}

/* --- prompts */

static int get_prompt(struct imageworker *w, const uint32_t *ids, size_t n, struct prompt **out,
                      struct err *err)
{
    int most = imagepipe_facts(w->pipe)->ids_max;
    if (n < 1 || n > (size_t)most)
        return err_set(err, ERR_INVAL, "a prompt of %zu tokens; the text encoder takes 1 to %d", n, most);
    return promptcache_get(&w->prompts, w->pipe, &w->nn, ids, (int)n, out, err);
}

/* What guidance leads away from: the negative prompt, or no class. */
int imageworker_negative(struct imageworker *w, const Muster__ImageTask *t, struct prompt **out,
                        struct err *err)
{
    const uint32_t none = (uint32_t)imagepipe_facts(w->pipe)->none;
    if (imagepipe_facts(w->pipe)->none >= 0)
        return promptcache_get(&w->prompts, w->pipe, &w->nn, &none, 1, out, err);
    return get_prompt(w, t->negative, t->n_negative, out, err);
}

/* A share of the way from the prompt to another; or, with a third, along the way from that to the other. */
static int mix_prompts(struct imageworker *w, struct imageslot *s, struct err *err)
{
    const Muster__ImageTask *t = s->task;
    struct prompt *to, *from = NULL;
    float share = (float)t->prompt_mix;
    TRY(get_prompt(w, t->ids_to, t->n_ids_to, &to, err));
    int rc = t->n_ids_from > 0 ? get_prompt(w, t->ids_from, t->n_ids_from, &from, err) : ERR_OK;
    for (int64_t i = 0; i < imagepipe_prompt_floats(w->pipe) && rc == ERR_OK; i++)
        s->mixed[i] = from != NULL ? s->prompt->values[i] + share * (to->values[i] - from->values[i])
                                   : (1 - share) * s->prompt->values[i] + share * to->values[i];
    promptcache_put(to);
    if (from != NULL)
        promptcache_put(from);
    return rc;
}

struct encoding {
    struct imageworker *worker;
    struct imageslot *slot;
    const float *out;           /* [channels, rows, cols] */
    int rc;
    struct err *err;
};

static void encode_first(void *arg)
{
    struct encoding *e = arg;
    const struct imageslot *s = e->slot;
    e->rc = imagepipe_encode_picture(e->worker->pipe, &e->worker->nn, s->first, s->rows, s->cols, &e->out,
                                     e->err);
}

/* The first picture of a model of latents. */
static int start_from_picture(struct imageworker *w, struct imageslot *s, struct err *err)
{
    struct encoding e = {.worker = w, .slot = s, .err = err};
    team_enter(&w->team, encode_first, &e);
    TRY(e.rc);
    imageslot_start(s, e.out);
    return ERR_OK;
}

static int begin_slot(struct imageworker *w, struct imageslot *s, struct err *err)
{
    TRY(imageslot_begin(s, w->pipe, w->first->bytes, w->first->n, err));
    if (s->first != NULL)
        TRY(start_from_picture(w, s, err));
    const Muster__ImageTask *t = s->task;
    const struct imagepipe_facts *f = imagepipe_facts(w->pipe);
    if (f->classes > 0 && (t->label < 0 || t->label >= f->classes))
        return err_set(err, ERR_INVAL, "class %d: the model has 0 to %d", t->label, f->classes - 1);
    const uint32_t label = (uint32_t)t->label;
    if (f->none >= 0)           /* a denoiser's class is its prompt */
        TRY(promptcache_get(&w->prompts, w->pipe, &w->nn, &label, 1, &s->prompt, err));
    if (f->n_texts > 0)
        TRY(get_prompt(w, t->ids, t->n_ids, &s->prompt, err));
    if (t->n_ids_to > 0 && f->n_texts > 0)
        TRY(mix_prompts(w, s, err));
    if (s->guided && w->helper < 0)
        TRY(imageworker_negative(w, t, &s->negative, err));
    take_first(w);
    return ERR_OK;
}

static int fill_slots(struct imageworker *w, struct err *err)
{
    for (int i = 0; i < w->n_slots && w->first != NULL; i++)
        if (!w->slot[i].used)
            TRY(begin_slot(w, &w->slot[i], err));
    return ERR_OK;
}

/* --- one step */

int imageworker_room(struct imageworker *w, int64_t floats, struct err *err)
{
    if (w->in_cap >= floats)
        return ERR_OK;
    free(w->in);
    free(w->scratch);
    free(w->other);
    w->in = malloc((size_t)floats * sizeof *w->in);
    w->scratch = malloc((size_t)floats * sizeof *w->scratch);
    /* a helper's answer comes as a message with a header */
    w->other = aligned_alloc(64, ((size_t)floats * sizeof *w->other + WIRE_HEADER_MAX + 63) / 64 * 64);
    w->in_cap = w->in != NULL && w->scratch != NULL && w->other != NULL ? floats : 0;
    return w->in_cap > 0 ? ERR_OK : err_set(err, ERR_NOMEM, "no memory for a step of pictures");
}

static int gather(struct imageworker *w, struct imagestep *s, struct err *err)
{
    const struct imagepipe_facts *f = imagepipe_facts(w->pipe);
    const struct imageslot *first = NULL;
    for (int i = 0; i < w->n_slots; i++) {
        struct imageslot *k = &w->slot[i];
        if (first == NULL && k->used)
            first = k;
        if (k->used && k->width == first->width && k->height == first->height)
            s->member[s->n++] = k;
    }
    s->answer = first->n;
    s->floats = (int64_t)f->channels * first->rows * first->cols;
    TRY(imageworker_room(w, 2 * (int64_t)w->n_slots * s->floats, err));
    for (int i = 0; i < s->n; i++) {
        s->times[i] = imageslot_input(s->member[i], w->in + i * s->floats);
        const struct prompt *prompt = s->member[i]->prompt;
        s->prompts[i] = s->member[i]->mixed != NULL ? s->member[i]->mixed
                        : prompt != NULL            ? prompt->values : NULL;
    }
    s->n_samples = s->n;
    for (int i = 0; i < s->n; i++) {
        if (!s->member[i]->guided)
            continue;
        s->n_guided++;
        if (w->helper >= 0)
            continue;
        memcpy(w->in + s->n_samples * s->floats, w->in + i * s->floats, (size_t)s->floats * sizeof *w->in);
        s->times[s->n_samples] = s->times[i];
        s->prompts[s->n_samples++] = s->member[i]->negative->values;
    }
    return ERR_OK;
}

void imageworker_denoise(void *arg)
{
    struct imagestep *s = arg;
    struct imageworker *w = s->worker;
    int height = s->member[0] != NULL ? s->member[0]->rows : 0;
    int width = s->member[0] != NULL ? s->member[0]->cols : 0;
    struct diffusionmodel_call call = {s->n_samples, w->in, height, width, s->times, s->prompts};
    s->rc = imagepipe_denoise(w->pipe, &w->nn, &w->group, &call, &s->out, s->err);
}

/* --- pictures go */

struct decoding {
    struct imageworker *worker;
    const struct imageslot *slot;
    const float *out;           /* [3, height, width] */
    int rc;
    struct err *err;
};

static void decode(void *arg)
{
    struct decoding *d = arg;
    const struct imageslot *s = d->slot;
    d->rc = imagepipe_decode(d->worker->pipe, &d->worker->nn, s->x, s->rows, s->cols, &d->out, d->err);
}

static int deliver(struct imageworker *w, struct imageslot *s, struct err *err)
{
    Muster__Picture p = MUSTER__PICTURE__INIT;
    Muster__Pixels pixels = MUSTER__PIXELS__INIT;
    size_t n = (size_t)s->width * (size_t)s->height * 3;
    if (w->sink == NULL)
        return err_set(err, ERR_PEER, "a picture is done and there is no place for it");
    if (w->rgb_cap < n) {
        free(w->rgb);
        w->rgb_cap = n;
        if ((w->rgb = malloc(n)) == NULL) {
            w->rgb_cap = 0;
            return err_set(err, ERR_NOMEM, "no memory for a picture");
        }
    }
    struct decoding d = {.worker = w, .slot = s, .out = s->x, .err = err};
    if (imagepipe_facts(w->pipe)->decodes) {
        int64_t begun = comm_now_us(w->comm);
        team_enter(&w->team, decode, &d);
        TRY(d.rc);
        w->used_us += (double)(comm_now_us(w->comm) - begun);
    }
    imageslot_pixels(s, d.out, w->rgb);
    pixels.width = (uint32_t)s->width;
    pixels.height = (uint32_t)s->height;
    pixels.channels = 3;
    pixels.data = (ProtobufCBinaryData){n, w->rgb};
    p.task = s->task->task;
    p.file = s->task->file;
    p.n_notes = s->task->n_notes;
    p.notes = s->task->notes;
    p.pixels = &pixels;
    int rc = w->sink->put(w->sink->ctx, &p, err);
    imageslot_end(s);
    return rc;
}

static int advance(struct imageworker *w, struct imagestep *s, const float *uncond, struct err *err)
{
    for (int i = 0, k = 0; i < s->n; i++) {
        struct imageslot *m = s->member[i];
        const float *u = m->guided ? uncond + k++ * s->answer : NULL;
        imageslot_advance(m, s->out + i * s->answer, u, w->scratch);
    }
    for (int i = 0; i < s->n; i++)      /* a decoder takes the memory of what the step answered */
        if (imageslot_done(s->member[i]))
            TRY(deliver(w, s->member[i], err));
    return ERR_OK;
}

/* All slots of a GAN at once: one call makes them whole. */
static void generate(void *arg)
{
    struct imagestep *s = arg;
    struct imageworker *w = s->worker;
    s->rc = imagepipe_generate(w->pipe, &w->nn, s->n, w->in, w->scratch, s->prompts, &s->out, s->err);
}

static int generate_all(struct imageworker *w, struct err *err)
{
    struct imagestep s = {.worker = w, .err = err};
    int64_t latent = imagepipe_facts(w->pipe)->latent, begun = comm_now_us(w->comm);
    TRY(imageworker_room(w, (latent + 1) * w->n_slots, err));
    for (int i = 0; i < w->n_slots; i++) {
        struct imageslot *k = &w->slot[i];
        if (!k->used)
            continue;
        memcpy(w->in + s.n * latent, k->noise, (size_t)latent * sizeof *w->in);
        w->scratch[s.n] = (float)(k->task->label >= 0 ? k->task->label : 0);
        s.prompts[s.n] = k->prompt == NULL ? NULL : k->mixed != NULL ? k->mixed : k->prompt->values;
        s.member[s.n++] = k;
    }
    team_enter(&w->team, generate, &s);
    TRY(s.rc);
    w->used_us += (double)(comm_now_us(w->comm) - begun);
    for (int i = 0; i < s.n; i++) {
        imageslot_generated(s.member[i], s.out + i * s.member[i]->n);
        TRY(deliver(w, s.member[i], err));
    }
    return ERR_OK;
}

static int step(struct imageworker *w, struct err *err)
{
    struct imagestep s = {.worker = w, .err = err};
    int64_t begun = comm_now_us(w->comm);
    TRY(gather(w, &s, err));
    const float *uncond = NULL;
    bool asked = w->helper >= 0 && s.n_guided > 0;
    if (asked)
        TRY(imagehalf_ask(w, &s, err));
    team_enter(&w->team, imageworker_denoise, &s);
    TRY(s.rc);
    if (asked)
        TRY(imagehalf_hear(w, &s, &uncond, err));
    else
        uncond = s.out + s.n * s.answer;
    int rc = advance(w, &s, uncond, err);
    w->used_us += (double)(comm_now_us(w->comm) - begun);
    return rc;
}

/* Pictures that need no step at all: --strength so small that none is left. */
static int deliver_finished(struct imageworker *w, struct err *err)
{
    for (int i = 0; i < w->n_slots; i++)
        if (w->slot[i].used && imageslot_done(&w->slot[i]))
            TRY(deliver(w, &w->slot[i], err));
    return ERR_OK;
}

int imageworker_turn(struct imageworker *w, bool *busy, struct err *err)
{
    struct sink_done d;
    bool any = false;
    *busy = false;
    while (w->sink != NULL && w->sink->take(w->sink->ctx, &d))
        TRY(send_done(w, &d, err));
    TRY(fill_slots(w, err));
    TRY(deliver_finished(w, err));
    for (int i = 0; i < w->n_slots; i++)
        any |= w->slot[i].used;
    if (any)
        TRY(imagepipe_facts(w->pipe)->latent > 0 ? generate_all(w, err) : step(w, err));
    *busy = any || w->first != NULL;
    return ERR_OK;
}

/* --- a share of the layers */

struct share { struct imageworker *worker; const Muster__ImageStep *step; int peer, rc; struct err *err; };

static void serve_share(void *arg)
{
    struct share *s = arg;
    struct imageworker *w = s->worker;
    s->rc = imagegroup_serve(&w->group, imagepipe_denoiser(w->pipe), &w->nn, s->step, s->peer, s->err);
}

int imageworker_step(struct imageworker *w, const Muster__ImageStep *m, int peer, struct err *err)
{
    struct share s = {w, m, peer, ERR_OK, err};
    if (w->n_slots == 0 || imagepipe_denoiser(w->pipe) == NULL)
        return err_set(err, ERR_PEER, "a step of pictures came before a model was loaded");
    team_enter(&w->team, serve_share, &s);
    return s.rc;
}
