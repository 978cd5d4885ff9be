#include "coordinator/text/ggufmeta.h"

#include <stdlib.h>
#include <string.h>

enum { ENTRIES_MAX = 65536, ENTRY_BYTES_MIN = 8 + 4 + 1 };

struct reader { const uint8_t *p; size_t left; };

static uint64_t little(const uint8_t *p, int bytes)
{
    uint64_t v = 0;
    for (int i = bytes - 1; i >= 0; i--)
        v = v << 8 | p[i];
    return v;
}

static bool read_int(struct reader *r, int bytes, uint64_t *v)
{
    if (r->left < (size_t)bytes)
        return false;
    *v = little(r->p, bytes);
    r->p += bytes;
    r->left -= (size_t)bytes;
    return true;
}

static bool skip(struct reader *r, uint64_t bytes)
{
    if (bytes > r->left)
        return false;
    r->p += bytes;
    r->left -= (size_t)bytes;
    return true;
}

static int element_bytes(uint64_t type)
{
    static const int bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return type < sizeof bytes / sizeof *bytes ? bytes[type] : 0;
}

/* Skips n values of a type; false when they do not fit or are of no known type. */
static bool skip_values(struct reader *r, uint64_t type, uint64_t n)
{
    if (type == GGUFMETA_STRING) {
        uint64_t len;
        for (uint64_t i = 0; i < n; i++)
            if (!read_int(r, 8, &len) || !skip(r, len))
                return false;
        return true;
    }
    uint64_t size = (uint64_t)element_bytes(type);
    return size != 0 && n <= r->left / size && skip(r, n * size);
}

static bool read_entry(struct reader *r, struct ggufmeta_entry *e)
{
    uint64_t len, type, n = 1;
    if (!read_int(r, 8, &len))
        return false;
    e->key = (const char *)r->p;
    if (!skip(r, len) || !read_int(r, 4, &type))
        return false;
    e->key_len = (size_t)len;
    e->is_array = type == GGUFMETA_ARRAY;
    if (e->is_array && (!read_int(r, 4, &type) || !read_int(r, 8, &n)))
        return false;
    e->type = (uint32_t)type;
    e->n = n;
    e->data = r->p;
    if (!skip_values(r, type, n))
        return false;
    e->bytes = (size_t)(r->p - e->data);
    return true;
}

int ggufmeta_open(struct ggufmeta *m, const uint8_t *bytes, size_t n, struct err *err)
{
    *m = (struct ggufmeta){0};
    struct reader r = {bytes, n};
    uint64_t magic, version, n_tensors, n_kv;
    if (!read_int(&r, 4, &magic) || magic != 0x46554747u)
        return err_set(err, ERR_FORMAT, "vocabulary: not a GGUF header");
    if (!read_int(&r, 4, &version) || version < 2 || version > 3)
        return err_set(err, ERR_FORMAT, "vocabulary: GGUF version is not 2 or 3");
    if (!read_int(&r, 8, &n_tensors) || !read_int(&r, 8, &n_kv) || n_kv > ENTRIES_MAX ||
        n_kv > r.left / ENTRY_BYTES_MIN)
        return err_set(err, ERR_FORMAT, "vocabulary: GGUF header claims more keys than it holds");
    m->entry = calloc(n_kv > 0 ? n_kv : 1, sizeof *m->entry);
    if (m->entry == NULL)
        return err_set(err, ERR_NOMEM, "vocabulary: no memory for its keys");
    for (; (uint64_t)m->n < n_kv; m->n++)
        if (!read_entry(&r, &m->entry[m->n])) {
            ggufmeta_close(m);
            return err_set(err, ERR_FORMAT, "vocabulary: GGUF header is cut off or damaged");
        }
    return ERR_OK;
}

void ggufmeta_close(struct ggufmeta *m)
{
    free(m->entry);
    *m = (struct ggufmeta){0};
}

const struct ggufmeta_entry *ggufmeta_find(const struct ggufmeta *m, const char *key)
{
    size_t len = strlen(key);
    for (int i = 0; i < m->n; i++)
        if (m->entry[i].key_len == len && memcmp(m->entry[i].key, key, len) == 0)
            return &m->entry[i];
    return NULL;
}

int ggufmeta_int(const struct ggufmeta *m, const char *key, int64_t fallback, int64_t *out,
                 struct err *err)
{
    const struct ggufmeta_entry *e = ggufmeta_find(m, key);
    *out = fallback;
    if (e == NULL)
        return ERR_OK;
    if (e->is_array || e->type == GGUFMETA_F32 || e->type == GGUFMETA_F64 ||
        e->type == GGUFMETA_STRING)
        return err_set(err, ERR_FORMAT, "vocabulary: %s is not a whole number", key);
    int bytes = element_bytes(e->type), shift = 64 - 8 * bytes;
    uint64_t v = little(e->data, bytes);
    bool is_signed = e->type == GGUFMETA_I8 || e->type == GGUFMETA_I16 || e->type == GGUFMETA_I32;
    *out = is_signed ? (int64_t)(v << shift) >> shift : (int64_t)v;
    return ERR_OK;
}

int ggufmeta_string(const struct ggufmeta *m, const char *key, const char **text, size_t *n,
                    struct err *err)
{
    const struct ggufmeta_entry *e = ggufmeta_find(m, key);
    *text = NULL;
    *n = 0;
    if (e == NULL)
        return ERR_OK;
    if (e->is_array || e->type != GGUFMETA_STRING)
        return err_set(err, ERR_FORMAT, "vocabulary: %s is not a string", key);
    size_t at = 0;
    ggufmeta_next_string(e, &at, text, n);
    return ERR_OK;
}

int ggufmeta_array(const struct ggufmeta *m, const char *key, enum ggufmeta_type type,
                   const struct ggufmeta_entry **out, struct err *err)
{
    const struct ggufmeta_entry *e = ggufmeta_find(m, key);
    *out = NULL;
    if (e == NULL)
        return ERR_OK;
    if (!e->is_array || e->type != (uint32_t)type)
        return err_set(err, ERR_FORMAT, "vocabulary: %s is not an array of the expected type", key);
    *out = e;
    return ERR_OK;
}

void ggufmeta_next_string(const struct ggufmeta_entry *e, size_t *at, const char **text, size_t *n)
{
    *n = (size_t)little(e->data + *at, 8);
    *text = (const char *)e->data + *at + 8;
    *at += 8 + *n;
}
