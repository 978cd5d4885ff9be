/* arena.h - memory with one lifetime: many takes, one reset.
 * Why:    step scratch and request data die together; nothing allocates per token.
 * Owner:  the arena owns everything taken from it; pointers die at reset or free.
 * Ranks:  not collective. */
#ifndef MUSTER_ARENA_H
#define MUSTER_ARENA_H

#include <stddef.h>
#include <stdint.h>

struct arena {
    uint8_t *base;
    size_t used, cap;   /* bytes */
    size_t peak;        /* most that was used since init */
};

/* One block of cap bytes, 64-byte aligned. ERR_NOMEM leaves nothing to free. */
int arena_init(struct arena *a, size_t cap);
void arena_free(struct arena *a);       /* accepts a zeroed arena, leaves it zeroed */

/* bytes, 64-byte aligned, not zeroed; NULL when the arena is full (the caller sized it wrongly or the
 * input is too big: check where the size comes from outside). */
void *arena_take(struct arena *a, size_t bytes);
void *arena_take_zeroed(struct arena *a, size_t bytes);

/* Give back everything taken since the mark. */
static inline size_t arena_mark(const struct arena *a) { return a->used; }
static inline void arena_release(struct arena *a, size_t mark) { a->used = mark; }
static inline void arena_reset(struct arena *a) { a->used = 0; }

#endif
