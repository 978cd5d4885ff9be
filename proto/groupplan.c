#include "proto/groupplan.h"

#include "proto/split.h"

int groupplan_check(const struct groupplan *g, int n, const char *kind, const char *name, struct err *err)
{
    int group = g->tp * g->pp;
    if (group > 1 && g->layers == 0)
        return err_set(err, ERR_INVAL, "%s cannot be shared by ranks: leave --tp and --pp out", kind);
    if (g->pp > 1 && g->pp > g->layers)
        return err_set(err, ERR_INVAL, "--pp %d: %s has %d layers", g->pp, name, g->layers);
    if (group > n)
        return err_set(err, ERR_INVAL, "--tp %d --pp %d wants %d ranks, there are %d", g->tp, g->pp, group,
                       n);
    return ERR_OK;
}

/* Stage `stage` of group k: ranks in order, layers and segments as even as can be. */
static int lay_stage(const struct groupplan *g, int k, int stage, Muster__StagePlan *s,
                     struct arena *mem)
{
    s->ranks = arena_take(mem, (size_t)g->tp * sizeof *s->ranks);
    s->segment_end = arena_take(mem, (size_t)g->tp * sizeof *s->segment_end);
    if (s->ranks == NULL || s->segment_end == NULL)
        return ERR_NOMEM;
    s->n_ranks = s->n_segment_end = (size_t)g->tp;
    s->layer_begin = (uint32_t)(g->layers * stage / g->pp);
    s->layer_end = (uint32_t)(g->layers * (stage + 1) / g->pp);
    for (int i = 0; i < g->tp; i++) {
        s->ranks[i] = (uint32_t)((k * g->pp + stage) * g->tp + i);
        s->segment_end[i] = (uint32_t)split_even(split_leaves(g->tp), g->tp, i).end;
    }
    return ERR_OK;
}

static int lay_group(const struct groupplan *g, int k, Muster__ReplicaPlan *r,
                     struct arena *mem)
{
    Muster__StagePlan *s = arena_take(mem, (size_t)g->pp * sizeof *s);
    r->stages = arena_take(mem, (size_t)g->pp * sizeof *r->stages);
    if (s == NULL || r->stages == NULL)
        return ERR_NOMEM;
    r->n_stages = (size_t)g->pp;
    for (int i = 0; i < g->pp; i++) {
        muster__stage_plan__init(r->stages[i] = &s[i]);
        TRY(lay_stage(g, k, i, &s[i], mem));
    }
    return ERR_OK;
}

Muster__Plan *groupplan_lay(const struct groupplan *g, struct arena *mem)
{
    size_t n = (size_t)g->groups;
    Muster__Plan *p = arena_take(mem, sizeof *p);
    Muster__NetworkPlan *net = arena_take(mem, sizeof *net), **list = arena_take(mem, sizeof *list);
    Muster__ReplicaPlan *r = arena_take(mem, n * sizeof *r);
    Muster__ReplicaPlan **replicas = arena_take(mem, n * sizeof *replicas);
    if (p == NULL || net == NULL || list == NULL || r == NULL || replicas == NULL)
        return NULL;
    muster__plan__init(p);
    muster__network_plan__init(*list = net);
    for (int k = 0; k < g->groups; k++) {
        muster__replica_plan__init(replicas[k] = &r[k]);
        if (lay_group(g, k, &r[k], mem) != ERR_OK)
            return NULL;
    }
    net->name = (char *)(uintptr_t)g->network;
    net->tp = (uint32_t)g->tp;
    net->pp = (uint32_t)g->pp;
    net->dp = (uint32_t)g->groups;
    net->replicas = replicas;
    net->n_replicas = n;
    p->networks = list;
    p->n_networks = 1;
    return p;
}
