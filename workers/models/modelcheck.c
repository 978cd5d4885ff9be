#include "workers/models/modelcheck.h"

#include "proto/arena.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void modelcheck_start(struct model_config *c, const struct arch *row, const char *format)
{
    memset(c, 0, sizeof *c);
    c->row = row;
    snprintf(c->arch, sizeof c->arch, "%s", row->name);
    snprintf(c->format, sizeof c->format, "%s", format);
    bool gguf = strcmp(format, "gguf") == 0;
    c->rope_kind = gguf && (row->flags & ARCH_ROPE_NORM_GGUF) ? ROPE_NORM : ROPE_NEOX;
    c->norm_plus_one = !gguf && (row->flags & ARCH_NORM_PLUS_ONE);
    c->qkv_bias = row->flags & ARCH_QKV_BIAS;
    c->o_bias = row->flags & ARCH_O_BIAS;
    c->qk_norm = row->flags & ARCH_QK_NORM;
    c->post_norms = row->flags & ARCH_POST_NORMS;
    c->sinks = row->flags & ARCH_SINKS;
    c->router_bias = row->flags & ARCH_ROUTER_BIAS;
    c->expert_bias = row->flags & ARCH_EXPERT_BIAS;
    c->moe_gate = row->moe_gate;
    c->moe_renormalise = row->flags & ARCH_RENORMALISE;
    c->act = row->act;
    c->act_limit = row->act == ACT_SWIGLU_OSS ? 7.0f : 0.0f;
    c->embed_scale = 1.0f;
    c->bos = -1;
    for (int i = 0; i < 2; i++)
        c->rope[i] = (struct rope_config){.base = row->hf.rope_base, .factor = 1, .attn_factor = 1,
                                          .beta_fast = 32, .beta_slow = 1, .truncate = true,
                                          .low_freq_factor = 1, .high_freq_factor = 4};
}

static bool is_gguf(const struct model_config *c) { return strcmp(c->format, "gguf") == 0; }

int modelcheck_reserve(struct model_config *c, const char *where, struct err *err)
{
    bool g = is_gguf(c);
    if (c->n_layers < 1 || c->n_layers > MODEL_LAYERS_MAX)
        return err_set(err, ERR_FORMAT, "%s: %s is %d, not 1 to %d", where,
                       g ? "block_count" : "num_hidden_layers", c->n_layers, MODEL_LAYERS_MAX);
    if (c->head_dim < 2 || c->head_dim > MODEL_HEAD_DIM_MAX || c->head_dim % 2 != 0)
        return err_set(err, ERR_FORMAT, "%s: %s is %d, not an even number of 2 to %d", where,
                       g ? "attention.key_length" : "head_dim", c->head_dim, MODEL_HEAD_DIM_MAX);
    if (c->n_rot < 2 || c->n_rot > c->head_dim || c->n_rot % 2 != 0)
        return err_set(err, ERR_FORMAT, "%s: %s gives %d rotated numbers of a head's %d", where,
                       g ? "rope.dimension_count" : "partial_rotary_factor", c->n_rot, c->head_dim);
    struct arena *mem = calloc(1, sizeof *mem);
    size_t layers = (size_t)c->n_layers * sizeof *c->layer;
    size_t factors = (size_t)(c->n_rot / 2) * sizeof(float);
    if (!mem || arena_init(mem, layers + 4 * factors + 8 * 64) != ERR_OK) {
        free(mem);
        return err_set(err, ERR_NOMEM, "%s: no memory for %d layers' description", where,
                       c->n_layers);
    }
    c->owned = mem;
    c->layer = arena_take_zeroed(mem, layers);
    return ERR_OK;
}

float *modelcheck_factors(struct model_config *c)
{
    return arena_take(c->owned, (size_t)(c->n_rot / 2) * sizeof(float));
}

void model_config_free(struct model_config *c)
{
    if (c->owned) {
        arena_free(c->owned);
        free(c->owned);
    }
    memset(c, 0, sizeof *c);
}

void modelcheck_layer(struct model_config *c, int i, bool local, int window)
{
    c->layer[i].window = local ? window : 0;
    c->layer[i].rope = local && (c->row->flags & ARCH_LOCAL_ROPE) ? 1 : 0;
}

void modelcheck_eos(struct model_config *c, double id)
{
    if (!(id >= 0 && id < c->vocab) || c->n_eos == MODEL_EOS_MAX)
        return;
    for (int i = 0; i < c->n_eos; i++)
        if (c->eos[i] == (int)id)
            return;
    c->eos[c->n_eos++] = (int)id;
}

struct int_rule { const char *gguf, *hf; int value, lo, hi; };

static int check_ints(const struct model_config *c, const char *where, struct err *err)
{
    const struct int_rule rules[] = {
        {"embedding_length", "hidden_size", c->dim, 1, MODEL_DIM_MAX},
        {"attention.head_count", "num_attention_heads", c->n_heads, 1, MODEL_HEADS_MAX},
        {"attention.head_count_kv", "num_key_value_heads", c->n_kv_heads, 1, MODEL_HEADS_MAX},
        {"attention.value_length", "head_dim", c->value_dim, 1, MODEL_HEAD_DIM_MAX},
        {"feed_forward_length", "intermediate_size", c->ffn_dim, 1, MODEL_FFN_MAX},
        {"vocab_size", "vocab_size", c->vocab, 1, MODEL_VOCAB_MAX},
        {"context_length", "max_position_embeddings", c->context, 1, MODEL_CONTEXT_MAX},
        {"expert_count", "num_local_experts", c->n_experts, 0, MODEL_EXPERTS_MAX},
        {"expert_used_count", "num_experts_per_tok", c->n_experts_used, c->n_experts > 0,
         c->n_experts},
        {"expert_feed_forward_length", "moe_intermediate_size", c->expert_ffn_dim, c->n_experts > 0,
         MODEL_FFN_MAX},
    };
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (rules[i].value < rules[i].lo || rules[i].value > rules[i].hi)
            return err_set(err, ERR_FORMAT, "%s: %s is %d, not %d to %d", where,
                           is_gguf(c) ? rules[i].gguf : rules[i].hf, rules[i].value, rules[i].lo,
                           rules[i].hi);
    return ERR_OK;
}

struct float_rule { const char *gguf, *hf; float value; bool zero_ok; };

static int check_floats(const struct model_config *c, const char *where, struct err *err)
{
    const struct rope_config *r = c->rope;
    const struct float_rule rules[] = {
        {"attention.layer_norm_rms_epsilon", "rms_norm_eps", c->norm_eps, true},
        {"attention.scale", "query_pre_attn_scalar", c->q_scale, false},
        {"attn_logit_softcapping", "attn_logit_softcapping", c->attn_softcap, true},
        {"final_logit_softcapping", "final_logit_softcapping", c->final_softcap, true},
        {"rope.freq_base", "rope_theta", r[0].base, false},
        {"rope.freq_base_swa", "rope_local_base_freq", r[1].base, false},
        {"rope.scaling.factor", "rope_scaling.factor", r[0].factor, false},
        {"rope.scaling.attn_factor", "rope_scaling.attention_factor", r[0].attn_factor, false},
        {"rope.scaling.yarn_beta_fast", "rope_scaling.beta_fast", r[0].beta_fast, false},
        {"rope.scaling.yarn_beta_slow", "rope_scaling.beta_slow", r[0].beta_slow, false},
    };
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        float v = rules[i].value;
        if (!(isfinite(v) && (v > 0 || (v == 0 && rules[i].zero_ok))))
            return err_set(err, ERR_FORMAT, "%s: %s is %g, not a positive number", where,
                           is_gguf(c) ? rules[i].gguf : rules[i].hf, (double)v);
    }
    return ERR_OK;
}

static int check_rope(const struct model_config *c, const char *where, struct err *err)
{
    const struct rope_config *r = &c->rope[0];
    bool needs_original = r->scaling == SCALING_LLAMA3 || r->scaling == SCALING_YARN ||
                          r->scaling == SCALING_LONGROPE;
    if (needs_original && (r->original_context < 1 || r->original_context > MODEL_CONTEXT_MAX))
        return err_set(err, ERR_FORMAT, "%s: %s is %d, not a length of text", where,
                       is_gguf(c) ? "rope.scaling.original_context_length"
                                  : "original_max_position_embeddings", r->original_context);
    if (r->scaling == SCALING_LLAMA3 && !(r->low_freq_factor > 0 &&
                                          r->high_freq_factor > r->low_freq_factor))
        return err_set(err, ERR_FORMAT, "%s: rope_scaling.high_freq_factor %g is not above "
                       "low_freq_factor %g", where, (double)r->high_freq_factor,
                       (double)r->low_freq_factor);
    if (r->base <= 1)
        return err_set(err, ERR_FORMAT, "%s: %s is %g, not above 1", where,
                       is_gguf(c) ? "rope.freq_base" : "rope_theta", (double)r->base);
    if (r->scaling == SCALING_LONGROPE && !(r->short_factors && r->long_factors))
        return err_set(err, ERR_FORMAT, "%s: longrope needs short and long factors", where);
    const float *lists[] = {r->divisors, r->short_factors, r->long_factors};
    for (int l = 0; l < 3; l++)
        for (int i = 0; lists[l] && i < c->n_rot / 2; i++)
            if (!(isfinite(lists[l][i]) && lists[l][i] > 0))
                return err_set(err, ERR_FORMAT, "%s: rope factor %d is %g, not a positive number",
                               where, i, (double)lists[l][i]);
    return ERR_OK;
}

int modelcheck_all(const struct model_config *c, const char *where, struct err *err)
{
    TRY(check_ints(c, where, err));
    if (c->n_heads % c->n_kv_heads != 0)
        return err_set(err, ERR_FORMAT, "%s: %s is %d, no multiple of the %d KV heads", where,
                       is_gguf(c) ? "attention.head_count" : "num_attention_heads", c->n_heads,
                       c->n_kv_heads);
    TRY(check_floats(c, where, err));
    return check_rope(c, where, err);
}

double modelcheck_ln(double x)
{
    int exponent;
    double m = frexp(x, &exponent);     /* exact; m in [1/2, 1) */
    if (m < 0.70710678118654752) {
        m *= 2;
        exponent--;
    }
    /* ln m = 2 atanh(z), |z| < 0.172: 14 odd terms leave less than 1e-17. */
    double z = (m - 1) / (m + 1), z2 = z * z, sum = 0;
    for (int k = 27; k >= 1; k -= 2)
        sum = sum * z2 + 1.0 / k;
    return 2 * z * sum + exponent * 0.69314718055994531;
}

double modelcheck_yarn_mscale(double factor, double mscale)
{
    return factor > 1 ? 1 + 0.1 * mscale * modelcheck_ln(factor) : 1;
}

double modelcheck_longrope_scale(double s, double original)
{
    return s > 1 && original > 1 ? sqrt(1 + modelcheck_ln(s) / modelcheck_ln(original)) : 1;
}

const char *modelcheck_where(const char *path, char *buf, size_t cap)
{
    size_t n = strlen(path);
    if (n > 100)
        snprintf(buf, cap, "...%s", path + n - 97);
    else
        snprintf(buf, cap, "%s", path);
    return buf;
}
