/* container.h - for tests: files, and the container in which a vocabulary reaches the coordinator. */
#ifndef MUSTER_TEST_CONTAINER_H
#define MUSTER_TEST_CONTAINER_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The file's bytes with a NUL behind them; NULL when it cannot be read. The caller frees. */
static inline char *file_bytes(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        return NULL;
    fseek(f, 0, SEEK_END);
    long size = ftell(f);
    rewind(f);
    char *p = size >= 0 ? malloc((size_t)size + 1) : NULL;
    if (p != NULL && fread(p, 1, (size_t)size, f) != (size_t)size) {
        free(p);
        p = NULL;
    }
    fclose(f);
    if (p != NULL) {
        *n = (size_t)size;
        p[size] = '\0';
    }
    return p;
}

struct container { uint8_t *p; size_t n; };

static inline void container_put(struct container *c, const void *p, size_t n)
{
    c->p = realloc(c->p, c->n + n + 1);
    if (n > 0)
        memcpy(c->p + c->n, p, n);
    c->n += n;
}

static inline void container_number(struct container *c, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++) {
        uint8_t b = (uint8_t)(v >> 8 * i);
        container_put(c, &b, 1);
    }
}

/* Adds an entry; the first one brings the magic. */
static inline void container_add(struct container *c, const char *name, const void *p, size_t n)
{
    if (c->n == 0)
        container_put(c, "MTOK", 4);
    container_number(c, strlen(name), 4);
    container_put(c, name, strlen(name));
    container_number(c, n, 8);
    container_put(c, p, n);
}

static inline void container_free(struct container *c)
{
    free(c->p);
    *c = (struct container){0};
}

#endif
