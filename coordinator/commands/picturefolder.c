#include "coordinator/commands/picturefolder.h"

#include "coordinator/commands/cli.h"
#include "coordinator/image/pngfile.h"
#include "coordinator/image/tarshard.h"
#include "proto/atomicfile.h"
#include "proto/sha256.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FOLDER_OF = 1000 };          /* pictures of a sub-folder */
static const double PATIENCE_S = 30;    /* for the ranks of a killed run */

/* --- opening */

static int make_folder(struct picturefolder *f, const char *path, struct err *err)
{
    for (const char *at = strchr(path + 1, '/');; at = strchr(at + 1, '/')) {
        int n = at != NULL ? (int)(at - path) : (int)strlen(path);
        snprintf(f->path, sizeof f->path, "%.*s", n, path);
        if (mkdir(f->path, 0777) != 0 && errno != EEXIST)
            return err_set(err, ERR_OUTPUT, "%s: cannot be made: %s", f->path, strerror(errno));
        if (at == NULL)
            break;
    }
    if (access(f->path, W_OK | X_OK) != 0)
        return err_set(err, ERR_OUTPUT, "%s: cannot be written: %s", f->path, strerror(errno));
    char *whole = realpath(f->path, NULL);
    if (whole == NULL || strlen(whole) >= sizeof f->path - PICTUREFOLDER_NAME) {
        free(whole);
        return err_set(err, ERR_OUTPUT, "%s: the path is too long", path);
    }
    snprintf(f->path, sizeof f->path, "%s", whole);
    free(whole);
    return ERR_OK;
}

static void journal_path(const struct picturefolder *f, char out[PICTUREFOLDER_PATH])
{
    snprintf(out, PICTUREFOLDER_PATH, "%.3900s/journal.sqlite", f->path);
}

static int write_batch(struct picturefolder *f, const char *model, const char *hash,
                       const struct picturejobs *jobs, struct err *err)
{
    char number[32];
    TRY(journal_set(f->journal, "model", model, err));
    TRY(journal_set(f->journal, "model_hash", hash, err));
    TRY(journal_set(f->journal, "name", f->name, err));
    snprintf(number, sizeof number, "%d", f->shard_pictures);
    TRY(journal_set(f->journal, "shard_pictures", number, err));
    TRY(journal_set(f->journal, "run", "1", err));
    for (int i = 0; i < jobs->n; i++) {
        json_t *o = picturejob_json(&jobs->job[i]);
        char *text = o != NULL ? json_dumps(o, JSON_COMPACT) : NULL;
        json_decref(o);
        int rc = text != NULL ? journal_add_request(f->journal, text, err)
                              : err_set(err, ERR_NOMEM, "no memory for the journal");
        free(text);
        TRY(rc);
    }
    TRY(journal_set(f->journal, "whole", "1", err));
    return journal_commit(f->journal, err);
}

/* One picture: its folder must be there, nothing else is written. */
static int open_single(struct picturefolder *f, const char *path, struct err *err)
{
    char folder[PICTUREFOLDER_PATH];
    const char *slash = strrchr(path, '/');
    snprintf(folder, sizeof folder, "%.*s", slash == NULL ? 1 : slash == path ? 1 : (int)(slash - path),
             slash == NULL ? "." : path);
    snprintf(f->single, sizeof f->single, "%.390s", slash != NULL ? slash + 1 : path);
    if (access(folder, W_OK | X_OK) != 0)
        return err_set(err, ERR_OUTPUT, "%s: %s: %s", path, folder, strerror(errno));
    char *whole = realpath(folder, NULL);
    if (whole == NULL)
        return err_set(err, ERR_OUTPUT, "%s: %s", folder, strerror(errno));
    snprintf(f->path, sizeof f->path, "%.3600s", whole);
    free(whole);
    return journal_create(&f->journal, NULL, err);
}

static bool is_single(const char *path)
{
    size_t n = strlen(path);
    return n > 4 && strcmp(path + n - 4, ".png") == 0;
}

int picturefolder_create(struct picturefolder *f, const char *path, const char *name, int shard_pictures,
                         const char *model, const char *hash, const struct picturejobs *jobs,
                         struct err *err)
{
    char journal[PICTUREFOLDER_PATH];
    memset(f, 0, sizeof *f);
    f->run = 1;
    f->shard_pictures = shard_pictures;
    if ((f->name = strdup(name)) == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a name");
    if (is_single(path)) {
        if (jobs->n_tasks != 1)
            return err_set(err, ERR_INVAL, "-o %s is one picture, %lld are asked for: name a folder", path,
                           (long long)jobs->n_tasks);
        return open_single(f, path, err);
    }
    TRY(make_folder(f, path, err));
    TRY(folderlock_take_all(&f->lock, f->path, 0, err));
    journal_path(f, journal);
    if (access(journal, F_OK) == 0)
        return err_set(err, ERR_INVAL, "%s holds a batch already: --resume goes on with it, "
                       "another -o begins "
                       "anew", path);
    TRY(journal_create(&f->journal, journal, err));
    return write_batch(f, model, hash, jobs, err);
}

int picturefolder_close(struct picturefolder *f, struct err *err)
{
    int rc = journal_close(f->journal, err);
    free(f->name);
    f->journal = NULL;
    f->name = NULL;
    return rc;      /* the lock stays until the process ends (folderlock.h) */
}

/* --- going on */

static int add_request(void *ctx, const char *json, struct err *err)
{
    struct picturejob defaults;
    json_error_t e;
    json_t *o = json_loads(json, 0, &e);
    picturejob_init(&defaults);
    int rc = picturejobs_add(ctx, o, &defaults, "journal.sqlite", 0, err);
    json_decref(o);
    return rc;
}

static int get_number(struct journal *j, const char *key, int *out, struct err *err)
{
    char *text;
    TRY(journal_get(j, key, &text, err));
    *out = text != NULL ? atoi(text) : 0;
    free(text);
    return ERR_OK;
}

static int read_batch(struct picturefolder *f, struct picturejobs *jobs, char **model, char **hash,
                      struct err *err)
{
    int whole;
    char number[32];
    TRY(get_number(f->journal, "whole", &whole, err));
    TRY(journal_get(f->journal, "name", &f->name, err));
    TRY(journal_get(f->journal, "model", model, err));
    TRY(journal_get(f->journal, "model_hash", hash, err));
    TRY(get_number(f->journal, "shard_pictures", &f->shard_pictures, err));
    TRY(get_number(f->journal, "run", &f->run, err));
    if (!whole || f->name == NULL || *model == NULL || *hash == NULL)
        return err_set(err, ERR_FORMAT, "%s/journal.sqlite: the batch in it was never begun: "
                       "remove the folder",
                       f->path);
    TRY(journal_requests(f->journal, add_request, jobs, err));
    TRY(picturejobs_number(jobs, err));
    snprintf(number, sizeof number, "%d", ++f->run);
    TRY(journal_set(f->journal, "run", number, err));
    return journal_commit(f->journal, err);
}

/* What a killed rank was writing: PATH.tmp-XXXXXX beside the picture. */
static void sweep(const char *folder, int depth)
{
    DIR *d = opendir(folder);
    struct dirent *e;
    while (d != NULL && (e = readdir(d)) != NULL) {
        char path[2 * PICTUREFOLDER_PATH];
        struct stat st;
        snprintf(path, sizeof path, "%.4000s/%s", folder, e->d_name);
        if (e->d_name[0] == '.' || lstat(path, &st) != 0)
            continue;
        if (S_ISDIR(st.st_mode) && depth > 0)
            sweep(path, depth - 1);
        else if (S_ISREG(st.st_mode) && strstr(e->d_name, ".png.tmp-") != NULL)
            unlink(path);
    }
    if (d != NULL)
        closedir(d);
}

int picturefolder_resume(struct picturefolder *f, const char *path, struct picturejobs *jobs, char **model,
                         char **hash, struct err *err)
{
    char journal[PICTUREFOLDER_PATH];
    struct stat st;
    memset(f, 0, sizeof *f);
    *model = *hash = NULL;
    if (is_single(path) || stat(path, &st) != 0 || !S_ISDIR(st.st_mode))
        return err_set(err, ERR_IO, "%s: no folder with a batch there", path);
    TRY(make_folder(f, path, err));
    journal_path(f, journal);
    if (access(journal, F_OK) != 0)
        return err_set(err, ERR_IO, "%s: no journal.sqlite in it: nothing to go on with", path);
    TRY(folderlock_take_all(&f->lock, f->path, PATIENCE_S, err));
    TRY(journal_open(&f->journal, journal, err));
    TRY(read_batch(f, jobs, model, hash, err));
    sweep(f->path, 3);
    return ERR_OK;
}

/* --- names */

int picturefolder_check_name(const char *name, int64_t n_tasks, struct err *err)
{
    if (name[0] == '/' || strstr(name, "..") != NULL || strlen(name) > 200)
        return err_set(err, ERR_INVAL, "--name '%.60s' leads out of the folder, or is too long", name);
    if (n_tasks > 1 && strstr(name, "{index}") == NULL)
        return err_set(err, ERR_INVAL, "--name '%.60s' gives several pictures one name: it needs "
                       "{index}", name);
    return ERR_OK;
}

/* Letters and digits of a prompt, "-" for the rest. */
static void put_words(FILE *out, const char *text)
{
    bool gap = false;
    int n = 0;
    for (; *text != '\0' && n < 60; text++) {
        unsigned char c = (unsigned char)*text;
        bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (good && gap && n > 0)
            fputc('-', out);
        if (good)
            fputc(c, out);
        n += good;
        gap = !good;
    }
}

static const char *put_field(FILE *out, const char *at, const struct picturejob *j, int k)
{
    static const char *const fields[] = {"{index}", "{seed}", "{line}", "{k}", "{prompt}", NULL};
    for (int i = 0; fields[i] != NULL; i++) {
        if (strncmp(at, fields[i], strlen(fields[i])) != 0)
            continue;
        switch (i) {
        case 0: fprintf(out, "%06lld", (long long)(j->first + k)); break;
        case 1: fprintf(out, "%lld", (long long)picturejob_place(j, k).seed); break;
        case 2: fprintf(out, "%d", j->line); break;
        case 3: fprintf(out, "%d", k); break;
        default: put_words(out, j->prompt != NULL ? j->prompt : "");
        }
        return at + strlen(fields[i]);
    }
    fputc(*at, out);
    return at + 1;
}

void picturefolder_file(const struct picturefolder *f, const struct picturejobs *jobs,
                        const struct picturejob *j, int k, char *out)
{
    FILE *to = fmemopen(out, PICTUREFOLDER_NAME, "w");
    if (f->single[0] != '\0' || to == NULL) {
        if (to != NULL)
            fclose(to);
        snprintf(out, PICTUREFOLDER_NAME, "%s", f->single[0] != '\0' ? f->single : "picture.png");
        return;
    }
    if (jobs->n_tasks > FOLDER_OF)
        fprintf(to, "%03lld/", (long long)((j->first + k) / FOLDER_OF));
    for (const char *at = f->name; *at != '\0';)
        at = put_field(to, at, j, k);
    fclose(to);
    out[PICTUREFOLDER_NAME - 1] = '\0';
}

/* --- stock */

int picturefolder_bytes(const struct picturefolder *f, const struct journal_picture *p, uint8_t **bytes,
                        struct err *err)
{
    char path[PICTUREFOLDER_PATH];
    snprintf(path, sizeof path, "%.3600s/%.400s", f->path, p->file);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    *bytes = p->bytes < PNGFILE_FILE_MAX ? malloc(p->bytes + 1) : NULL;
    ssize_t n = fd >= 0 && *bytes != NULL ? pread(fd, *bytes, p->bytes, (off_t)p->offset) : -1;
    if (fd >= 0)
        close(fd);
    if (n == (ssize_t)p->bytes)
        return ERR_OK;
    free(*bytes);
    *bytes = NULL;
    return err_set(err, ERR_IO, "%s: cannot be read", path);
}

struct stock {
    struct picturefolder *f;
    const struct picturejobs *jobs;
    const char *model, *hash;
    void (*made)(void *ctx, int64_t task);
    void *ctx;
    uint8_t *seen;                      /* [n_tasks] the journal has it and it is whole */
    struct { char *file; uint64_t end; } *shard;
    int n_shards;
};

/* Shards end behind the last picture that the journal knows. */
static int note_shard(struct stock *s, const struct journal_picture *p, struct err *err)
{
    uint64_t end = p->offset + p->bytes;
    int i = 0;
    while (i < s->n_shards && strcmp(s->shard[i].file, p->file) != 0)
        i++;
    if (i == s->n_shards) {
        void *grown = realloc(s->shard, (size_t)(i + 1) * sizeof *s->shard);
        char *file = strdup(p->file);
        if (grown != NULL)
            s->shard = grown;
        if (grown == NULL || file == NULL) {
            free(file);
            return err_set(err, ERR_NOMEM, "no memory for shards");
        }
        s->shard[i].file = file;
        s->shard[i].end = 0;
        s->n_shards++;
    }
    s->shard[i].end = end > s->shard[i].end ? end : s->shard[i].end;
    return ERR_OK;
}

static int look_at(void *ctx, const struct journal_picture *p, struct err *err)
{
    struct stock *s = ctx;
    char path[PICTUREFOLDER_PATH];
    struct stat st;
    snprintf(path, sizeof path, "%.3600s/%.400s", s->f->path, p->file);
    bool there = stat(path, &st) == 0 && (uint64_t)st.st_size >= p->offset + p->bytes &&
                 (s->f->shard_pictures > 0 || (uint64_t)st.st_size == p->bytes);
    if (p->task < 0 || p->task >= s->jobs->n_tasks || !there)
        return ERR_OK;
    s->seen[p->task] = 1;
    s->made(s->ctx, p->task);
    return s->f->shard_pictures > 0 ? note_shard(s, p, err) : ERR_OK;
}

/* A picture that was durable before its mark was: does it say that it is the one? */
static int adopt(struct stock *s, int64_t task, struct err *err)
{
    char path[PICTUREFOLDER_PATH], file[PICTUREFOLDER_NAME];
    struct picture_record record;
    struct picture picture;
    struct err ignored = {0};
    struct stat st;
    int k;
    const struct picturejob *j = picturejobs_of(s->jobs, task, &k);
    picturefolder_file(s->f, s->jobs, j, k, file);
    snprintf(path, sizeof path, "%.3600s/%.400s", s->f->path, file);
    if (stat(path, &st) != 0 || pngfile_load(&picture, path, &ignored) != ERR_OK)
        return ERR_OK;
    int rc = picturejob_record(j, k, s->model, s->hash, &record, err);
    const char *says = pngfile_text_of(&picture, "muster");
    bool same = rc == ERR_OK && says != NULL && strcmp(says, record.json) == 0;
    pngfile_free(&picture);
    if (rc == ERR_OK)
        picture_record_free(&record);
    if (!same)
        return rc;
    struct journal_picture p = {.task = task, .file = file, .bytes = (uint64_t)st.st_size};
    struct sha256 hash;
    uint8_t *bytes;
    TRY(picturefolder_bytes(s->f, &p, &bytes, err));
    sha256_begin(&hash);
    sha256_add(&hash, bytes, p.bytes);
    sha256_end(&hash, p.sha256);
    free(bytes);
    TRY(journal_mark(s->f->journal, &p, 0, err));
    s->made(s->ctx, task);
    return ERR_OK;
}

/* Ends the shards of earlier runs behind what is known; those with nothing known in them go. */
static int trim_shards(struct stock *s, struct err *err)
{
    char path[2 * PICTUREFOLDER_PATH];
    DIR *d = opendir(s->f->path);
    struct dirent *e;
    int rc = ERR_OK;
    while (d != NULL && rc == ERR_OK && (e = readdir(d)) != NULL) {
        size_t n = strlen(e->d_name);
        if (strncmp(e->d_name, "shard-", 6) != 0 || n < 5 || strcmp(e->d_name + n - 4, ".tar") != 0)
            continue;
        int i = 0;
        while (i < s->n_shards && strcmp(s->shard[i].file, e->d_name) != 0)
            i++;
        snprintf(path, sizeof path, "%.4000s/%s", s->f->path, e->d_name);
        if (i < s->n_shards)
            rc = tarshard_trim(path, s->shard[i].end, err);
        else if (unlink(path) != 0)
            rc = err_set(err, ERR_OUTPUT, "%s: %s", path, strerror(errno));
    }
    if (d != NULL)
        closedir(d);
    return rc;
}

int picturefolder_take_stock(struct picturefolder *f, const struct picturejobs *jobs, const char *model,
                             const char *hash, void (*made)(void *ctx, int64_t task), void *ctx,
                             struct err *err)
{
    struct stock s = {.f = f, .jobs = jobs, .model = model, .hash = hash, .made = made, .ctx = ctx};
    s.seen = calloc((size_t)jobs->n_tasks + 1, 1);
    int rc = s.seen == NULL ? err_set(err, ERR_NOMEM, "no memory for %lld pictures",
                                      (long long)jobs->n_tasks)
                            : journal_pictures(f->journal, look_at, &s, err);
    for (int64_t t = 0; rc == ERR_OK && f->shard_pictures == 0 && t < jobs->n_tasks; t++)
        if (!s.seen[t])
            rc = adopt(&s, t, err);
    if (rc == ERR_OK && f->shard_pictures > 0)
        rc = trim_shards(&s, err);
    if (rc == ERR_OK)
        rc = journal_commit(f->journal, err);
    for (int i = 0; i < s.n_shards; i++)
        free(s.shard[i].file);
    free(s.shard);
    free(s.seen);
    return rc;
}

/* --- the index */

struct index { const struct picturejobs *jobs; const char *model, *hash; struct atomicfile out; };

static int index_line(void *ctx, const struct journal_picture *p, struct err *err)
{
    struct index *x = ctx;
    struct picture_record r;
    char hex[SHA256_HEX];
    int k;
    if (p->task < 0 || p->task >= x->jobs->n_tasks)
        return ERR_OK;
    const struct picturejob *j = picturejobs_of(x->jobs, p->task, &k);
    TRY(picturejob_record(j, k, x->model, x->hash, &r, err));
    json_t *o = json_loads(r.json, 0, NULL);
    picture_record_free(&r);
    sha256_hex(p->sha256, hex);
    json_object_set_new(o, "index", json_integer(p->task));
    json_object_set_new(o, "file", json_string(p->file));
    if (p->offset > 0)
        json_object_set_new(o, "offset", json_integer((json_int_t)p->offset));
    json_object_set_new(o, "bytes", json_integer((json_int_t)p->bytes));
    json_object_set_new(o, "sha256", json_string(hex));
    char *text = o != NULL ? json_dumps(o, JSON_COMPACT) : NULL;
    json_decref(o);
    int rc = text == NULL ? err_set(err, ERR_NOMEM, "no memory for the index")
                          : atomicfile_write(&x->out, text, strlen(text), err);
    if (rc == ERR_OK)
        rc = atomicfile_write(&x->out, "\n", 1, err);
    free(text);
    return rc;
}

int picturefolder_index(struct picturefolder *f, const struct picturejobs *jobs, const char *model,
                        const char *hash, struct err *err)
{
    struct index x = {.jobs = jobs, .model = model, .hash = hash};
    char path[PICTUREFOLDER_PATH];
    if (f->single[0] != '\0')
        return ERR_OK;
    snprintf(path, sizeof path, "%.3900s/index.jsonl", f->path);
    TRY(atomicfile_open(&x.out, path, err));
    int rc = journal_pictures(f->journal, index_line, &x, err);
    if (rc == ERR_OK)
        return atomicfile_commit(&x.out, err);
    atomicfile_abandon(&x.out);
    return rc;
}
