#include "workers/models/archs.h"

#include <stdio.h>
#include <string.h>

/* The common names; index is the slot. */
static const struct slot_name common[SLOT_COUNT] = {
    [SLOT_EMBED] = {SLOT_EMBED, "token_embd.weight", "embed_tokens.weight"},
    [SLOT_HEAD] = {SLOT_HEAD, "output.weight", "lm_head.weight"},
    [SLOT_OUT_NORM] = {SLOT_OUT_NORM, "output_norm.weight", "norm.weight"},
    [SLOT_ROPE_DIVISORS] = {SLOT_ROPE_DIVISORS, "rope_freqs.weight", NULL},
    [SLOT_ROPE_SHORT] = {SLOT_ROPE_SHORT, "rope_factors_short.weight", NULL},
    [SLOT_ROPE_LONG] = {SLOT_ROPE_LONG, "rope_factors_long.weight", NULL},
    [SLOT_ATTN_NORM] = {SLOT_ATTN_NORM, "blk.%d.attn_norm.weight",
                        "layers.%d.input_layernorm.weight"},
    [SLOT_POST_ATTN_NORM] = {SLOT_POST_ATTN_NORM, NULL, NULL},
    [SLOT_FFN_NORM] = {SLOT_FFN_NORM, "blk.%d.ffn_norm.weight",
                       "layers.%d.post_attention_layernorm.weight"},
    [SLOT_POST_FFN_NORM] = {SLOT_POST_FFN_NORM, NULL, NULL},
    [SLOT_Q_NORM] = {SLOT_Q_NORM, "blk.%d.attn_q_norm.weight", "layers.%d.self_attn.q_norm.weight"},
    [SLOT_K_NORM] = {SLOT_K_NORM, "blk.%d.attn_k_norm.weight", "layers.%d.self_attn.k_norm.weight"},
    [SLOT_Q] = {SLOT_Q, "blk.%d.attn_q.weight", "layers.%d.self_attn.q_proj.weight"},
    [SLOT_K] = {SLOT_K, "blk.%d.attn_k.weight", "layers.%d.self_attn.k_proj.weight"},
    [SLOT_V] = {SLOT_V, "blk.%d.attn_v.weight", "layers.%d.self_attn.v_proj.weight"},
    [SLOT_O] = {SLOT_O, "blk.%d.attn_output.weight", "layers.%d.self_attn.o_proj.weight"},
    [SLOT_Q_BIAS] = {SLOT_Q_BIAS, "blk.%d.attn_q.bias", "layers.%d.self_attn.q_proj.bias"},
    [SLOT_K_BIAS] = {SLOT_K_BIAS, "blk.%d.attn_k.bias", "layers.%d.self_attn.k_proj.bias"},
    [SLOT_V_BIAS] = {SLOT_V_BIAS, "blk.%d.attn_v.bias", "layers.%d.self_attn.v_proj.bias"},
    [SLOT_O_BIAS] = {SLOT_O_BIAS, "blk.%d.attn_output.bias", "layers.%d.self_attn.o_proj.bias"},
    [SLOT_SINKS] = {SLOT_SINKS, "blk.%d.attn_sinks.weight", "layers.%d.self_attn.sinks"},
    [SLOT_GATE] = {SLOT_GATE, "blk.%d.ffn_gate.weight", "layers.%d.mlp.gate_proj.weight"},
    [SLOT_UP] = {SLOT_UP, "blk.%d.ffn_up.weight", "layers.%d.mlp.up_proj.weight"},
    [SLOT_DOWN] = {SLOT_DOWN, "blk.%d.ffn_down.weight", "layers.%d.mlp.down_proj.weight"},
    [SLOT_ROUTER] = {SLOT_ROUTER, "blk.%d.ffn_gate_inp.weight", "layers.%d.mlp.gate.weight"},
    [SLOT_ROUTER_BIAS] = {SLOT_ROUTER_BIAS, "blk.%d.ffn_gate_inp.bias", NULL},
    [SLOT_EXPERT_GATE] = {SLOT_EXPERT_GATE, "blk.%d.ffn_gate_exps.weight", NULL},
    [SLOT_EXPERT_UP] = {SLOT_EXPERT_UP, "blk.%d.ffn_up_exps.weight", NULL},
    [SLOT_EXPERT_DOWN] = {SLOT_EXPERT_DOWN, "blk.%d.ffn_down_exps.weight", NULL},
    [SLOT_EXPERT_GATE_BIAS] = {SLOT_EXPERT_GATE_BIAS, "blk.%d.ffn_gate_exps.bias", NULL},
    [SLOT_EXPERT_UP_BIAS] = {SLOT_EXPERT_UP_BIAS, "blk.%d.ffn_up_exps.bias", NULL},
    [SLOT_EXPERT_DOWN_BIAS] = {SLOT_EXPERT_DOWN_BIAS, "blk.%d.ffn_down_exps.bias", NULL},
    [SLOT_EXPERT_GATE_ONE] = {SLOT_EXPERT_GATE_ONE, "blk.%d.ffn_gate.%d.weight",
                              "layers.%d.mlp.experts.%d.gate_proj.weight"},
    [SLOT_EXPERT_UP_ONE] = {SLOT_EXPERT_UP_ONE, "blk.%d.ffn_up.%d.weight",
                            "layers.%d.mlp.experts.%d.up_proj.weight"},
    [SLOT_EXPERT_DOWN_ONE] = {SLOT_EXPERT_DOWN_ONE, "blk.%d.ffn_down.%d.weight",
                              "layers.%d.mlp.experts.%d.down_proj.weight"},
};

static const struct slot_name mixtral_names[] = {
    {SLOT_ROUTER, NULL, "layers.%d.block_sparse_moe.gate.weight"},
    {SLOT_EXPERT_GATE_ONE, NULL, "layers.%d.block_sparse_moe.experts.%d.w1.weight"},
    {SLOT_EXPERT_DOWN_ONE, NULL, "layers.%d.block_sparse_moe.experts.%d.w2.weight"},
    {SLOT_EXPERT_UP_ONE, NULL, "layers.%d.block_sparse_moe.experts.%d.w3.weight"},
};

/* Here post_attention_layernorm is what its name says: it norms the branch's output. */
static const struct slot_name gemma_names[] = {
    {SLOT_POST_ATTN_NORM, "blk.%d.post_attention_norm.weight",
     "layers.%d.post_attention_layernorm.weight"},
    {SLOT_FFN_NORM, "blk.%d.ffn_norm.weight", "layers.%d.pre_feedforward_layernorm.weight"},
    {SLOT_POST_FFN_NORM, "blk.%d.post_ffw_norm.weight",
     "layers.%d.post_feedforward_layernorm.weight"},
};

/* ffn_up of the GGUF is the bundle of gate and up. */
static const struct slot_name phi3_names[] = {
    {SLOT_Q, NULL, NULL}, {SLOT_K, NULL, NULL}, {SLOT_V, NULL, NULL},
    {SLOT_GATE, NULL, NULL}, {SLOT_UP, NULL, NULL},
    {SLOT_QKV, "blk.%d.attn_qkv.weight", "layers.%d.self_attn.qkv_proj.weight"},
    {SLOT_GATE_UP, "blk.%d.ffn_up.weight", "layers.%d.mlp.gate_up_proj.weight"},
};

static const struct slot_name gpt_oss_names[] = {
    {SLOT_FFN_NORM, "blk.%d.post_attention_norm.weight",
     "layers.%d.post_attention_layernorm.weight"},
    {SLOT_ROUTER, "blk.%d.ffn_gate_inp.weight", "layers.%d.mlp.router.weight"},
    {SLOT_ROUTER_BIAS, "blk.%d.ffn_gate_inp.bias", "layers.%d.mlp.router.bias"},
    {SLOT_EXPERT_GATE_UP_BLOCKS, NULL, "layers.%d.mlp.experts.gate_up_proj_blocks"},
    {SLOT_EXPERT_GATE_UP_SCALES, NULL, "layers.%d.mlp.experts.gate_up_proj_scales"},
    {SLOT_EXPERT_DOWN_BLOCKS, NULL, "layers.%d.mlp.experts.down_proj_blocks"},
    {SLOT_EXPERT_DOWN_SCALES, NULL, "layers.%d.mlp.experts.down_proj_scales"},
    {SLOT_EXPERT_GATE_UP_DENSE, NULL, "layers.%d.mlp.experts.gate_up_proj"},
    {SLOT_EXPERT_DOWN_DENSE, NULL, "layers.%d.mlp.experts.down_proj"},
    {SLOT_EXPERT_GATE_UP_BIAS, NULL, "layers.%d.mlp.experts.gate_up_proj_bias"},
    {SLOT_EXPERT_DOWN_BIAS, "blk.%d.ffn_down_exps.bias", "layers.%d.mlp.experts.down_proj_bias"},
};

#define NAMES(list) .names = list, .n_names = sizeof list / sizeof *list

static const struct arch table[] = {
    /* Llama 1 to 3.x and its many fine-tunes; as GGUF also Mistral and Mixtral. */
    {.name = "llama", .gguf = "llama", .hf_type = {"llama"}, .hf_class = "LlamaForCausalLM",
     .flags = ARCH_ROPE_NORM_GGUF | ARCH_RENORMALISE | ARCH_NO_WINDOW, .hf = {.rope_base = 10000}},
    {.name = "mistral", .hf_type = {"mistral"}, .hf_class = "MistralForCausalLM",
     .hf = {.kv_heads = 8, .rope_base = 10000, .window = 4096}},
    {.name = "mixtral", .hf_type = {"mixtral"}, .hf_class = "MixtralForCausalLM",
     .flags = ARCH_MOE | ARCH_RENORMALISE | ARCH_EXPERT_FFN_IS_FFN,
     .hf = {.kv_heads = 8, .rope_base = 1e6f}, NAMES(mixtral_names)},
    {.name = "qwen2", .gguf = "qwen2", .hf_type = {"qwen2"}, .hf_class = "Qwen2ForCausalLM",
     .flags = ARCH_QKV_BIAS | ARCH_WINDOW_OPT_IN,
     .hf = {.kv_heads = 32, .rope_base = 10000, .window = 4096}},
    {.name = "qwen3", .gguf = "qwen3", .hf_type = {"qwen3"}, .hf_class = "Qwen3ForCausalLM",
     .flags = ARCH_QK_NORM | ARCH_WINDOW_OPT_IN,
     .hf = {.kv_heads = 32, .head_dim = 128, .rope_base = 10000, .window = 4096}},
    {.name = "qwen3moe", .gguf = "qwen3moe", .hf_type = {"qwen3_moe"},
     .hf_class = "Qwen3MoeForCausalLM", .flags = ARCH_QK_NORM | ARCH_MOE | ARCH_WINDOW_OPT_IN,
     .hf = {.kv_heads = 4, .rope_base = 10000, .window = 4096}},
    {.name = "gemma2", .gguf = "gemma2", .hf_type = {"gemma2"}, .hf_class = "Gemma2ForCausalLM",
     .flags = ARCH_POST_NORMS | ARCH_NORM_PLUS_ONE | ARCH_EMBED_SCALE |
              ARCH_WINDOW_GGUF,
     .act = ACT_GELU_TANH, .window_period = 2, .big_layers = 46,
     .hf = {.kv_heads = 4, .head_dim = 256, .rope_base = 10000, .window = 4096, .q_scalar = 256,
            .attn_softcap = 50, .final_softcap = 30},
     NAMES(gemma_names)},
    /* The text part of a multimodal folder leaves out whatever equals its class's default. */
    {.name = "gemma3", .gguf = "gemma3", .hf_type = {"gemma3_text", "gemma3"},
     .hf_class = "Gemma3ForCausalLM",
     .flags = ARCH_POST_NORMS | ARCH_NORM_PLUS_ONE | ARCH_EMBED_SCALE | ARCH_QK_NORM |
              ARCH_LOCAL_ROPE | ARCH_WINDOW_GGUF,
     .act = ACT_GELU_TANH, .window_period = 6, .big_layers = 62,
     .hf = {.dim = 2304, .layers = 26, .heads = 8, .kv_heads = 4, .head_dim = 256, .ffn = 9216,
            .vocab = 262208, .context = 131072, .window = 4096, .eps = 1e-6f, .rope_base = 1e6f,
            .q_scalar = 256},
     NAMES(gemma_names)},
    {.name = "phi3", .gguf = "phi3", .hf_type = {"phi3"}, .hf_class = "Phi3ForCausalLM",
     .flags = ARCH_LONGROPE | ARCH_WINDOW_GGUF, .hf = {.rope_base = 10000}, NAMES(phi3_names)},
    {.name = "gpt-oss", .gguf = "gpt-oss", .hf_type = {"gpt_oss"}, .hf_class = "GptOssForCausalLM",
     .flags = ARCH_QKV_BIAS | ARCH_O_BIAS | ARCH_SINKS | ARCH_ROUTER_BIAS | ARCH_EXPERT_BIAS |
              ARCH_MOE | ARCH_EXPERT_FFN_IS_FFN | ARCH_WINDOW_GGUF,
     .act = ACT_SWIGLU_OSS, .moe_gate = MOE_SOFTMAX_CHOSEN, .window_period = 2,
     .hf = {.kv_heads = 8, .head_dim = 64, .window = 128, .rope_base = 150000},
     NAMES(gpt_oss_names)},
};

enum { N_ARCHS = sizeof table / sizeof *table };

const struct arch *arch_of_gguf(const char *architecture)
{
    for (int i = 0; i < N_ARCHS; i++)
        if (table[i].gguf && strcmp(table[i].gguf, architecture) == 0)
            return &table[i];
    return NULL;
}

const struct arch *arch_of_hf(const char *model_type)
{
    for (int i = 0; i < N_ARCHS; i++)
        for (int j = 0; j < 3 && table[i].hf_type[j]; j++)
            if (strcmp(table[i].hf_type[j], model_type) == 0)
                return &table[i];
    return NULL;
}

const struct arch *arch_of_hf_class(const char *class_name)
{
    for (int i = 0; i < N_ARCHS; i++)
        if (strcmp(table[i].hf_class, class_name) == 0)
            return &table[i];
    return NULL;
}

const char *arch_list(bool gguf, char *buf, size_t cap)
{
    size_t at = 0;
    buf[0] = '\0';
    for (int i = 0; i < N_ARCHS && at < cap; i++) {
        const char *name = gguf ? table[i].gguf : table[i].hf_type[0];
        if (name)
            at += (size_t)snprintf(buf + at, cap - at, "%s%s", at ? ", " : "", name);
    }
    return buf;
}

/* The row's own name for a slot where it has one. A mention without a name of this format hides the
 * common name only when both are NULL. */
static const char *pattern(const struct arch *row, enum slot slot, bool gguf)
{
    for (int i = 0; i < row->n_names; i++) {
        const struct slot_name *n = &row->names[i];
        const char *own = gguf ? n->gguf : n->hf;
        if (n->slot == slot && (own || (!n->gguf && !n->hf)))
            return own;
    }
    return gguf ? common[slot].gguf : common[slot].hf;
}

const char *arch_tensor_name(const struct model_config *c, enum slot slot, int layer, int expert,
                             char *buf, size_t cap)
{
    bool gguf = strcmp(c->format, "gguf") == 0;
    const char *p = pattern(c->row, slot, gguf);
    if (!p)
        return NULL;
    const int number[2] = {layer, expert};
    int at = snprintf(buf, cap, "%s", gguf ? "" : slot == SLOT_HEAD ? c->head_prefix : c->prefix);
    int used = 0;
    while (*p && at >= 0 && (size_t)at < cap) {
        if (p[0] == '%' && p[1] == 'd') {
            at += snprintf(buf + at, cap - (size_t)at, "%d", number[used > 0]);
            used++;
            p += 2;
        } else {
            buf[at++] = *p++;
        }
    }
    if (at < 0 || (size_t)at >= cap)
        return NULL;
    buf[at] = '\0';
    return buf;
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

bool arch_ignores(const struct model_config *c, const char *name)
{
    static const char *const derived[] = {"rotary_emb.inv_freq", "rope_freqs.weight",
                                          "rope_factors_long.weight", "rope_factors_short.weight"};
    for (size_t i = 0; i < sizeof derived / sizeof *derived; i++)
        if (ends_with(name, derived[i]))
            return true;
    if (strcmp(c->format, "gguf") == 0)
        return false;
    /* Pictures' tensors stand beside the language model's. */
    return c->multimodal && strncmp(name, c->prefix, strlen(c->prefix)) != 0 &&
           !ends_with(name, "lm_head.weight");
}
