#include "workers/models/ggufconfig.h"

#include "workers/models/modelcheck.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct source {
    struct tensorfile *t;
    const char *arch;           /* general.architecture: the keys' prefix */
    const char *where;
    struct err *err;
};

static const struct meta_value *find(const struct source *s, const char *key)
{
    char full[96];
    snprintf(full, sizeof full, "%s.%s", s->arch, key);
    return tensorfile_meta(s->t, full);
}

static int missing(const struct source *s, const char *key)
{
    return err_set(s->err, ERR_FORMAT, "%s: %s.%s is missing", s->where, s->arch, key);
}

/* Element i of an array of whole numbers or truth values (GGUF type ids), NAN for other types. */
static double element(const struct meta_value *v, uint64_t i)
{
    static const int width[] = {1, 1, 2, 2, 4, 4, 0, 1, 0, 0, 8, 8};
    if (v->elem_type < 0 || v->elem_type > 11 || !width[v->elem_type] || !v->array)
        return NAN;
    int n = width[v->elem_type];
    const uint8_t *p = (const uint8_t *)v->array + i * (uint64_t)n;
    uint64_t u = 0;
    for (int b = 0; b < n; b++)
        u |= (uint64_t)p[b] << (8 * b);
    bool is_signed = v->elem_type == 1 || v->elem_type == 3 || v->elem_type == 5 ||
                     v->elem_type == 11;
    if (is_signed && n < 8 && (u >> (8 * n - 1)) & 1)
        return (double)u - (double)(UINT64_C(1) << (8 * n));
    return is_signed ? (double)(int64_t)u : (double)u;
}

/* A whole number, or one per layer that are all equal: this decoder has one shape for all layers.
 * fallback below lo: the key is required. */
static int read_int(const struct source *s, const char *key, int fallback, int lo, int hi, int *out)
{
    const struct meta_value *v = find(s, key);
    *out = fallback;
    if (!v)
        return fallback < lo ? missing(s, key) : ERR_OK;
    bool array = v->kind == META_ARRAY && v->len > 0;
    double d = v->kind == META_INT ? (double)v->i : array ? element(v, 0) : (double)NAN;
    for (uint64_t i = 1; array && i < v->len; i++)
        if (element(v, i) != d)
            return err_set(s->err, ERR_FORMAT, "%s: %s.%s differs between layers, which no known "
                           "architecture here has", s->where, s->arch, key);
    if (!(d >= lo && d <= hi))
        return err_set(s->err, ERR_FORMAT, "%s: %s.%s is not a whole number of %d to %d", s->where,
                       s->arch, key, lo, hi);
    *out = (int)d;
    return ERR_OK;
}

/* fallback NAN: the key is required. */
static int read_float(const struct source *s, const char *key, double fallback, float *out)
{
    const struct meta_value *v = find(s, key);
    *out = (float)fallback;
    if (!v)
        return isnan(fallback) ? missing(s, key) : ERR_OK;
    double d = v->kind == META_FLOAT ? v->f : v->kind == META_INT ? (double)v->i : (double)NAN;
    if (!isfinite((float)d))
        return err_set(s->err, ERR_FORMAT, "%s: %s.%s is not a number", s->where, s->arch, key);
    *out = (float)d;
    return ERR_OK;
}

static const char *read_string(const struct source *s, const char *key)
{
    const struct meta_value *v = tensorfile_meta(s->t, key);
    return v && v->kind == META_STRING ? v->str : NULL;
}

static int read_vocab(struct model_config *c, const struct source *s)
{
    char name[64];
    const struct meta_value *tokens = tensorfile_meta(s->t, "tokenizer.ggml.tokens");
    const struct tensor_entry *embed =
        tensorfile_find(s->t, arch_tensor_name(c, SLOT_EMBED, 0, 0, name, sizeof name));
    int64_t rows = embed && embed->n_dims == 2 ? embed->shape[0] : 0;
    uint64_t n = tokens && tokens->kind == META_ARRAY ? tokens->len : 0;
    /* The token list counts; vocab_size is a leftover of the converter in files that have both. */
    if (n > 0 && n <= MODEL_VOCAB_MAX) {
        c->vocab = (int)n;
        return ERR_OK;
    }
    return read_int(s, "vocab_size", rows <= MODEL_VOCAB_MAX ? (int)rows : 0, 1, MODEL_VOCAB_MAX,
                    &c->vocab);
}

static int read_dims(struct model_config *c, const struct source *s)
{
    TRY(read_int(s, "embedding_length", 0, 1, MODEL_DIM_MAX, &c->dim));
    TRY(read_int(s, "block_count", 0, 1, MODEL_LAYERS_MAX, &c->n_layers));
    TRY(read_int(s, "attention.head_count", 0, 1, MODEL_HEADS_MAX, &c->n_heads));
    TRY(read_int(s, "attention.head_count_kv", c->n_heads, 1, MODEL_HEADS_MAX, &c->n_kv_heads));
    TRY(read_int(s, "attention.key_length", c->dim / c->n_heads, 1, MODEL_HEAD_DIM_MAX,
                 &c->head_dim));
    TRY(read_int(s, "attention.value_length", c->dim / c->n_heads, 1, MODEL_HEAD_DIM_MAX,
                 &c->value_dim));
    TRY(read_int(s, "rope.dimension_count", c->head_dim, 1, MODEL_HEAD_DIM_MAX, &c->n_rot));
    TRY(read_int(s, "context_length", 0, 1, MODEL_CONTEXT_MAX, &c->context));
    TRY(read_float(s, "attention.layer_norm_rms_epsilon", NAN, &c->norm_eps));
    TRY(read_float(s, "attn_logit_softcapping", c->row->hf.attn_softcap, &c->attn_softcap));
    TRY(read_float(s, "final_logit_softcapping", c->row->hf.final_softcap, &c->final_softcap));
    /* The converter writes no scale: the 27B gemmas, told by their depth, scale by dim / heads. */
    double scalar = c->n_layers == c->row->big_layers ? (double)c->dim / c->n_heads : c->head_dim;
    TRY(read_float(s, "attention.scale", 1 / sqrt(scalar), &c->q_scale));
    if (c->row->flags & ARCH_EMBED_SCALE)
        c->embed_scale = (float)sqrt((double)c->dim);
    return read_vocab(c, s);
}

static int read_experts(struct model_config *c, const struct source *s)
{
    TRY(read_int(s, "expert_count", 0, (c->row->flags & ARCH_MOE) != 0, MODEL_EXPERTS_MAX,
                 &c->n_experts));
    int ffn_required = c->n_experts > 0 ? -1 : 0;
    TRY(read_int(s, "feed_forward_length", ffn_required, ffn_required + 1, MODEL_FFN_MAX,
                 &c->ffn_dim));
    if (c->n_experts == 0)
        return ERR_OK;
    TRY(read_int(s, "expert_used_count", 0, 1, c->n_experts, &c->n_experts_used));
    TRY(read_int(s, "expert_feed_forward_length", c->ffn_dim, 1, MODEL_FFN_MAX,
                 &c->expert_ffn_dim));
    if (c->ffn_dim == 0)
        c->ffn_dim = c->expert_ffn_dim;
    int gate, shared;
    TRY(read_int(s, "expert_gating_func", 0, 0, 255, &gate));
    TRY(read_int(s, "expert_shared_count", 0, 0, MODEL_EXPERTS_MAX, &shared));
    if (gate == 2 || gate > 3 || shared > 0)
        return err_set(s->err, ERR_FORMAT, "%s: %s.%s: this kind of expert layer is not known here",
                       s->where, s->arch, shared > 0 ? "expert_shared_count" : "expert_gating_func");
    if (gate != 0)
        c->moe_gate = gate == 3 ? MOE_SOFTMAX_CHOSEN : MOE_SOFTMAX_ALL;
    const struct meta_value *norm = find(s, "expert_weights_norm");
    /* Without the key the one family that may leave weights unnormalised was trained normalised. */
    c->moe_renormalise = norm && norm->kind == META_BOOL ? norm->i != 0 : true;
    for (int i = 0; i < c->n_layers; i++)
        c->layer[i].moe = true;
    return ERR_OK;
}

static int read_windows(struct model_config *c, const struct source *s)
{
    int window = 0, period = c->row->window_period;
    if (c->row->flags & ARCH_WINDOW_GGUF)
        TRY(read_int(s, "attention.sliding_window", c->row->hf.window, 0, MODEL_CONTEXT_MAX,
                     &window));
    const struct meta_value *pattern = find(s, "attention.sliding_window_pattern");
    bool listed = pattern && pattern->kind == META_ARRAY;
    if (pattern && !listed)
        TRY(read_int(s, "attention.sliding_window_pattern", 0, 0, MODEL_LAYERS_MAX, &period));
    if (listed && pattern->len != (uint64_t)c->n_layers)
        return err_set(s->err, ERR_FORMAT, "%s: %s.attention.sliding_window_pattern has %llu entries "
                       "for %d layers", s->where, s->arch, (unsigned long long)pattern->len,
                       c->n_layers);
    for (int i = 0; i < c->n_layers; i++) {
        bool local = listed ? element(pattern, (uint64_t)i) == 1
                            : period == 0 || (i + 1) % period != 0;
        modelcheck_layer(c, i, local, window);
    }
    return ERR_OK;
}

/* A tensor of n_rot / 2 factors; *out stays NULL when the file has none. */
static int read_factors(struct model_config *c, const struct source *s, enum slot slot,
                        const float **out)
{
    char name[64];
    const struct tensor_entry *e =
        tensorfile_find(s->t, arch_tensor_name(c, slot, 0, 0, name, sizeof name));
    if (!e)
        return ERR_OK;
    if (e->type != DT_F32 || e->n_elements != c->n_rot / 2)
        return err_set(s->err, ERR_FORMAT, "%s: tensor %s is not %d numbers of type f32", s->where,
                       name, c->n_rot / 2);
    float *f = modelcheck_factors(c);
    TRY(tensorfile_read(s->t, e, 0, f, e->bytes, s->err));
    *out = f;
    return ERR_OK;
}

static int read_scaling(struct model_config *c, const struct source *s, struct rope_config *r)
{
    static const struct { const char *name; enum rope_scaling scaling; } known[] = {
        {"none", SCALING_NONE}, {"linear", SCALING_LINEAR}, {"yarn", SCALING_YARN},
        {"longrope", SCALING_LONGROPE}};
    char key[64];
    snprintf(key, sizeof key, "%s.rope.scaling.type", s->arch);
    const char *type = read_string(s, key);
    size_t i = 0, n = sizeof known / sizeof *known;
    while (type && i < n && strcmp(known[i].name, type) != 0)
        i++;
    if (i == n)
        return err_set(s->err, ERR_FORMAT, "%s: %s \"%.40s\" is unknown (known: none, linear, yarn, "
                       "longrope)", s->where, key, type);
    r->scaling = type ? known[i].scaling : SCALING_LINEAR;
    float old;
    TRY(read_float(s, "rope.scale_linear", 1, &old));
    TRY(read_float(s, "rope.scaling.factor", old, &r->factor));
    if (r->scaling == SCALING_LINEAR && (r->factor == 1 || r->factor == 0))
        r->scaling = SCALING_NONE;
    if (r->factor == 0)
        r->factor = 1;
    return ERR_OK;
}

/* cos and sin are multiplied by what the two factors and the scaling's own formula make. */
static int read_attn_factor(struct model_config *c, const struct source *s, struct rope_config *r)
{
    float factor, yarn_factor;
    bool given = find(s, "rope.scaling.attn_factor") != NULL;
    TRY(read_float(s, "rope.scaling.attn_factor", 1, &factor));
    TRY(read_float(s, "rope.scaling.yarn_attn_factor", 1, &yarn_factor));
    if (r->scaling == SCALING_YARN) {
        r->attn_factor = (float)((double)factor * yarn_factor *
                                 modelcheck_yarn_mscale(r->factor, 1));
    } else if (r->scaling == SCALING_LONGROPE) {
        double ratio = (double)c->context / r->original_context;
        r->attn_factor = given ? factor
                               : (float)modelcheck_longrope_scale(ratio, r->original_context);
    }
    return ERR_OK;
}

static int read_ropes(struct model_config *c, const struct source *s)
{
    struct rope_config *r = &c->rope[0];
    TRY(read_float(s, "rope.freq_base", 10000, &r->base));
    TRY(read_scaling(c, s, r));
    TRY(read_int(s, "rope.scaling.original_context_length", c->context, 1, MODEL_CONTEXT_MAX,
                 &r->original_context));
    TRY(read_float(s, "rope.scaling.yarn_beta_fast", 32, &r->beta_fast));
    TRY(read_float(s, "rope.scaling.yarn_beta_slow", 1, &r->beta_slow));
    TRY(read_factors(c, s, SLOT_ROPE_DIVISORS, &r->divisors));
    TRY(read_factors(c, s, SLOT_ROPE_SHORT, &r->short_factors));
    TRY(read_factors(c, s, SLOT_ROPE_LONG, &r->long_factors));
    if (r->short_factors && r->long_factors)
        r->scaling = SCALING_LONGROPE;          /* the two tensors are the only sign */
    TRY(read_attn_factor(c, s, r));
    if (r->scaling == SCALING_YARN)
        c->context = (int)fmax(c->context, fmin((double)r->factor * r->original_context,
                                                MODEL_CONTEXT_MAX));
    c->rope[1] = *r;
    if (c->row->flags & ARCH_LOCAL_ROPE) {
        c->rope[1].scaling = SCALING_NONE;
        c->rope[1].factor = c->rope[1].attn_factor = 1;
        TRY(read_float(s, "rope.freq_base_swa", 10000, &c->rope[1].base));
    }
    return ERR_OK;
}

static bool string_is(const struct meta_value *tokens, uint64_t i, const char *text)
{
    return tokens->string_lens[i] == strlen(text) &&
           memcmp(tokens->strings[i], text, strlen(text)) == 0;
}

/* Many files name one end token although chats end with another: control tokens (type 3) that are
 * known to end a turn count too. gpt-oss's <|end|> ends a message, not its answer. */
static void find_turn_ends(struct model_config *c, const struct source *s)
{
    static const char *const ends[] = {"<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>",
                                       "<|endoftext|>", "<|eom_id|>", "<|return|>", "<|call|>"};
    const struct meta_value *tokens = tensorfile_meta(s->t, "tokenizer.ggml.tokens");
    const struct meta_value *types = tensorfile_meta(s->t, "tokenizer.ggml.token_type");
    if (!tokens || !tokens->strings || !types || types->kind != META_ARRAY ||
        types->len != tokens->len)
        return;
    for (uint64_t i = 0; i < tokens->len; i++) {
        if (element(types, i) != 3)
            continue;
        for (size_t j = 0; j < sizeof ends / sizeof *ends; j++)
            if (string_is(tokens, i, ends[j]) && !(c->sinks && strcmp(ends[j], "<|end|>") == 0))
                modelcheck_eos(c, (double)i);
    }
}

static void read_special(struct model_config *c, const struct source *s)
{
    static const char *const keys[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const struct meta_value *v = tensorfile_meta(s->t, keys[i]);
        if (v && v->kind == META_INT)
            modelcheck_eos(c, (double)v->i);
    }
    find_turn_ends(c, s);
    const struct meta_value *bos = tensorfile_meta(s->t, "tokenizer.ggml.bos_token_id");
    c->bos = bos && bos->kind == META_INT && bos->i >= 0 && bos->i < c->vocab ? (int)bos->i : -1;
}

int ggufconfig_parse(struct model_config *c, struct tensorfile *t, const char *where,
                     struct err *err)
{
    struct source s = {.t = t, .where = where, .err = err};
    char known[200];
    memset(c, 0, sizeof *c);
    s.arch = read_string(&s, "general.architecture");
    if (!s.arch)
        return err_set(err, ERR_FORMAT, "%s: general.architecture is missing", where);
    const struct arch *row = arch_of_gguf(s.arch);
    if (!row)
        return err_set(err, ERR_FORMAT, "%s: general.architecture \"%.40s\" is unknown (known: %s)",
                       where, s.arch, arch_list(true, known, sizeof known));
    modelcheck_start(c, row, "gguf");
    c->tied = true;
    const char *name = read_string(&s, "general.name");
    snprintf(c->name, sizeof c->name, "%s", name ? name : "");
    TRY(read_dims(c, &s));
    TRY(modelcheck_reserve(c, where, err));
    TRY(read_experts(c, &s));
    TRY(read_windows(c, &s));
    TRY(read_ropes(c, &s));
    read_special(c, &s);
    return modelcheck_all(c, where, err);
}
