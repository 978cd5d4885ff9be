/* archs.h - the table of architectures: one row each, and the names of their tensors.
 * Why:    the decoder, the loader and the readers of both file formats ask a row instead of knowing a
 *         model; adding an architecture is one row in archs.c.
 * Names:  a slot is a tensor's role in the decoder; a row names only what differs from the common
 *         names. Patterns hold %d for the layer, then %d for the expert. Hugging Face names are
 *         without the leading "model." (model_config.prefix).
 * Ranks:  not collective; const. */
#ifndef MUSTER_ARCHS_H
#define MUSTER_ARCHS_H

#include "workers/models/modelconfig.h"

enum slot {
    /* one each */
    SLOT_EMBED, SLOT_HEAD, SLOT_OUT_NORM,
    SLOT_ROPE_DIVISORS, SLOT_ROPE_SHORT, SLOT_ROPE_LONG,        /* GGUF only; the config reads them */
    /* one for each layer */
    SLOT_ATTN_NORM, SLOT_POST_ATTN_NORM, SLOT_FFN_NORM, SLOT_POST_FFN_NORM, SLOT_Q_NORM, SLOT_K_NORM,
    SLOT_Q, SLOT_K, SLOT_V, SLOT_O, SLOT_Q_BIAS, SLOT_K_BIAS, SLOT_V_BIAS, SLOT_O_BIAS, SLOT_SINKS,
    SLOT_GATE, SLOT_UP, SLOT_DOWN, SLOT_ROUTER, SLOT_ROUTER_BIAS,
    SLOT_EXPERT_GATE, SLOT_EXPERT_UP, SLOT_EXPERT_DOWN,
    SLOT_EXPERT_GATE_BIAS, SLOT_EXPERT_UP_BIAS, SLOT_EXPERT_DOWN_BIAS,
    SLOT_MODEL_COUNT,           /* the slots of the decoder end here; below: how files bundle them */
    SLOT_QKV = SLOT_MODEL_COUNT,        /* rows of q, then k, then v */
    SLOT_GATE_UP,                       /* rows of gate, then up */
    SLOT_EXPERT_GATE_ONE, SLOT_EXPERT_UP_ONE, SLOT_EXPERT_DOWN_ONE,     /* one tensor per expert */
    /* gpt-oss: gate and up alternate row by row */
    SLOT_EXPERT_GATE_UP_BLOCKS, SLOT_EXPERT_GATE_UP_SCALES,     /* MXFP4 in two tensors */
    SLOT_EXPERT_DOWN_BLOCKS, SLOT_EXPERT_DOWN_SCALES,
    SLOT_EXPERT_GATE_UP_DENSE, SLOT_EXPERT_DOWN_DENSE,          /* [experts, in, out] */
    SLOT_EXPERT_GATE_UP_BIAS,                                   /* [experts, 2 ffn], alternating */
    SLOT_COUNT
};

enum arch_flag {
    ARCH_ROPE_NORM_GGUF = 1 << 0,       /* the GGUF converter permutes q and k: pairs (2i, 2i+1) */
    ARCH_QKV_BIAS = 1 << 1,             /* required; without it: used where the file has them */
    ARCH_O_BIAS = 1 << 2,
    ARCH_QK_NORM = 1 << 3,
    ARCH_POST_NORMS = 1 << 4,
    ARCH_SINKS = 1 << 5,
    ARCH_NORM_PLUS_ONE = 1 << 6,        /* Hugging Face files store w where the norm uses 1 + w */
    ARCH_EMBED_SCALE = 1 << 7,          /* embeddings times sqrt(dim) */
    ARCH_ROUTER_BIAS = 1 << 8,
    ARCH_EXPERT_BIAS = 1 << 9,
    ARCH_RENORMALISE = 1 << 10,         /* chosen experts' weights sum to 1, whatever the config says */
    ARCH_MOE = 1 << 11,                 /* experts are required */
    ARCH_WINDOW_OPT_IN = 1 << 12,       /* sliding_window counts only with use_sliding_window */
    ARCH_LOCAL_ROPE = 1 << 13,          /* local layers have their own rope base, unscaled */
    ARCH_LONGROPE = 1 << 14,            /* any scaling with short and long factors is longrope */
    ARCH_EXPERT_FFN_IS_FFN = 1 << 15,   /* intermediate_size is the experts' */
    ARCH_WINDOW_GGUF = 1 << 16,         /* attention.sliding_window of the GGUF is meant */
    ARCH_NO_WINDOW = 1 << 17            /* sliding_window in config.json means nothing */
};

/* Where a config.json leaves a key out, the architecture's class decides. 0: the key is required
 * (kv_heads: as many as heads; head_dim: dim / heads; window: none). */
struct arch_defaults {
    int dim, layers, heads, kv_heads, head_dim, ffn, vocab, context, window;
    float eps, rope_base, q_scalar, attn_softcap, final_softcap;
};

struct slot_name { enum slot slot; const char *gguf, *hf; };    /* NULL: the format has none */

struct arch {
    const char *name;           /* of the row: model_config.arch */
    const char *gguf;           /* general.architecture; NULL: GGUF files come under another row */
    const char *hf_type[3];     /* model_type */
    const char *hf_class;       /* architectures[0], for files without model_type */
    unsigned flags;
    enum ffn_act act;
    enum moe_gate moe_gate;
    int window_period;          /* 0: every layer is local; n: layer i is global when i % n == n-1 */
    int big_layers;             /* GGUF without attention.scale: this depth uses dim / heads as scalar */
    struct arch_defaults hf;
    const struct slot_name *names;      /* [n_names] that differ */
    int n_names;
};

/* NULL when no row has it. */
const struct arch *arch_of_gguf(const char *architecture);
const struct arch *arch_of_hf(const char *model_type);
const struct arch *arch_of_hf_class(const char *class_name);

/* Comma-separated names for "unknown architecture" errors; returns buf. */
const char *arch_list(bool gguf, char *buf, size_t cap);

/* The name of a tensor in c's file, or NULL when the format has no such tensor; layer and expert are
 * ignored where the pattern has no place for them. */
const char *arch_tensor_name(const struct model_config *c, enum slot slot, int layer, int expert,
                             char *buf, size_t cap);

/* May a tensor of this name be left unread (derived tables, the other half of a picture model)? */
bool arch_ignores(const struct model_config *c, const char *name);

#endif
