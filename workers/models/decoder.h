/* decoder.h - one forward of a ragged batch through this rank's layers.
 * Shapes: activations [rows, dim] f32, row-major, with a row table (sequence slot, position, role).
 * Bits:   a row's logits depend on its sequence's tokens and roles only: not on the layout (tp up to 8,
 *         any pp), the threads, the chunks its prompt came in, or the other rows of its steps.
 * Longrope: Admit.prompt_tokens, the length at admission, chooses the factors; in the step in which a
 *         sequence first grows past the original context, its keys and values are computed anew with the
 *         long ones, from its tokens in their roles. Nobody else needs to know.
 * Pages:  page_tokens is a multiple of ATTENTION_BLOCK (64).
 * Owner:  model state (KV pages, scratch arena, message buffers) is allocated once at decoder_new from
 *         sizes that decoder_sizes reports before. Only a step that wants logits of all its rows may
 *         grow the buffer that returns them.
 * Ranks:  decoder_step is collective on the stage's tensor-parallel group and passes activations from
 *         stage to stage; every rank of a replica gets the same steps in the same order. */
#ifndef MUSTER_DECODER_H
#define MUSTER_DECODER_H

#include "proto/arena.h"
#include "workers/models/decoderweights.h"
#include "workers/parallel/reduce.h"

struct decoder_options {
    enum isa isa;
    enum compute compute;
    enum dtype kv_dtype;                /* DT_F32, DT_F16, DT_Q8_0 */
    enum wire_dtype wire;
    int n_threads, max_rows, max_slots, max_context, page_tokens, kv_pages;
};
struct decoder_sizes { size_t kv_bytes, scratch_bytes, state_bytes; };
struct decoder;                         /* decoderstate.h */

int decoder_sizes(const struct model_config *c, const struct mesh *m,
                  const struct decoder_weights *w, const struct decoder_options *o,
                  struct decoder_sizes *sizes, struct err *err);

/* Borrows c, w, m, comm for its life. *d is NULL on failure. */
int decoder_new(struct decoder **d, const struct model_config *c, const struct decoder_weights *w,
                const struct mesh *m, struct comm *comm, const struct decoder_options *o,
                struct err *err);
void decoder_destroy(struct decoder *d);

/* Results of a step, valid until the next one. Only the sampler rank (tp index 0 of the last stage)
 * has tokens and logits. logprob and the top ones are there when the sequence asked for n_logprobs. */
struct decoder_token { int slot; uint64_t sequence; int position, id; float logprob;
                       int n_top; const uint32_t *top_ids; const float *top_logprobs; };
struct decoder_logits { int slot, position, rows; const float *data; };     /* [rows, vocab] */
/* Log probabilities of a run's targets; the first belongs to the row at `position`. */
struct decoder_scores { int slot, position, n; const float *logprob; };
struct decoder_result {
    int n_tokens; const struct decoder_token *token;
    int n_logits; const struct decoder_logits *logits;
    int n_scores; const struct decoder_scores *scores;
};

/* Checks every index of the message against the options before it is used. */
int decoder_step(struct decoder *d, const Muster__Step *step, struct decoder_result *out,
                 struct err *err);

struct decoder_stats { double compute_us, reduce_us, wait_us, wire_us; uint64_t wire_bytes, steps; };
void decoder_stats(struct decoder *d, struct decoder_stats *out, bool reset);

#endif
