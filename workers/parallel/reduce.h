/* reduce.h - sums of partial products over a tensor-parallel group, in one fixed tree.
 * Why:    MPI's all-reduce picks its order by size and rank count; same seed, same bytes needs one order.
 * How:    each rank sends the sums of its maximal subtrees (split.h) as Activation messages: small
 *         tensors to every peer at once (one latency), large ones scattered, each part added by its
 *         owner, and gathered (least bytes), in chunks that follow each other in a pipeline. The bits are
 *         those of the tree either way.
 * Speed:  two ranks in one host, bound to cores, against MPI's all-reduce (medians): see bench_reduce.
 * Owner:  message buffers are allocated once, at reduce_init.
 * Ranks:  collective on the tensor-parallel group. */
#ifndef MUSTER_REDUCE_H
#define MUSTER_REDUCE_H

#include "proto/wire.h"
#include "workers/parallel/mesh.h"

struct reduce {
    struct comm *comm;
    const struct mesh *mesh;
    enum comm_channel channel;          /* COMM_TP from reduce_init; a trainer's sums are COMM_DP */
    enum wire_dtype dtype;
    int64_t n_max;                      /* floats of the largest tensor */
    /* How sums travel: the bits are the same for all values that agree between ranks. */
    int64_t direct_max;                 /* floats up to which pieces go to every peer at once */
    int64_t chunk;                      /* floats of a message; at most what reduce_init chose, of 32 */
    void *state;
    uint64_t sequence;                  /* of the next collective: rides as Activation.step */
    double us, wait_us, wire_us;        /* spent so far, for the per-phase report */
    uint64_t bytes;
};

int reduce_init(struct reduce *r, struct comm *comm, const struct mesh *mesh, enum wire_dtype dtype,
                int64_t n_max, struct err *err);
void reduce_free(struct reduce *r);

/* out [n] on every rank = the tree sum of all ranks' pieces. pieces [n_piece][n], piece stride
 * piece_stride floats; `n_total`, `unit`: of the whole K, from which every rank knows every peer's
 * pieces. out may be pieces. With tp 1 the one piece is the sum. Collective on tp; n must agree. */
int reduce_sum(struct reduce *r, float *out, const float *pieces, int64_t piece_stride, int64_t n,
               int n_total, int unit, struct err *err);

/* Every rank's part [counts[i]] f32 to all ranks, in tp order, into out. Collective on tp. */
int reduce_gather(struct reduce *r, float *out, const float *mine, const int64_t *counts,
                  struct err *err);

/* The same to one rank only: out is written on tp index `root`. Collective on tp. */
int reduce_collect(struct reduce *r, int root, float *out, const float *mine, const int64_t *counts,
                   struct err *err);

/* rows [n_rows, dim]: owner[i] is the tp index that holds row i filled in; afterwards all hold all.
 * Collective on tp. */
int reduce_rows(struct reduce *r, float *rows, const uint8_t *owner, int n_rows, int dim,
                struct err *err);

#endif
