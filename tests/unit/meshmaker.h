/* meshmaker.h - the mesh of a rank in a tp x pp layout, for tests that need no plan.
 * World rank = stage * tp + index; layers and segments as even as can be, or segments as given. */
#ifndef MUSTER_TESTS_MESHMAKER_H
#define MUSTER_TESTS_MESHMAKER_H

#include "workers/parallel/mesh.h"

#include <string.h>

/* ends [tp]: last segment + 1 of each rank; NULL: even. */
static inline struct mesh mesh_make(int rank, int tp, int pp, int n_layers, const int *ends)
{
    struct mesh m;
    memset(&m, 0, sizeof m);
    m.n_replicas = 1;
    m.n_stages = pp;
    m.stage = rank / tp;
    m.tp = tp;
    m.tp_index = rank % tp;
    m.layer_begin = n_layers * m.stage / pp;
    m.layer_end = n_layers * (m.stage + 1) / pp;
    m.leaves = split_leaves(tp);
    for (int i = 0; i < tp; i++) {
        m.peer_segments[i] = ends ? (struct split_range){i ? ends[i - 1] : 0, ends[i]}
                                  : split_even(m.leaves, tp, i);
        m.tp_ranks[i] = m.stage * tp + i;
        m.prev_ranks[i] = m.stage ? (m.stage - 1) * tp + i : -1;
        m.next_ranks[i] = m.stage < pp - 1 ? (m.stage + 1) * tp + i : -1;
        m.first_ranks[i] = i;
        m.last_ranks[i] = (pp - 1) * tp + i;
    }
    m.segments = m.peer_segments[m.tp_index];
    m.prev_tp = m.stage ? tp : 0;
    m.next_tp = m.stage < pp - 1 ? tp : 0;
    m.first_tp = m.last_tp = tp;
    m.self = rank;
    return m;
}

#endif
