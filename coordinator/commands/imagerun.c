#include "coordinator/commands/imagerun.h"

#include "coordinator/cluster/interrupt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_ARENA = 256 << 20,     /* mapped, not touched: 64 tasks with a first picture each */
       WAIT_US = 100000, SAY_US = 200000 };

/* --- first pictures and masks */

static void forget(struct imagerun_picture *p)
{
    free(p->path);
    free(p->grey);
    pngfile_free(&p->picture);
    memset(p, 0, sizeof *p);
}

/* Of a mask: how white each pixel is. */
static int make_grey(struct imagerun_picture *p, struct err *err)
{
    size_t n = (size_t)p->picture.width * (size_t)p->picture.height;
    if ((p->grey = malloc(n)) == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a mask");
    for (size_t i = 0; i < n; i++) {
        const uint8_t *c = p->picture.rgb + 3 * i;
        p->grey[i] = (uint8_t)((c[0] + c[1] + c[2]) / 3);
    }
    return ERR_OK;
}

static int load(struct imagerun_picture *p, const char *path, bool grey, struct err *err)
{
    if (path == NULL) {
        forget(p);
        return ERR_OK;
    }
    if (p->path != NULL && strcmp(p->path, path) == 0)
        return ERR_OK;
    forget(p);
    TRY(pngfile_load(&p->picture, path, err));
    if ((p->path = strdup(path)) == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a path");
    return grey ? make_grey(p, err) : ERR_OK;
}

int imagerun_load(struct imagerun *r, const struct picturejob *j, struct err *err)
{
    TRY(load(&r->init, j->init, false, err));
    TRY(load(&r->mask, j->mask, true, err));
    const struct picture *i = &r->init.picture, *m = &r->mask.picture;
    if (j->mask != NULL && j->init == NULL)
        return err_set(err, ERR_INVAL, "--mask goes with --init: there is nothing to keep");
    if (j->mask != NULL && (i->width != m->width || i->height != m->height))
        return err_set(err, ERR_INVAL, "%s is %d x %d, %s %d x %d: a mask has the size of its "
                       "picture", j->mask,
                       m->width, m->height, j->init, i->width, i->height);
    int times = r->enlarges ? 2 : 1;
    if (j->init != NULL && j->width > 0 && (times * i->width != j->width || times * i->height != j->height))
        return err_set(err, ERR_INVAL, "%s is %d x %d, the picture is to be %d x %d: leave --size "
                       "out, or scale "
                       "it first", j->init, i->width, i->height, j->width, j->height);
    return ERR_OK;
}

/* --- chunks */

static Muster__Pixels *pixels_of(struct imagerun *r, const struct imagerun_picture *p, bool grey)
{
    if (p->path == NULL)
        return NULL;
    Muster__Pixels *out = arena_take(&r->mem, sizeof *out);
    if (out == NULL)
        return NULL;
    muster__pixels__init(out);
    out->width = (uint32_t)p->picture.width;
    out->height = (uint32_t)p->picture.height;
    out->channels = grey ? 1 : 3;
    out->data.data = grey ? p->grey : p->picture.rgb;
    out->data.len = (size_t)out->width * out->height * out->channels;
    return out;
}

static char *keep(struct imagerun *r, const char *text)
{
    size_t n = strlen(text) + 1;
    char *out = arena_take(&r->mem, n);
    return out != NULL ? memcpy(out, text, n) : NULL;
}

static int add_notes(struct imagerun *r, const struct picturejob *j, int k, Muster__ImageTask *t,
                     struct err *err)
{
    struct picture_record record;
    Muster__Note *note = arena_take(&r->mem, 2 * sizeof *note);
    Muster__Note **list = arena_take(&r->mem, 2 * sizeof *list);
    TRY(picturejob_record(j, k, r->model, r->hash, &record, err));
    if (note != NULL && list != NULL) {
        muster__note__init(list[0] = &note[0]);
        muster__note__init(list[1] = &note[1]);
        note[0].key = (char *)"parameters";
        note[0].value = keep(r, record.parameters);
        note[1].key = (char *)"muster";
        note[1].value = keep(r, record.json);
        t->notes = list;
        t->n_notes = 2;
    }
    picture_record_free(&record);
    return list != NULL && note != NULL && note[0].value != NULL && note[1].value != NULL
               ? ERR_OK : err_set(err, ERR_NOMEM, "no memory for a chunk of pictures");
}

static void fill_numbers(Muster__ImageTask *t, const struct picturejob *j, int k)
{
    struct picture_place p = picturejob_place(j, k);
    t->seed = (uint64_t)p.seed;
    t->seed_to = p.mix > 0 ? (uint64_t)p.seed_to : 0;
    t->mix = p.mix;
    t->prompt_mix = p.prompt_mix;
    t->sampler = j->sampler != NULL ? j->sampler : (char *)"";
    t->spacing = j->spacing != NULL ? j->spacing : (char *)"";
    t->sigmas = j->sigmas != NULL ? j->sigmas : (char *)"";
    t->steps = (uint32_t)j->steps;
    t->guidance = j->guidance;
    t->rescale = j->rescale;
    t->width = (uint32_t)j->width;
    t->height = (uint32_t)j->height;
    t->strength = j->strength;
    t->shift = j->shift;
    t->eta = j->eta;
    t->label = j->label;
    t->truncation = j->truncation;
    t->ids = j->token;
    t->n_ids = (size_t)j->n_token;
    if (j->guidance != 1) {
        t->negative = j->negative_token;
        t->n_negative = (size_t)j->n_negative_token;
    }
    if (p.prompt_mix > 0) {
        t->ids_to = j->to_token;
        t->n_ids_to = (size_t)j->n_to_token;
        t->ids_from = j->from_token;
        t->n_ids_from = (size_t)j->n_from_token;
    }
}

static int fill_task(struct imagerun *r, int64_t task, Muster__ImageTask *t, struct err *err)
{
    char file[PICTUREFOLDER_NAME];
    int k;
    const struct picturejob *j = picturejobs_of(r->jobs, task, &k);
    muster__image_task__init(t);
    t->task = (uint64_t)task;
    fill_numbers(t, j, k);
    TRY(imagerun_load(r, j, err));
    t->init = pixels_of(r, &r->init, false);
    t->mask = pixels_of(r, &r->mask, true);
    picturefolder_file(r->folder, r->jobs, j, k, file);
    t->file = keep(r, file);
    if (t->file == NULL || (j->init != NULL && t->init == NULL) || (j->mask != NULL && t->mask == NULL))
        return err_set(err, ERR_NOMEM, "no memory for a chunk of pictures");
    return add_notes(r, j, k, t, err);
}

static int send_tasks(struct imagerun *r, int replica, Muster__ImageTask **list, int n, struct err *err)
{
    Muster__Envelope m = MUSTER__ENVELOPE__INIT;
    Muster__ImageChunk chunk = MUSTER__IMAGE_CHUNK__INIT;
    chunk.replica = (uint32_t)replica;
    chunk.n_tasks = (size_t)n;
    chunk.tasks = list;
    m.body_case = MUSTER__ENVELOPE__BODY_IMAGE_CHUNK;
    m.image_chunk = &chunk;
    return imagecluster_send(r->images, replica, &m, err);
}

/* A first picture that changes from task to task must not change under a message that is being filled:
 * such tasks go one by one. */
static int send_chunk(struct imagerun *r, int replica, const int64_t *task, int n, struct err *err)
{
    Muster__ImageTask t[IMAGEQUEUE_CHUNK_MAX], *list[IMAGEQUEUE_CHUNK_MAX];
    int first = 0, k;
    for (int i = 0; i < n; i++) {
        const struct picturejob *j = picturejobs_of(r->jobs, task[i], &k);
        if (i == first)
            arena_reset(&r->mem);
        list[i] = &t[i];
        TRY(fill_task(r, task[i], &t[i], err));
        if (i + 1 == n || j->init != NULL) {
            TRY(send_tasks(r, replica, list + first, i + 1 - first, err));
            first = i + 1;
        }
    }
    return ERR_OK;
}

static int send_chunks(struct imagerun *r, struct err *err)
{
    int64_t task[IMAGEQUEUE_CHUNK_MAX], now = comm_now_us(r->images->cluster->comm);
    int n;
    for (int turn = 0; turn < IMAGEQUEUE_CHUNKS; turn++)
        for (int k = 0; k < r->images->n_replicas; k++)
            if ((n = imagequeue_chunk(&r->queue, k, now, task)) > 0)
                TRY(send_chunk(r, k, task, n, err));
    return ERR_OK;
}

/* --- an early end */

static int stop(struct imagerun *r, const char *why, struct err *err)
{
    Muster__Envelope m = MUSTER__ENVELOPE__INIT;
    Muster__ImageDrop drop = MUSTER__IMAGE_DROP__INIT;
    if (r->stopping)
        return ERR_OK;
    r->stopping = true;
    imagequeue_stop(&r->queue);
    if (r->tty)
        fprintf(stderr, "\r\033[K");
    if (r->folder->single[0] == '\0')
        fprintf(stderr, "%s: finishing what is in the making; `muster imagine --resume -o %s` "
                "goes on\n", why,
                r->folder->path);
    m.body_case = MUSTER__ENVELOPE__BODY_IMAGE_DROP;
    m.image_drop = &drop;
    for (int k = 0; k < r->images->n_replicas; k++)
        TRY(imagecluster_send(r->images, k, &m, err));
    return ERR_OK;
}

static int look_at_clock(struct imagerun *r, struct err *err)
{
    double seconds = (double)(comm_now_us(r->images->cluster->comm) - r->begun_us) / 1e6;
    if (interrupt_gentle())
        return stop(r, "interrupted", err);
    if (r->time_limit_s > 0 && seconds >= r->time_limit_s)
        return stop(r, "the time is up", err);
    return ERR_OK;
}

/* --- reports */

static int take_done(struct imagerun *r, int peer, const Muster__ImageDone *d, struct err *err)
{
    int replica = imagecluster_replica(r->images, peer);
    int64_t task = d->task <= INT64_MAX ? (int64_t)d->task : -1;
    r->busy_us += d->compute_us;
    if (d->code == ERR_CANCELLED) {
        imagequeue_returned(&r->queue, replica, task);
        return ERR_OK;
    }
    if (d->code != ERR_OK) {
        if (r->failed.code == ERR_OK)
            err_set(&r->failed, d->code < 0 ? d->code : ERR_PEER, "%s", d->message);
        imagequeue_returned(&r->queue, replica, task);
        return stop(r, "a picture could not be written", err);
    }
    if (!imagequeue_done(&r->queue, replica, task) || d->sha256.len != 32)
        return err_set(err, ERR_PEER, "rank %d made a picture %lld that nobody asked it for", peer,
                       (long long)task);
    struct journal_picture p = {.task = task, .file = d->file, .offset = d->offset, .bytes = d->bytes};
    memcpy(p.sha256, d->sha256.data, sizeof p.sha256);
    return journal_mark(r->folder->journal, &p, comm_now_us(r->images->cluster->comm), err);
}

static void say(struct imagerun *r)
{
    int64_t now = comm_now_us(r->images->cluster->comm);
    double eta = imagequeue_eta(&r->queue, now);
    if (!r->tty || now - r->said_us < SAY_US)
        return;
    r->said_us = now;
    fprintf(stderr, "\r\033[K%lld of %lld", (long long)r->queue.n_done, (long long)r->queue.n);
    if (eta >= 0)
        fprintf(stderr, ", %d:%02d:%02d to go", (int)(eta / 3600), (int)(eta / 60) % 60, (int)eta % 60);
    fflush(stderr);
}

static int turn(struct imagerun *r, struct err *err)
{
    Muster__Envelope *m;
    int peer;
    TRY(look_at_clock(r, err));
    TRY(send_chunks(r, err));
    r->images->cluster->comm->doing = "waiting for pictures";
    TRY(cluster_next(r->images->cluster, WAIT_US, &peer, &m, err));
    say(r);
    if (m == NULL)
        return journal_commit(r->folder->journal, err);
    if (m->body_case != MUSTER__ENVELOPE__BODY_IMAGE_DONE)
        return err_set(err, ERR_PEER, "rank %d sent message %d while pictures were made", peer,
                       (int)m->body_case);
    return take_done(r, peer, m->image_done, err);
}

static void mark_made(void *ctx, int64_t task) { imagequeue_made(ctx, task); }

static int make(struct imagerun *r, struct err *err)
{
    if (r->folder->run > 1)
        TRY(picturefolder_take_stock(r->folder, r->jobs, r->model, r->hash, mark_made, &r->queue, err));
    while (!imagequeue_idle(&r->queue))
        TRY(turn(r, err));
    TRY(journal_commit(r->folder->journal, err));
    if (r->tty)
        fprintf(stderr, "\r\033[K");
    if (r->failed.code != ERR_OK)
        return err_set(err, r->failed.code, "%s", r->failed.msg);
    if (r->queue.n_done < r->queue.n)
        return err_set(err, ERR_CANCELLED, "%lld of %lld pictures are made; to go on: muster "
                       "imagine --resume -o "
                       "%s", (long long)r->queue.n_done, (long long)r->queue.n, r->folder->path);
    return ERR_OK;
}

int imagerun_make(struct imagerun *r, struct err *err)
{
    int64_t now = comm_now_us(r->images->cluster->comm);
    if (r->mem.base == NULL && arena_init(&r->mem, CHUNK_ARENA) != ERR_OK)
        return err_set(err, ERR_NOMEM, "no memory for chunks of pictures");
    TRY(imagequeue_init(&r->queue, r->jobs->n_tasks, r->images->n_replicas, r->images->slots, now, err));
    interrupt_gently(true);
    int rc = make(r, err);
    interrupt_gently(false);
    return rc;
}

/* The sink may be any folder: the coordinator throws the picture away. */
int imagerun_try(struct imagerun *r, const struct picturejob *j, double *step_s, struct err *err)
{
    Muster__ImageTask t, *list = &t;
    Muster__Envelope *m;
    int peer;
    muster__image_task__init(&t);
    if (r->mem.base == NULL && arena_init(&r->mem, CHUNK_ARENA) != ERR_OK)
        return err_set(err, ERR_NOMEM, "no memory for chunks of pictures");
    fill_numbers(&t, j, 0);
    t.steps = t.steps < 3 ? t.steps : 3;
    t.file = (char *)"try.png";
    TRY(send_tasks(r, 0, &list, 1, err));
    TRY(cluster_wait(r->images->cluster, "waiting for pictures", &peer, &m, err));
    if (m->body_case != MUSTER__ENVELOPE__BODY_IMAGE_DONE || m->image_done->code != ERR_OK)
        return err_set(err, ERR_PEER, "rank %d could not make a picture", peer);
    *step_s = m->image_done->compute_us / 1e6 / (double)t.steps;
    return ERR_OK;
}

void imagerun_free(struct imagerun *r)
{
    forget(&r->init);
    forget(&r->mask);
    imagequeue_free(&r->queue);
    arena_free(&r->mem);
}
