/* decoderscore.c - how likely given tokens were, without whole rows of logits.
 * Why:    a text of thousands of tokens over a vocabulary of a hundred thousand is gigabytes of logits;
 *         what is asked of them is one number a row.
 * How:    logits are made for a few rows at a time; of each row every rank keeps, for each of its leaves
 *         of the vocabulary (the cut of decoder_vocab_range, the same for all layouts), the largest logit
 *         and the exact sum of exp(logit - largest). The sampler adds the leaves up in their order. */
#include "workers/models/decoderstate.h"

#include <math.h>
#include <string.h>

enum { BLOCK_ROWS = 64,         /* whose logits are there at a time: enough for the kernels' best speed */
       LEAF_WORDS = 3 };        /* largest logit, sum (low, high half) */

static int own_leaves(const struct decoder *d, int i)
{
    return d->m->peer_segments[i].end - d->m->peer_segments[i].begin;
}

/* int32 of one row: the target's logit (of its owner), then the leaves. */
static int64_t row_words(int leaves) { return 1 + (int64_t)LEAF_WORDS * leaves; }

int decoderscore_block(const struct decoder *d)
{
    return d->rows.n_scores < BLOCK_ROWS ? d->rows.n_scores : BLOCK_ROWS;
}

size_t decoderscore_bytes(const struct decoder *d, int leaves)
{
    return (size_t)d->opt.max_rows * (size_t)row_words(leaves) * sizeof(int32_t);
}

/* --- on every rank of the last stage */

struct leaf_job { struct decoder *d; int first, n; };

/* Vocabulary of a leaf. */
static struct split_range leaf_vocab(const struct decoder *d, int leaf)
{
    struct mesh one = {.leaves = d->m->leaves, .peer_segments = {{leaf, leaf + 1}}};
    return decoder_vocab_range(d->c->vocab, &one, 0);
}

static void sum_leaf(const struct decoder *d, const float *row, int leaf, int32_t *out)
{
    const struct kernels *k = d->ops.kernels;
    struct split_range v = leaf_vocab(d, leaf);
    const float *x = row + (v.begin - d->w->vocab_begin);
    int64_t n = v.end - v.begin, sum = 0;
    float most = -INFINITY;
    if (n > 0) {
        most = x[k->argmax(x, n)];
        sum = k->exp_sum(x, most, 1.0f, n);
    }
    memcpy(out, &most, sizeof most);
    memcpy(out + 1, &sum, sizeof sum);
}

static void sum_leaves(void *ctx, int thread, int n_threads)
{
    const struct leaf_job *j = ctx;
    struct decoder *d = j->d;
    int leaves = own_leaves(d, d->m->tp_index);
    int64_t begin, end;
    team_share((int64_t)j->n * leaves, 1, thread, n_threads, &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        int row = (int)(i / leaves), leaf = (int)(i % leaves);
        int32_t *out = d->score_part + (j->first + row) * row_words(leaves);
        sum_leaf(d, d->logits + (int64_t)row * d->w->vocab_local, d->m->segments.begin + leaf,
                 out + 1 + LEAF_WORDS * leaf);
    }
}

static void take_targets(struct decoder *d, int first, int n)
{
    int64_t words = row_words(own_leaves(d, d->m->tp_index));
    for (int i = 0; i < n; i++) {
        int at = d->rows.score[first + i].target - d->w->vocab_begin;
        float x = 0;
        if (at >= 0 && at < d->w->vocab_local)
            x = d->logits[(int64_t)i * d->w->vocab_local + at];
        memcpy(d->score_part + (first + i) * words, &x, sizeof x);
    }
}

void decoderscore_local(struct decoder *d)
{
    const struct steprows *s = &d->rows;
    int wanted[BLOCK_ROWS];
    for (int first = 0, n; first < s->n_scores; first += n) {
        int n_prompt = 0;
        n = s->n_scores - first < BLOCK_ROWS ? s->n_scores - first : BLOCK_ROWS;
        for (int i = 0; i < n; i++) {
            wanted[i] = s->score[first + i].row;
            n_prompt += wanted[i] < s->n_prompt;
        }
        decoderlayer_logits(d, wanted, n, n_prompt);
        take_targets(d, first, n);
        struct leaf_job job = {.d = d, .first = first, .n = n};
        ops_run(&d->ops, sum_leaves, &job, (int64_t)n * d->w->vocab_local);
    }
}

/* --- from all of them to the sampler */

static int send_part(struct decoder *d, struct err *err)
{
    int64_t n = d->rows.n_scores * row_words(own_leaves(d, d->m->tp_index));
    struct wire_tensor t = decodersample_header(d, WIRE_SCORES, WIRE_I32, n);
    void *data;
    size_t bytes = wire_tensor_begin(d->score_msg, d->comm->epoch, &t, &data);
    memcpy(data, d->score_part, t.data_bytes);
    return comm_send(d->comm, d->m->tp_ranks[0], COMM_TP, d->score_msg, bytes, err);
}

/* Puts tp index i's part where its leaves belong among all. */
static void spread(struct decoder *d, int i, const uint8_t *part)
{
    int leaves = own_leaves(d, i), first = d->m->peer_segments[i].begin;
    struct split_range v = decoder_vocab_range(d->c->vocab, d->m, i);
    size_t words = (size_t)row_words(leaves), word = sizeof(int32_t);
    for (int r = 0; r < d->rows.n_scores; r++, part += words * word) {
        int32_t *all = d->score_all + r * row_words(d->m->leaves);
        int target = d->rows.score[r].target;
        memcpy(all + 1 + LEAF_WORDS * first, part + word, (words - 1) * word);
        if (target >= v.begin && target < v.end)
            memcpy(all, part, word);
    }
}

/* Log probability from all leaves of one row, in their order. */
static float finish_row(const struct decoder *d, const int32_t *row)
{
    const struct kernels *k = d->ops.kernels;
    double part[SPLIT_SEGMENTS_MAX], sum = 0;
    float target, largest[SPLIT_SEGMENTS_MAX], most = -INFINITY;
    int n = d->m->leaves;
    memcpy(&target, row, sizeof target);
    for (int i = 0; i < n; i++) {
        memcpy(&largest[i], row + 1 + LEAF_WORDS * i, sizeof largest[i]);
        most = largest[i] > most ? largest[i] : most;
    }
    for (int i = 0; i < n; i++)
        part[i] = (double)largest[i] - (double)most;
    k->exp_f64(part, part, n);
    for (int i = 0; i < n; i++) {
        int64_t units;
        memcpy(&units, row + 2 + LEAF_WORDS * i, sizeof units);
        sum += units > 0 ? (double)units * 0x1p-40 * part[i] : 0;
    }
    float s = (float)sum, log_sum;
    k->log(&log_sum, &s, 1);
    return target - most - log_sum;
}

static void list_results(struct decoder *d)
{
    for (int i = 0; i < d->rows.n_runs; i++) {
        const struct steprow_run *run = &d->rows.run[i];
        if (run->n_scores > 0)
            d->result_scores[d->n_result_scores++] = (struct decoder_scores){
                .slot = run->slot_index, .position = run->position + run->n_rows - run->n_scores,
                .n = run->n_scores, .logprob = d->score + run->score_at};
    }
}

int decoderscore_all(struct decoder *d, struct err *err)
{
    if (!d->is_sampler)
        return send_part(d, err);
    spread(d, 0, (const uint8_t *)d->score_part);
    for (int i = 1; i < d->m->tp; i++) {
        int64_t n = d->rows.n_scores * row_words(own_leaves(d, i));
        struct wire_tensor t;
        TRY(decodersample_receive(d, i, WIRE_SCORES, WIRE_I32, n, d->score_msg, d->score_msg_bytes, &t,
                                  err));
        spread(d, i, t.data);
    }
    for (int r = 0; r < d->rows.n_scores; r++)
        d->score[r] = finish_row(d, d->score_all + r * row_words(d->m->leaves));
    list_results(d);
    return ERR_OK;
}
