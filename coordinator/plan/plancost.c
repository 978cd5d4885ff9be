#include "coordinator/plan/plancost.h"

#include <math.h>
#include <string.h>

/* For nodes that measured nothing: a core of a present server, and common links. */
static const double THREAD_BYTES_PER_S = 10e9, THREAD_FLOPS = 50e9;
static const double NEAR_US = 3, NEAR_BYTES_PER_S = 5e9, FAR_US = 30, FAR_BYTES_PER_S = 1e9;
/* Of a thread. Measured on one core of a server of 2023 with AVX-512. */
static const double FIXED_US = 3, NUMBER_S = 0.35e-9, ATTEND_S = 0.06e-9, STEP_US = 30;
static const double TYPED_FLOPS = 3;    /* products of quantised weights run at about 3 x sgemm's rate */
static const double READ_SHARE = 0.85;  /* of the bandwidth, that a product of one row reaches */

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
    return (q->far_bytes_per_s > 0 ? q->far_us : FAR_US) +
           bytes / (q->far_bytes_per_s > 0 ? q->far_bytes_per_s : FAR_BYTES_PER_S) * 1e6;
}

/* --- products */

/* The measured points that a question is about: products of rows of a width, K whole or in segments. */
struct points { uint32_t type, columns, segment; bool prompt, cut; };

/* The narrowest or (wide) the widest rows that were measured whole. */
static uint32_t columns_of(const Muster__NodeReport *r, uint32_t type, bool prompt, bool wide)
{
    uint32_t found = 0;
    for (size_t i = 0; i < r->n_rates; i++) {
        const Muster__Rate *x = r->rates[i];
        if (x->type == type && (x->prompt != 0) == prompt && x->segment == 0 &&
            (found == 0 || (wide ? x->columns > found : x->columns < found)))
            found = x->columns;
    }
    return found;
}

/* Seconds a byte at this many rows, from the measured ones: straight lines between them, in proportion
 * beyond the last. 0: nothing was measured. */
static double rate_at(const Muster__NodeReport *r, struct points *p, double rows)
{
    const Muster__Rate *low = NULL, *high = NULL;
    for (size_t i = 0; i < r->n_rates; i++) {
        const Muster__Rate *x = r->rates[i];
        if (x->type != p->type || (x->prompt != 0) != p->prompt || (x->segment > 0) != p->cut ||
            x->columns != p->columns || !(x->s_per_byte > 0) || x->rows == 0)
            continue;
        p->segment = x->segment;
        if (x->rows <= rows)
            low = x;
        else if (high == NULL)
            high = x;
    }
    if (low == NULL)
        return high != NULL ? high->s_per_byte : 0;
    if (high == NULL)
        return low->s_per_byte * rows / low->rows;
    double share = (rows - low->rows) / ((double)high->rows - low->rows);
    return low->s_per_byte + share * (high->s_per_byte - low->s_per_byte);
}

/* What lies beyond the last measured number of rows are more rows at a time in the caches. */
enum { ROWS_MEASURED = 256 };

/* Ending a sum costs the same for each, of all of K or of a segment: the shorter, the more it weighs. Rows
 * too wide for the cache cost more, up to twice the width of those that fit. */
static double measured_rate(const Muster__NodeReport *r, const struct plan_part *p, bool prompt, double rows)
{
    struct points at = {.type = p->type, .prompt = prompt, .columns = columns_of(r, p->type, prompt, false)};
    double whole = rate_at(r, &at, rows), rate = whole;
    struct points cut = at, wide = at;
    cut.cut = true;
    wide.columns = columns_of(r, p->type, prompt, true);
    double apart = rate_at(r, &cut, rows), length = p->segment > 0 ? p->segment : p->columns;
    if (apart > whole && length > 0 && at.columns > cut.segment)
        rate += (apart - whole) * (1 / length - 1.0 / at.columns) / (1.0 / cut.segment - 1.0 / at.columns);
    double more = wide.columns > at.columns ? rate_at(r, &wide, rows) - whole : 0;
    if (more > 0) {
        double width = p->columns * (rows > ROWS_MEASURED ? rows / ROWS_MEASURED : 1);
        double share = (width - at.columns) / ((double)wide.columns - at.columns);
        rate += more * (share < 0 ? 0 : share > 1 ? 1 : share);
    }
    return rate;
}

/* By which share of its time a product's slower rank of two is later than usual, where that was measured. */
static double late_share(const Muster__NodeReport *r, uint32_t type, bool prompt, double rows)
{
    const Muster__Rate *found = NULL;
    uint32_t columns = columns_of(r, type, prompt, false);
    for (size_t i = 0; i < r->n_rates; i++) {
        const Muster__Rate *x = r->rates[i];
        if (x->type == type && (x->prompt != 0) == prompt && x->segment == 0 && x->columns == columns &&
            x->s_per_byte > 0 && (found == NULL || x->rows <= rows))
            found = x;
    }
    return found != NULL && found->late_s_per_byte > 0 ? found->late_s_per_byte / found->s_per_byte : 0;
}

/* How much later the slowest of n is than that of two: as for numbers that are spread normally. */
static double late_of(int n) { return n < 2 ? 0 : 1 + 1.1 * log(n / 2.0); }

/* Seconds for `rows` rows times the part's matrices, of which `fraction` is touched. */
static double product_s(const Muster__NodeReport *r, const struct plan_part *p, bool prompt, double rows,
                        double fraction)
{
    double rate = measured_rate(r, p, prompt, rows);
    if (rate > 0)
        return (double)p->bytes * fraction * rate;
    double read = (double)p->bytes / (plancost_bandwidth(r) * READ_SHARE);
    double plain = p->weights > 0 && (double)p->bytes / p->weights >= 4;
    double multiply = 2 * p->weights * rows / (plancost_flops(r) * (plain ? 1 : TYPED_FLOPS));
    return fraction * (read > multiply ? read : multiply);
}

/* How much of the experts `rows` rows touch when each picks its own: a fraction of them. */
static double touched(const Muster__ModelSpec *m, double rows)
{
    double pick = (double)m->n_experts_used / (m->n_experts > 0 ? m->n_experts : 1);
    return pick >= 1 ? 1 : 1 - exp(rows * log1p(-pick));
}

/* Of a share, `tp` of which wait for each other at every sum. */
static double products_us(const struct plan_share *s, const struct plan_request *q, int tp, bool prompt,
                          int rows, int sampled)
{
    const Muster__NodeReport *r = q->reports[s->rank];
    const Muster__ModelSpec *m = q->spec;
    double all = 0;
    for (int i = 0; i < s->n_parts; i++) {
        const struct plan_part *p = &s->part[i];
        double some = 1, many = p->head ? sampled : rows;
        if (p->expert && m->n_experts > 0) {
            some = touched(m, rows);
            many = rows * (double)m->n_experts_used / (m->n_experts * some);
        }
        if (many > 0)
            all += product_s(r, p, prompt, many, some) *
                   (1 + late_of(tp) * late_share(r, p->type, prompt, many));
    }
    return all * 1e6;
}

/* --- the rest of a layer */

/* Numbers of keys and values that one row's heads read in the share's layers, `depth` keys back. */
static double attended(const struct plan_share *s, const struct plan_request *q, int depth)
{
    const Muster__ModelSpec *m = q->spec;
    double heads = s->heads.end - s->heads.begin, all = 0;
    for (int l = s->layer_begin; l < s->layer_end; l++) {
        int window = l < (int)m->n_layer ? m->layer[l]->window : 0;
        all += heads * (m->head_dim + m->value_dim) * (window > 0 && window < depth ? window : depth);
    }
    return all;
}

/* Activations of one row that are passed over in a layer: norms and sums as wide as the model, heads,
 * the feed-forward's gate. Counts passes, not numbers. */
static double passes(const struct plan_share *s, const struct plan_request *q)
{
    const Muster__ModelSpec *m = q->spec;
    double heads = s->heads.end - s->heads.begin, kv = s->kv_heads.end - s->kv_heads.begin;
    double used = m->n_experts_used > 0 ? m->n_experts_used : 1;
    return 8.0 * m->dim + 2 * (heads + kv) * m->head_dim + 4 * (s->ffn.end - s->ffn.begin) * used;
}

/* Seconds to make the inputs of a layer's products ready: 16 rows go to one thread together. */
static double prepare_s(const struct plan_share *s, const struct plan_request *q, const Muster__LayerCost *c,
                        bool prompt, int rows, double threads)
{
    const Muster__ModelSpec *m = q->spec;
    double one = c == NULL ? 0 : prompt ? c->prepare_prompt_s : c->prepare_s;
    double used = m->n_experts_used > 0 ? m->n_experts_used : 1;
    double busy = ceil(ceil(rows / 16.0) / threads) * 16;
    double numbers = 2.0 * m->dim + (s->heads.end - s->heads.begin) * m->value_dim +
                     (s->ffn.end - s->ffn.begin) * used;
    return one * numbers * (busy < rows ? busy : rows);
}

/* Seconds that generated rows of different sequences take to find their keys. */
static double calls_s(const struct plan_share *s, const Muster__LayerCost *c, bool prompt, int rows,
                      double threads)
{
    double kv = s->kv_heads.end - s->kv_heads.begin;
    return c == NULL || prompt ? 0 : c->call_s * ceil(rows * kv / threads);
}

static double beside_us(const struct plan_share *s, const struct plan_request *q, bool prompt, int rows,
                        int depth)
{
    const Muster__NodeReport *r = q->reports[s->rank];
    const Muster__LayerCost *c = r->layer;
    double threads = threads_of(r), layers = s->layer_end - s->layer_begin;
    double fixed = c != NULL && c->fixed_us > 0 ? c->fixed_us : FIXED_US;
    double number = c != NULL && c->number_s > 0 ? c->number_s : NUMBER_S;
    double attend = c == NULL ? 0 : prompt ? c->attend_prompt_s : c->attend_s;
    attend = attend > 0 ? attend : ATTEND_S / threads;
    double turns = ceil(rows / threads);        /* a row's small kernels run on one thread */
    double each = turns * passes(s, q) * number + calls_s(s, c, prompt, rows, threads) +
                  prepare_s(s, q, c, prompt, rows, threads);
    return layers * fixed + (layers * each + rows * attended(s, q, depth) * attend) * 1e6;
}

/* --- between ranks */

/* Up to here a sum's pieces go to everybody at once; above they are scattered, added and gathered: the
 * border of the workers' reduce.c. */
static const double DIRECT_BYTES = 128 * 1024;

/* Bytes that a rank sends for a sum of `bytes`. */
static double sum_bytes(const struct plan *p, double bytes)
{
    double times = p->tp - 1;
    return bytes <= DIRECT_BYTES ? bytes * times : 2 * bytes * times / p->tp;
}

/* One sum over the stage's ranks; the slowest pair counts. */
static double sum_us(const struct plan *p, const struct plan_request *q, int first, double bytes)
{
    double worst = 0;
    for (int i = 0; i < p->tp; i++)
        for (int j = 0; j < p->tp; j++) {
            int a = p->share[first + i].rank, b = p->share[first + j].rank;
            if (i == j)
                continue;
            double one = plancost_hop(q, a, b, 0), all = plancost_hop(q, a, b, sum_bytes(p, bytes)) - one;
            double us = (bytes <= DIRECT_BYTES ? 1 : 2) * one + all;
            worst = us > worst ? us : worst;
        }
    return worst;
}

struct phase { int rows, sampled, depth; bool prompt; };

/* A stage's time for a step: its slowest rank, then the sums. *sums (may be NULL) gets those alone. */
static double stage_us(const struct plan *p, const struct plan_request *q, int stage, struct phase f,
                       double *sums)
{
    double worst = 0, between = 0;
    int first = stage * p->tp, layers = p->share[first].layer_end - p->share[first].layer_begin;
    for (int i = 0; i < p->tp; i++) {
        const struct plan_share *s = &p->share[first + i];
        double us = products_us(s, q, p->tp, f.prompt, f.rows, f.sampled) +
                    beside_us(s, q, f.prompt, f.rows, f.depth);
        worst = us > worst ? us : worst;
    }
    if (p->tp > 1)
        between = 2 * layers * sum_us(p, q, first, 4.0 * q->spec->dim * f.rows);
    if (sums != NULL)
        *sums += between;
    return worst + between;
}

static double step_us(const struct plan *p, const struct plan_request *q)
{
    const Muster__LayerCost *c = q->reports[p->share[0].rank]->layer;
    return c != NULL && c->step_us > 0 ? c->step_us : STEP_US;
}

/* Activations of `rows` rows from stage to stage, and the token back. */
static double hops_us(const struct plan *p, const struct plan_request *q, int rows)
{
    double all = 0;
    for (int g = 0; g < p->pp && p->pp > 1; g++) {
        int a = p->share[g * p->tp].rank, b = p->share[(g + 1) % p->pp * p->tp].rank;
        all += plancost_hop(q, a, b, g + 1 < p->pp ? 4.0 * q->spec->dim * rows : 64);
    }
    return all;
}

/* --- whole */

static void decode_speed(const struct plan *p, const struct plan_request *q, struct plan_speed *v)
{
    int busy = q->slots / p->pp > 0 ? q->slots / p->pp : 1;     /* rows of a micro-batch */
    int depth = q->depth > 0 ? q->depth : q->context / 2;
    double slowest = 0, whole = step_us(p, q) + hops_us(p, q, busy), sums = hops_us(p, q, 1);
    v->token_us = step_us(p, q) + sums;
    for (int g = 0; g < p->pp; g++) {
        double us = stage_us(p, q, g, (struct phase){busy, busy, depth, false}, NULL);
        slowest = us > slowest ? us : slowest;
        whole += us;
        v->token_us += stage_us(p, q, g, (struct phase){1, 1, depth, false}, &sums);
    }
    double turn = slowest * p->pp > whole ? slowest * p->pp : whole;
    int moving = q->slots < p->pp ? q->slots : p->pp;
    v->decode_tps = p->dp * busy * moving / turn * 1e6;
    v->sum_share = sums / v->token_us;
}

enum { PIPELINE_CHUNK_MIN = 64 };       /* the scheduler's */

/* A prompt goes through the stages in chunks, one behind the other. */
static void prefill_speed(const struct plan *p, const struct plan_request *q, struct plan_speed *v)
{
    int prompt = q->prompt > 0 ? q->prompt : q->max_rows;
    int even = (prompt + p->pp - 1) / p->pp;    /* as the scheduler cuts it, so that all stages have some */
    even = even > PIPELINE_CHUNK_MIN || p->pp == 1 ? even : PIPELINE_CHUNK_MIN;
    int chunk = even < q->max_rows ? even : q->max_rows, chunks = (prompt + chunk - 1) / chunk;
    double slowest = 0, whole = step_us(p, q) * chunks + hops_us(p, q, chunk);
    for (int g = 0; g < p->pp; g++) {
        double us = stage_us(p, q, g, (struct phase){chunk, 1, prompt / 2, true}, NULL);
        slowest = us > slowest ? us : slowest;
        whole += us;
    }
    v->prefill_us = whole + slowest * ((double)prompt / chunk - 1);
    v->prefill_tps = p->dp * prompt / v->prefill_us * 1e6;
}

struct plan_speed plancost_speed(const struct plan *p, const struct plan_request *q)
{
    struct plan_speed v = {0};
    int layers = 0;
    decode_speed(p, q, &v);
    prefill_speed(p, q, &v);
    for (int g = 0; g < p->pp; g++) {
        int n = p->share[g * p->tp].layer_end - p->share[g * p->tp].layer_begin;
        layers = n > layers ? n : layers;
    }
    v.sum_bytes = p->tp > 1 ? (uint64_t)(2 * layers * sum_bytes(p, 4.0 * q->spec->dim)) : 0;
    v.hop_bytes = p->pp > 1 ? 4ull * q->spec->dim : 0;
    v.link_bytes = v.sum_bytes + v.hop_bytes;
    return v;
}
