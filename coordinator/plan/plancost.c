#include "coordinator/plan/plancost.h"

#include <string.h>

/* For nodes that measured nothing: a core of a present server, and common links. */
static const double THREAD_BYTES_PER_S = 10e9, THREAD_FLOPS = 50e9;
static const double NEAR_US = 3, NEAR_BYTES_PER_S = 5e9, FAR_US = 30, FAR_BYTES_PER_S = 1e9;
static const double LAYER_US = 4;       /* threads started, norms, rope, attention over little */

static double threads_of(const Muster__NodeReport *r)
{
    return r->threads > 0 ? r->threads : r->cores > 0 ? r->cores : 1;
}

double plancost_bandwidth(const Muster__NodeReport *r)
{
    return r->memory_bw > 0 ? r->memory_bw : threads_of(r) * THREAD_BYTES_PER_S;
}

double plancost_flops(const Muster__NodeReport *r)
{
    return r->sgemm_flops > 0 ? r->sgemm_flops : threads_of(r) * THREAD_FLOPS;
}

double plancost_hop(const struct plan_request *q, int a, int b, double bytes)
{
    const Muster__NodeReport *ra = q->reports[a], *rb = q->reports[b];
    for (size_t i = 0; i < ra->n_links; i++)
        if ((int)ra->links[i]->peer == b && ra->links[i]->bytes_per_s > 0)
            return ra->links[i]->latency_us + bytes / ra->links[i]->bytes_per_s * 1e6;
    if (strcmp(ra->host, rb->host) == 0)
        return NEAR_US + bytes / NEAR_BYTES_PER_S * 1e6;
    return FAR_US + bytes / FAR_BYTES_PER_S * 1e6;
}

/* One sum over the stage's ranks: everybody's piece to everybody, the slowest pair counts. */
static double sum_us(const struct plan *p, const struct plan_request *q, int stage, double bytes)
{
    double worst = 0;
    for (int i = 0; i < p->tp; i++)
        for (int j = 0; j < p->tp; j++) {
            int a = p->share[stage * p->tp + i].rank, b = p->share[stage * p->tp + j].rank;
            double us = i == j ? 0 : plancost_hop(q, a, b, bytes);
            worst = us > worst ? us : worst;
        }
    int rounds = 0;
    while ((1 << rounds) < p->tp)
        rounds++;
    return worst * rounds;
}

/* A stage's time for a step of `rows` rows, `generated` of them reading weights as they decode. */
static double stage_us(const struct plan *p, const struct plan_request *q, int stage, int rows,
                       bool prompt)
{
    double worst = 0;
    int layers = p->share[stage * p->tp].layer_end - p->share[stage * p->tp].layer_begin;
    for (int i = 0; i < p->tp; i++) {
        const struct plan_share *s = &p->share[stage * p->tp + i];
        double read = (double)s->read_bytes / plancost_bandwidth(q->reports[s->rank]) * 1e6;
        /* parameters held, guessed from bytes in the model's own ratio */
        double per_byte = q->spec->parameters > 0 && s->weights_bytes > 0
                              ? (double)s->read_bytes / (double)s->weights_bytes : 0;
        double params = (double)q->spec->parameters * per_byte / (p->pp * p->tp);
        double flops = 2 * params * rows / plancost_flops(q->reports[s->rank]) * 1e6;
        double us = prompt ? (flops > read ? flops : read) : read + flops / 4;
        worst = us > worst ? us : worst;
    }
    double sums = p->tp > 1 ? 2 * layers * sum_us(p, q, stage, 4.0 * q->spec->dim * rows) : 0;
    return worst + layers * LAYER_US + sums;
}

struct plan_speed plancost_speed(const struct plan *p, const struct plan_request *q)
{
    struct plan_speed v = {0};
    int busy = q->slots / p->pp > 0 ? q->slots / p->pp : 1;     /* rows of a micro-batch */
    double slowest = 0, whole = 0, prompt = 0, hops = 0;
    for (int g = 0; g < p->pp; g++) {
        double us = stage_us(p, q, g, busy, false), pre = stage_us(p, q, g, q->max_rows, true);
        slowest = us > slowest ? us : slowest;
        whole += us;
        v.token_us += stage_us(p, q, g, 1, false);
        prompt = pre > prompt ? pre : prompt;
        int a = p->share[g * p->tp].rank, b = p->share[(g + 1) % p->pp * p->tp].rank;
        if (p->pp > 1)
            hops += plancost_hop(q, a, b, 4.0 * q->spec->dim);
    }
    v.token_us += hops;
    whole += hops;
    double turn = slowest * p->pp > whole ? slowest * p->pp : whole;
    int moving = q->slots < p->pp ? q->slots : p->pp;
    v.decode_tps = busy * moving / turn * 1e6;
    v.prefill_tps = q->max_rows / prompt * 1e6;
    int layers = 0;
    for (int g = 0; g < p->pp; g++) {
        int n = p->share[g * p->tp].layer_end - p->share[g * p->tp].layer_begin;
        layers = n > layers ? n : layers;
    }
    v.link_bytes = (uint64_t)(p->tp > 1 ? 2 * layers * (p->tp - 1) * 4 : 0) * q->spec->dim +
                   (p->pp > 1 ? 4ull * q->spec->dim : 0);
    return v;
}
