/* dpsync.h - sums over the parts of a batch, over all ranks, in one fixed tree.
 * How:    a batch is cut in n_parts parts; part p is leaf leaf[p] of a tree of 8 leaves (split.h); a rank
 *         adds its parts up to its maximal subtrees, and reduce.h adds those of all ranks. So the bits
 *         are those of one rank.
 * Owner:  borrows comm; owns its buffers.
 * Ranks:  dpsync_init is not collective; the sums are, on all workers. */
#ifndef MUSTER_DPSYNC_H
#define MUSTER_DPSYNC_H

#include "workers/models/nn.h"
#include "workers/parallel/reduce.h"

struct dpsync {
    struct nn_sync sync;                /* first: what nn calls; whole and between are the trainer's */
    struct mesh mesh;
    struct reduce reduce; bool joined;  /* more than one rank */
    struct comm *comm;
    int n_parts, part_begin, part_end;  /* of the batch; this rank's */
    struct split_program program;       /* this rank's parts to its pieces */
    const struct kernels *kernels;
    float *pieces; int64_t n_pieces_floats;
    struct err *err;                    /* where a failure is said; set by the caller before use */
};

/* n_max: floats of the largest sum. ERR_INVAL with more ranks than parts. */
int dpsync_init(struct dpsync *s, struct comm *comm, int batch, int64_t n_max, struct err *err);
void dpsync_free(struct dpsync *s);
/* Tells nn its parts: local samples, leaves and, where there are several ranks, the sums. */
void dpsync_attach(struct dpsync *s, struct nn *nn, int batch);
/* This rank's samples [first, first + n) of a batch. */
void dpsync_samples(const struct dpsync *s, int batch, int *first, int *n);

/* Parts [n_parts of this rank][stride], of each n numbers, to pieces [n_piece][piece_stride]
 * (program.n_piece), which sharesum.h adds over the ranks. With one rank there is one piece: the sum. */
void dpsync_pieces(const struct dpsync *s, const struct kernels *k, const float *parts, int64_t stride,
                   float *pieces, int64_t piece_stride, int64_t n);

#endif
