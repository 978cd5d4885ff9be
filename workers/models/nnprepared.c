#include "workers/models/nnprepared.h"

#include "proto/err.h"
#include "workers/models/nnlibrary.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { PLACES = 1024 };

struct nnprepared {
    struct nnprepared *next;
    int used;
    bool taken[PLACES];
    _Alignas(64) uint8_t entry[];       /* [PLACES][entry_bytes] */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct nnprepared *tables;       /* of all threads, so that they can be found */

static struct nnprepared *new_table(const struct nnprepared_kind *kind)
{
    size_t bytes = (sizeof(struct nnprepared) + PLACES * kind->entry_bytes + 63) / 64 * 64;
    struct nnprepared *t = aligned_alloc(64, bytes);
    ASSERT(t != NULL && kind->shape_bytes % sizeof(uint64_t) == 0);
    memset(t, 0, bytes);
    pthread_mutex_lock(&lock);
    t->next = tables;
    tables = t;
    pthread_mutex_unlock(&lock);
    return t;
}

static uint64_t hash_of(const void *shape, size_t bytes)
{
    uint64_t h = 0, word;
    for (size_t i = 0; i < bytes; i += sizeof word) {
        memcpy(&word, (const uint8_t *)shape + i, sizeof word);
        h = (h ^ word) * 0x9e3779b97f4a7c15u;
    }
    return h >> 40;
}

/* Where the shape is, or where it would go. */
static int place_of(const struct nnprepared *t, const struct nnprepared_kind *kind, const void *shape)
{
    int at = (int)(hash_of(shape, kind->shape_bytes) % PLACES);
    while (t->taken[at] &&
           memcmp(t->entry + (size_t)at * kind->entry_bytes, shape, kind->shape_bytes) != 0)
        at = (at + 1) % PLACES;
    return at;
}

static void begin_anew(struct nnprepared *t, const struct nnprepared_kind *kind)
{
    for (int i = 0; i < PLACES; i++)
        if (t->taken[i])
            kind->forget(t->entry + (size_t)i * kind->entry_bytes);
    memset(t->taken, 0, sizeof t->taken);
    memset(t->entry, 0, PLACES * kind->entry_bytes);
    t->used = 0;
}

void *nnprepared_find(struct nnprepared **mine, const struct nnprepared_kind *kind, const void *shape)
{
    struct nnprepared *t = *mine != NULL ? *mine : (*mine = new_table(kind));
    int at = place_of(t, kind, shape);
    if (t->taken[at])
        return t->entry + (size_t)at * kind->entry_bytes;
    if (t->used == NNPREPARED_MAX) {
        begin_anew(t, kind);
        at = place_of(t, kind, shape);
    }
    t->used++;
    t->taken[at] = true;
    void *entry = t->entry + (size_t)at * kind->entry_bytes;
    memcpy(entry, shape, kind->shape_bytes);
    int threads = nnlibrary_begin();
    kind->prepare(entry);
    nnlibrary_end(threads);
    return entry;
}
