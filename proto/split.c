#include "proto/split.h"

#include "proto/err.h"

#include <string.h>

int split_head_unit(int head_dim)
{
    int h = 1;
    while ((int64_t)h * head_dim % SPLIT_GROUP != 0)
        h++;
    return h;
}

int split_leaves(int tp)
{
    int leaves = SPLIT_SEGMENTS;
    while (leaves < tp)
        leaves *= 2;
    return leaves;
}

struct split_range split_even(int leaves, int tp, int r)
{
    return (struct split_range){leaves * r / tp, leaves * (r + 1) / tp};
}

static int min_int(int a, int b) { return a < b ? a : b; }

struct split_range split_segment(int n, int unit, int leaves, int i)
{
    int64_t units = ((int64_t)n + unit - 1) / unit;
    return (struct split_range){
        .begin = min_int(n, (int)(units * i / leaves * unit)),
        .end = min_int(n, (int)(units * (i + 1) / leaves * unit)),
    };
}

struct split_range split_owned(int n, int unit, int leaves, struct split_range segs)
{
    if (segs.begin >= segs.end)
        return (struct split_range){0, 0};
    return (struct split_range){split_segment(n, unit, leaves, segs.begin).begin,
                                split_segment(n, unit, leaves, segs.end - 1).end};
}

/* Walks the subtree of leaves [first, last), all owned: pushes its non-empty leaves and counts a fold
 * where both halves hold something. Returns whether anything was pushed. */
static int push_subtree(struct split_program *p, int n, int unit, int leaves, int first, int last,
                        int k_origin)
{
    if (last - first == 1) {
        struct split_range r = split_segment(n, unit, leaves, first);
        if (r.begin == r.end)
            return 0;
        p->seg[p->n_seg].k_begin = r.begin - k_origin;
        p->seg[p->n_seg].k_end = r.end - k_origin;
        p->seg[p->n_seg++].folds = 0;
        return 1;
    }
    int mid = (first + last) / 2;
    int left = push_subtree(p, n, unit, leaves, first, mid, k_origin);
    int right = push_subtree(p, n, unit, leaves, mid, last, k_origin);
    if (left && right)
        p->seg[p->n_seg - 1].folds++;
    return left || right;
}

/* Finds the maximal subtrees of [first, last) inside segs, left to right. */
static void push_pieces(struct split_program *p, int n, int unit, int leaves, int first, int last,
                        struct split_range segs, int k_origin)
{
    if (last <= segs.begin || first >= segs.end)
        return;
    if (segs.begin <= first && last <= segs.end) {
        if (push_subtree(p, n, unit, leaves, first, last, k_origin)) {
            ASSERT(p->n_piece < SPLIT_PIECES_MAX);
            p->piece[p->n_piece].first = first;
            p->piece[p->n_piece++].last = last;
        }
        return;
    }
    int mid = (first + last) / 2;
    push_pieces(p, n, unit, leaves, first, mid, segs, k_origin);
    push_pieces(p, n, unit, leaves, mid, last, segs, k_origin);
}

struct split_program split_program_for(int n, int unit, int leaves, struct split_range segs)
{
    struct split_program p;
    memset(&p, 0, sizeof p);
    ASSERT(leaves <= SPLIT_SEGMENTS_MAX);
    if (segs.begin < segs.end)
        push_pieces(&p, n, unit, leaves, 0, leaves, segs,
                    split_segment(n, unit, leaves, segs.begin).begin);
    return p;
}

struct split_program split_whole(int n)
{
    struct split_program p;
    memset(&p, 0, sizeof p);
    p.n_seg = p.n_piece = 1;
    p.seg[0].k_end = n;
    p.piece[0].last = SPLIT_SEGMENTS;
    return p;
}
