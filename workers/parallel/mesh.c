#include "workers/parallel/mesh.h"

#include <stdlib.h>
#include <string.h>

/* Everything about the plan that a rank relies on; the plan came from a peer or a file. */
static int check_stage(const Muster__StagePlan *s, int tp, int n_workers, int n_layers, struct err *err)
{
    int leaves = split_leaves(tp);
    if ((int)s->n_ranks != tp || s->n_segment_end != s->n_ranks)
        return err_set(err, ERR_INVAL, "plan: a stage of %zu ranks with %zu segment borders, not %d",
                       s->n_ranks, s->n_segment_end, tp);
    if (s->layer_begin > s->layer_end || s->layer_end > (uint32_t)n_layers)
        return err_set(err, ERR_INVAL, "plan: layers %u to %u of %d", s->layer_begin, s->layer_end,
                       n_layers);
    uint32_t before = 0;
    for (size_t i = 0; i < s->n_ranks; i++) {
        if (s->ranks[i] >= (uint32_t)n_workers)
            return err_set(err, ERR_INVAL, "plan: rank %u of %d", s->ranks[i], n_workers);
        if (s->segment_end[i] < before || s->segment_end[i] > (uint32_t)leaves)
            return err_set(err, ERR_INVAL, "plan: segment border %u after %u", s->segment_end[i], before);
        before = s->segment_end[i];
    }
    if (before != (uint32_t)leaves)
        return err_set(err, ERR_INVAL, "plan: the last segment border is %u, not %d", before, leaves);
    return ERR_OK;
}

static int check_replica(const Muster__ReplicaPlan *r, int tp, int n_workers, int n_layers,
                         struct err *err)
{
    uint32_t next = 0;
    if (r->n_stages < 1 || r->n_stages > MESH_PP_MAX)
        return err_set(err, ERR_INVAL, "plan: %zu stages (1 to %d)", r->n_stages, MESH_PP_MAX);
    for (size_t i = 0; i < r->n_stages; i++) {
        TRY(check_stage(r->stages[i], tp, n_workers, n_layers, err));
        if (r->stages[i]->layer_begin != next)
            return err_set(err, ERR_INVAL, "plan: stage %zu begins at layer %u, not %u", i,
                           r->stages[i]->layer_begin, next);
        next = r->stages[i]->layer_end;
    }
    if (next != (uint32_t)n_layers)
        return err_set(err, ERR_INVAL, "plan: it ends at layer %u of %d", next, n_layers);
    return ERR_OK;
}

/* World ranks of stage i into ranks; all -1 and count 0 where there is no such stage. */
static int stage_ranks(const Muster__ReplicaPlan *r, int i, int ranks[MESH_TP_MAX])
{
    for (int k = 0; k < MESH_TP_MAX; k++)
        ranks[k] = -1;
    if (i < 0 || i >= (int)r->n_stages)
        return 0;
    for (size_t k = 0; k < r->stages[i]->n_ranks; k++)
        ranks[k] = (int)r->stages[i]->ranks[k];
    return (int)r->stages[i]->n_ranks;
}

static void take_place(struct mesh *m, const Muster__ReplicaPlan *r, int stage, int tp_index)
{
    const Muster__StagePlan *s = r->stages[stage];
    m->stage = stage;
    m->n_stages = (int)r->n_stages;
    m->tp_index = tp_index;
    m->layer_begin = (int)s->layer_begin;
    m->layer_end = (int)s->layer_end;
    m->leaves = split_leaves(m->tp);
    for (int i = 0; i < m->tp; i++)
        m->peer_segments[i] = (struct split_range){i == 0 ? 0 : (int)s->segment_end[i - 1],
                                                   (int)s->segment_end[i]};
    m->segments = m->peer_segments[tp_index];
    stage_ranks(r, stage, m->tp_ranks);
    m->prev_tp = stage_ranks(r, stage - 1, m->prev_ranks);
    m->next_tp = stage_ranks(r, stage + 1, m->next_ranks);
    m->first_tp = stage_ranks(r, 0, m->first_ranks);
    m->last_tp = stage_ranks(r, (int)r->n_stages - 1, m->last_ranks);
}

/* No rank stands in two places of a network. */
static int check_places(const Muster__NetworkPlan *p, int n_workers, struct err *err)
{
    uint8_t *seen = calloc((size_t)n_workers, 1);
    int rc = seen == NULL ? err_set(err, ERR_NOMEM, "no memory for a plan of %d ranks", n_workers) : ERR_OK;
    for (size_t r = 0; r < p->n_replicas && rc == ERR_OK; r++)
        for (size_t s = 0; s < p->replicas[r]->n_stages && rc == ERR_OK; s++) {
            const Muster__StagePlan *stage = p->replicas[r]->stages[s];
            for (size_t i = 0; i < stage->n_ranks && rc == ERR_OK; i++)
                if (seen[stage->ranks[i]]++)
                    rc = err_set(err, ERR_INVAL, "plan: rank %u stands in two places", stage->ranks[i]);
        }
    free(seen);
    return rc;
}

/* Takes the rank's place in a checked plan; returns whether it has one. */
static int find_place(struct mesh *m, const Muster__NetworkPlan *p)
{
    for (size_t r = 0; r < p->n_replicas; r++)
        for (size_t s = 0; s < p->replicas[r]->n_stages; s++)
            for (int i = 0; i < m->tp; i++)
                if (p->replicas[r]->stages[s]->ranks[i] == (uint32_t)m->self) {
                    m->replica = (int)r;
                    take_place(m, p->replicas[r], (int)s, i);
                    return 1;
                }
    return 0;
}

int mesh_init(struct mesh *m, const Muster__Plan *plan, int network, int self, int n_workers,
              int n_layers, int *held, struct err *err)
{
    memset(m, 0, sizeof *m);
    *held = 0;
    if (network < 0 || (size_t)network >= plan->n_networks)
        return err_set(err, ERR_INVAL, "plan: no network %d among %zu", network, plan->n_networks);
    const Muster__NetworkPlan *p = plan->networks[network];
    if (p->tp < 1 || p->tp > MESH_TP_MAX || p->n_replicas < 1)
        return err_set(err, ERR_INVAL, "plan: tp %u (1 to %d) on %zu replicas", p->tp, MESH_TP_MAX,
                       p->n_replicas);
    m->network = network;
    m->self = self;
    m->tp = (int)p->tp;
    m->n_replicas = (int)p->n_replicas;
    for (size_t r = 0; r < p->n_replicas; r++)
        TRY(check_replica(p->replicas[r], m->tp, n_workers, n_layers, err));
    TRY(check_places(p, n_workers, err));
    *held = find_place(m, p);
    return ERR_OK;
}
