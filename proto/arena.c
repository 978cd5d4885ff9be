#include "proto/arena.h"

#include "proto/err.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGN = 64 };    /* a cache line, and the widest vector load */

static const size_t CAP_MAX = (size_t)1 << 46;  /* no machine's; a size gone wrong would wrap */

int arena_init(struct arena *a, size_t cap)
{
    memset(a, 0, sizeof *a);
    if (cap > CAP_MAX)
        return ERR_NOMEM;
    cap = (cap + ALIGN - 1) / ALIGN * ALIGN;
    if (cap == 0)
        cap = ALIGN;
    a->base = aligned_alloc(ALIGN, cap);
    if (a->base == NULL)
        return ERR_NOMEM;
    a->cap = cap;
    return ERR_OK;
}

void arena_free(struct arena *a)
{
    free(a->base);
    memset(a, 0, sizeof *a);
}

void *arena_take(struct arena *a, size_t bytes)
{
    if (bytes > a->cap - a->used)
        return NULL;
    void *p = a->base + a->used;
    bytes = (bytes + ALIGN - 1) / ALIGN * ALIGN;
    a->used = bytes > a->cap - a->used ? a->cap : a->used + bytes;
    if (a->used > a->peak)
        a->peak = a->used;
    return p;
}

void *arena_take_zeroed(struct arena *a, size_t bytes)
{
    void *p = arena_take(a, bytes);
    if (p != NULL)
        memset(p, 0, bytes);
    return p;
}
