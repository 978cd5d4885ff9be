#include "workers/models/exportconfig.h"

#include "workers/models/exporttensors.h"
#include "workers/models/modelcheck.h"
#include "workers/weights/gguf.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* "ARCH.key" in a buffer of its own. */
struct key { char text[96]; };

static struct key of(const struct arch *a, const char *name)
{
    struct key k;
    snprintf(k.text, sizeof k.text, "%s.%s", a->gguf, name);
    return k;
}

#define U32(name, v) ggufwriter_u32(w, of(a, name).text, (uint32_t)(v))
#define F32(name, v) ggufwriter_f32(w, of(a, name).text, (v))
#define STRING(name, v) ggufwriter_string(w, of(a, name).text, v, strlen(v))

static void put_dims(struct ggufwriter *w, const struct arch *a, const struct model_config *c)
{
    U32("block_count", c->n_layers);
    U32("context_length", c->context);
    U32("embedding_length", c->dim);
    U32("feed_forward_length", c->ffn_dim);
    U32("attention.head_count", c->n_heads);
    U32("attention.head_count_kv", c->n_kv_heads);
    U32("attention.key_length", c->head_dim);
    U32("attention.value_length", c->value_dim);
    F32("attention.layer_norm_rms_epsilon", c->norm_eps);
    U32("vocab_size", c->vocab);
}

static void put_experts(struct ggufwriter *w, const struct arch *a, const struct model_config *c)
{
    if (c->n_experts == 0)
        return;
    U32("expert_count", c->n_experts);
    U32("expert_used_count", c->n_experts_used);
    if (strcmp(a->gguf, "llama") != 0)
        U32("expert_feed_forward_length", c->expert_ffn_dim);
    if (!c->moe_renormalise && c->moe_gate == MOE_SOFTMAX_ALL)  /* readers renormalise unless told */
        ggufwriter_bool(w, of(a, "expert_weights_norm").text, false);
}

/* YaRN readers multiply attn_factor by 1 + 0.1 ln factor themselves. */
static void put_yarn(struct ggufwriter *w, const struct arch *a, const struct rope_config *r)
{
    double own = r->attn_factor / modelcheck_yarn_mscale(r->factor, 1);
    if (r->beta_fast != 32 || r->beta_slow != 1 || strcmp(a->gguf, "gpt-oss") == 0) {
        F32("rope.scaling.yarn_beta_fast", r->beta_fast);
        F32("rope.scaling.yarn_beta_slow", r->beta_slow);
    }
    if (fabs(own - 1) > 1e-6)
        F32("rope.scaling.yarn_attn_factor", (float)own);
}

static void put_rope(struct ggufwriter *w, const struct arch *a, const struct model_config *c)
{
    const struct rope_config *r = &c->rope[0];
    U32("rope.dimension_count", c->n_rot);
    F32("rope.freq_base", r->base);
    if (a->flags & ARCH_LOCAL_ROPE)
        F32("rope.freq_base_swa", c->rope[1].base);
    if (r->scaling == SCALING_LINEAR || r->scaling == SCALING_YARN) {
        STRING("rope.scaling.type", r->scaling == SCALING_YARN ? "yarn" : "linear");
        F32("rope.scaling.factor", r->factor);
    }
    if (r->scaling == SCALING_YARN || r->scaling == SCALING_LONGROPE)
        U32("rope.scaling.original_context_length", r->original_context);
    if (r->scaling == SCALING_YARN)
        put_yarn(w, a, r);
    if (r->scaling == SCALING_LONGROPE)
        F32("rope.scaling.attn_factor", r->attn_factor);
}

/* Local layers: the window, and which layers where that is not the architecture's usual pattern. */
static void put_windows(struct ggufwriter *w, const struct arch *a, const struct model_config *c)
{
    uint8_t local[MODEL_LAYERS_MAX];
    int window = 0;
    bool usual = true;
    for (int i = 0; i < c->n_layers; i++) {
        window = c->layer[i].window > window ? c->layer[i].window : window;
        local[i] = c->layer[i].window > 0;
        usual &= local[i] == (a->window_period == 0 || (i + 1) % a->window_period != 0);
    }
    if (!(a->flags & ARCH_WINDOW_GGUF))
        return;         /* this architecture has no window in GGUF: a limit of the format */
    U32("attention.sliding_window", window);
    if (window > 0 && !usual)
        ggufwriter_array(w, of(a, "attention.sliding_window_pattern").text, GGUF_BOOL, local,
                         (uint64_t)c->n_layers);
}

static void put_scales(struct ggufwriter *w, const struct arch *a, const struct model_config *c)
{
    int head = a->big_layers == c->n_layers && a->big_layers > 0 ? c->dim / c->n_heads : c->head_dim;
    if (fabs((double)c->q_scale * sqrt((double)head) - 1) > 1e-5)
        F32("attention.scale", c->q_scale);
    if (c->attn_softcap > 0)
        F32("attn_logit_softcapping", c->attn_softcap);
    if (c->final_softcap > 0)
        F32("final_logit_softcapping", c->final_softcap);
}

static int check_sayable(const struct model_config *c, struct err *err)
{
    bool moe = c->n_experts > 0;
    for (int i = 0; i < c->n_layers; i++)
        if (c->layer[i].moe != moe)
            return err_set(err, ERR_FORMAT, "%.90s: layer %d is %s, others are not: GGUF cannot say that",
                           c->name, i, c->layer[i].moe ? "of experts" : "dense");
    return ERR_OK;
}

int exportconfig_write(struct ggufwriter *w, const struct model_config *c, struct err *err)
{
    const struct arch *a = exporttensors_arch(c);
    TRY(check_sayable(c, err));
    ggufwriter_string(w, "general.architecture", a->gguf, strlen(a->gguf));
    ggufwriter_string(w, "general.type", "model", 5);
    ggufwriter_string(w, "general.name", c->name, strlen(c->name));
    put_dims(w, a, c);
    put_experts(w, a, c);
    put_rope(w, a, c);
    put_windows(w, a, c);
    put_scales(w, a, c);
    return ERR_OK;
}
