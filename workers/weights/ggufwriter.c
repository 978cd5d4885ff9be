#include "workers/weights/ggufwriter.h"

#include "workers/weights/gguf.h"

#include <stdlib.h>
#include <string.h>

static void put(struct ggufbytes *b, const void *p, size_t n)
{
    if (b->failed || n == 0)
        return;
    if (b->n + n > b->cap) {
        size_t cap = 2 * (b->n + n) + 1024;
        uint8_t *more = realloc(b->p, cap);
        if (more == NULL) {
            b->failed = true;
            return;
        }
        b->p = more;
        b->cap = cap;
    }
    memcpy(b->p + b->n, p, n);
    b->n += n;
}

static void put_u32(struct ggufbytes *b, uint32_t v) { put(b, &v, sizeof v); }
static void put_u64(struct ggufbytes *b, uint64_t v) { put(b, &v, sizeof v); }

static void put_string(struct ggufbytes *b, const char *s, size_t n)
{
    put_u64(b, n);
    put(b, s, n);
}

int ggufwriter_open(struct ggufwriter *w, const char *path, struct err *err)
{
    memset(w, 0, sizeof *w);
    return atomicfile_open(&w->file, path, err);
}

static void begin_key(struct ggufwriter *w, const char *key, uint32_t type)
{
    put_string(&w->keys, key, strlen(key));
    put_u32(&w->keys, type);
    w->n_keys++;
}

void ggufwriter_u32(struct ggufwriter *w, const char *key, uint32_t v)
{
    begin_key(w, key, GGUF_U32);
    put_u32(&w->keys, v);
}

void ggufwriter_f32(struct ggufwriter *w, const char *key, float v)
{
    begin_key(w, key, GGUF_F32);
    put(&w->keys, &v, sizeof v);
}

void ggufwriter_bool(struct ggufwriter *w, const char *key, bool v)
{
    uint8_t byte = v;
    begin_key(w, key, GGUF_BOOL);
    put(&w->keys, &byte, 1);
}

void ggufwriter_string(struct ggufwriter *w, const char *key, const char *s, size_t n)
{
    begin_key(w, key, GGUF_STRING);
    put_string(&w->keys, s, n);
}

void ggufwriter_array(struct ggufwriter *w, const char *key, int type, const void *v, uint64_t n)
{
    begin_key(w, key, GGUF_ARRAY);
    put_u32(&w->keys, (uint32_t)type);
    put_u64(&w->keys, n);
    put(&w->keys, v, n * (size_t)gguf_type_bytes(type));
}

void ggufwriter_strings_begin(struct ggufwriter *w, const char *key, uint64_t n)
{
    begin_key(w, key, GGUF_ARRAY);
    put_u32(&w->keys, GGUF_STRING);
    put_u64(&w->keys, n);
}

void ggufwriter_strings_add(struct ggufwriter *w, const char *s, size_t n)
{
    put_string(&w->keys, s, n);
}

void ggufwriter_copy(struct ggufwriter *w, const char *key, const struct meta_value *v)
{
    union { int64_t i; float f; double d; } u = {.i = v->i};
    switch (v->kind) {
    case META_STRING:
        ggufwriter_string(w, key, v->str, v->len);
        return;
    case META_ARRAY:
        if (v->strings == NULL) {
            ggufwriter_array(w, key, v->elem_type, v->array, v->len);
            return;
        }
        ggufwriter_strings_begin(w, key, v->len);
        for (uint64_t i = 0; i < v->len; i++)
            ggufwriter_strings_add(w, v->strings[i], v->string_lens[i]);
        return;
    case META_FLOAT:
        if (v->elem_type == GGUF_F64)
            u.d = v->f;
        else
            u.f = (float)v->f;
        break;
    case META_INT:
    case META_BOOL:
        break;          /* the low bytes are the value, whatever its width */
    }
    begin_key(w, key, (uint32_t)v->elem_type);
    put(&w->keys, &u, (size_t)gguf_type_bytes(v->elem_type));
}

static uint64_t padded(uint64_t n) { return (n + GGUF_ALIGNMENT - 1) / GGUF_ALIGNMENT * GGUF_ALIGNMENT; }

void ggufwriter_tensor(struct ggufwriter *w, const char *name, enum dtype type, int n_dims,
                       const int64_t *shape)
{
    int64_t n = 1;
    ASSERT(n_dims <= GGUF_DIMS_MAX);
    put_string(&w->infos, name, strlen(name));
    put_u32(&w->infos, (uint32_t)n_dims);
    for (int i = n_dims - 1; i >= 0; i--) {
        put_u64(&w->infos, (uint64_t)shape[i]);
        n *= shape[i];
    }
    put_u32(&w->infos, type);
    put_u64(&w->infos, w->data);
    uint64_t bytes = dtype_bytes(type, n);
    put_u64(&w->sizes, bytes);
    w->data += padded(bytes);
    w->n_tensors++;
}

static int pad(struct ggufwriter *w, struct err *err)
{
    static const uint8_t zeros[GGUF_ALIGNMENT];
    return atomicfile_write(&w->file, zeros, padded(w->file.written) - w->file.written, err);
}

/* Takes up the next tensor that has data. */
static void next_tensor(struct ggufwriter *w)
{
    for (w->left = 0; w->left == 0 && w->current < w->n_tensors; w->current++)
        memcpy(&w->left, w->sizes.p + 8 * w->current, sizeof w->left);
}

int ggufwriter_begin(struct ggufwriter *w, struct err *err)
{
    struct ggufbytes start = {0};
    put(&start, "GGUF", 4);
    put_u32(&start, GGUF_VERSION);
    put_u64(&start, w->n_tensors);
    put_u64(&start, w->n_keys);
    const struct ggufbytes *part[] = {&start, &w->keys, &w->infos};
    int rc = ERR_OK;
    if (start.failed || w->keys.failed || w->infos.failed || w->sizes.failed)
        rc = err_set(err, ERR_NOMEM, "no memory for the header of %.120s", w->file.path);
    for (int i = 0; i < 3 && rc == ERR_OK; i++)
        rc = atomicfile_write(&w->file, part[i]->p, part[i]->n, err);
    free(start.p);
    TRY(rc);
    next_tensor(w);
    return pad(w, err);
}

int ggufwriter_write(struct ggufwriter *w, const void *bytes, size_t n, struct err *err)
{
    ASSERT(n <= w->left);
    TRY(atomicfile_write(&w->file, bytes, n, err));
    w->left -= n;
    if (w->left > 0)
        return ERR_OK;
    next_tensor(w);
    return pad(w, err);
}

int ggufwriter_close(struct ggufwriter *w, struct err *err)
{
    ASSERT(w->left == 0 && w->current == w->n_tensors);
    int rc = atomicfile_commit(&w->file, err);
    ggufwriter_abandon(w);
    return rc;
}

void ggufwriter_abandon(struct ggufwriter *w)
{
    atomicfile_abandon(&w->file);
    free(w->keys.p);
    free(w->infos.p);
    free(w->sizes.p);
    memset(w, 0, sizeof *w);
}
