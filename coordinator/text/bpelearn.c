#include "coordinator/text/bpelearn.h"

#include <stdlib.h>
#include <string.h>

/* How it stays fast: each pair knows its count and the words that may hold it, a merge visits only those;
 * a heap gives the most frequent pair. Entries of the heap may be out of date: a count that fell since is
 * seen when the entry comes up, a count that rose brings an entry of its own. */

struct pair {
    uint64_t key;               /* left, right */
    int64_t count;
    int32_t *where, n, cap;     /* words, some of them twice or no longer */
};

struct entry { int64_t count; uint64_t key; int32_t pair; };

struct learner {
    struct bpetext *text;
    uint32_t *len;              /* [text->n] symbols left of each word */
    struct pair *pair;
    int32_t n, cap;
    int32_t *slot;              /* hash table of pairs, -1: empty */
    uint32_t mask;
    struct entry *heap;
    size_t n_heap, cap_heap;
    int32_t *risen;             /* pairs whose count rose during this merge */
    size_t n_risen, cap_risen;
    struct err *err;
};

static uint64_t key_of(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

static int no_memory(struct learner *l)
{
    return err_set(l->err, ERR_NOMEM, "no memory to learn from %d words", l->text->n);
}

/* --- pairs */

static uint32_t slot_of(const struct learner *l, uint64_t key)
{
    uint64_t h = key * 0x9E3779B97F4A7C15u;
    uint32_t at = (uint32_t)(h >> 32) & l->mask;
    while (l->slot[at] >= 0 && l->pair[l->slot[at]].key != key)
        at = (at + 1) & l->mask;
    return at;
}

static int grow_pairs(struct learner *l)
{
    int32_t cap = l->cap == 0 ? 1024 : 2 * l->cap;
    if (cap > 1 << 28)
        return err_set(l->err, ERR_LIMIT, "more than %d pairs of symbols", l->cap);
    struct pair *pair = realloc(l->pair, (size_t)cap * sizeof *pair);
    if (pair == NULL)
        return no_memory(l);
    l->pair = pair;
    int32_t *slot = malloc(2 * (size_t)cap * sizeof *slot);
    if (slot == NULL)
        return no_memory(l);
    free(l->slot);
    l->slot = slot;
    l->cap = cap;
    l->mask = 2 * (uint32_t)cap - 1;
    memset(slot, 0xff, 2 * (size_t)cap * sizeof *slot);
    for (int32_t i = 0; i < l->n; i++)
        slot[slot_of(l, pair[i].key)] = i;
    return ERR_OK;
}

/* Adds to the count of a pair; a rise notes the word. *at is its number. */
static int count_pair(struct learner *l, uint64_t key, int64_t by, int32_t word, int32_t *at)
{
    if (l->n == l->cap)
        TRY(grow_pairs(l));
    uint32_t slot = slot_of(l, key);
    if (l->slot[slot] < 0) {
        l->pair[l->n] = (struct pair){.key = key};
        l->slot[slot] = l->n++;
    }
    struct pair *p = &l->pair[*at = l->slot[slot]];
    p->count += by;
    if (by < 0 || (p->n > 0 && p->where[p->n - 1] == word))
        return ERR_OK;
    if (p->n == p->cap) {
        int32_t cap = p->cap == 0 ? 4 : 2 * p->cap;
        int32_t *where = cap > 0 ? realloc(p->where, (size_t)cap * sizeof *where) : NULL;
        if (where == NULL)
            return no_memory(l);
        p->where = where;
        p->cap = cap;
    }
    p->where[p->n++] = word;
    return ERR_OK;
}

/* --- heap: the most frequent pair on top, of equals the one with the smallest key */

static bool before(const struct entry *a, const struct entry *b)
{
    return a->count != b->count ? a->count > b->count : a->key < b->key;
}

static int heap_push(struct learner *l, int32_t pair)
{
    if (l->n_heap == l->cap_heap) {
        size_t cap = l->cap_heap == 0 ? 1024 : 2 * l->cap_heap;
        struct entry *heap = realloc(l->heap, cap * sizeof *heap);
        if (heap == NULL)
            return no_memory(l);
        l->heap = heap;
        l->cap_heap = cap;
    }
    struct entry e = {l->pair[pair].count, l->pair[pair].key, pair};
    size_t at = l->n_heap++;
    while (at > 0 && before(&e, &l->heap[(at - 1) / 2])) {
        l->heap[at] = l->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    l->heap[at] = e;
    return ERR_OK;
}

static struct entry heap_pop(struct learner *l)
{
    struct entry top = l->heap[0], e = l->heap[--l->n_heap];
    size_t at = 0, child;
    while ((child = 2 * at + 1) < l->n_heap) {
        child += child + 1 < l->n_heap && before(&l->heap[child + 1], &l->heap[child]);
        if (!before(&l->heap[child], &e))
            break;
        l->heap[at] = l->heap[child];
        at = child;
    }
    l->heap[at] = e;
    return top;
}

/* --- learning */

static int count_all(struct learner *l)
{
    const struct bpetext *t = l->text;
    int32_t pair;
    for (int32_t w = 0; w < t->n; w++) {
        l->len[w] = (uint32_t)(t->begin[w + 1] - t->begin[w]);
        for (size_t i = t->begin[w]; i + 1 < t->begin[w + 1]; i++)
            TRY(count_pair(l, key_of(t->symbol[i], t->symbol[i + 1]), t->count[w], w, &pair));
    }
    for (int32_t i = 0; i < l->n; i++)
        TRY(heap_push(l, i));
    return ERR_OK;
}

/* A pair whose count changed in a word. Those that rose go to the heap when the merge is over. */
static int change(struct learner *l, int32_t left, int32_t right, int64_t by, int32_t word)
{
    int32_t pair;
    TRY(count_pair(l, key_of(left, right), by, word, &pair));
    if (by < 0)
        return ERR_OK;
    if (l->n_risen == l->cap_risen) {
        size_t cap = l->cap_risen == 0 ? 256 : 2 * l->cap_risen;
        int32_t *risen = realloc(l->risen, cap * sizeof *risen);
        if (risen == NULL)
            return no_memory(l);
        l->risen = risen;
        l->cap_risen = cap;
    }
    l->risen[l->n_risen++] = pair;
    return ERR_OK;
}

static int merge_in_word(struct learner *l, struct bpemerge m, int32_t word)
{
    int32_t *s = l->text->symbol + l->text->begin[word];
    int64_t times = l->text->count[word];
    uint32_t n = l->len[word], to = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (i + 1 == n || s[i] != m.left || s[i + 1] != m.right) {
            s[to++] = s[i];
            continue;
        }
        if (to > 0) {
            TRY(change(l, s[to - 1], m.left, -times, word));
            TRY(change(l, s[to - 1], m.made, times, word));
        }
        if (i + 2 < n) {
            TRY(change(l, m.right, s[i + 2], -times, word));
            TRY(change(l, m.made, s[i + 2], times, word));
        }
        s[to++] = m.made;
        i++;
    }
    l->len[word] = to;
    return ERR_OK;
}

static int apply(struct learner *l, int32_t pair, struct bpemerge m)
{
    /* taken out of the table first, whose rows move as it grows */
    int32_t *where = l->pair[pair].where, n = l->pair[pair].n;
    int rc = ERR_OK;
    l->pair[pair].where = NULL;
    l->pair[pair].n = l->pair[pair].cap = 0;
    l->n_risen = 0;
    for (int32_t i = 0; i < n && rc == ERR_OK; i++)
        rc = merge_in_word(l, m, where[i]);
    free(where);
    l->pair[pair].count = 0;
    for (size_t i = 0; i < l->n_risen && rc == ERR_OK; i++)
        if (l->pair[l->risen[i]].count > 0)
            rc = heap_push(l, l->risen[i]);
    return rc;
}

static int add_merge(struct bpemerges *list, struct bpemerge m, struct err *err)
{
    if (list->n == list->cap) {
        int32_t cap = list->cap == 0 ? 256 : 2 * list->cap;
        struct bpemerge *merge = realloc(list->merge, (size_t)cap * sizeof *merge);
        if (merge == NULL)
            return err_set(err, ERR_NOMEM, "no memory for %d merges", cap);
        list->merge = merge;
        list->cap = cap;
    }
    list->merge[list->n++] = m;
    return ERR_OK;
}

/* The symbol of the joined texts, new or not. */
static int join(struct bpewords *symbols, struct bpemerge *m, struct err *err)
{
    struct textbuf both = {0};
    int rc = textbuf_add(&both, bpewords_text(symbols, m->left), symbols->word[m->left].n, err);
    if (rc == ERR_OK)
        rc = textbuf_add(&both, bpewords_text(symbols, m->right), symbols->word[m->right].n, err);
    if (rc == ERR_OK)
        rc = bpewords_add(symbols, both.p, both.n, 0, &m->made, err);
    textbuf_free(&both);
    return rc;
}

static int learn(struct learner *l, struct bpewords *symbols, int32_t vocab, int64_t least,
                 struct bpemerges *merges)
{
    TRY(count_all(l));
    while (symbols->n < vocab && l->n_heap > 0) {
        struct entry top = heap_pop(l);
        if (top.count != l->pair[top.pair].count) {
            if (l->pair[top.pair].count > 0)
                TRY(heap_push(l, top.pair));
            continue;
        }
        if (top.count < least)
            break;
        struct bpemerge m = {(int32_t)(top.key >> 32), (int32_t)(uint32_t)top.key, 0};
        TRY(join(symbols, &m, l->err));
        TRY(add_merge(merges, m, l->err));
        TRY(apply(l, top.pair, m));
    }
    return ERR_OK;
}

int bpelearn(struct bpetext *text, struct bpewords *symbols, int32_t vocab, int64_t least,
             struct bpemerges *merges, struct err *err)
{
    struct learner l = {.text = text, .err = err};
    l.len = malloc(((size_t)text->n + 1) * sizeof *l.len);
    int rc = l.len == NULL ? no_memory(&l) : learn(&l, symbols, vocab, least, merges);
    for (int32_t i = 0; i < l.n; i++)
        free(l.pair[i].where);
    free(l.pair);
    free(l.slot);
    free(l.heap);
    free(l.risen);
    free(l.len);
    return rc;
}
