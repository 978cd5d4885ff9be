/* sampler.h - from logits to a token: penalties, filters, one uniform number.
 * Order:  logit bias; presence and frequency penalty; repetition penalty; no-repeat n-gram;
 *         temperature; top-k; top-p; min-p; typical-p; softmax. Ties at a border are kept
 *         (Hugging Face's order and rules).
 * Bits:   sums in double in fixed blocks; the draw is philox(seed, 0, position, PHILOX_SAMPLE).
 * Owner:  scratch is given by the caller: sampler_scratch_bytes(vocab).
 * Ranks:  not collective; runs on one rank. */
#ifndef MUSTER_SAMPLER_H
#define MUSTER_SAMPLER_H

#include "muster.pb-c.h"
#include "proto/err.h"

struct sampler_params {
    float temperature, top_p, min_p, typical_p, repeat_penalty, presence_penalty, frequency_penalty;
    int top_k, no_repeat_ngram, n_logprobs;
    uint64_t seed;
    int n_bias; const uint32_t *bias_token; const float *bias_value;
};

/* Checks ranges (temperature >= 0, 0 < top_p <= 1 ...) naming the field. */
int sampler_params_check(const struct sampler_params *p, int vocab, struct err *err);

size_t sampler_scratch_bytes(int vocab);

/* probs [vocab] f64 in scratch-owned memory after all filters; logits [vocab] is changed in place.
 * history [n_history] all tokens of the sequence, of which the first n_prompt are the prompt. */
const double *sampler_probabilities(const struct sampler_params *p, float *logits, int vocab,
                                    const int32_t *history, int n_history, int n_prompt,
                                    void *scratch);

/* The token for `position`, and log probability under softmax of the raw logits. */
int sampler_draw(const struct sampler_params *p, float *logits, int vocab, const int32_t *history,
                 int n_history, int n_prompt, int position, void *scratch, float *logprob);

#endif
