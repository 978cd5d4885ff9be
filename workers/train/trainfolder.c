#define _XOPEN_SOURCE 700       /* nftw */
#include "workers/train/trainfolder.h"

#include "proto/safewriter.h"
#include "workers/models/textfile.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_BYTES = 4200, JSON_MAX_BYTES = 1 << 20, CONVERT = 4096 };

static int join(char path[PATH_BYTES], const char *dir, const char *name, struct err *err)
{
    if (snprintf(path, PATH_BYTES, "%s/%s", dir, name) >= PATH_BYTES)
        return err_set(err, ERR_INVAL, "a path of more than %d bytes: %.100s..", PATH_BYTES, dir);
    return ERR_OK;
}

int trainfolder_make(const char *dir, const char *name, struct err *err)
{
    char path[PATH_BYTES];
    TRY(join(path, dir, name, err));
    if (mkdir(path, 0777) == 0 || errno == EEXIST)
        return ERR_OK;
    return err_set(err, ERR_OUTPUT, "%.150s: %s", path, strerror(errno));
}

int trainfolder_json(const char *dir, const char *name, const json_t *json, struct err *err)
{
    struct atomicfile f = {0};
    char path[PATH_BYTES];
    TRY(join(path, dir, name, err));
    char *text = json_dumps(json, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_REAL_PRECISION(9));
    int rc = text == NULL ? err_set(err, ERR_NOMEM, "%.150s: no memory", path)
                          : atomicfile_open(&f, path, err);
    if (rc == ERR_OK)
        rc = atomicfile_write(&f, text, strlen(text), err);
    if (rc == ERR_OK)
        rc = atomicfile_write(&f, "\n", 1, err);
    if (rc == ERR_OK)
        rc = atomicfile_commit(&f, err);
    atomicfile_abandon(&f);
    free(text);
    return rc;
}

static int write_tensor(struct safewriter *w, const struct param *p, enum dtype type, struct err *err)
{
    uint16_t half[CONVERT];
    if (type == DT_F32)
        return safewriter_write(w, p->data, (size_t)p->n * sizeof *p->data, err);
    for (int64_t at = 0; at < p->n; at += CONVERT) {
        int n = (int)(p->n - at < CONVERT ? p->n - at : CONVERT);
        for (int i = 0; i < n; i++)
            half[i] = dtype_f32_to_bf16(p->data[at + i]);
        TRY(safewriter_write(w, half, (size_t)n * sizeof *half, err));
    }
    return ERR_OK;
}

static int write_set(struct safewriter *w, const struct params *s, enum dtype type,
                     void (*rename_to)(const char *, char *), struct err *err)
{
    TRY(safewriter_meta(w, "format", "pt", err));
    for (int i = 0; i < s->n; i++) {
        char name[256];
        snprintf(name, sizeof name, "%s", s->p[i].name);
        if (rename_to != NULL)
            rename_to(s->p[i].name, name);
        TRY(safewriter_tensor(w, name, type == DT_F32 ? "F32" : "BF16", s->p[i].n_dims, s->p[i].shape,
                              (uint64_t)dtype_bytes(type, s->p[i].n), err));
    }
    TRY(safewriter_begin(w, err));
    for (int i = 0; i < s->n; i++)
        TRY(write_tensor(w, &s->p[i], type, err));
    return safewriter_close(w, err);
}

int trainfolder_weights(const char *dir, const char *name, const struct params *s, enum dtype type,
                        void (*rename_to)(const char *from, char out[256]), struct err *err)
{
    struct safewriter w = {0};
    char path[PATH_BYTES];
    TRY(join(path, dir, name, err));
    TRY(safewriter_open(&w, path, err));
    int rc = write_set(&w, s, type, rename_to, err);
    safewriter_abandon(&w);
    return rc;
}

int trainfolder_read_json(const char *dir, const char *name, json_t **json, struct err *err)
{
    char *text;
    size_t n;
    json_error_t why;
    TRY(textfile_read(dir, name, JSON_MAX_BYTES, 1, &text, &n, err));
    *json = json_loadb(text, n, 0, &why);
    free(text);
    if (*json == NULL)
        return err_set(err, ERR_FORMAT, "%.120s/%.60s: line %d: %.80s", dir, name, why.line, why.text);
    return ERR_OK;
}

int trainfolder_read_weights(const char *dir, const char *name, struct params *s, struct err *err)
{
    struct tensorfile t;
    char path[PATH_BYTES];
    TRY(join(path, dir, name, err));
    TRY(tensorfile_open(&t, path, err));
    int rc = params_load(s, &t, err);
    tensorfile_close(&t);
    return rc == ERR_OK ? rc : err_prefix(err, "%.150s", path);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st, (void)type, (void)at;
    return remove(path);
}

void trainfolder_remove(const char *path) { nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS); }

int trainfolder_replace(const char *fresh, const char *path, struct err *err)
{
    char old[PATH_BYTES];
    if (snprintf(old, sizeof old, "%s.old", path) >= PATH_BYTES)
        return err_set(err, ERR_INVAL, "a path of more than %d bytes: %.100s..", PATH_BYTES, path);
    trainfolder_remove(old);
    if (rename(path, old) != 0 && errno != ENOENT)
        return err_set(err, ERR_OUTPUT, "%.150s: %s", path, strerror(errno));
    if (rename(fresh, path) != 0)
        return err_set(err, ERR_OUTPUT, "%.150s: %s", path, strerror(errno));
    trainfolder_remove(old);
    return ERR_OK;
}
