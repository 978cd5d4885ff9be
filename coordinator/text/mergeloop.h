/* mergeloop.h - byte pair merging: join the best adjacent pair until none is left.
 * Why:    BPE and SentencePiece differ only in what makes a pair good; a word of a hundred thousand
 *         characters must not take the square of that.
 * Owner:  scratch belongs to one thread and grows as needed.
 * Ranks:  not collective. */
#ifndef MUSTER_MERGELOOP_H
#define MUSTER_MERGELOOP_H

#include "proto/err.h"

#include <stddef.h>
#include <stdint.h>

#define MERGE_NONE UINT32_MAX

struct merge_symbol {
    uint32_t begin, len;        /* bytes of the text that it covers */
    int32_t id;                 /* token, -1: none has this text */
    int32_t prev, next;         /* neighbours' indices, -1 at the ends */
    uint32_t rank;              /* of the pair (this, next); MERGE_NONE: may not be joined */
    int32_t merged;             /* the token that the pair becomes */
};

struct merge_scratch {
    struct merge_symbol *symbol; int n, cap;
    struct merge_entry { uint32_t rank; int32_t at; } *heap; int n_heap, cap_heap;
};

/* Rank (lower is sooner) and token of joining a and b; MERGE_NONE when they may not be. */
typedef uint32_t merge_rank(const void *context, const struct merge_symbol *a,
                            const struct merge_symbol *b, int32_t *merged);

void merge_scratch_free(struct merge_scratch *s);
static inline void merge_clear(struct merge_scratch *s) { s->n = 0; }
int merge_push(struct merge_scratch *s, uint32_t begin, uint32_t len, int32_t id, struct err *err);
/* Joins the pushed symbols. Lowest rank first, leftmost on a tie. What is left is the list that starts
 * at symbol 0 and follows `next`. */
int merge_run(struct merge_scratch *s, merge_rank *rank, const void *context, struct err *err);

#endif
