/* sampler.h - from logits to a token: penalties, filters, one uniform number.
 * Order:  logit bias; presence and frequency penalty; repetition penalty; no-repeat n-gram;
 *         temperature; top-k; top-p; min-p; typical-p; softmax (Hugging Face's order and rules). Equal
 *         logits at top-k's border are all kept. Temperature 0: the first largest logit, no filters.
 * Bits:   one uniform number, philox(seed, 0, position, PHILOX_SAMPLE), walks the kept tokens in id
 *         order. Without filters the weights are whole numbers of 2^-40, whose sum has no order; with
 *         filters they are doubles added in id order.
 * Slices: a vocabulary cut over ranks need not travel whole where sampler_needs_few() says so.
 * Owner:  scratch is given by the caller: sampler_scratch_bytes(vocab), 64-byte aligned.
 * Ranks:  not collective; runs on one rank. */
#ifndef MUSTER_SAMPLER_H
#define MUSTER_SAMPLER_H

#include "muster.pb-c.h"
#include "proto/err.h"
#include "workers/kernels/kernels.h"

enum {
    SAMPLER_FEW_MAX = 256,      /* largest top-k that is drawn from slices' best */
    SAMPLER_FEW_ROOM = 512,     /* ids that a slice may answer with: ties need more than top-k */
    SAMPLER_LOGPROBS_MAX = 64
};

struct sampler_params {
    double temperature, top_p, min_p, typical_p, repeat_penalty, presence_penalty, frequency_penalty;
    int top_k, no_repeat_ngram, n_logprobs;
    uint64_t seed;
    int n_bias;
    const uint32_t *bias_token;
    const float *bias_value;
};

/* Checks ranges (temperature >= 0, 0 < top_p <= 1 ...) naming the field. */
int sampler_params_check(const struct sampler_params *p, int vocab, struct err *err);

size_t sampler_scratch_bytes(int vocab);

/* The log probability of the drawn token under softmax of the raw logits, and the likeliest n_top. */
struct sampler_logprobs {
    float drawn;
    int n_top;
    uint32_t top_id[SAMPLER_LOGPROBS_MAX];
    float top[SAMPLER_LOGPROBS_MAX];
};

/* The token at `position`. logits [vocab] is changed in place. history [n_history]: all tokens of the
 * sequence, of which the first n_prompt are the prompt. lp is filled when p->n_logprobs > 0. */
int sampler_draw(const struct sampler_params *p, const struct kernels *k, float *logits, int vocab,
                 const int32_t *history, int n_history, int n_prompt, int position, void *scratch,
                 struct sampler_logprobs *lp);

/* probs [vocab], in scratch, after all filters: what sampler_draw draws from. */
const double *sampler_probabilities(const struct sampler_params *p, const struct kernels *k,
                                    float *logits, int vocab, const int32_t *history, int n_history,
                                    int n_prompt, void *scratch);

/* Do the few best logits of each vocabulary slice suffice (greedy or a small top-k, nothing that
 * looks at the history, no logprobs)? */
bool sampler_needs_few(const struct sampler_params *p);

/* The ids (first_id + index, ascending) and logits of a slice [n] that can matter; at most
 * SAMPLER_FEW_ROOM, else -1: too many equal ones, send the slice whole. Scratch as for vocab = n. */
int sampler_few(const struct sampler_params *p, const struct kernels *k, const float *slice, int n,
                int first_id, uint32_t *ids, float *values, void *scratch);

/* sampler_draw from what the slices answered, in ascending id order, n of them. Scratch as for
 * vocab = n. The token is the one that sampler_draw takes from whole rows. */
int sampler_draw_few(const struct sampler_params *p, const struct kernels *k, const uint32_t *ids,
                     const float *values, int n, int position, void *scratch);

#endif
