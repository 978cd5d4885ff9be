/* traincheckpoint.c - a run on disk: weights, moments, averages and counters, whichever rank held them.
 * Files:  checkpoint-STEP.safetensors with tensors p.NAME (weights and buffers), m.NAME, v.NAME and
 *         ema.NAME; then checkpoint.json, which names it, with a hash of its numbers. A crash between the
 *         two leaves the older pair whole. */
#include "workers/train/trainflat.h"

#include "proto/safewriter.h"
#include "workers/models/textfile.h"
#include "workers/train/trainfolder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NAME_MAX_BYTES = 320, PATH_BYTES = 4200, JSON_MAX_BYTES = 1 << 20 };
static const uint64_t HASH_START = 0xcbf29ce484222325u, HASH_FACTOR = 0x100000001b3u;

/* FNV-1a over words of four bytes: numbers, not a defence. */
static uint64_t hash_floats(uint64_t h, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t word;
        memcpy(&word, &x[i], sizeof word);
        h = (h ^ word) * HASH_FACTOR;
    }
    return h;
}

static void full_name(char *out, const char *kind, const char *prefix, const char *name)
{
    snprintf(out, NAME_MAX_BYTES, "%s.%s%s", kind, prefix, name);
}

/* --- writing */

struct output { struct safewriter w; uint64_t hash; int rc; struct err *err; };

static void declare(struct output *o, const char *kind, const char *prefix, const struct param *p)
{
    char name[NAME_MAX_BYTES];
    full_name(name, kind, prefix, p->name);
    if (o->rc == ERR_OK)
        o->rc = safewriter_tensor(&o->w, name, "F32", p->n_dims, p->shape,
                                  (uint64_t)p->n * sizeof *p->data, o->err);
}

static void put(struct output *o, const float *x, int64_t n)
{
    if (o->rc != ERR_OK)
        return;
    o->hash = hash_floats(o->hash, x, n);
    o->rc = safewriter_write(&o->w, x, (size_t)n * sizeof *x, o->err);
}

static void declare_all(struct output *o, const struct trainer *t)
{
    for (int s = 0; s < t->task.n_sets; s++)
        for (int i = 0; i < t->task.set[s].params.n; i++)
            declare(o, "p", t->task.set[s].prefix, &t->task.set[s].params.p[i]);
    for (int g = 0; g < t->task.n_groups; g++) {
        static const char *const kinds[3] = {"m", "v", "ema"};
        const struct train_flat *f = &t->flat[g];
        for (int kind = 0; kind < (f->ema != NULL ? 3 : 2); kind++)
            for (int k = 0; k < f->n_params; k++)
                declare(o, kinds[kind], f->prefix[k], f->param[k]);
    }
    if (o->rc == ERR_OK)
        o->rc = safewriter_begin(&o->w, o->err);
}

/* Every rank takes part in every collection, also when worker 0 could not write. */
static int write_states(struct output *o, struct trainer *t, struct err *err)
{
    for (int g = 0; g < t->task.n_groups; g++) {
        const struct train_flat *f = &t->flat[g];
        const float *state[3] = {f->m, f->v, f->ema};
        for (int kind = 0; kind < (f->ema != NULL ? 3 : 2); kind++) {
            TRY(trainflat_collect(t, g, state[kind], err));
            if (t->comm->self == 0)
                put(o, t->wire, f->n);
        }
    }
    return ERR_OK;
}

static int write_json(const struct trainer *t, const char *dir, const char *file, uint64_t hash,
                      struct err *err)
{
    struct atomicfile f = {0};
    char path[PATH_BYTES], text[32];
    json_t *config = json_loads(t->config_text, 0, NULL), *updates = json_array();
    for (int g = 0; g < t->task.n_groups; g++)
        json_array_append_new(updates, json_integer(t->flat[g].updates));
    snprintf(text, sizeof text, "%016llx", (unsigned long long)hash);
    json_t *all = json_pack("{s:i, s:s, s:s, s:I, s:o, s:o}", "muster_checkpoint", 1, "file", file, "hash",
                            text, "step", (json_int_t)t->step, "updates", updates, "config", config);
    char *json = all != NULL ? json_dumps(all, JSON_INDENT(1)) : NULL;
    snprintf(path, sizeof path, "%s/checkpoint.json", dir);
    int rc = json == NULL ? err_set(err, ERR_NOMEM, "%s: no memory", path)
                          : atomicfile_open(&f, path, err);
    if (rc == ERR_OK)
        rc = atomicfile_write(&f, json, strlen(json), err);
    if (rc == ERR_OK)
        rc = atomicfile_commit(&f, err);
    atomicfile_abandon(&f);
    free(json);
    json_decref(all);
    return rc;
}

/* The new pair is whole: the older numbers may go. */
static int finish(struct trainer *t, const char *dir, const char *file, uint64_t hash, struct err *err)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", dir, file);
    int rc = write_json(t, dir, file, hash, err);
    if (rc != ERR_OK) {
        unlink(path);
        return rc;
    }
    size_t n = strlen(dir);
    bool ours = t->last_checkpoint != NULL && strncmp(t->last_checkpoint, dir, n) == 0 &&
                t->last_checkpoint[n] == '/';
    if (ours && strcmp(t->last_checkpoint, path) != 0)
        unlink(t->last_checkpoint);
    return ERR_OK;
}

int trainer_checkpoint(struct trainer *t, const char *dir, struct err *err)
{
    char file[64], path[PATH_BYTES];
    struct output o = {.hash = HASH_START, .err = err};
    bool writes = t->comm->self == 0;
    snprintf(file, sizeof file, "checkpoint-%06lld.safetensors", (long long)t->step);
    snprintf(path, sizeof path, "%s/%s", dir, file);
    t->sync.err = err;
    if (writes) {
        o.rc = safewriter_open(&o.w, path, err);
        declare_all(&o, t);
        for (int s = 0; s < t->task.n_sets; s++)
            for (int i = 0; i < t->task.set[s].params.n; i++)
                put(&o, t->task.set[s].params.p[i].data, t->task.set[s].params.p[i].n);
    }
    int rc = write_states(&o, t, err);
    if (writes && rc == ERR_OK && o.rc == ERR_OK)
        o.rc = safewriter_close(&o.w, err);
    safewriter_abandon(&o.w);
    if (writes && rc == ERR_OK && o.rc == ERR_OK)
        o.rc = finish(t, dir, file, o.hash, err);
    rc = rc != ERR_OK ? rc : comm_agree(t->comm, t->sync.mesh.tp_ranks, t->comm->n_workers, o.rc, err);
    if (rc == ERR_OK) {
        free(t->last_checkpoint);
        t->last_checkpoint = strdup(path);
    }
    return rc;
}

/* Beside its place first, so that the folder there is always a whole one. */
static int write_folder(struct trainer *t, const struct train_weights *w, const char *dir, enum dtype type,
                        struct err *err)
{
    char fresh[PATH_BYTES];
    if (snprintf(fresh, sizeof fresh, "%s.new", dir) >= PATH_BYTES)
        return err_set(err, ERR_INVAL, "a path of more than %d bytes: %.100s..", PATH_BYTES, dir);
    trainfolder_remove(fresh);
    int rc = trainfolder_make(fresh, "", err);
    if (rc == ERR_OK)
        rc = t->task.row->save(&t->task, w, fresh, type, err);
    if (rc == ERR_OK)
        rc = trainfolder_replace(fresh, dir, err);
    if (rc != ERR_OK)
        trainfolder_remove(fresh);
    return rc;
}

int trainer_export(struct trainer *t, const char *dir, enum dtype type, struct err *err)
{
    struct train_weights w;
    t->sync.err = err;
    TRY(trainflat_average(t, &w, err));
    int rc = t->comm->self == 0 ? write_folder(t, &w, dir, type, err) : ERR_OK;
    return comm_agree(t->comm, t->sync.mesh.tp_ranks, t->comm->n_workers, rc, err);
}

/* --- reading */

struct input {
    struct tensorfile file;
    char path[PATH_BYTES];
    json_t *json;
    uint64_t want, hash;
};

static void close_input(struct input *in)
{
    tensorfile_close(&in->file);
    json_decref(in->json);
}

static int bad(const char *path, const char *what, struct err *err)
{
    return err_set(err, ERR_FORMAT, "%.150s: %s: no checkpoint of this program, or damaged", path, what);
}

static int read_head(struct input *in, const char *path, struct err *err)
{
    char folder[PATH_BYTES], *text = NULL;
    size_t n;
    const char *slash = strrchr(path, '/');
    TRY(textfile_folder(path, folder, sizeof folder, err));
    TRY(textfile_read(folder, slash != NULL ? slash + 1 : path, JSON_MAX_BYTES, 1, &text, &n, err));
    in->json = json_loadb(text, n, 0, NULL);
    free(text);
    const char *file = json_string_value(json_object_get(in->json, "file"));
    const char *hash = json_string_value(json_object_get(in->json, "hash"));
    char *end = NULL;
    if (json_integer_value(json_object_get(in->json, "muster_checkpoint")) != 1)
        return bad(path, "no version 1", err);
    if (file == NULL || strchr(file, '/') != NULL || hash == NULL)
        return bad(path, "file or hash is missing", err);
    in->want = strtoull(hash, &end, 16);
    if (*end != '\0' || !json_is_integer(json_object_get(in->json, "step")))
        return bad(path, "hash or step is no number", err);
    if (snprintf(in->path, sizeof in->path, "%s/%s", folder, file) >= (int)sizeof in->path)
        return bad(path, "a path that is too long", err);
    return tensorfile_open(&in->file, in->path, err);
}

static int open_input(struct input *in, const char *path, struct err *err)
{
    memset(in, 0, sizeof *in);
    in->hash = HASH_START;
    int rc = read_head(in, path, err);
    if (rc != ERR_OK)
        close_input(in);
    return rc;
}

static const struct tensor_entry *expect(struct input *in, const char *kind, const char *prefix,
                                         const struct param *p, struct err *err)
{
    char name[NAME_MAX_BYTES];
    full_name(name, kind, prefix, p->name);
    const struct tensor_entry *e = tensorfile_find(&in->file, name);
    bool same = e != NULL && e->type == DT_F32 && e->n_dims == p->n_dims;
    for (int i = 0; i < p->n_dims && same; i++)
        same = e->shape[i] == p->shape[i];
    if (same)
        return e;
    err_set(err, ERR_FORMAT, "%.100s: tensor %.80s %s: a checkpoint of another model", in->path, name,
            e == NULL ? "is missing" : "has another shape");
    return NULL;
}

static int take(struct input *in, const char *kind, const char *prefix, const struct param *p, float *out,
                struct err *err)
{
    const struct tensor_entry *e = expect(in, kind, prefix, p, err);
    if (e == NULL)
        return err->code;
    TRY(tensorfile_read(&in->file, e, 0, out, e->bytes, err));
    in->hash = hash_floats(in->hash, out, p->n);
    return ERR_OK;
}

static int take_weights(struct input *in, struct trainer *t, struct err *err)
{
    for (int s = 0; s < t->task.n_sets; s++)
        for (int i = 0; i < t->task.set[s].params.n; i++) {
            struct param *p = &t->task.set[s].params.p[i];
            TRY(take(in, "p", t->task.set[s].prefix, p, p->data, err));
        }
    return ERR_OK;
}

static int take_counters(struct input *in, struct trainer *t, struct err *err)
{
    const json_t *updates = json_object_get(in->json, "updates");
    t->step = json_integer_value(json_object_get(in->json, "step"));
    if (t->step < 0 || (int)json_array_size(updates) != t->task.n_groups)
        return bad(in->path, "counters of another task", err);
    for (int g = 0; g < t->task.n_groups; g++)
        t->flat[g].updates = json_integer_value(json_array_get(updates, (size_t)g));
    t->last_checkpoint = strdup(in->path);
    return ERR_OK;
}

/* One kind of state of a group: the whole row passes by (the hash wants it), the share stays. */
static int take_state(struct input *in, struct trainer *t, int group, const char *kind, float *mine,
                      struct err *err)
{
    struct train_flat *f = &t->flat[group];
    for (int k = 0; k < f->n_params; k++)
        TRY(take(in, kind, f->prefix[k], f->param[k], t->wire + f->begin[k], err));
    memcpy(mine, t->wire + f->lo, (size_t)(f->hi - f->lo) * sizeof *mine);
    return ERR_OK;
}

int trainer_resume(struct trainer *t, const char *path, struct err *err)
{
    struct input in;
    TRY(open_input(&in, path, err));
    int rc = take_weights(&in, t, err);
    for (int g = 0; g < t->task.n_groups && rc == ERR_OK; g++) {
        struct train_flat *f = &t->flat[g];
        rc = take_state(&in, t, g, "m", f->m, err);
        if (rc == ERR_OK)
            rc = take_state(&in, t, g, "v", f->v, err);
        if (rc == ERR_OK && f->ema != NULL)
            rc = take_state(&in, t, g, "ema", f->ema, err);
    }
    if (rc == ERR_OK && in.hash != in.want)
        rc = bad(in.path, "numbers that are not those written", err);
    if (rc == ERR_OK)
        rc = take_counters(&in, t, err);
    close_input(&in);
    return rc;
}
