#include "proto/safewriter.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int put(struct safewriter *w, const char *s, size_t n, struct err *err)
{
    if (w->n_head + n > w->cap_head) {
        size_t cap = 2 * (w->n_head + n) + 1024;
        char *p = realloc(w->head, cap);
        if (p == NULL)
            return err_set(err, ERR_NOMEM, "no memory for a file's header");
        w->head = p;
        w->cap_head = cap;
    }
    memcpy(w->head + w->n_head, s, n);
    w->n_head += n;
    return ERR_OK;
}

static int put_text(struct safewriter *w, const char *s, struct err *err)
{
    return put(w, s, strlen(s), err);
}

/* A JSON string; UTF-8 passes through. */
static int put_string(struct safewriter *w, const char *s, struct err *err)
{
    TRY(put_text(w, "\"", err));
    for (; *s != '\0'; s++) {
        char code[8];
        if (*s == '"' || *s == '\\')
            snprintf(code, sizeof code, "\\%c", *s);
        else if ((unsigned char)*s < ' ')
            snprintf(code, sizeof code, "\\u%04x", *s);
        else
            snprintf(code, sizeof code, "%c", *s);
        TRY(put_text(w, code, err));
    }
    return put_text(w, "\"", err);
}

int safewriter_open(struct safewriter *w, const char *path, struct err *err)
{
    memset(w, 0, sizeof *w);
    TRY(atomicfile_open(&w->file, path, err));
    int rc = put_text(w, "{", err);
    if (rc != ERR_OK)
        safewriter_abandon(w);
    return rc;
}

int safewriter_meta(struct safewriter *w, const char *key, const char *value, struct err *err)
{
    ASSERT(w->stage != SAFEWRITER_TENSORS);
    TRY(put_text(w, w->stage == SAFEWRITER_EMPTY ? "\"__metadata__\":{" : ",", err));
    w->stage = SAFEWRITER_META;
    TRY(put_string(w, key, err));
    TRY(put_text(w, ":", err));
    return put_string(w, value, err);
}

int safewriter_tensor(struct safewriter *w, const char *name, const char *dtype, int n_dims,
                      const int64_t *shape, uint64_t bytes, struct err *err)
{
    char text[96];
    static const char *const between[] = {"", "},", ","};
    TRY(put_text(w, between[w->stage], err));
    w->stage = SAFEWRITER_TENSORS;
    TRY(put_string(w, name, err));
    snprintf(text, sizeof text, ":{\"dtype\":\"%.16s\",\"shape\":[", dtype);
    TRY(put_text(w, text, err));
    for (int i = 0; i < n_dims; i++) {
        snprintf(text, sizeof text, "%s%" PRId64, i > 0 ? "," : "", shape[i]);
        TRY(put_text(w, text, err));
    }
    snprintf(text, sizeof text, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", w->declared,
             w->declared + bytes);
    w->declared += bytes;
    return put_text(w, text, err);
}

int safewriter_begin(struct safewriter *w, struct err *err)
{
    if (w->stage == SAFEWRITER_META)
        TRY(put_text(w, "}", err));
    TRY(put_text(w, "}", err));
    while (w->n_head % 8 != 0)      /* the data start on a multiple of 8, for those who map them */
        TRY(put_text(w, " ", err));
    uint64_t n = w->n_head;
    TRY(atomicfile_write(&w->file, &n, sizeof n, err));
    return atomicfile_write(&w->file, w->head, w->n_head, err);
}

int safewriter_write(struct safewriter *w, const void *bytes, size_t n, struct err *err)
{
    ASSERT(n <= w->declared - w->data);
    w->data += n;
    return atomicfile_write(&w->file, bytes, n, err);
}

int safewriter_close(struct safewriter *w, struct err *err)
{
    ASSERT(w->data == w->declared);
    int rc = atomicfile_commit(&w->file, err);
    safewriter_abandon(w);
    return rc;
}

void safewriter_abandon(struct safewriter *w)
{
    atomicfile_abandon(&w->file);
    free(w->head);
    memset(w, 0, sizeof *w);
}
