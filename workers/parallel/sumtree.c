#include "workers/parallel/sumtree.h"

#include "proto/err.h"

#include <string.h>

enum {
    BLOCK = 1024,       /* floats added at a time: stack and sources stay in L1 */
    DEPTH = 8,          /* of the stack: one for each level of 64 leaves, and one more */
};

struct walk { const struct split_program *prog; int tp, rank, piece; };

/* Walks the subtree of leaves [first, last) and notes the pieces that stand in it, each maximal. Returns
 * whether there were any. */
static int walk_tree(struct sumtree *t, struct walk *w, int first, int last)
{
    while (w->rank < w->tp && w->piece >= w->prog[w->rank].n_piece) {
        w->rank++;
        w->piece = 0;
    }
    if (w->rank < w->tp && w->prog[w->rank].piece[w->piece].first == first &&
        w->prog[w->rank].piece[w->piece].last == last) {
        ASSERT(t->n_items < SUMTREE_ITEMS_MAX);
        t->item[t->n_items].rank = (uint8_t)w->rank;
        t->item[t->n_items].piece = (uint8_t)w->piece++;
        t->item[t->n_items++].folds = 0;
        return 1;
    }
    if (last - first == 1)
        return 0;
    int mid = (first + last) / 2;
    int left = walk_tree(t, w, first, mid);
    int right = walk_tree(t, w, mid, last);
    if (left && right)
        t->item[t->n_items - 1].folds++;
    return left || right;
}

void sumtree_init(struct sumtree *t, const struct mesh *m, int n_total, int unit)
{
    struct split_program prog[MESH_TP_MAX];
    struct walk w = {.prog = prog, .tp = m->tp};
    memset(t, 0, sizeof *t);
    t->n_total = n_total;
    t->unit = unit;
    for (int i = 0; i < m->tp; i++) {
        prog[i] = split_program_for(n_total, unit, m->leaves, m->peer_segments[i]);
        t->n_piece[i] = prog[i].n_piece;
    }
    walk_tree(t, &w, 0, m->leaves);
}

int sumtree_most_pieces(const struct mesh *m)
{
    int most = 1;
    for (int i = 0; i < m->tp; i++) {       /* of a K with something in every leaf */
        struct split_program p =
            split_program_for(m->leaves * SPLIT_GROUP, SPLIT_GROUP, m->leaves, m->peer_segments[i]);
        most = p.n_piece > most ? p.n_piece : most;
    }
    return most;
}

static const float *piece_of(const struct sumtree *t, int k, const float *const *src,
                             const int64_t *stride)
{
    return src[t->item[k].rank] + t->item[k].piece * stride[t->item[k].rank];
}

void sumtree_add(const struct sumtree *t, void (*add)(float *, const float *, const float *, int64_t),
                 float *out, const float *const *src, const int64_t *stride, int64_t n)
{
    if (t->n_items == 0)
        memset(out, 0, (size_t)n * sizeof *out);
    if (t->n_items == 2) {      /* two ranks: no block, no stack */
        add(out, piece_of(t, 0, src, stride), piece_of(t, 1, src, stride), n);
        return;
    }
    float sum[DEPTH][BLOCK];
    for (int64_t at = 0; at < n && t->n_items > 0; at += BLOCK) {
        const float *stack[DEPTH];      /* pieces in place, or sums in sum[] */
        int64_t count = n - at < BLOCK ? n - at : BLOCK;
        int height = 0;
        for (int k = 0; k < t->n_items; k++) {
            stack[height++] = piece_of(t, k, src, stride) + at;
            for (int f = 0; f < t->item[k].folds; f++, height--) {
                add(sum[height - 2], stack[height - 2], stack[height - 1], count);
                stack[height - 2] = sum[height - 2];
            }
        }
        if (stack[0] != out + at)
            memcpy(out + at, stack[0], (size_t)count * sizeof *out);
    }
}
