/* decoderstate.h - what a decoder holds; shared by the decoder*.c files only.
 * Why:    one forward is four subjects: layers, the link between stages, logits and sampling, and the
 *         life of it all. */
#ifndef MUSTER_DECODERSTATE_H
#define MUSTER_DECODERSTATE_H

#include "workers/models/decoder.h"
#include "workers/models/kvcache.h"
#include "workers/models/moe.h"
#include "workers/models/ops.h"
#include "workers/models/rope.h"
#include "workers/models/steprows.h"

enum { DECODER_SENDS = 2 };     /* activations on their way to the next stage */

/* One outgoing message and its sends. */
struct decoder_outgoing { uint8_t *msg; struct comm_req req[MESH_TP_MAX]; int n; };

struct decoder {
    const struct model_config *c;
    const struct decoder_weights *w;
    const struct mesh *m;
    struct comm *comm;
    struct decoder_options opt;
    bool is_first, is_last, is_sampler;         /* stage; the rank that samples */
    int n_ropes;

    /* How K of the row-parallel products is cut. */
    int heads_k, heads_unit;                    /* of attention's output */
    struct split_program heads_program, ffn_program, expert_program;
    int max_pieces;

    struct team team;
    struct ops ops;
    struct reduce reduce;
    struct kvcache kv;
    struct rope rope[2];
    struct slots slots;
    struct steprows rows;
    struct steprows again;      /* rows of a sequence that is computed anew; longrope only */

    uint8_t *memory;            /* all that follows lies in it */
    size_t memory_bytes;
    struct arena scratch;       /* of ops */
    float *x, *h;               /* [max_rows, dim] */
    float *q, *k, *v;           /* [max_rows, heads_local head_dim], .. */
    float *attended;            /* [max_rows, heads_local value_dim] */
    float *pieces;              /* [max_pieces][max_rows, dim]; after a reduction the sum */
    float *gate, *up;           /* [max_rows, ffn_local] */
    float *cosine[2], *sine[2]; /* [max_rows, n_rot / 2] */
    uint8_t *owner;             /* [max_rows] who holds a row's embedding */
    struct moe_buffers moe;
    size_t moe_linear_bytes;

    /* Between stages. */
    struct decoder_outgoing out[DECODER_SENDS];
    uint64_t n_sent;
    uint8_t *in;                /* one activation message */
    size_t activation_bytes;    /* of such a message at most */
    struct arena messages;      /* Tokens messages */

    /* Logits: slices of max_slots rows (more once logits of all rows were wanted). */
    float *logits;              /* [logit_rows, vocab_local] */
    int logit_rows;
    float *whole;               /* [vocab] one row put together; sampler only */
    uint8_t *slice_msg;         /* a slice, or the few of all rows, as a message */
    uint8_t *few_msg;           /* [tp] messages of the few */
    size_t slice_bytes, few_bytes;
    uint32_t *few_id;           /* [tp SAMPLER_FEW_ROOM] */
    float *few_value;
    void *sampler_scratch;
    float *returned;            /* logits of all rows put together: grown when wanted (tp > 1) */
    int64_t returned_floats;
    struct decoder_token *token;                /* [max_slots] */
    struct sampler_logprobs *logprobs;          /* [max_slots] */
    struct decoder_logits *result_logits;       /* [max_rows] */
    int n_tokens, n_result_logits;

    /* Log probabilities of given tokens (decoderscore.c). */
    int32_t *score_part;        /* [max_rows, words] of this rank's leaves */
    uint8_t *score_msg;         /* such a part as a message; tp > 1 */
    size_t score_msg_bytes;
    int32_t *score_all;         /* [max_rows, words of all leaves]; sampler only, as what follows */
    float *score;               /* [max_rows] */
    struct decoder_scores *result_scores;       /* [max_rows] */
    int n_result_scores;
    bool own_logits;            /* `logits` was grown out of `memory` */

    double step_us, link_us, start_wait_us;
    uint64_t n_steps, link_bytes;
};

/* decoderlayer.c: x of all rows through this rank's layers. Collective on tp. */
int decoderlayer_embed(struct decoder *d, struct err *err);
int decoderlayer_all(struct decoder *d, struct err *err);
/* d->h [n, dim] = rows wanted [n] of x, the first n_prompt of them of prompts, after the last norm; then
 * d->logits [n, vocab_local] = their slice of the logits. */
void decoderlayer_logits(struct decoder *d, const int *wanted, int n, int n_prompt);

/* decoderlink.c */
/* Fills in d->rows.token of runs that continue. Blocks until the last stage has sampled them. */
int decoderlink_tokens(struct decoder *d, struct err *err);
/* Blocks until the stage before sends this step's rows. */
int decoderlink_receive(struct decoder *d, struct err *err);
/* Hands x on; waits only for the send before the last one. */
int decoderlink_send(struct decoder *d, struct err *err);
/* Lets sends under way go on. */
int decoderlink_progress(struct decoder *d, struct err *err);
/* The sampler's new tokens to the ranks of the first stage. */
int decoderlink_announce(struct decoder *d, struct err *err);
void decoderlink_cancel(struct decoder *d);

/* decodersample.c: samples what the step wants; fills token and result_logits on the sampler.
 * Collective on the last stage's tp. */
int decodersample_room(struct decoder *d, struct err *err);
int decodersample_all(struct decoder *d, struct err *err);
/* A message of n numbers of this step to the sampler. */
struct wire_tensor decodersample_header(const struct decoder *d, enum wire_kind kind,
                                        enum wire_dtype dtype, int64_t n);
/* Receives such a message of n (or, for n < 0, up to -n) numbers from tp index `peer`. */
int decodersample_receive(struct decoder *d, int peer, enum wire_kind kind, enum wire_dtype dtype,
                          int64_t n, uint8_t *msg, size_t cap, struct wire_tensor *t, struct err *err);

/* decoderscore.c: log probabilities of the step's targets. */
/* Rows whose logits it wants at a time in this step; bytes of one rank's part with so many leaves. */
int decoderscore_block(const struct decoder *d);
size_t decoderscore_bytes(const struct decoder *d, int leaves);
/* What this rank's slice of the vocabulary says; uses d->h and d->logits. */
void decoderscore_local(struct decoder *d);
/* Brings it together on the sampler: fills result_scores. Collective on the last stage's tp. */
int decoderscore_all(struct decoder *d, struct err *err);

#endif
