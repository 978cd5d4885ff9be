#include "coordinator/image/filesink.h"

#include "coordinator/image/folderlock.h"
#include "coordinator/image/pngfile.h"
#include "coordinator/image/tarshard.h"
#include "proto/atomicfile.h"
#include "proto/sha256.h"
#include "proto/wire.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { WAITING_MAX = 64, PATH_BYTES = 4096 };

struct letter { struct letter *next; size_t n; uint8_t bytes[]; };      /* a packed Picture */
struct report { struct report *next; struct sink_done done; };

struct filesink {
    pthread_t thread; bool running;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct letter *first, **last; int n_waiting;
    struct report *done, **done_last;
    bool end;
    /* of the thread, once open: */
    char folder[PATH_BYTES];
    bool shards, opened;
    int rank, run, n_shards, in_shard, shard_pictures;
    struct tarshard tar;
    struct folderlock held;
};

/* --- one picture */

static int make_folders(const char *root, const char *file, struct err *err)
{
    char path[PATH_BYTES];
    for (const char *at = strchr(file, '/'); at != NULL; at = strchr(at + 1, '/')) {
        snprintf(path, sizeof path, "%.3000s/%.*s", root, (int)(at - file), file);
        if (mkdir(path, 0777) != 0 && errno != EEXIST)
            return err_set(err, ERR_OUTPUT, "%s: %s", path, strerror(errno));
    }
    return ERR_OK;
}

static int write_file(const struct filesink *f, const char *file, const uint8_t *bytes, size_t n,
                      struct err *err)
{
    char path[PATH_BYTES];
    struct atomicfile out;
    snprintf(path, sizeof path, "%.3000s/%.1000s", f->folder, file);
    TRY(make_folders(f->folder, file, err));
    TRY(atomicfile_open(&out, path, err));
    int rc = atomicfile_write(&out, bytes, n, err);
    if (rc == ERR_OK)
        return atomicfile_commit(&out, err);
    atomicfile_abandon(&out);
    return rc;
}

static int next_shard(struct filesink *f, struct err *err)
{
    char path[PATH_BYTES];
    if (f->tar.fd > 0 && f->in_shard < f->shard_pictures)
        return ERR_OK;
    TRY(tarshard_close(&f->tar, err));
    snprintf(path, sizeof path, "%.3000s/shard-%03d-%02d-%06d.tar", f->folder, f->rank, f->run,
             f->n_shards++);
    f->in_shard = 0;
    return tarshard_open(&f->tar, path, err);
}

static const char *note_of(const Muster__Picture *p, const char *key)
{
    for (size_t i = 0; i < p->n_notes; i++)
        if (strcmp(p->notes[i]->key, key) == 0)
            return p->notes[i]->value;
    return "{}";
}

/* key.png and key.json, the key being the file's name without folders and ending. */
static int write_member(struct filesink *f, const Muster__Picture *p, const uint8_t *bytes, size_t n,
                        struct sink_done *d, struct err *err)
{
    char name[128];
    const char *base = strrchr(p->file, '/') != NULL ? strrchr(p->file, '/') + 1 : p->file;
    const char *json = note_of(p, "muster");
    size_t stem = strlen(base) > 4 ? strlen(base) - 4 : strlen(base);
    uint64_t at;
    TRY(next_shard(f, err));
    snprintf(name, sizeof name, "%.*s.json", (int)(stem < 90 ? stem : 90), base);
    TRY(tarshard_add(&f->tar, name, json, strlen(json), &at, err));
    snprintf(name, sizeof name, "%.*s.png", (int)(stem < 90 ? stem : 90), base);
    TRY(tarshard_add(&f->tar, name, bytes, n, &d->offset, err));    /* last: a pair ends with its picture */
    TRY(tarshard_sync(&f->tar, err));
    f->in_shard++;
    snprintf(d->file, sizeof d->file, "shard-%03d-%02d-%06d.tar", f->rank, f->run, f->n_shards - 1);
    return ERR_OK;
}

static int write_picture(struct filesink *f, const Muster__Picture *p, struct sink_done *d,
                         struct err *err)
{
    struct picture_text text[8];
    int n_text = 0;
    uint8_t *bytes;
    size_t n;
    struct sha256 hash;
    for (size_t i = 0; i < p->n_notes && n_text < 8; i++)
        text[n_text++] = (struct picture_text){p->notes[i]->key, p->notes[i]->value};
    TRY(pngfile_encode(p->pixels->data.data, (int)p->pixels->width, (int)p->pixels->height, text, n_text,
                       &bytes, &n, err));
    sha256_begin(&hash);
    sha256_add(&hash, bytes, n);
    sha256_end(&hash, d->sha256);
    d->bytes = n;
    snprintf(d->file, sizeof d->file, "%s", p->file);
    int rc = f->shards ? write_member(f, p, bytes, n, d, err) : write_file(f, p->file, bytes, n, err);
    free(bytes);
    return rc;
}

static bool sound(const Muster__Picture *p)
{
    return p->pixels != NULL && p->pixels->channels == 3 && p->pixels->width > 0 && p->pixels->height > 0 &&
           p->pixels->data.len == (size_t)p->pixels->width * p->pixels->height * 3 &&
           strlen(p->file) < SINK_FILE_MAX && p->file[0] != '\0';
}

/* A letter becomes a file and a report. */
static void serve(struct filesink *f, const struct letter *l, struct report *r)
{
    struct arena mem = {0};
    struct err err = {0};
    Muster__Envelope *m = NULL;
    int rc = arena_init(&mem, 2 * l->n + 65536) == ERR_OK ? ERR_OK
                                                         : err_set(&err, ERR_NOMEM,
                                                                   "no memory for a picture");
    if (rc == ERR_OK)
        rc = wire_unpack(l->bytes, l->n, &mem, &m, &err);
    if (rc == ERR_OK && !sound(m->picture))
        rc = err_set(&err, ERR_PEER, "a picture that is none");
    if (m != NULL)
        r->done.task = m->picture->task;
    if (rc == ERR_OK)
        rc = write_picture(f, m->picture, &r->done, &err);
    r->done.code = rc;
    snprintf(r->done.message, sizeof r->done.message, "%s", err.msg);
    arena_free(&mem);
}

/* --- the thread */

static struct letter *take_letter(struct filesink *f)
{
    pthread_mutex_lock(&f->lock);
    while (f->first == NULL && !f->end)
        pthread_cond_wait(&f->changed, &f->lock);
    struct letter *l = f->first;
    if (l != NULL) {
        f->first = l->next;
        if (f->first == NULL)
            f->last = &f->first;
    }
    pthread_mutex_unlock(&f->lock);
    return l;
}

static void hand_over(struct filesink *f, struct report *r)
{
    pthread_mutex_lock(&f->lock);
    f->n_waiting--;
    if (r != NULL) {
        *f->done_last = r;
        f->done_last = &r->next;
    }
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

static void *write_pictures(void *arg)
{
    struct filesink *f = arg;
    struct letter *l;
    while ((l = take_letter(f)) != NULL) {
        struct report *r = calloc(1, sizeof *r);
        if (r != NULL)
            serve(f, l, r);
        free(l);
        hand_over(f, r);
    }
    tarshard_close(&f->tar, NULL);
    return NULL;
}

/* --- the table */

static int sink_open(void *ctx, const Muster__SinkOpen *how, int rank, struct err *err)
{
    struct filesink *f = ctx;
    pthread_mutex_lock(&f->lock);
    while (f->n_waiting > 0)        /* pictures for the folder before this one */
        pthread_cond_wait(&f->changed, &f->lock);
    pthread_mutex_unlock(&f->lock);
    tarshard_close(&f->tar, NULL);
    f->n_shards = f->in_shard = 0;
    f->opened = true;
    snprintf(f->folder, sizeof f->folder, "%s", how->folder);
    f->shards = how->shards;
    f->shard_pictures = how->shard_pictures > 0 ? (int)how->shard_pictures : 1000;
    f->run = (int)how->run;
    f->rank = rank;
    return how->locked ? folderlock_take_rank(&f->held, f->folder, rank, err) : ERR_OK;
}

static int sink_put(void *ctx, const Muster__Picture *picture, struct err *err)
{
    struct filesink *f = ctx;
    Muster__Envelope m = MUSTER__ENVELOPE__INIT;
    m.body_case = MUSTER__ENVELOPE__BODY_PICTURE;
    m.picture = (Muster__Picture *)(uintptr_t)picture;
    size_t n = wire_packed_size(&m);
    struct letter *l = malloc(sizeof *l + n);
    if (l == NULL || !f->opened) {
        free(l);
        return err_set(err, l == NULL ? ERR_NOMEM : ERR_PEER, "no place for a picture");
    }
    l->next = NULL;
    l->n = wire_pack(&m, l->bytes);
    pthread_mutex_lock(&f->lock);
    while (f->n_waiting >= WAITING_MAX)
        pthread_cond_wait(&f->changed, &f->lock);
    f->n_waiting++;
    *f->last = l;
    f->last = &l->next;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
    return ERR_OK;
}

static bool sink_take(void *ctx, struct sink_done *done)
{
    struct filesink *f = ctx;
    pthread_mutex_lock(&f->lock);
    struct report *r = f->done;
    if (r != NULL) {
        f->done = r->next;
        if (f->done == NULL)
            f->done_last = &f->done;
    }
    pthread_mutex_unlock(&f->lock);
    if (r == NULL)
        return false;
    *done = r->done;
    free(r);
    return true;
}

int filesink_new(struct filesink **out, struct sink *sink, struct err *err)
{
    struct filesink *f = calloc(1, sizeof *f);
    *out = NULL;
    if (f == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a sink");
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->changed, NULL);
    f->last = &f->first;
    f->done_last = &f->done;
    if (pthread_create(&f->thread, NULL, write_pictures, f) != 0) {
        free(f);
        return err_set(err, ERR_NOMEM, "cannot start a thread that writes pictures");
    }
    *sink = (struct sink){.ctx = f, .open = sink_open, .put = sink_put, .take = sink_take};
    *out = f;
    return ERR_OK;
}

void filesink_destroy(struct filesink *f)
{
    struct sink_done d;
    if (f == NULL)
        return;
    pthread_mutex_lock(&f->lock);
    f->end = true;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
    pthread_join(f->thread, NULL);
    while (sink_take(f, &d))
        ;
    pthread_mutex_destroy(&f->lock);
    pthread_cond_destroy(&f->changed);
    free(f);        /* the lock stays the process's until it ends */
}
