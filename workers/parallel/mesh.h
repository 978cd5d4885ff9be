/* mesh.h - where this rank stands in a plan: replica, stage, tensor-parallel index.
 * Why:    models ask the mesh "which heads are mine", never "what is my rank".
 * Ranks:  mesh_init is not collective (the plan says all). */
#ifndef MUSTER_MESH_H
#define MUSTER_MESH_H

#include "proto/comm.h"
#include "proto/split.h"
#include "muster.pb-c.h"

enum { MESH_TP_MAX = 64, MESH_PP_MAX = 256 };

struct mesh {
    int network, replica, n_replicas;
    int stage, n_stages;
    int tp_index, tp;
    int layer_begin, layer_end;
    int leaves;                                 /* of the sum tree (split.h) */
    struct split_range segments;                /* this rank's */
    struct split_range peer_segments[MESH_TP_MAX];
    int tp_ranks[MESH_TP_MAX];                  /* world ranks of this stage, by tp index */
    int prev_ranks[MESH_TP_MAX];                /* of the stage before, -1 when first */
    int next_ranks[MESH_TP_MAX];                /* of the stage after, -1 when last */
    int first_ranks[MESH_TP_MAX];               /* of stage 0 of this replica */
    int last_ranks[MESH_TP_MAX];
    int prev_tp, next_tp, first_tp, last_tp;    /* how many of each */
    int self;                                   /* world rank */
};

/* *held = 0 when the plan gives this rank nothing. Checks ranks, counts and borders of the plan. */
int mesh_init(struct mesh *m, const Muster__Plan *plan, int network, int self, int n_workers,
              int n_layers, int *held, struct err *err);

#endif
