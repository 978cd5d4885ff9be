/* modelconfig.h - a decoder described by data: everything that its forward needs to know.
 * Why:    llama, qwen, gemma, phi, mixtral, gpt-oss are one decoder with different numbers; adding an
 *         architecture is one row in archs.c and, at most, one new field here.
 * Source: config.json of Hugging Face folders, metadata of GGUF files.
 * Ranks:  not collective; every rank reads it from the file itself. */
#ifndef MUSTER_MODELCONFIG_H
#define MUSTER_MODELCONFIG_H

#include "workers/weights/tensorfile.h"

#include <stdbool.h>

enum { MODEL_LAYERS_MAX = 1024, MODEL_EOS_MAX = 16, MODEL_HEADS_MAX = 4096,
       MODEL_HEAD_DIM_MAX = 1024, MODEL_EXPERTS_MAX = 4096 };

enum ffn_act { ACT_SILU, ACT_GELU_TANH, ACT_SWIGLU_OSS };
enum rope_kind { ROPE_NORM, ROPE_NEOX };        /* pairs (2i, 2i+1) | (i, i + n_rot/2) */
enum rope_scaling { SCALING_NONE, SCALING_LINEAR, SCALING_LLAMA3, SCALING_YARN, SCALING_LONGROPE };
enum moe_gate { MOE_SOFTMAX_ALL,                /* softmax over all, take top k, maybe renormalise */
                MOE_SOFTMAX_CHOSEN };           /* take top k of the logits, softmax over those */

struct rope_config {
    float base;
    enum rope_scaling scaling;
    float factor;
    float low_freq_factor, high_freq_factor;    /* llama3 */
    float beta_fast, beta_slow, attn_factor;    /* yarn, longrope: cos and sin times attn_factor (final) */
    bool truncate;                              /* yarn: floor and ceil the range */
    int original_context;
    const float *divisors;                      /* [n_rot/2] from rope_freqs.weight, or NULL: the
                                                   angle of pair i is divided by divisors[i] */
    const float *short_factors, *long_factors;  /* [n_rot/2] longrope */
};

struct layer_config {
    int window;                 /* 0: global; else keys with pos_q - pos_k >= window are masked */
    int rope;                   /* index into model_config.rope */
    bool moe;
};

struct arch;
struct model_config {
    char arch[32], name[96], format[8];         /* row of archs.c; general.name; "gguf" | "hf" */
    int n_layers, dim, n_heads, n_kv_heads, head_dim, value_dim, ffn_dim, vocab, context;
    float norm_eps, embed_scale, q_scale;       /* q_scale multiplies q k^T */
    float attn_softcap, final_softcap;          /* 0: none */
    bool tied, qkv_bias, o_bias, qk_norm, post_norms, sinks;
    bool norm_plus_one;                         /* the file stores w, the norm uses 1 + w: the loader
                                                   adds it, weights in memory are ready to use */
    enum ffn_act act;
    float act_limit;                            /* gpt-oss: 7 */
    enum rope_kind rope_kind;
    int n_rot;
    struct rope_config rope[2];                 /* [0] global, [1] local where it differs (gemma3) */
    int n_experts, n_experts_used, expert_ffn_dim;
    enum moe_gate moe_gate;
    bool moe_renormalise, router_bias, expert_bias;
    struct layer_config *layer;                 /* [n_layers] */
    int eos[MODEL_EOS_MAX], n_eos, bos;         /* bos -1: none */
    const struct arch *row;                     /* of archs.c */
    char prefix[32], head_prefix[24];           /* of Hugging Face tensor names: "model.", "" */
    bool multimodal;                            /* the folder holds other networks' tensors too */
    void *owned;                                /* arrays above; model_config_free */
};

/* Reads and checks the description; errors name the file and the key. */
int model_config_read(struct model_config *c, struct tensorfile *t, const char *path,
                      struct err *err);
void model_config_free(struct model_config *c);

/* The raw tokenizer bytes for the coordinator: the GGUF metadata section re-serialised, or the text of
 * tokenizer.json (with tokenizer_config.json and generation_config.json: see tokenizer.h, which says
 * the container). malloc'd; the caller frees. */
int model_tokenizer_bytes(struct tensorfile *t, const char *path, uint8_t **bytes, size_t *n,
                          struct err *err);

#endif
