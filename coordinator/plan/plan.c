#include "coordinator/plan/plan.h"

#include "coordinator/plan/plancost.h"
#include "coordinator/plan/planmemory.h"
#include "coordinator/plan/planweight.h"

#include <float.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TP_MAX = 64, PP_MAX = 256 };
static const double MEMORY_SHARE = 0.95;

static const char *size_text(uint64_t bytes, char out[24])
{
    double gib = (double)bytes / (1024.0 * 1024 * 1024);
    if (gib >= 0.1)
        snprintf(out, 24, "%.1f GiB", gib);
    else
        snprintf(out, 24, "%.1f MiB", gib * 1024);
    return out;
}

static int no_room(struct err *err) { return err_set(err, ERR_NOMEM, "no memory for a plan"); }

/* --- who stands where */

/* World ranks so that those of one host are neighbours: tensor-parallel groups stay inside a host. */
static int *ranks_by_host(const struct plan_request *q, struct arena *mem)
{
    int *order = arena_take(mem, (size_t)q->n_ranks * sizeof *order), n = 0;
    bool *placed = arena_take_zeroed(mem, (size_t)q->n_ranks * sizeof *placed);
    if (order == NULL || placed == NULL)
        return NULL;
    for (int i = 0; i < q->n_ranks; i++)
        for (int j = i; j < q->n_ranks && !placed[i]; j++)
            if (!placed[j] && strcmp(q->reports[i]->host, q->reports[j]->host) == 0) {
                order[n++] = j;
                placed[j] = j != i;
            }
    return order;
}

/* Cuts [0, n) at ends [parts] so that the heaviest part, weighed by 1 / speed, is lightest; each has
 * one element at least. weight [n + 1] is a running sum. */
static int balance(const double *weight, int n, const double *speed, int parts, int *ends,
                   struct arena *mem)
{
    size_t mark = arena_mark(mem), cells = (size_t)(n + 1);
    double *best = arena_take(mem, cells * sizeof *best), *next = arena_take(mem, cells * sizeof *next);
    int *from = arena_take(mem, cells * (size_t)parts * sizeof *from);
    if (best == NULL || next == NULL || from == NULL)
        return ERR_NOMEM;
    for (int i = 0; i <= n; i++)
        best[i] = i == 0 ? 0 : DBL_MAX;
    for (int g = 0; g < parts; g++) {
        for (int i = 0; i <= n; i++) {
            next[i] = DBL_MAX;
            for (int k = g; k < i; k++) {
                double here = (weight[i] - weight[k]) / speed[g];
                double worst = best[k] > here ? best[k] : here;
                if (worst < next[i]) {
                    next[i] = worst;
                    from[(size_t)g * cells + (size_t)i] = k;
                }
            }
        }
        memcpy(best, next, cells * sizeof *best);
    }
    for (int g = parts - 1, end = n; g >= 0; g--) {
        ends[g] = end;
        end = from[(size_t)g * cells + (size_t)end];
    }
    arena_release(mem, mark);
    return ERR_OK;
}

/* Segments in proportion to speed, largest remainder first; even where the weights are. */
static void share_segments(const double *speed, int tp, int leaves, uint32_t *end)
{
    double sum = 0, low = DBL_MAX, high = 0, rest[TP_MAX];
    int count[TP_MAX], given = 0;
    for (int i = 0; i < tp; i++) {
        sum += speed[i];
        low = speed[i] < low ? speed[i] : low;
        high = speed[i] > high ? speed[i] : high;
    }
    if (high <= low) {
        for (int i = 0; i < tp; i++)
            end[i] = (uint32_t)split_even(leaves, tp, i).end;
        return;
    }
    for (int i = 0; i < tp; i++) {
        double exact = leaves * speed[i] / sum;
        count[i] = (int)exact;
        rest[i] = exact - count[i];
        given += count[i];
    }
    for (; given < leaves; given++) {
        int best = 0;
        for (int i = 1; i < tp; i++)
            best = rest[i] > rest[best] ? i : best;
        count[best]++;
        rest[best] = -1;
    }
    for (int i = 0, at = 0; i < tp; i++)
        end[i] = (uint32_t)(at += count[i]);
}

static Muster__StagePlan *stage_new(int tp, struct arena *mem)
{
    Muster__StagePlan *s = arena_take(mem, sizeof *s);
    if (s == NULL)
        return NULL;
    muster__stage_plan__init(s);
    s->ranks = arena_take(mem, (size_t)tp * sizeof *s->ranks);
    s->segment_end = arena_take(mem, (size_t)tp * sizeof *s->segment_end);
    s->n_ranks = s->n_segment_end = (size_t)tp;
    return s->ranks != NULL && s->segment_end != NULL ? s : NULL;
}

static Muster__ReplicaPlan *replica_new(int tp, int pp, struct arena *mem)
{
    Muster__ReplicaPlan *rep = arena_take(mem, sizeof *rep);
    Muster__StagePlan **stages = arena_take(mem, (size_t)pp * sizeof *stages);
    if (rep == NULL || stages == NULL)
        return NULL;
    muster__replica_plan__init(rep);
    for (int g = 0; g < pp; g++)
        if ((stages[g] = stage_new(tp, mem)) == NULL)
            return NULL;
    rep->n_stages = (size_t)pp;
    rep->stages = stages;
    return rep;
}

static Muster__Plan *message_new(int tp, int pp, int dp, struct arena *mem)
{
    Muster__Plan *plan = arena_take(mem, sizeof *plan);
    Muster__NetworkPlan *net = arena_take(mem, sizeof *net);
    Muster__NetworkPlan **nets = arena_take(mem, sizeof *nets);
    Muster__ReplicaPlan **reps = arena_take(mem, (size_t)dp * sizeof *reps);
    if (!plan || !net || !nets || !reps)
        return NULL;
    muster__plan__init(plan);
    muster__network_plan__init(net);
    for (int r = 0; r < dp; r++)
        if ((reps[r] = replica_new(tp, pp, mem)) == NULL)
            return NULL;
    net->name = (char *)"lm";
    net->tp = (uint32_t)tp;
    net->pp = (uint32_t)pp;
    net->dp = (uint32_t)dp;
    net->n_replicas = (size_t)dp;
    net->replicas = reps;
    plan->n_networks = 1;
    *(plan->networks = nets) = net;
    return plan;
}

/* --- what that costs */

static uint64_t share_total(const struct plan_share *s)
{
    return s->weights_bytes + s->kv_bytes + s->scratch_bytes;
}

static int pages_wanted(const struct plan_request *q, int sequences)
{
    int64_t one = (q->context + q->page_tokens - 1) / q->page_tokens;
    int64_t all = one * sequences;
    return all > (1 << 24) ? 1 << 24 : (int)all;
}

/* Free bytes of a rank's host, and how many of the layout's bytes go there. */
static uint64_t host_free(const struct plan_request *q, int rank)
{
    uint64_t free_bytes = q->reports[rank]->memory_free;
    for (int i = 0; i < q->n_ranks; i++)
        if (strcmp(q->reports[i]->host, q->reports[rank]->host) == 0 &&
            q->reports[i]->memory_free < free_bytes)
            free_bytes = q->reports[i]->memory_free;
    return (uint64_t)((double)free_bytes * MEMORY_SHARE);
}

/* The share that is too big where it is, or NULL; *need and *have are its host's (or its own limit). */
static const struct plan_share *too_big(const struct plan *p, const struct plan_request *q,
                                        uint64_t *need, uint64_t *have)
{
    for (int i = 0; i < p->n_shares; i++) {
        const struct plan_share *s = &p->share[i];
        *need = share_total(s);
        *have = q->memory_most;
        if (q->memory_most > 0 && *need > *have)
            return s;
        *have = host_free(q, s->rank);
        *need = 0;
        for (int j = 0; j < p->n_shares; j++)
            if (strcmp(q->reports[p->share[j].rank]->host, q->reports[s->rank]->host) == 0)
                *need += share_total(&p->share[j]);
        if (q->reports[s->rank]->memory_free > 0 && *need > *have)
            return s;
    }
    return NULL;
}

static void count_shares(struct plan *p, const struct plan_request *q, int pages)
{
    p->kv_pages = pages;
    memset(p->share, 0, (size_t)p->n_shares * sizeof *p->share);
    for (int k = 0; k < p->n_shares; k++) {
        struct plan_share *s = &p->share[k];
        s->replica = k / (p->tp * p->pp);
        s->stage = k / p->tp % p->pp;
        s->tp_index = k % p->tp;
        const Muster__StagePlan *g = p->message->networks[0]->replicas[s->replica]->stages[s->stage];
        s->rank = (int)g->ranks[s->tp_index];
        s->layer_begin = (int)g->layer_begin;
        s->layer_end = (int)g->layer_end;
        planmemory_share(s, q, p->pp, p->tp, split_leaves(p->tp), g->segment_end, pages);
    }
}

/* "does not fit", and what would. */
static int does_not_fit(const struct plan *p, const struct plan_request *q,
                        const struct plan_share *s, uint64_t need, uint64_t have, struct err *err)
{
    char a[24], b[24], c[24], d[24], e[24];
    const char *host = q->reports[s->rank]->host;
    int times = have > 0 ? (int)(need / have) + 1 : 2;
    if (q->memory_most > 0 && have == q->memory_most)
        host = "the limit";
    return err_set(err, ERR_LIMIT,
                   "does not fit: rank %d needs weights %s, kv %s, scratch %s; %s has room for %s of %s: "
                   "use about %d times the nodes, a smaller --ctx or --batch, or a smaller type "
                   "(muster quantize --type q4_k)",
                   s->rank, size_text(s->weights_bytes, a), size_text(s->kv_bytes, b),
                   size_text(s->scratch_bytes, c), host, size_text(have, d), size_text(need, e),
                   times);
}

/* Fewer pages when all sequences at full length do not fit: the cache is paged, they take turns. */
static int fit(struct plan *p, const struct plan_request *q, struct err *err)
{
    int most = pages_wanted(q, q->slots), least = pages_wanted(q, 1);
    uint64_t need, have;
    count_shares(p, q, most);
    if (too_big(p, q, &need, &have) == NULL)
        return ERR_OK;
    count_shares(p, q, least);
    const struct plan_share *s = too_big(p, q, &need, &have);
    if (s != NULL)
        return does_not_fit(p, q, s, need, have, err);
    while (most - least > 1) {
        int mid = least + (most - least) / 2;
        count_shares(p, q, mid);
        if (too_big(p, q, &need, &have) == NULL)
            least = mid;
        else
            most = mid;
    }
    count_shares(p, q, least);
    return ERR_OK;
}

static int replicas_of(const struct plan_request *q) { return q->dp > 0 ? q->dp : 1; }

static int layout_check(const struct plan_request *q, int tp, int pp, struct err *err)
{
    const Muster__ModelSpec *m = q->spec;
    if (tp > TP_MAX || tp > (int)m->n_heads)
        return err_set(err, ERR_INVAL, "--tp %d: the model has %u query heads to share out", tp,
                       m->n_heads);
    if (pp > PP_MAX || pp > (int)m->n_layers)
        return err_set(err, ERR_INVAL, "--pp %d: the model has %u layers", pp, m->n_layers);
    if (replicas_of(q) > 1 && tp * pp * replicas_of(q) > q->n_ranks)
        return err_set(err, ERR_INVAL, "--dp %d of tp %d x pp %d needs %d ranks, there are %d",
                       replicas_of(q), tp, pp, tp * pp * replicas_of(q), q->n_ranks);
    if (tp * pp > q->n_ranks)
        return err_set(err, ERR_INVAL, "--tp %d x --pp %d needs %d ranks, there are %d (mpirun -n %d)",
                       tp, pp, tp * pp, q->n_ranks, tp * pp);
    return ERR_OK;
}

/* Layers to stages and segments to ranks, by speed. order [tp pp]: the replica's ranks. */
static int fill_stages(const struct plan *p, const struct plan_request *q, Muster__ReplicaPlan *rep,
                       const int *order, struct arena *mem)
{
    int n_layers = (int)q->spec->n_layers, tp = p->tp, pp = p->pp;
    double *weight = arena_take(mem, (size_t)(n_layers + 1) * sizeof *weight);
    double *speed = arena_take_zeroed(mem, (size_t)pp * sizeof *speed), one[TP_MAX];
    double *of = arena_take(mem, (size_t)q->n_ranks * sizeof *of);
    int *ends = arena_take(mem, (size_t)pp * sizeof *ends);
    if (weight == NULL || speed == NULL || ends == NULL || of == NULL)
        return ERR_NOMEM;
    planweight_ranks(q, of);
    weight[0] = 0;
    for (int l = 0; l < n_layers; l++)
        weight[l + 1] = weight[l] + 1 + (double)planmemory_layer_read(q->spec, l);
    double head = (double)planmemory_head_read(q->spec);
    weight[n_layers] += head;
    for (int g = 0; g < pp; g++)
        for (int i = 0; i < tp; i++)
            speed[g] += of[order[g * tp + i]];
    TRY(balance(weight, n_layers, speed, pp, ends, mem));
    for (int g = 0; g < pp; g++) {
        Muster__StagePlan *s = rep->stages[g];
        s->layer_begin = g > 0 ? (uint32_t)ends[g - 1] : 0;
        s->layer_end = (uint32_t)ends[g];
        for (int i = 0; i < tp; i++) {
            s->ranks[i] = (uint32_t)order[g * tp + i];
            one[i] = of[order[g * tp + i]];
        }
        share_segments(one, tp, split_leaves(tp), s->segment_end);
    }
    return ERR_OK;
}

int plan_layout(struct plan *p, const struct plan_request *q, int tp, int pp, struct arena *mem,
                struct err *err)
{
    memset(p, 0, sizeof *p);
    TRY(layout_check(q, tp, pp, err));
    p->tp = tp;
    p->pp = pp;
    p->dp = replicas_of(q);
    p->n_shares = tp * pp * p->dp;
    p->share = arena_take(mem, (size_t)p->n_shares * sizeof *p->share);
    p->message = message_new(tp, pp, p->dp, mem);
    int *order = ranks_by_host(q, mem);
    if (p->share == NULL || p->message == NULL || order == NULL)
        return no_room(err);
    for (int r = 0; r < p->dp; r++)
        if (fill_stages(p, q, p->message->networks[0]->replicas[r], order + r * tp * pp, mem) != ERR_OK)
            return no_room(err);
    TRY(fit(p, q, err));
    p->speed = plancost_speed(p, q);
    return ERR_OK;
}

/* --- the choice */

/* Can tp x pp be, given what is asked for? */
static bool wanted(const struct plan_request *q, int tp, int pp)
{
    struct err none = {0};
    return (q->tp == 0 || tp == q->tp) && (q->pp == 0 || pp == q->pp) &&
           layout_check(q, tp, pp, &none) == ERR_OK;
}

/* Most ranks of a replica that a layout can keep busy: people who start four want four used. */
static int busiest(const struct plan_request *q)
{
    int most = 0;
    for (int tp = 1; tp <= q->n_ranks; tp++)
        for (int pp = 1; tp * pp <= q->n_ranks; pp++)
            if (wanted(q, tp, pp) && tp * pp > most)
                most = tp * pp;
    return most;
}

static bool better(const struct plan_candidate *a, const struct plan_candidate *b)
{
    return a->fits != b->fits ? a->fits : a->fits && a->speed.decode_tps > b->speed.decode_tps;
}

/* Keeps the list in order; a full one loses its last. */
static void insert(struct plan_candidate *out, int cap, int *n, const struct plan_candidate *c)
{
    int at = *n;
    while (at > 0 && better(c, &out[at - 1]))
        at--;
    if (at >= cap)
        return;
    int moved = (*n < cap ? *n : cap - 1) - at;
    memmove(&out[at + 1], &out[at], (size_t)moved * sizeof *out);
    out[at] = *c;
    *n += *n < cap;
}

int plan_list(struct plan_candidate *out, int cap, const struct plan_request *q, bool fewer,
              struct arena *mem, struct err *first)
{
    int use = busiest(q), n = 0;
    for (int tp = use; tp >= 1; tp--)
        for (int pp = use / tp; pp >= 1; pp--) {
            struct plan p;
            struct err e = {0};
            if (!wanted(q, tp, pp) || (!fewer && tp * pp != use))
                continue;
            size_t mark = arena_mark(mem);
            struct plan_candidate c = {.tp = tp, .pp = pp};
            c.fits = plan_layout(&p, q, tp, pp, mem, &e) == ERR_OK;
            c.speed = p.speed;
            if (!c.fits && first != NULL && first->code == ERR_OK)
                err_set(first, e.code, "%s", e.msg);
            arena_release(mem, mark);
            insert(out, cap, &n, &c);
        }
    return n;
}

int plan_choose(struct plan *p, const struct plan_request *q, struct arena *mem, struct err *err)
{
    struct plan_candidate list[2];
    struct err first = {0};
    if (q->tp > 0 || q->pp > 0 || q->dp > 1)
        TRY(layout_check(q, q->tp > 0 ? q->tp : 1, q->pp > 0 ? q->pp : 1, err));
    int n = plan_list(list, 2, q, false, mem, &first);
    if (n == 0 || !list[0].fits)
        return err_set(err, first.code ? first.code : ERR_LIMIT, "%s",
                       first.code ? first.msg : "no layout fits these ranks");
    TRY(plan_layout(p, q, list[0].tp, list[0].pp, mem, err));
    if (q->tp > 0 && q->pp > 0)
        snprintf(p->why, sizeof p->why, "asked for");
    else if (n > 1 && list[1].fits)
        snprintf(p->why, sizeof p->why, "about %.0f tokens/s; tp %d x pp %d about %.0f",
                 p->speed.decode_tps, list[1].tp, list[1].pp, list[1].speed.decode_tps);
    else
        snprintf(p->why, sizeof p->why, n > 1 ? "the only one that fits" : "the only one there is");
    return ERR_OK;
}

/* --- a plan from a file */

static int stage_check(const struct plan_request *q, const Muster__StagePlan *s, int tp, int begin,
                       bool *used, struct err *err)
{
    if ((int)s->layer_begin != begin || s->layer_end <= s->layer_begin ||
        s->layer_end > q->spec->n_layers)
        return err_set(err, ERR_FORMAT, "plan: layers [%u, %u) do not follow layer %d of %u",
                       s->layer_begin, s->layer_end, begin, q->spec->n_layers);
    if ((int)s->n_ranks != tp || (int)s->n_segment_end != tp)
        return err_set(err, ERR_FORMAT, "plan: a stage of %zu ranks and %zu shares, tp is %d",
                       s->n_ranks, s->n_segment_end, tp);
    for (int i = 0; i < tp; i++) {
        uint32_t before = i > 0 ? s->segment_end[i - 1] : 0;
        if (s->ranks[i] >= (uint32_t)q->n_ranks || used[s->ranks[i]])
            return err_set(err, ERR_FORMAT, "plan: rank %u is not one of %d, or is used twice",
                           s->ranks[i], q->n_ranks);
        if (s->segment_end[i] < before || s->segment_end[i] > (uint32_t)split_leaves(tp))
            return err_set(err, ERR_FORMAT, "plan: segment_end must rise to %d", split_leaves(tp));
        used[s->ranks[i]] = true;
    }
    if (s->segment_end[tp - 1] != (uint32_t)split_leaves(tp))
        return err_set(err, ERR_FORMAT, "plan: segment_end must rise to %d", split_leaves(tp));
    return ERR_OK;
}

/* Its counts; ERR_FORMAT for what mesh and schedule cannot be. */
static int adopt_counts(struct plan *p, const struct plan_request *q, const Muster__Plan *message,
                        struct err *err)
{
    if (message->n_networks != 1 || message->networks[0]->n_replicas < 1 ||
        message->networks[0]->n_replicas > (size_t)q->n_ranks ||
        message->networks[0]->replicas[0]->n_stages < 1)
        return err_set(err, ERR_FORMAT, "plan: one network is wanted, of at most %d replicas",
                       q->n_ranks);
    const Muster__NetworkPlan *net = message->networks[0];
    const Muster__ReplicaPlan *rep = net->replicas[0];
    p->dp = (int)net->n_replicas;
    p->pp = rep->n_stages <= PP_MAX ? (int)rep->n_stages : PP_MAX + 1;
    p->tp = rep->stages[0]->n_ranks <= TP_MAX ? (int)rep->stages[0]->n_ranks : TP_MAX + 1;
    for (int r = 0; r < p->dp; r++)
        if ((int)net->replicas[r]->n_stages != p->pp)
            return err_set(err, ERR_FORMAT, "plan: replica %d has %zu stages, the first %d", r,
                           net->replicas[r]->n_stages, p->pp);
    if (p->tp < 1)
        return err_set(err, ERR_FORMAT, "plan: a stage without ranks");
    return layout_check(q, p->tp, p->pp, err);
}

int plan_adopt(struct plan *p, const struct plan_request *q, Muster__Plan *message,
               struct arena *mem, struct err *err)
{
    memset(p, 0, sizeof *p);
    TRY(adopt_counts(p, q, message, err));
    bool *used = arena_take_zeroed(mem, (size_t)q->n_ranks);
    p->n_shares = p->tp * p->pp * p->dp;
    p->share = arena_take(mem, (size_t)p->n_shares * sizeof *p->share);
    if (used == NULL || p->share == NULL)
        return no_room(err);
    for (int r = 0; r < p->dp; r++) {
        int begin = 0;
        for (int g = 0; g < p->pp; g++) {
            const Muster__StagePlan *s = message->networks[0]->replicas[r]->stages[g];
            TRY(stage_check(q, s, p->tp, begin, used, err));
            begin = (int)s->layer_end;
        }
        if (begin != (int)q->spec->n_layers)
            return err_set(err, ERR_FORMAT, "plan: it ends at layer %d of %u", begin,
                           q->spec->n_layers);
    }
    p->message = message;
    message->networks[0]->tp = (uint32_t)p->tp;
    message->networks[0]->pp = (uint32_t)p->pp;
    message->networks[0]->dp = (uint32_t)p->dp;
    TRY(fit(p, q, err));
    p->speed = plancost_speed(p, q);
    snprintf(p->why, sizeof p->why, "from a file");
    return ERR_OK;
}
