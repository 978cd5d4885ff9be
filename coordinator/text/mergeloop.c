#include "coordinator/text/mergeloop.h"

#include <stdbool.h>
#include <stdlib.h>

/* Up to here looking at every pair again beats keeping a heap. */
enum { SHORT_WORD = 20 };

void merge_scratch_free(struct merge_scratch *s)
{
    free(s->symbol);
    free(s->heap);
    *s = (struct merge_scratch){0};
}

int merge_push(struct merge_scratch *s, uint32_t begin, uint32_t len, int32_t id, struct err *err)
{
    if (s->n == s->cap) {
        int cap = s->cap == 0 ? 256 : s->cap;
        if (cap > INT32_MAX / 2)
            return err_set(err, ERR_LIMIT, "text is too long to be tokenised in one piece");
        struct merge_symbol *p = realloc(s->symbol, 2 * (size_t)cap * sizeof *p);
        if (p == NULL)
            return err_set(err, ERR_NOMEM, "no memory to tokenise %d characters", cap);
        s->symbol = p;
        s->cap = 2 * cap;
    }
    s->symbol[s->n] = (struct merge_symbol){begin, len, id, s->n - 1, -1, MERGE_NONE, -1};
    if (s->n > 0)
        s->symbol[s->n - 1].next = s->n;
    s->n++;
    return ERR_OK;
}

static void rate(struct merge_scratch *s, int at, merge_rank *rank, const void *context)
{
    struct merge_symbol *a = &s->symbol[at];
    a->rank = a->next < 0 ? MERGE_NONE : rank(context, a, &s->symbol[a->next], &a->merged);
}

/* Joins `at` with its next one; the next one's rank becomes MERGE_NONE, so that it is never taken. */
static void join(struct merge_scratch *s, int at)
{
    struct merge_symbol *a = &s->symbol[at], *b = &s->symbol[a->next];
    a->len += b->len;
    a->id = a->merged;
    a->next = b->next;
    b->rank = MERGE_NONE;
    if (a->next >= 0)
        s->symbol[a->next].prev = at;
}

static void run_short(struct merge_scratch *s, merge_rank *rank, const void *context)
{
    for (;;) {
        int best = 0;
        for (int i = 0; i >= 0; i = s->symbol[i].next)
            if (s->symbol[i].rank < s->symbol[best].rank)
                best = i;
        if (s->symbol[best].rank == MERGE_NONE)
            return;
        join(s, best);
        rate(s, best, rank, context);
        if (s->symbol[best].prev >= 0)
            rate(s, s->symbol[best].prev, rank, context);
    }
}

static bool before(struct merge_entry a, struct merge_entry b)
{
    return a.rank != b.rank ? a.rank < b.rank : a.at < b.at;
}

static void sift_down(struct merge_entry *heap, int n, int i)
{
    struct merge_entry e = heap[i];
    for (int child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && before(heap[child + 1], heap[child]))
            child++;
        if (!before(heap[child], e))
            break;
        heap[i] = heap[child];
    }
    heap[i] = e;
}

static void heap_add(struct merge_scratch *s, struct merge_entry e)
{
    int i = s->n_heap++;
    for (; i > 0 && before(e, s->heap[(i - 1) / 2]); i = (i - 1) / 2)
        s->heap[i] = s->heap[(i - 1) / 2];
    s->heap[i] = e;
}

/* Rates the pair at `at` again and puts it in the heap; older entries of the place go stale, because
 * their rank is no longer the symbol's. */
static void rate_and_add(struct merge_scratch *s, int at, merge_rank *rank, const void *context)
{
    uint32_t old = s->symbol[at].rank;
    rate(s, at, rank, context);
    uint32_t now = s->symbol[at].rank;
    if (now != MERGE_NONE && now != old)
        heap_add(s, (struct merge_entry){now, at});
}

static int run_long(struct merge_scratch *s, merge_rank *rank, const void *context, struct err *err)
{
    /* n entries to begin with, and each of at most n - 1 joins takes one out and adds at most two. */
    int need = 2 * s->n;
    if (need > s->cap_heap) {
        struct merge_entry *heap = realloc(s->heap, (size_t)need * sizeof *heap);
        if (heap == NULL)
            return err_set(err, ERR_NOMEM, "no memory to tokenise %d characters", s->n);
        s->heap = heap;
        s->cap_heap = need;
    }
    s->n_heap = 0;
    for (int i = 0; i < s->n; i++)
        if (s->symbol[i].rank != MERGE_NONE)
            s->heap[s->n_heap++] = (struct merge_entry){s->symbol[i].rank, i};
    for (int i = s->n_heap / 2 - 1; i >= 0; i--)
        sift_down(s->heap, s->n_heap, i);
    while (s->n_heap > 0) {
        struct merge_entry top = s->heap[0];
        s->heap[0] = s->heap[--s->n_heap];
        if (s->n_heap > 0)
            sift_down(s->heap, s->n_heap, 0);
        if (s->symbol[top.at].rank != top.rank)
            continue;
        join(s, top.at);
        s->symbol[top.at].rank = MERGE_NONE;
        rate_and_add(s, top.at, rank, context);
        if (s->symbol[top.at].prev >= 0)
            rate_and_add(s, s->symbol[top.at].prev, rank, context);
    }
    return ERR_OK;
}

int merge_run(struct merge_scratch *s, merge_rank *rank, const void *context, struct err *err)
{
    for (int i = 0; i < s->n; i++)
        rate(s, i, rank, context);
    if (s->n > SHORT_WORD)
        return run_long(s, rank, context, err);
    if (s->n > 1)
        run_short(s, rank, context);
    return ERR_OK;
}
