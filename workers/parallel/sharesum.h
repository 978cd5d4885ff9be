/* sharesum.h - sums over a group of a long row of numbers, each wanted by one rank, begun bit by bit.
 * Why:    gradients come tensor by tensor; what is whole travels while the rest is computed, and a rank that
 *         steps a share of the weights needs the sums of that share alone (ZeRO-1, Rajbhandari et al.
 *         1910.02054): half of what sums for everybody cost.
 * How:    runs of the row are gathered in buckets; a full bucket leaves at once, to each peer the pieces of
 *         its share in one message. They are added at the end, in the tree of split.h: the bits are those of
 *         reduce_sum, whatever the buckets.
 * Owner:  message buffers are allocated once, at sharesum_init; out and pieces are the caller's.
 * Ranks:  collective on the group: all begin, add the same runs in the same order, and finish. */
#ifndef MUSTER_SHARESUM_H
#define MUSTER_SHARESUM_H

#include "workers/parallel/reduce.h"
#include "workers/parallel/sumtree.h"

enum { SHARESUM_BUCKET = 1 << 16 };     /* floats, at least, of all but the last of a row */

struct sharesum_bucket;
struct sharesum_run { int64_t at, n; };     /* numbers [at, at + n) of the row */
struct sharesum {
    struct reduce wire;                 /* names group and channel for messages; owns nothing */
    struct sumtree tree;
    const int64_t *border;              /* [tp + 1]: rank i wants [border[i], border[i + 1]); borrowed */
    void (*sum)(float *out, const float *a, const float *b, int64_t n);
    struct sharesum_run *run; int n_runs, runs_max;
    struct sharesum_bucket *bucket; int n_buckets, buckets_max;
    struct comm_req *req;               /* [buckets_max][2][tp]: receives, sends */
    uint8_t *base; size_t base_bytes, used;     /* messages of a row */
    const float *pieces; int64_t stride;        /* of the row under way: [n_piece][stride] */
    int64_t waiting;                    /* floats of runs that are in no bucket yet */
    uint64_t n_sent;                    /* buckets so far */
    int looked;                         /* requests before this one are done */
};

/* n_total parts make the tree; runs_max runs a row. Borrows border, comm, mesh. Not collective. */
int sharesum_init(struct sharesum *s, struct comm *comm, const struct mesh *mesh, enum comm_channel channel,
                  const int64_t *border, int n_total, int runs_max, struct err *err);
void sharesum_free(struct sharesum *s);         /* accepts a zeroed one */

/* Split: begin, add, .., finish; pieces [n_piece][n], stride floats apart, untouchable from their add on. */
void sharesum_begin(struct sharesum *s, const float *pieces, int64_t stride);
/* This rank's pieces of [at, at + n) are there. */
int sharesum_add(struct sharesum *s, int64_t at, int64_t n, struct err *err);
/* Moves on what is under way; does not wait. */
int sharesum_look(struct sharesum *s, struct err *err);
/* out [border[self + 1] - border[self]] = the sums of this rank's share, of all runs that were added. */
int sharesum_finish(struct sharesum *s, float *out, struct err *err);

#endif
