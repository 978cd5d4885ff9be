#include "workers/models/hfconfig.h"

#include "workers/models/modelcheck.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Where keys are looked up: in `first`, then in `second` (the folder's root behind text_config). */
struct scope {
    const json_t *first, *second;
    const char *prefix;         /* "rope_scaling." in errors */
    const char *where;
    struct err *err;
};

/* NULL when the key is absent or null. */
static const json_t *find(const struct scope *s, const char *key)
{
    const json_t *v = json_object_get(s->first, key);
    if (!v)
        v = json_object_get(s->second, key);
    return v && !json_is_null(v) ? v : NULL;
}

static bool has_null(const struct scope *s, const char *key)
{
    const json_t *v = json_object_get(s->first, key);
    return (v ? v : json_object_get(s->second, key)) && !find(s, key);
}

static int missing(const struct scope *s, const char *key)
{
    return err_set(s->err, ERR_FORMAT, "%s: %s%s is missing", s->where, s->prefix, key);
}

/* fallback below lo: the key is required. */
static int read_int(const struct scope *s, const char *key, int fallback, int lo, int hi, int *out)
{
    const json_t *v = find(s, key);
    if (!v) {
        *out = fallback;
        return fallback < lo ? missing(s, key) : ERR_OK;
    }
    double d = json_number_value(v);
    if (!json_is_number(v) || !(d >= lo && d <= hi) || d != (double)(int)d)
        return err_set(s->err, ERR_FORMAT, "%s: %s%s is not a whole number of %d to %d", s->where,
                       s->prefix, key, lo, hi);
    *out = (int)d;
    return ERR_OK;
}

/* fallback NAN: the key is required. */
static int read_float(const struct scope *s, const char *key, double fallback, float *out)
{
    const json_t *v = find(s, key);
    if (!v) {
        *out = (float)fallback;
        return isnan(fallback) ? missing(s, key) : ERR_OK;
    }
    if (!json_is_number(v) || !isfinite((float)json_number_value(v)))
        return err_set(s->err, ERR_FORMAT, "%s: %s%s is not a number", s->where, s->prefix, key);
    *out = (float)json_number_value(v);
    return ERR_OK;
}

static int read_bool(const struct scope *s, const char *key, bool fallback, bool *out)
{
    const json_t *v = find(s, key);
    *out = v ? json_is_true(v) : fallback;
    if (v && !json_is_boolean(v))
        return err_set(s->err, ERR_FORMAT, "%s: %s%s is neither true nor false", s->where,
                       s->prefix, key);
    return ERR_OK;
}

static const char *read_string(const struct scope *s, const char *key)
{
    return json_string_value(find(s, key));
}

static int find_row(const struct scope *s, const struct arch **row)
{
    const char *type = read_string(s, "model_type");
    const json_t *classes = find(s, "architectures");
    const char *class_name = json_string_value(json_array_get(classes, 0));
    *row = type ? arch_of_hf(type) : class_name ? arch_of_hf_class(class_name) : NULL;
    char known[200];
    if (!*row && (type || class_name))
        return err_set(s->err, ERR_FORMAT, "%s: model_type \"%.40s\" is unknown (known: %s)",
                       s->where, type ? type : class_name, arch_list(false, known, sizeof known));
    return *row ? ERR_OK : missing(s, "model_type");
}

/* A folder's numbers must be weights as they are, or MXFP4. */
static int check_quantisation(const struct scope *s, const struct arch *row)
{
    const json_t *q = find(s, "quantization_config");
    const char *method = json_string_value(json_object_get(q, "quant_method"));
    if (!q || (method && strcmp(method, "mxfp4") == 0 && (row->flags & ARCH_EXPERT_BIAS)))
        return ERR_OK;
    return err_set(s->err, ERR_FORMAT, "%s: quantization_config.quant_method \"%.20s\" is not read: "
                   "take the unquantised folder or a GGUF file", s->where, method ? method : "");
}

static int read_activation(struct model_config *c, const struct scope *s)
{
    static const struct { const char *name; enum ffn_act act; } known[] = {
        {"silu", ACT_SILU}, {"swish", ACT_SILU}, {"gelu_pytorch_tanh", ACT_GELU_TANH},
        {"gelu_new", ACT_GELU_TANH}};
    bool alone;
    TRY(read_bool(s, "mlp_bias", false, &alone));
    if (alone)
        return err_set(s->err, ERR_FORMAT, "%s: mlp_bias true: no such layer here", s->where);
    TRY(read_bool(s, "use_bidirectional_attention", false, &alone));
    if (alone)
        return err_set(s->err, ERR_FORMAT, "%s: use_bidirectional_attention true: this model reads "
                       "both ways and cannot generate", s->where);
    if (c->act == ACT_SWIGLU_OSS) {
        float alpha;
        TRY(read_float(s, "swiglu_alpha", 1.702, &alpha));
        if (alpha != 1.702f)
            return err_set(s->err, ERR_FORMAT, "%s: swiglu_alpha is not 1.702", s->where);
        return read_float(s, "swiglu_limit", 7.0, &c->act_limit);
    }
    const char *name = read_string(s, "hidden_activation");
    if (!name)
        name = read_string(s, "hidden_act");
    for (size_t i = 0; name && i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].name, name) == 0) {
            c->act = known[i].act;
            return ERR_OK;
        }
    if (name)
        return err_set(s->err, ERR_FORMAT, "%s: hidden_act \"%.40s\" is unknown (known: silu, "
                       "gelu_pytorch_tanh)", s->where, name);
    return ERR_OK;
}

static int read_dims(struct model_config *c, const struct scope *s)
{
    const struct arch_defaults *d = &c->row->hf;
    TRY(read_int(s, "hidden_size", d->dim, 1, MODEL_DIM_MAX, &c->dim));
    TRY(read_int(s, "num_hidden_layers", d->layers, 1, MODEL_LAYERS_MAX, &c->n_layers));
    TRY(read_int(s, "num_attention_heads", d->heads, 1, MODEL_HEADS_MAX, &c->n_heads));
    int kv = d->kv_heads && !has_null(s, "num_key_value_heads") ? d->kv_heads : c->n_heads;
    TRY(read_int(s, "num_key_value_heads", kv, 1, MODEL_HEADS_MAX, &c->n_kv_heads));
    int head_dim = d->head_dim ? d->head_dim : c->dim / c->n_heads;
    TRY(read_int(s, "head_dim", head_dim, 1, MODEL_HEAD_DIM_MAX, &c->head_dim));
    c->value_dim = c->head_dim;
    TRY(read_int(s, "intermediate_size", d->ffn, 1, MODEL_FFN_MAX, &c->ffn_dim));
    TRY(read_int(s, "vocab_size", d->vocab, 1, MODEL_VOCAB_MAX, &c->vocab));
    TRY(read_int(s, "max_position_embeddings", d->context, 1, MODEL_CONTEXT_MAX, &c->context));
    TRY(read_float(s, "rms_norm_eps", d->eps ? d->eps : NAN, &c->norm_eps));
    float scalar;
    TRY(read_float(s, "query_pre_attn_scalar", d->q_scalar ? d->q_scalar : c->head_dim, &scalar));
    if (!d->q_scalar)
        scalar = (float)c->head_dim;
    if (!(scalar > 0))
        return err_set(s->err, ERR_FORMAT, "%s: query_pre_attn_scalar is not positive", s->where);
    c->q_scale = (float)(1 / sqrt((double)scalar));
    if (c->row->flags & ARCH_EMBED_SCALE)
        c->embed_scale = (float)sqrt((double)c->dim);
    bool no_cap = has_null(s, "attn_logit_softcapping");
    TRY(read_float(s, "attn_logit_softcapping", no_cap ? 0 : d->attn_softcap, &c->attn_softcap));
    no_cap = has_null(s, "final_logit_softcapping");
    TRY(read_float(s, "final_logit_softcapping", no_cap ? 0 : d->final_softcap, &c->final_softcap));
    bool bias;
    TRY(read_bool(s, "attention_bias", c->qkv_bias && c->o_bias, &bias));
    c->qkv_bias |= bias;
    c->o_bias |= bias;
    /* Without the key a folder without a head is taken as tied: old ones of tied models lack it. */
    return read_bool(s, "tie_word_embeddings", true, &c->tied);
}

static int read_experts(struct model_config *c, const struct scope *s)
{
    if (!(c->row->flags & ARCH_MOE))
        return ERR_OK;
    const char *count = find(s, "num_local_experts") ? "num_local_experts" : "num_experts";
    TRY(read_int(s, count, 0, 1, MODEL_EXPERTS_MAX, &c->n_experts));
    const char *used = find(s, "experts_per_token") ? "experts_per_token" : "num_experts_per_tok";
    TRY(read_int(s, used, 0, 1, c->n_experts, &c->n_experts_used));
    c->expert_ffn_dim = c->ffn_dim;
    if (!(c->row->flags & ARCH_EXPERT_FFN_IS_FFN))
        TRY(read_int(s, "moe_intermediate_size", 0, 1, MODEL_FFN_MAX, &c->expert_ffn_dim));
    if (!c->moe_renormalise)
        TRY(read_bool(s, "norm_topk_prob", false, &c->moe_renormalise));
    int sparse;
    TRY(read_int(s, "decoder_sparse_step", 1, 1, MODEL_LAYERS_MAX, &sparse));
    for (int i = 0; i < c->n_layers; i++)
        c->layer[i].moe = (i + 1) % sparse == 0;
    const json_t *dense = find(s, "mlp_only_layers");
    for (size_t i = 0; i < json_array_size(dense); i++) {
        double d = json_number_value(json_array_get(dense, i));
        if (d >= 0 && d < c->n_layers)
            c->layer[(int)d].moe = false;
    }
    return ERR_OK;
}

static int read_windows(struct model_config *c, const struct scope *s)
{
    int window, period, global_until;
    int fallback = has_null(s, "sliding_window") ? 0 : c->row->hf.window;
    TRY(read_int(s, "sliding_window", fallback, 0, MODEL_CONTEXT_MAX, &window));
    bool used;
    TRY(read_bool(s, "use_sliding_window", !(c->row->flags & ARCH_WINDOW_OPT_IN), &used));
    if ((!used && (c->row->flags & ARCH_WINDOW_OPT_IN)) || (c->row->flags & ARCH_NO_WINDOW))
        window = 0;
    const char *pattern = find(s, "sliding_window_pattern") ? "sliding_window_pattern"
                                                            : "_sliding_window_pattern";
    TRY(read_int(s, pattern, c->row->window_period, 0, MODEL_LAYERS_MAX, &period));
    TRY(read_int(s, "max_window_layers", 28, 0, 1 << 20, &global_until));
    if ((c->row->flags & (ARCH_WINDOW_OPT_IN | ARCH_MOE)) != ARCH_WINDOW_OPT_IN)
        global_until = 0;
    const json_t *types = find(s, "layer_types");
    if (types && json_array_size(types) != (size_t)c->n_layers)
        return err_set(s->err, ERR_FORMAT, "%s: layer_types has %zu entries for %d layers", s->where,
                       json_array_size(types), c->n_layers);
    for (int i = 0; i < c->n_layers; i++) {
        bool local = i >= global_until && (period == 0 || (i + 1) % period != 0);
        if (types) {
            const char *type = json_string_value(json_array_get(types, (size_t)i));
            local = type && strcmp(type, "sliding_attention") == 0;
            if (!local && !(type && strcmp(type, "full_attention") == 0))
                return err_set(s->err, ERR_FORMAT, "%s: layer_types[%d] is neither sliding_attention "
                               "nor full_attention", s->where, i);
        }
        modelcheck_layer(c, i, local, window);
    }
    return ERR_OK;
}

static int read_factors(struct model_config *c, const struct scope *s, const char *key,
                        const float **out)
{
    const json_t *list = find(s, key);
    size_t n = (size_t)c->n_rot / 2;
    if (!json_is_array(list) || json_array_size(list) != n)
        return err_set(s->err, ERR_FORMAT, "%s: %s%s is not a list of %zu numbers", s->where,
                       s->prefix, key, n);
    float *f = modelcheck_factors(c);
    for (size_t i = 0; i < n; i++)
        f[i] = (float)json_number_value(json_array_get(list, i));   /* 0 for others: refused later */
    *out = f;
    return ERR_OK;
}

static int read_yarn(struct model_config *c, const struct scope *s, struct rope_config *r)
{
    float scale, m, m_all;
    int extended = (int)fmin((double)r->factor * r->original_context, MODEL_CONTEXT_MAX);
    if (c->context < extended)
        c->context = extended;
    TRY(read_float(s, "beta_fast", 32, &r->beta_fast));
    TRY(read_float(s, "beta_slow", 1, &r->beta_slow));
    TRY(read_bool(s, "truncate", true, &r->truncate));
    TRY(read_float(s, "mscale", 0, &m));
    TRY(read_float(s, "mscale_all_dim", 0, &m_all));
    scale = (float)(m != 0 && m_all != 0 ? modelcheck_yarn_mscale(r->factor, m) /
                                               modelcheck_yarn_mscale(r->factor, m_all)
                                         : modelcheck_yarn_mscale(r->factor, 1));
    return read_float(s, "attention_factor", scale, &r->attn_factor);
}

static int read_longrope(struct model_config *c, const struct scope *s, struct rope_config *r)
{
    TRY(read_factors(c, s, "short_factor", &r->short_factors));
    TRY(read_factors(c, s, "long_factor", &r->long_factors));
    double ratio = find(s, "factor") ? (double)r->factor
                                     : (double)c->context / r->original_context;
    double scale = modelcheck_longrope_scale(ratio, r->original_context);
    return read_float(s, "attention_factor", scale, &r->attn_factor);
}

/* One object of rope parameters (NULL: none) into r. */
static int read_rope(struct model_config *c, const struct scope *top, const json_t *object,
                     double base, struct rope_config *r)
{
    static const struct { const char *name; enum rope_scaling scaling; } known[] = {
        {"default", SCALING_NONE}, {"none", SCALING_NONE}, {"linear", SCALING_LINEAR},
        {"llama3", SCALING_LLAMA3}, {"yarn", SCALING_YARN}, {"longrope", SCALING_LONGROPE},
        {"su", SCALING_LONGROPE},
        {"dynamic", SCALING_NONE}};     /* changes nothing up to max_position_embeddings */
    struct scope s = {.first = object, .prefix = "rope_scaling.", .where = top->where,
                      .err = top->err};
    TRY(read_float(&s, "rope_theta", base, &r->base));
    const char *type = read_string(&s, "rope_type");
    if (!type)
        type = read_string(&s, "type");
    size_t i = 0, n = sizeof known / sizeof *known;
    while (type && i < n && strcmp(known[i].name, type) != 0)
        i++;
    if (i == n)
        return err_set(s.err, ERR_FORMAT, "%s: rope_scaling.rope_type \"%.40s\" is unknown (known: "
                       "default, linear, llama3, yarn, longrope)", s.where, type);
    r->scaling = type ? known[i].scaling : SCALING_NONE;
    if ((c->row->flags & ARCH_LONGROPE) && find(&s, "short_factor"))
        r->scaling = SCALING_LONGROPE;
    if (r->scaling == SCALING_NONE)
        return ERR_OK;
    TRY(read_float(&s, "factor", r->scaling == SCALING_LONGROPE ? 1.0 : (double)NAN, &r->factor));
    int original;
    TRY(read_int(&s, "original_max_position_embeddings", c->context, 1, MODEL_CONTEXT_MAX,
                 &original));
    TRY(read_int(top, "original_max_position_embeddings", original, 1, MODEL_CONTEXT_MAX,
                 &r->original_context));
    TRY(read_float(&s, "low_freq_factor", 1, &r->low_freq_factor));
    TRY(read_float(&s, "high_freq_factor", 4, &r->high_freq_factor));
    return r->scaling == SCALING_YARN       ? read_yarn(c, &s, r)
           : r->scaling == SCALING_LONGROPE ? read_longrope(c, &s, r)
                                            : ERR_OK;
}

/* rope_scaling (old) or rope_parameters (new), the latter perhaps one object per layer type. */
static const json_t *rope_object(const struct scope *s, const char *layer_type)
{
    const json_t *all = find(s, "rope_scaling");
    if (json_object_size(all) == 0)
        all = find(s, "rope_parameters");
    const json_t *one = json_object_get(all, layer_type);
    if (json_is_object(one))
        return one;
    bool nested = json_is_object(json_object_get(all, "full_attention")) ||
                  json_is_object(json_object_get(all, "sliding_attention"));
    return nested ? NULL : all;
}

static int read_n_rot(struct model_config *c, const struct scope *s)
{
    struct scope in = {.first = rope_object(s, "full_attention"), .second = s->first, .prefix = "",
                       .where = s->where, .err = s->err};
    float part;
    TRY(read_float(&in, "partial_rotary_factor", 1, &part));
    if (!(part > 0 && part <= 1))
        return err_set(s->err, ERR_FORMAT, "%s: partial_rotary_factor is not above 0 and up to 1",
                       s->where);
    c->n_rot = (int)(c->head_dim * (double)part);
    return ERR_OK;
}

/* Absent, null, or an object; anything else would be read as none. */
static int check_rope_objects(const struct scope *s)
{
    static const char *const keys[] = {"rope_scaling", "rope_parameters"};
    for (int i = 0; i < 2; i++) {
        const json_t *v = find(s, keys[i]);
        if (v != NULL && !json_is_object(v))
            return err_set(s->err, ERR_FORMAT, "%s: %s is not an object", s->where, keys[i]);
    }
    return ERR_OK;
}

static int read_ropes(struct model_config *c, const struct scope *s)
{
    float base;
    TRY(check_rope_objects(s));
    TRY(read_float(s, "rope_theta", c->row->hf.rope_base, &base));
    TRY(read_rope(c, s, rope_object(s, "full_attention"), base, &c->rope[0]));
    c->rope[1] = c->rope[0];
    if (!(c->row->flags & ARCH_LOCAL_ROPE))
        return ERR_OK;
    c->rope[1].scaling = SCALING_NONE;
    c->rope[1].factor = c->rope[1].attn_factor = 1;
    TRY(read_float(s, "rope_local_base_freq", 10000, &base));
    const json_t *full = rope_object(s, "full_attention");
    const json_t *local = rope_object(s, "sliding_attention");
    return read_rope(c, s, local == full ? NULL : local, base, &c->rope[1]);
}

static int read_ids(struct model_config *c, const struct scope *s, const char *key)
{
    const json_t *v = find(s, key);
    size_t n = json_is_array(v) ? json_array_size(v) : v ? 1 : 0;
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_is_array(v) ? json_array_get(v, i) : v;
        if (!json_is_number(id))
            return err_set(s->err, ERR_FORMAT, "%s: %s is neither an id nor a list of ids", s->where,
                           key);
        modelcheck_eos(c, json_number_value(id));
    }
    return ERR_OK;
}

static int read_special(struct model_config *c, const struct scope *s, const char *generation,
                        size_t n_generation)
{
    const json_t *bos = find(s, "bos_token_id");
    double id = json_number_value(json_is_array(bos) ? json_array_get(bos, 0) : bos);
    c->bos = bos && id >= 0 && id < c->vocab ? (int)id : -1;
    TRY(read_ids(c, s, "eos_token_id"));
    struct scope outer = {.first = s->second, .prefix = "", .where = s->where, .err = s->err};
    TRY(read_ids(c, &outer, "eos_token_id"));       /* a multimodal root may name more of them */
    if (!generation)
        return ERR_OK;
    json_error_t e;
    json_t *g = json_loadb(generation, n_generation, JSON_DECODE_INT_AS_REAL, &e);
    if (!g)
        return err_set(s->err, ERR_FORMAT, "generation_config.json: line %d: %s", e.line, e.text);
    struct scope in = {.first = g, .prefix = "", .where = "generation_config.json", .err = s->err};
    int rc = read_ids(c, &in, "eos_token_id");
    json_decref(g);
    return rc;
}

static int parse(struct model_config *c, const struct scope *s, const char *generation,
                 size_t n_generation)
{
    const struct arch *row;
    TRY(find_row(s, &row));
    modelcheck_start(c, row, "hf");
    snprintf(c->prefix, sizeof c->prefix, "model.");
    c->multimodal = s->first != s->second;
    const char *name = read_string(s, "_name_or_path");
    snprintf(c->name, sizeof c->name, "%s", name ? name : "");
    TRY(check_quantisation(s, row));
    TRY(read_dims(c, s));
    TRY(read_activation(c, s));
    TRY(read_n_rot(c, s));
    TRY(modelcheck_reserve(c, s->where, s->err));
    TRY(read_experts(c, s));
    TRY(read_windows(c, s));
    TRY(read_ropes(c, s));
    TRY(read_special(c, s, generation, n_generation));
    return modelcheck_all(c, s->where, s->err);
}

int hfconfig_parse(struct model_config *c, const char *text, size_t n, const char *generation,
                   size_t n_generation, const char *where, struct err *err)
{
    memset(c, 0, sizeof *c);
    json_error_t e;
    /* Integers as reals: some files hold lengths of 10^30, which would not parse otherwise. */
    json_t *root = json_loadb(text, n, JSON_DECODE_INT_AS_REAL, &e);
    if (!root)
        return err_set(err, ERR_FORMAT, "%s: line %d: %s", where, e.line, e.text);
    if (!json_is_object(root)) {
        json_decref(root);
        return err_set(err, ERR_FORMAT, "%s: not a JSON object", where);
    }
    const json_t *inner = json_object_get(root, "text_config");
    struct scope s = {.first = json_is_object(inner) ? inner : root, .second = root, .prefix = "",
                      .where = where, .err = err};
    int rc = parse(c, &s, generation, n_generation);
    json_decref(root);
    return rc;
}
