/* decoderweights.h - the shard of one rank: the layers, heads and columns that a mesh place holds.
 * Owner:  one mapping of `bytes`, made by decoder_weights_load, holds every packed matrix.
 * Ranks:  loading is collective on the stage's tensor-parallel group (column cuts are exchanged). */
#ifndef MUSTER_DECODERWEIGHTS_H
#define MUSTER_DECODERWEIGHTS_H

#include "workers/kernels/linear.h"
#include "workers/models/modelconfig.h"
#include "workers/parallel/mesh.h"

struct expert_weights { struct linear gate, up, down; float *gate_bias, *up_bias, *down_bias; };

struct layer_weights {
    float *attn_norm, *post_attn_norm, *ffn_norm, *post_ffn_norm;   /* [dim], NULL where absent */
    float *q_norm, *k_norm;                     /* [head_dim] */
    struct linear q, k, v, o;                   /* o: dim x heads_local * value_dim */
    float *q_bias, *k_bias, *v_bias;            /* local rows */
    float *o_bias;                              /* [dim], added once, after the sum */
    float *sinks;                               /* [heads_local] */
    struct linear gate, up, down;               /* dense FFN */
    struct linear router; float *router_bias;   /* [experts] */
    struct expert_weights *expert;              /* [n_experts] */
};

struct decoder_weights {
    int heads_begin, heads_local;               /* query heads of this rank */
    int kv_begin, kv_local;                     /* KV heads that those read */
    int ffn_begin, ffn_local, expert_ffn_begin, expert_ffn_local;
    int vocab_begin, vocab_local;               /* rows of embedding and head */
    struct linear embed;                        /* first stage (and last when tied) */
    struct linear head;                         /* last stage; the embedding itself when tied (shares
                                                   its packed bytes) */
    float *out_norm;
    struct layer_weights *layer;                /* [n_layers] from layer_begin */
    int n_layers;
    uint8_t *base; size_t bytes;                /* the packed shard */
    uint64_t file_bytes;                        /* bytes of the file that it stands for */
    double seconds;
};

/* Query heads per unit of the cut of attention's K: the o product is summed by split_program_for(
 * n_heads * value_dim, decoder_head_unit(c) * value_dim, m->leaves, m->segments). FFN and expert
 * columns are cut in units of SPLIT_GROUP. */
int decoder_head_unit(const struct model_config *c);

/* Vocabulary rows of tp rank i: whole panels, as even as can be. In proportion to its segments. */
struct split_range decoder_vocab_range(int vocab, const struct mesh *m, int i);

/* Bytes of the shard at a mesh place, without reading it (the planner's formula checks against it). */
int decoder_weights_size(const struct model_config *c, const struct tensorfile *t,
                         const struct mesh *m, size_t *packed, uint64_t *file_bytes,
                         struct err *err);

/* Reads only this rank's bytes, packs them. progress (may be NULL) is called with bytes done and all.
 * Collective on the tensor-parallel group: every rank must reach it; ranks agree before the exchange. */
int decoder_weights_load(struct decoder_weights *w, const struct model_config *c,
                         struct tensorfile *t, const struct mesh *m, struct comm *comm,
                         void (*progress)(void *ctx, uint64_t done, uint64_t all), void *ctx,
                         struct err *err);
void decoder_weights_free(struct decoder_weights *w);

/* The file's contents for the coordinator: sizes and cuts of every tensor, no weights. */
struct arena;
int decoder_describe(const struct model_config *c, const struct tensorfile *t, struct arena *mem,
                     Muster__ModelSpec **spec, struct err *err);

#endif
