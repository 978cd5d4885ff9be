/* sumtree.h - the one fixed binary tree in which partial sums of all ranks are added.
 * Why:    every rank must know, from the cut of K alone, which pieces every other rank holds and in
 *         which order they are added (split.h), so that any layout gives the same bits.
 * Ranks:  not collective; pure arithmetic. */
#ifndef MUSTER_SUMTREE_H
#define MUSTER_SUMTREE_H

#include "workers/parallel/mesh.h"

#include <stdint.h>

enum { SUMTREE_ITEMS_MAX = SPLIT_SEGMENTS_MAX };    /* a piece holds at least one leaf */

/* All pieces left to right; after each, `folds` times the top two of the stack become their sum. */
struct sumtree {
    int n_total, unit;          /* the K that it is for */
    int n_items;
    struct { uint8_t rank, piece, folds; } item[SUMTREE_ITEMS_MAX];
    int n_piece[MESH_TP_MAX];   /* of each rank; 0 where it has none of this K */
};

void sumtree_init(struct sumtree *t, const struct mesh *m, int n_total, int unit);

/* Most pieces that any rank of the mesh can have, of any K. */
int sumtree_most_pieces(const struct mesh *m);

/* out [n] = the sum; piece j of rank i is src[i] + j * stride[i], [n]. `add` is a kernel row's. out may be
 * the place of one piece; where no rank has any, it becomes zeros. */
void sumtree_add(const struct sumtree *t, void (*add)(float *, const float *, const float *, int64_t),
                 float *out, const float *const *src, const int64_t *stride, int64_t n);

#endif
