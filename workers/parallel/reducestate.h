/* reducestate.h - what reduce.c (sums) and reducemoves.c (gathers) share: messages of a group.
 * Owner:  reduce_init allocates all buffers; nothing is allocated afterwards.
 * Ranks:  a receive is posted, and a message sent, in the same order on every rank, so that messages
 *         between two ranks need no tags. */
#ifndef MUSTER_REDUCESTATE_H
#define MUSTER_REDUCESTATE_H

#include "workers/kernels/kernels.h"
#include "workers/parallel/reduce.h"
#include "workers/parallel/sumtree.h"

enum {
    REDUCE_TREES_MAX = 8,           /* distinct cuts of K in a model: attention, FFN, experts */
    REDUCE_SLOTS = 3,               /* chunks under way: one leaves, one is added, one comes back */
    REDUCE_MOVE_FLOATS = 1 << 16,   /* of a rank in one message of a gather */
};

/* One message from and one to each peer, and their requests. */
struct reduce_lane {
    uint8_t *in[MESH_TP_MAX], *out[MESH_TP_MAX];    /* where all get the same message: out[0] */
    size_t cap;                                     /* bytes of each */
    struct comm_req recv[MESH_TP_MAX], send[MESH_TP_MAX];
};

/* A chunk of a sum: its pieces go out in one lane, its sums in the other. */
struct reduce_slot {
    struct reduce_lane pieces, sums;
    int64_t at, n;                  /* floats of the whole */
    float *decoded;                 /* [tp][most_pieces * chunk] for wire types other than f32 */
};

struct reduce_state {
    struct sumtree tree[REDUCE_TREES_MAX];
    int n_trees, most_pieces;
    struct reduce_slot slot[REDUCE_SLOTS];
    struct reduce_lane moves;
    uint8_t *base;
    void (*add)(float *out, const float *a, const float *b, int64_t n);
};

double reduce_now_us(void);

/* A message of [n_piece, n] in dtype into msg, from src [n_piece][n] with a stride; returns its size. */
size_t reduce_pack(struct reduce *r, uint8_t *msg, enum wire_kind kind, enum wire_dtype dtype,
                   int n_piece, int64_t n, const float *src, int64_t stride);

/* The numbers in a message, checked to be what is due: *src [n_piece][n] points into msg, or, where
 * dtype is not f32, to `decoded`, which has room for them. from: its tp index. */
int reduce_view(struct reduce *r, const uint8_t *msg, size_t bytes, enum wire_kind kind,
                enum wire_dtype dtype, int from, int n_piece, int64_t n, float *decoded,
                const float **src, struct err *err);

int reduce_recv(struct reduce *r, struct reduce_lane *lane, int from, struct err *err);
int reduce_send(struct reduce *r, struct reduce_lane *lane, int to, const uint8_t *msg, size_t bytes,
                struct err *err);
/* Waits for the requests of all peers. */
int reduce_wait(struct reduce *r, struct comm_req *req, struct err *err);

#endif
