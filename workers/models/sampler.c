#include "workers/models/sampler.h"

#include "proto/philox.h"
#include "workers/kernels/vmath.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 1024 };      /* tokens of one partial sum of the unfiltered draw */

/* Tokens still in the running, in ascending id order. */
struct candidates {
    int n;
    int32_t *id;            /* [vocab] */
    double *logit;          /* [vocab], over temperature */
    double *weight;         /* [vocab] e^(logit - largest) */
    double total;           /* of the weights */
};

struct ranked { double key; int index; };

struct scratch {
    struct candidates c;
    struct ranked *ranked;  /* [vocab] */
    double *dense;          /* [vocab] */
    float *heap;            /* [vocab] */
    int32_t *count;         /* [vocab] */
    int64_t *block;         /* [vocab / BLOCK + 1] */
};

static void *place(uint8_t *base, size_t *at, size_t bytes)
{
    uint8_t *p = base != NULL ? base + *at : NULL;
    *at += (bytes + 63) / 64 * 64;
    return p;
}

/* Places the arrays in memory (NULL: only counts) and returns their size. */
static size_t scratch_layout(struct scratch *s, void *memory, int vocab)
{
    size_t n = (size_t)vocab, at = 0;
    s->c.id = place(memory, &at, n * sizeof *s->c.id);
    s->c.logit = place(memory, &at, n * sizeof *s->c.logit);
    s->c.weight = place(memory, &at, n * sizeof *s->c.weight);
    s->ranked = place(memory, &at, n * sizeof *s->ranked);
    s->dense = place(memory, &at, n * sizeof *s->dense);
    s->heap = place(memory, &at, n * sizeof *s->heap);
    s->count = place(memory, &at, n * sizeof *s->count);
    s->block = place(memory, &at, (n / BLOCK + 1) * sizeof *s->block);
    return at;
}

size_t sampler_scratch_bytes(int vocab)
{
    struct scratch s;
    return scratch_layout(&s, NULL, vocab);
}

static int check_number(double x, double low, double high, const char *name, struct err *err)
{
    if (x >= low && x <= high)
        return ERR_OK;
    return err_set(err, ERR_INVAL, "%s is %g: it must be from %g to %g", name, x, low, high);
}

int sampler_params_check(const struct sampler_params *p, int vocab, struct err *err)
{
    TRY(check_number(p->temperature, 0, 1000, "temperature", err));
    if (!(p->top_p > 0))
        return err_set(err, ERR_INVAL, "top_p is %g: it must be above 0, at most 1", p->top_p);
    TRY(check_number(p->top_p, 0, 1, "top_p", err));
    TRY(check_number(p->min_p, 0, 1, "min_p", err));
    if (!(p->typical_p > 0))
        return err_set(err, ERR_INVAL, "typical_p is %g: it must be above 0, at most 1", p->typical_p);
    TRY(check_number(p->typical_p, 0, 1, "typical_p", err));
    TRY(check_number(p->repeat_penalty, 1e-3, 1000, "repeat_penalty", err));
    TRY(check_number(p->presence_penalty, -1000, 1000, "presence_penalty", err));
    TRY(check_number(p->frequency_penalty, -1000, 1000, "frequency_penalty", err));
    TRY(check_number(p->top_k, 0, INT32_MAX, "top_k", err));
    TRY(check_number(p->no_repeat_ngram, 0, 1000, "no_repeat_ngram", err));
    TRY(check_number(p->n_logprobs, 0, SAMPLER_LOGPROBS_MAX, "n_logprobs", err));
    for (int i = 0; i < p->n_bias; i++) {
        if (p->bias_token[i] >= (uint32_t)vocab)
            return err_set(err, ERR_INVAL, "logit_bias: token %u is outside the vocabulary of %d",
                           p->bias_token[i], vocab);
        if (isnan(p->bias_value[i]))
            return err_set(err, ERR_INVAL, "logit_bias: token %u has NaN", p->bias_token[i]);
    }
    return ERR_OK;
}

/* --- what looks at single tokens */

static void penalise_repeats(const struct sampler_params *p, float *logits, int32_t *count,
                             const int32_t *history, int n_history)
{
    for (int i = 0; i < n_history; i++) {
        float *l = &logits[history[i]];
        if (count[history[i]]++ == 0)       /* once for each token */
            *l = (float)(*l < 0 ? *l * p->repeat_penalty : *l / p->repeat_penalty);
    }
}

static void penalise_counts(const struct sampler_params *p, float *logits, int32_t *count,
                            const int32_t *history, int n_history, int n_prompt)
{
    for (int i = n_prompt; i < n_history; i++)
        count[history[i]]++;
    for (int i = n_prompt; i < n_history; i++) {
        int32_t n = count[history[i]];
        count[history[i]] = 0;
        if (n > 0)
            logits[history[i]] = (float)(logits[history[i]] -
                                         (p->presence_penalty + p->frequency_penalty * n));
    }
}

/* Bans each token that would end an n-gram that the history already holds. */
static void ban_repeats(int n, float *logits, const int32_t *history, int n_history)
{
    const int32_t *tail = history + n_history - (n - 1);
    for (int i = 0; i + n <= n_history; i++)
        if (memcmp(history + i, tail, sizeof *tail * (size_t)(n - 1)) == 0)
            logits[history[i + n - 1]] = -INFINITY;
}

static bool has_counts(const struct sampler_params *p)
{
    return p->presence_penalty != 0 || p->frequency_penalty != 0;
}

static void adjust(const struct sampler_params *p, float *logits, int vocab, const int32_t *history,
                   int n_history, int n_prompt, int32_t *count)
{
    for (int i = 0; i < p->n_bias; i++)
        logits[p->bias_token[i]] += p->bias_value[i];
    if (has_counts(p) || p->repeat_penalty != 1)
        memset(count, 0, sizeof *count * (size_t)vocab);
    if (has_counts(p))
        penalise_counts(p, logits, count, history, n_history, n_prompt);
    if (p->repeat_penalty != 1)
        penalise_repeats(p, logits, count, history, n_history);
    if (p->no_repeat_ngram > 0 && n_history >= p->no_repeat_ngram)
        ban_repeats(p->no_repeat_ngram, logits, history, n_history);
}

/* --- filters */

/* The k-th largest of x [n], k <= n: the root of a heap of the k largest, smallest on top. */
static float kth_largest(float *heap, int k, const float *x, int n)
{
    int size = 0;
    for (int i = 0; i < n; i++) {
        float v = x[i];
        if (size == k && !(v > heap[0]))
            continue;
        int at = size;
        if (size < k) {
            for (size++; at > 0 && heap[(at - 1) / 2] > v; at = (at - 1) / 2)
                heap[at] = heap[(at - 1) / 2];
            heap[at] = v;
            continue;
        }
        for (at = 0;;) {
            int child = 2 * at + 1;
            if (child >= k)
                break;
            if (child + 1 < k && heap[child + 1] < heap[child])
                child++;
            if (!(heap[child] < v))
                break;
            heap[at] = heap[child];
            at = child;
        }
        heap[at] = v;
    }
    return heap[0];
}

/* Candidates of logits [n] that top-k keeps; ids[i], or i itself where ids is NULL. */
static void gather(const struct sampler_params *p, struct scratch *s, const float *logits, int n,
                   const uint32_t *ids)
{
    struct candidates *c = &s->c;
    float least = -INFINITY;
    if (p->top_k > 0 && p->top_k < n)
        least = kth_largest(s->heap, p->top_k, logits, n);
    c->n = 0;
    for (int i = 0; i < n; i++)
        if (logits[i] >= least && logits[i] != -INFINITY) {
            c->id[c->n] = ids != NULL ? (int32_t)ids[i] : i;
            c->logit[c->n++] = logits[i] / p->temperature;
        }
}

static void weigh(struct candidates *c, const struct kernels *k)
{
    double most = -INFINITY;
    for (int i = 0; i < c->n; i++)
        most = c->logit[i] > most ? c->logit[i] : most;
    for (int i = 0; i < c->n; i++)
        c->weight[i] = c->logit[i] - most;
    k->exp_f64(c->weight, c->weight, c->n);
    c->total = 0;
    for (int i = 0; i < c->n; i++)
        c->total += c->weight[i];
}

/* Drops candidates whose weight was set below 0. */
static void squeeze(struct candidates *c)
{
    int n = 0;
    c->total = 0;
    for (int i = 0; i < c->n; i++)
        if (c->weight[i] >= 0) {
            c->id[n] = c->id[i];
            c->logit[n] = c->logit[i];
            c->total += c->weight[n] = c->weight[i];
            n++;
        }
    c->n = n;
}

static int by_key(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return x->index - y->index;
}

/* Drops the least likely while their sum is at most (1 - p) of all. Those below (1 - p) / n of all are
 * surely among them, so only the others need an order. */
static void keep_top_p(struct scratch *s, double p)
{
    struct candidates *c = &s->c;
    double allowed = (1 - p) * c->total, sure = allowed / c->n, sum = 0;
    int n = 0;
    for (int i = 0; i < c->n; i++) {
        if (c->weight[i] < sure) {
            sum += c->weight[i];
            c->weight[i] = -1;
        } else {
            s->ranked[n++] = (struct ranked){c->weight[i], i};
        }
    }
    qsort(s->ranked, (size_t)n, sizeof *s->ranked, by_key);
    for (int i = 0; i < n - 1; i++) {
        sum += s->ranked[i].key;
        if (!(sum <= allowed))
            break;
        c->weight[s->ranked[i].index] = -1;
    }
    squeeze(c);
}

static void keep_min_p(struct candidates *c, double p)
{
    double most = 0;
    for (int i = 0; i < c->n; i++)
        most = c->weight[i] > most ? c->weight[i] : most;
    for (int i = 0; i < c->n; i++)
        if (c->weight[i] / c->total < p * (most / c->total))
            c->weight[i] = -1;
    squeeze(c);
}

/* Keeps tokens in order of |-log p - entropy| until their mass reaches `mass`, and ties with the last. */
static void keep_typical(struct scratch *s, double mass)
{
    struct candidates *c = &s->c;
    double entropy = 0, log_total = vmath_log(c->total), most = -INFINITY;
    for (int i = 0; i < c->n; i++)
        most = c->logit[i] > most ? c->logit[i] : most;
    for (int i = 0; i < c->n; i++) {
        double surprise = log_total - (c->logit[i] - most);
        entropy += c->weight[i] / c->total * surprise;
        s->ranked[i] = (struct ranked){surprise, i};
    }
    for (int i = 0; i < c->n; i++)
        s->ranked[i].key = fabs(s->ranked[i].key - entropy);
    qsort(s->ranked, (size_t)c->n, sizeof *s->ranked, by_key);
    double sum = 0;
    int last = 0;
    for (; last < c->n - 1; last++) {
        sum += c->weight[s->ranked[last].index] / c->total;
        if (!(sum < mass))
            break;
    }
    double border = s->ranked[last].key;
    for (int i = last + 1; i < c->n; i++)
        if (s->ranked[i].key > border)
            c->weight[s->ranked[i].index] = -1;
    squeeze(c);
}

static void filter(const struct sampler_params *p, const struct kernels *k, struct scratch *s)
{
    weigh(&s->c, k);
    if (p->top_p < 1 && s->c.n > 1)
        keep_top_p(s, p->top_p);
    if (p->min_p > 0 && s->c.n > 1)
        keep_min_p(&s->c, p->min_p);
    if (p->typical_p < 1 && s->c.n > 1)
        keep_typical(s, p->typical_p);
}

/* --- draws */

static int draw_weighted(const struct candidates *c, double uniform)
{
    double target = uniform * c->total, sum = 0;
    for (int i = 0; i < c->n; i++) {
        sum += c->weight[i];
        if (sum > target)
            return c->id[i];
    }
    return c->id[c->n - 1];
}

/* Without filters: whole-number weights, whose partial sums find the token without a pass over all. */
static int draw_plain(const struct sampler_params *p, const struct kernels *k, const float *logits,
                      int vocab, uint32_t uniform24, int64_t *block)
{
    int best = (int)k->argmax(logits, vocab);
    float most = logits[best], inverse = (float)(1.0 / p->temperature);
    int64_t total = 0;
    for (int b = 0; b * BLOCK < vocab; b++) {
        int n = vocab - b * BLOCK < BLOCK ? vocab - b * BLOCK : BLOCK;
        total += block[b] = k->exp_sum(logits + b * BLOCK, most, inverse, n);
    }
    int64_t target = (int64_t)(((__int128)total * uniform24) >> 24), sum = 0;
    int i = 0;
    for (; i + BLOCK < vocab && sum + block[i / BLOCK] <= target; i += BLOCK)
        sum += block[i / BLOCK];
    for (; i < vocab; i++) {
        sum += k->exp_sum(logits + i, most, inverse, 1);
        if (sum > target)
            return i;
    }
    return best;        /* nothing has weight: no finite logit */
}

static bool has_filters(const struct sampler_params *p)
{
    return p->top_k > 0 || p->top_p < 1 || p->min_p > 0 || p->typical_p < 1;
}

static uint32_t uniform24_at(const struct sampler_params *p, int position)
{
    return (uint32_t)(philox_uniform(p->seed, 0, (uint32_t)position, PHILOX_SAMPLE) * 0x1p24f);
}

static int draw_filtered(const struct sampler_params *p, const struct kernels *k, struct scratch *s,
                         int position, int fallback)
{
    if (s->c.n == 0)
        return fallback;        /* no finite logit */
    filter(p, k, s);
    return draw_weighted(&s->c, uniform24_at(p, position) * 0x1p-24);
}

/* Log probabilities under softmax of the raw logits; the drawn one is set when it is known. */
static void rank_raw(const struct sampler_params *p, const struct kernels *k, const float *logits,
                     int vocab, struct scratch *s, struct sampler_logprobs *lp, float *offset)
{
    float most = logits[k->argmax(logits, vocab)];
    int64_t total = 0;
    for (int i = 0; i < vocab; i += BLOCK)
        total += k->exp_sum(logits + i, most, 1.0f, vocab - i < BLOCK ? vocab - i : BLOCK);
    *offset = most + (float)vmath_log((double)total * 0x1p-40);
    int want = p->n_logprobs < vocab ? p->n_logprobs : vocab, n = 0;
    float least = kth_largest(s->heap, want, logits, vocab);
    for (int i = 0; i < vocab; i++)
        if (logits[i] >= least)
            s->ranked[n++] = (struct ranked){-(double)logits[i], i};
    qsort(s->ranked, (size_t)n, sizeof *s->ranked, by_key);
    lp->n_top = n < want ? n : want;
    for (int i = 0; i < lp->n_top; i++) {
        lp->top_id[i] = (uint32_t)s->ranked[i].index;
        lp->top[i] = logits[s->ranked[i].index] - *offset;
    }
}

int sampler_draw(const struct sampler_params *p, const struct kernels *k, float *logits, int vocab,
                 const int32_t *history, int n_history, int n_prompt, int position, void *scratch,
                 struct sampler_logprobs *lp)
{
    struct scratch s;
    float offset = 0;
    int id;
    scratch_layout(&s, scratch, vocab);
    if (p->n_logprobs > 0) {
        rank_raw(p, k, logits, vocab, &s, lp, &offset);
        memcpy(s.dense, logits, sizeof *logits * (size_t)vocab);    /* the raw ones */
    }
    adjust(p, logits, vocab, history, n_history, n_prompt, s.count);
    if (p->temperature == 0) {
        id = (int)k->argmax(logits, vocab);
    } else if (!has_filters(p)) {
        id = draw_plain(p, k, logits, vocab, uniform24_at(p, position), s.block);
    } else {
        gather(p, &s, logits, vocab, NULL);
        id = draw_filtered(p, k, &s, position, 0);
    }
    if (p->n_logprobs > 0)
        lp->drawn = ((float *)s.dense)[id] - offset;
    return id;
}

const double *sampler_probabilities(const struct sampler_params *p, const struct kernels *k,
                                    float *logits, int vocab, const int32_t *history, int n_history,
                                    int n_prompt, void *scratch)
{
    struct scratch s;
    scratch_layout(&s, scratch, vocab);
    adjust(p, logits, vocab, history, n_history, n_prompt, s.count);
    memset(s.dense, 0, sizeof *s.dense * (size_t)vocab);
    if (p->temperature == 0) {
        s.dense[k->argmax(logits, vocab)] = 1;
        return s.dense;
    }
    gather(p, &s, logits, vocab, NULL);
    filter(p, k, &s);
    for (int i = 0; i < s.c.n; i++)
        s.dense[s.c.id[i]] = s.c.weight[i] / s.c.total;
    return s.dense;
}

/* --- slices */

bool sampler_needs_few(const struct sampler_params *p)
{
    bool small = p->temperature == 0 || (p->top_k > 0 && p->top_k <= SAMPLER_FEW_MAX);
    return small && p->n_bias == 0 && !has_counts(p) && p->repeat_penalty == 1 &&
           p->no_repeat_ngram == 0 && p->n_logprobs == 0;
}

int sampler_few(const struct sampler_params *p, const struct kernels *k, const float *slice, int n,
                int first_id, uint32_t *ids, float *values, void *scratch)
{
    struct scratch s;
    if (n == 0)
        return 0;
    if (p->temperature == 0) {
        int best = (int)k->argmax(slice, n);
        ids[0] = (uint32_t)(first_id + best);
        values[0] = slice[best];
        return 1;
    }
    scratch_layout(&s, scratch, n);
    float least = p->top_k < n ? kth_largest(s.heap, p->top_k, slice, n) : -INFINITY;
    int kept = 0;
    for (int i = 0; i < n; i++) {
        if (!(slice[i] >= least))
            continue;
        if (kept == SAMPLER_FEW_ROOM)
            return -1;
        ids[kept] = (uint32_t)(first_id + i);
        values[kept++] = slice[i];
    }
    return kept;
}

int sampler_draw_few(const struct sampler_params *p, const struct kernels *k, const uint32_t *ids,
                     const float *values, int n, int position, void *scratch)
{
    struct scratch s;
    if (n == 0)
        return 0;
    if (p->temperature == 0)
        return (int)ids[k->argmax(values, n)];
    scratch_layout(&s, scratch, n);
    gather(p, &s, values, n, ids);
    return draw_filtered(p, k, &s, position, 0);
}
