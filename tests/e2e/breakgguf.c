#define _GNU_SOURCE             /* memmem */
#include "tests/e2e/breakgguf.h"

#include "tests/e2e/e2e.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct breakgguf breakgguf_open(const char *path)
{
    struct breakgguf b = {0};
    b.bytes = (uint8_t *)e2e_read_file(path, &b.n);
    assert_non_null(b.bytes);
    return b;
}

void breakgguf_free(struct breakgguf *b)
{
    free(b->bytes);
    memset(b, 0, sizeof *b);
}

const char *breakgguf_save(const struct breakgguf *b)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/broken.gguf", e2e_dir());
    e2e_write_file(path, b->bytes, b->n);
    return path;
}

static uint64_t u64_at(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}

/* The place after `text` as GGUF writes strings: with its length in front. */
static uint8_t *after_string(struct breakgguf *b, const char *text)
{
    uint8_t wanted[256];
    uint64_t n = strlen(text);
    memcpy(wanted, &n, 8);
    memcpy(wanted + 8, text, n);
    uint8_t *at = memmem(b->bytes, b->n, wanted, 8 + n);
    if (!at)
        fail_msg("%s is not in the file", text);
    return at + 8 + n;
}

struct breakgguf_tensor *breakgguf_tensor(struct breakgguf *b, const char *name)
{
    uint8_t *p = after_string(b, name);
    struct breakgguf_tensor *t = &b->found;
    memset(t, 0, sizeof *t);
    t->name = (char *)p - strlen(name);
    t->n_dims = p[0];
    assert_in_range(t->n_dims, 1, 4);
    p += 4;
    for (int i = 0; i < t->n_dims; i++, p += 8)
        t->dim[i] = p;
    t->type = p;
    t->offset = p + 4;
    return t;
}

size_t breakgguf_data(struct breakgguf *b, const char *name)
{
    /* The last entry is output.weight's; after it comes padding to 32. */
    struct breakgguf_tensor *last = breakgguf_tensor(b, "output.weight");
    size_t data = ((size_t)(last->offset + 8 - b->bytes) + 31) / 32 * 32;
    return data + u64_at(breakgguf_tensor(b, name)->offset);
}

void breakgguf_replace_value(struct breakgguf *b, const char *key, const char *from, const char *to)
{
    uint8_t *p = after_string(b, key) + 4 + 8;      /* the value's type and length */
    assert_int_equal(strlen(from), strlen(to));
    assert_memory_equal(p, from, strlen(from));
    memcpy(p, to, strlen(to));
}
