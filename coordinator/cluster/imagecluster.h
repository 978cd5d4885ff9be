/* imagecluster.h - an image model on a cluster: described, loaded on every rank, replicas of one or two
 * groups of ranks.
 * Owner:  borrows the cluster; the spec lives as long as the cluster.
 * Ranks:  the coordinator's thread only. */
#ifndef MUSTER_IMAGECLUSTER_H
#define MUSTER_IMAGECLUSTER_H

#include "coordinator/cluster/cluster.h"

struct imagecluster {
    struct cluster *cluster;
    Muster__ImageSpec *spec;
    int n_replicas;
    int *rank;                      /* [n_replicas] the first rank of each */
    int slots;
};

/* All workers open the folder and agree that they see the same. Accepts a zeroed struct. */
int imagecluster_describe(struct imagecluster *i, struct cluster *c, const char *path, struct err *err);

/* tp, pp: ranks of a group, that share the denoiser's layers, and stages of it; ranks past the last whole
 * group stay idle. guidance_parallel: replicas of two groups (a last odd one is one by itself). sink: folder
 * and form. compute: "bf16", or NULL. */
struct imagecluster_load {
    int threads, slots, tp, pp;
    bool guidance_parallel;
    const char *compute;
    Muster__SinkOpen *sink;
};
int imagecluster_load(struct imagecluster *i, const struct imagecluster_load *l, struct err *err);

int imagecluster_send(struct imagecluster *i, int replica, Muster__Envelope *m, struct err *err);
/* The replica whose first rank this is, -1: none. */
int imagecluster_replica(const struct imagecluster *i, int rank);

#endif
