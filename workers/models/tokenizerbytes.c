/* tokenizerbytes.c - the tokenizer's raw bytes, packed for the coordinator (model_tokenizer_bytes).
 * Why:    workers read model files but never understand text; the container (tokenizer.h of the other
 *         side says it) is "MTOK", then entries {u32 name length, name, u64 length, bytes}. A GGUF
 *         file's entry is again a GGUF header, of the tokenizer's keys alone; so is that of an older folder,
 *         which has a SentencePiece model (tokenizer.model) and no tokenizer.json. */
#include "workers/models/exportvocab.h"
#include "workers/models/modelconfig.h"
#include "workers/models/textfile.h"

#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TOKENIZER_BYTES_MAX = 64 << 20 };

/* Appends to one growing block; the first failure sticks. */
struct sink { uint8_t *bytes; size_t n, cap; int rc; };

static void put(struct sink *s, const void *bytes, size_t n)
{
    if (s->rc != ERR_OK || n == 0)
        return;
    if (n > TOKENIZER_BYTES_MAX || s->n + n > TOKENIZER_BYTES_MAX) {
        s->rc = ERR_LIMIT;
        return;
    }
    if (s->n + n > s->cap) {
        size_t cap = s->cap ? s->cap : 4096;
        while (cap < s->n + n)
            cap *= 2;
        uint8_t *grown = realloc(s->bytes, cap);
        if (!grown) {
            s->rc = ERR_NOMEM;
            return;
        }
        s->bytes = grown;
        s->cap = cap;
    }
    memcpy(s->bytes + s->n, bytes, n);
    s->n += n;
}

/* Little-endian, width bytes. */
static void put_uint(struct sink *s, uint64_t v, int width)
{
    uint8_t b[8];
    for (int i = 0; i < width; i++)
        b[i] = (uint8_t)(v >> (8 * i));
    put(s, b, (size_t)width);
}

static void put_string(struct sink *s, const char *text, uint64_t n)
{
    put_uint(s, n, 8);
    put(s, text, (size_t)n);
}

static void put_float(struct sink *s, double f)
{
    float narrow = (float)f;
    uint64_t u = 0;
    if ((double)narrow == f) {
        memcpy(&u, &narrow, 4);
        put_uint(s, 6, 4);
        put_uint(s, u, 4);
    } else {
        memcpy(&u, &f, 8);
        put_uint(s, 12, 4);
        put_uint(s, u, 8);
    }
}

/* Bytes of one element of a GGUF array type; 0 for strings and arrays. */
static int element_bytes(int type)
{
    static const int bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return type >= 0 && type <= 12 ? bytes[type] : 0;
}

static void put_array(struct sink *s, const struct meta_value *v)
{
    put_uint(s, 9, 4);
    put_uint(s, (uint64_t)v->elem_type, 4);
    put_uint(s, v->len, 8);
    if (v->array)
        put(s, v->array, (size_t)v->len * (size_t)element_bytes(v->elem_type));
    for (uint64_t i = 0; v->strings && i < v->len && s->rc == ERR_OK; i++)
        put_string(s, v->strings[i], v->string_lens[i]);
}

static void put_value(struct sink *s, const struct meta_value *v)
{
    switch (v->kind) {
    case META_INT:
        put_uint(s, v->i >= 0 && v->i <= UINT32_MAX ? 4 : 11, 4);
        put_uint(s, (uint64_t)v->i, v->i >= 0 && v->i <= UINT32_MAX ? 4 : 8);
        break;
    case META_FLOAT:
        put_float(s, v->f);
        break;
    case META_BOOL:
        put_uint(s, 7, 4);
        put_uint(s, v->i != 0, 1);
        break;
    case META_STRING:
        put_uint(s, 8, 4);
        put_string(s, v->str, v->len);
        break;
    case META_ARRAY:
        put_array(s, v);
        break;
    }
}

static bool is_tokenizers(const struct meta_entry *e)
{
    bool readable = e->value.kind != META_ARRAY || e->value.array || e->value.strings ||
                    e->value.len == 0;
    return readable && (strncmp(e->key, "tokenizer.", 10) == 0 ||
                        strcmp(e->key, "general.architecture") == 0);
}

static void put_gguf(struct sink *s, const struct tensorfile *t)
{
    uint64_t n = 0;
    for (int i = 0; i < t->n_meta; i++)
        n += is_tokenizers(&t->meta[i]);
    put(s, "GGUF", 4);
    put_uint(s, 3, 4);
    put_uint(s, 0, 8);
    put_uint(s, n, 8);
    for (int i = 0; i < t->n_meta; i++)
        if (is_tokenizers(&t->meta[i])) {
            put_string(s, t->meta[i].key, strlen(t->meta[i].key));
            put_value(s, &t->meta[i].value);
        }
}

static void put_entry(struct sink *s, const char *name, const void *bytes, size_t n)
{
    put_uint(s, strlen(name), 4);
    put(s, name, strlen(name));
    put_uint(s, n, 8);
    put(s, bytes, n);
}

/* The keys that the folder's tokenizer would have in a GGUF file of the model. */
static int put_spm(struct sink *s, const struct tensorfile *t, const char *folder, struct err *err)
{
    const struct tensor_entry *embed = tensorfile_find(t, "model.embed_tokens.weight");
    struct ggufwriter w = {0};
    struct sink header = {0};
    if (embed == NULL || embed->n_dims != 2 || embed->shape[0] > INT_MAX)
        return ERR_OK;      /* a text encoder's, or no model at all: what is missing is said later */
    int rc = exportvocab_write(&w, folder, (int)embed->shape[0], err);
    if (rc == ERR_OK && w.keys.failed)
        rc = err_set(err, ERR_NOMEM, "%s: no memory for the tokenizer", folder);
    if (rc == ERR_OK) {
        put(&header, "GGUF", 4);
        put_uint(&header, 3, 4);
        put_uint(&header, 0, 8);
        put_uint(&header, w.n_keys, 8);
        put(&header, w.keys.p, w.keys.n);
        put_entry(s, "gguf", header.bytes, header.n);
        s->rc = s->rc != ERR_OK ? s->rc : header.rc;
    }
    free(header.bytes);
    ggufwriter_abandon(&w);
    return rc;
}

static bool holds(const char *folder, const char *name)
{
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return access(path, F_OK) == 0;
}

static int put_folder(struct sink *s, const struct tensorfile *t, const char *path, struct err *err)
{
    static const char *const names[] = {"tokenizer.json", "tokenizer_config.json",
                                        "generation_config.json", "special_tokens_map.json",
                                        "vocab.json", "merges.txt", "spiece.model",
                                        "chat_template.jinja"};
    char folder[PATH_MAX];
    TRY(textfile_folder(path, folder, sizeof folder, err));
    if (!holds(folder, "tokenizer.json") && !holds(folder, "vocab.json") && holds(folder, "tokenizer.model"))
        return put_spm(s, t, folder, err);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *text;
        size_t n;
        TRY(textfile_read(folder, names[i], TOKENIZER_BYTES_MAX, 0, &text, &n, err));
        if (text)
            put_entry(s, names[i], text, n);
        free(text);
    }
    return ERR_OK;
}

/* Their metadata, {"format": "pt"} as a rule, say nothing of a tokenizer. */
static bool is_safetensors(const struct tensorfile *t)
{
    size_t n = t->n_files > 0 ? strlen(t->path[0]) : 0;
    return n >= 12 && strcmp(t->path[0] + n - 12, ".safetensors") == 0;
}

int model_tokenizer_bytes(struct tensorfile *t, const char *path, uint8_t **bytes, size_t *n,
                          struct err *err)
{
    struct sink s = {0}, inner = {0};
    int rc = ERR_OK;
    put(&s, "MTOK", 4);
    if (t->n_meta > 0 && !is_safetensors(t)) {
        put_gguf(&inner, t);
        put_entry(&s, "gguf", inner.bytes, inner.n);
    } else {
        rc = put_folder(&s, t, path, err);
    }
    free(inner.bytes);
    *bytes = NULL;
    *n = 0;
    if (rc == ERR_OK && (rc = inner.rc ? inner.rc : s.rc) != ERR_OK)
        err_set(err, rc, rc == ERR_LIMIT ? "%s: the tokenizer is larger than 64 MB"
                                         : "%s: no memory for the tokenizer", path);
    if (rc != ERR_OK) {
        free(s.bytes);
        return rc;
    }
    *bytes = s.bytes;
    *n = s.n;
    return ERR_OK;
}
