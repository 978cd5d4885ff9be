/* Descriptions from config.json and from GGUF metadata: conventions against what transformers makes of
 * them (tests/golden/configs.json), and one message for each number that cannot be. */
#include "workers/models/modelconfig.h"

#include "tests/unit/filebytes.h"
#include "workers/models/archs.h"
#include "workers/models/hfconfig.h"
#include "workers/models/modelcheck.h"
#include "workers/models/textfile.h"

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/stat.h>
#include <cmocka.h>

/* --- conventions */

static double number(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

static void same_rope(const struct model_config *c, const struct rope_config *r, const json_t *e,
                      const char *name)
{
    bool ok = (int)r->scaling == (int)number(e, "scaling") && r->base == (float)number(e, "base") &&
              c->n_rot == (int)number(e, "n_rot") &&
              fabs(r->attn_factor - number(e, "attn_factor")) < 1e-6;
    if (json_object_get(e, "factor"))
        ok = ok && r->factor == (float)number(e, "factor");
    if (json_object_get(e, "original"))
        ok = ok && r->original_context == (int)number(e, "original");
    if (json_object_get(e, "truncate"))
        ok = ok && r->truncate == json_is_true(json_object_get(e, "truncate")) &&
             r->beta_fast == (float)number(e, "beta_fast");
    if (!ok)
        fail_msg("%s: rope scaling %d base %g n_rot %d factor %g attn_factor %.9g original %d", name,
                 r->scaling, (double)r->base, c->n_rot, (double)r->factor, (double)r->attn_factor,
                 r->original_context);
}

static void same_layers(const struct model_config *c, const json_t *e, const char *name)
{
    for (size_t i = 0; i < (size_t)c->n_layers; i++) {
        const json_t *window = json_array_get(json_object_get(e, "window"), i);
        const json_t *local = json_array_get(json_object_get(e, "local"), i);
        const json_t *moe = json_array_get(json_object_get(e, "moe"), i);
        if (c->layer[i].window != json_integer_value(window) ||
            c->layer[i].rope != json_is_true(local) || c->layer[i].moe != json_is_true(moe))
            fail_msg("%s: layer %zu: window %d rope %d moe %d", name, i, c->layer[i].window,
                     c->layer[i].rope, c->layer[i].moe);
    }
}

static void same_config(const struct model_config *c, const json_t *e, const char *name)
{
    const struct { const char *key; int value; } ints[] = {
        {"dim", c->dim}, {"n_layers", c->n_layers}, {"n_heads", c->n_heads},
        {"n_kv_heads", c->n_kv_heads}, {"head_dim", c->head_dim}, {"ffn_dim", c->ffn_dim},
        {"vocab", c->vocab}, {"n_experts", c->n_experts}, {"n_experts_used", c->n_experts_used},
        {"expert_ffn_dim", c->expert_ffn_dim}};
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++)
        if (ints[i].value != (int)number(e, ints[i].key))
            fail_msg("%s: %s is %d, not %g", name, ints[i].key, ints[i].value,
                     number(e, ints[i].key));
    assert_true(fabs(c->norm_eps - number(e, "norm_eps")) < 1e-12);
    same_layers(c, e, name);
    for (size_t i = 0; i < 2; i++)
        same_rope(c, &c->rope[i], json_array_get(json_object_get(e, "rope"), i), name);
    const json_t *eos = json_object_get(e, "eos"), *caps = json_object_get(e, "softcaps");
    assert_int_equal(c->n_eos, json_array_size(eos));
    for (int i = 0; i < c->n_eos; i++)
        assert_int_equal(c->eos[i], json_integer_value(json_array_get(eos, (size_t)i)));
    assert_true(c->attn_softcap == (float)json_number_value(json_array_get(caps, 0)));
    assert_true(c->final_softcap == (float)json_number_value(json_array_get(caps, 1)));
    double scalar = number(e, "scalar");
    if (scalar > 0)
        assert_true(fabs(c->q_scale * sqrt(scalar) - 1) < 1e-6);
    else
        assert_true(fabs(c->q_scale * sqrt(c->head_dim) - 1) < 1e-6);
}

static void test_conventions(void **state)
{
    (void)state;
    json_t *file = json_load_file(GOLDEN_DIR "/configs.json", 0, NULL);
    const json_t *cases = json_object_get(file, "cases");
    assert_true(json_array_size(cases) > 20);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *one = json_array_get(cases, i);
        const char *name = json_string_value(json_object_get(one, "name"));
        char *text = json_dumps(json_object_get(one, "config"), 0);
        struct model_config c;
        struct err err = {0};
        if (hfconfig_parse(&c, text, strlen(text), NULL, 0, "config.json", &err) != ERR_OK)
            fail_msg("%s: %s", name, err.msg);
        same_config(&c, json_object_get(one, "expect"), name);
        model_config_free(&c);
        free(text);
    }
    json_decref(file);
}

/* --- refusals of config.json */

static const char *const base =
    "{\"model_type\": \"%s\", \"hidden_size\": 64, \"num_hidden_layers\": 2, "
    "\"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"head_dim\": 16, "
    "\"intermediate_size\": 96, \"vocab_size\": 100, \"max_position_embeddings\": 256, "
    "\"rms_norm_eps\": 1e-5, \"num_local_experts\": 4, \"num_experts_per_tok\": 2, "
    "\"moe_intermediate_size\": 32}";

static void refuse_text(const char *text, const char *words)
{
    struct model_config c;
    struct err err = {0};
    char copy[200], *save;
    int rc = hfconfig_parse(&c, text, strlen(text), NULL, 0, "m/config.json", &err);
    if (rc != ERR_FORMAT)
        fail_msg("code %d (%s) for %s", rc, err.msg, text);
    assert_non_null(strstr(err.msg, "m/config.json: "));
    assert_null(strchr(err.msg, '\n'));
    snprintf(copy, sizeof copy, "%s", words);
    for (char *w = strtok_r(copy, ";", &save); w; w = strtok_r(NULL, ";", &save))
        if (!strstr(err.msg, w))
            fail_msg("\"%s\" lacks \"%s\"", err.msg, w);
    model_config_free(&c);
}

/* The base config of a type with `change` (a JSON object) laid over it; null removes a key. */
static char *changed(const char *type, const char *change)
{
    char text[1000];
    snprintf(text, sizeof text, base, type);
    json_t *j = json_loads(text, 0, NULL), *over = json_loads(change, 0, NULL), *v;
    const char *key;
    assert_non_null(over);
    json_object_foreach(over, key, v)
    {
        if (json_is_null(v))
            json_object_del(j, key);
        else
            json_object_set(j, key, v);
    }
    char *out = json_dumps(j, 0);
    json_decref(j);
    json_decref(over);
    return out;
}

static void test_refused_configs(void **state)
{
    (void)state;
    static const struct { const char *type, *change, *words; } cases[] = {
        {"llama", "{\"hidden_size\": null}", "hidden_size is missing"},
        {"llama", "{\"hidden_size\": 0}", "hidden_size;1 to"},
        {"llama", "{\"hidden_size\": 64.5}", "hidden_size;whole number"},
        {"llama", "{\"hidden_size\": \"64\"}", "hidden_size;whole number"},
        {"llama", "{\"hidden_size\": 1e30}", "hidden_size;1 to 1048576"},
        {"llama", "{\"num_hidden_layers\": 1025}", "num_hidden_layers;1 to 1024"},
        {"llama", "{\"num_hidden_layers\": -1}", "num_hidden_layers"},
        {"llama", "{\"num_attention_heads\": 5}", "num_attention_heads is 5;2 KV heads"},
        {"llama", "{\"num_key_value_heads\": 8}", "num_attention_heads is 4;8 KV heads"},
        {"llama", "{\"head_dim\": 15}", "head_dim is 15;even"},
        {"llama", "{\"head_dim\": 2048}", "head_dim;1 to 1024"},
        {"llama", "{\"intermediate_size\": 1e9}", "intermediate_size"},
        {"llama", "{\"vocab_size\": 1e9}", "vocab_size;1 to 16777216"},
        {"llama", "{\"max_position_embeddings\": 0}", "max_position_embeddings"},
        {"llama", "{\"rms_norm_eps\": null}", "rms_norm_eps is missing"},
        {"llama", "{\"rms_norm_eps\": -1}", "rms_norm_eps is -1;positive"},
        {"llama", "{\"rms_norm_eps\": 1e300}", "rms_norm_eps is not a number"},
        {"llama", "{\"hidden_act\": \"relu6\"}", "hidden_act;relu6;silu"},
        {"llama", "{\"mlp_bias\": true}", "mlp_bias"},
        {"llama", "{\"attention_bias\": 1}", "attention_bias;neither true nor false"},
        {"llama", "{\"rope_theta\": 0}", "rope_theta;0"},
        {"llama", "{\"rope_theta\": 0.5}", "rope_theta;above 1"},
        {"llama", "{\"rope_theta\": [1]}", "rope_theta is not a number"},
        {"llama", "{\"rope_scaling\": {\"type\": \"warp\"}}", "rope_type;warp;linear"},
        {"llama", "{\"rope_scaling\": {\"type\": \"linear\"}}", "rope_scaling.factor is missing"},
        {"llama", "{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 0}}", "factor;0"},
        {"llama", "{\"rope_scaling\": {\"type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 4, "
                  "\"high_freq_factor\": 4}}", "high_freq_factor 4;low_freq_factor 4"},
        {"llama", "{\"quantization_config\": {\"quant_method\": \"gptq\"}}", "gptq;GGUF"},
        {"llama", "{\"eos_token_id\": \"</s>\"}", "eos_token_id"},
        {"llama", "{\"use_bidirectional_attention\": true}", "use_bidirectional_attention"},
        {"qwen2", "{\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4, "
                  "\"original_max_position_embeddings\": 0}}",
         "rope_scaling.original_max_position_embeddings"},
        {"qwen2", "{\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4, \"beta_fast\": -1}}",
         "beta_fast is -1"},
        {"qwen2", "{\"layer_types\": [\"full_attention\"]}", "layer_types has 1 entries for 2"},
        {"qwen2", "{\"layer_types\": [\"full_attention\", \"chunked_attention\"]}", "layer_types[1]"},
        {"mistral", "{\"sliding_window\": -5}", "sliding_window"},
        {"mixtral", "{\"num_local_experts\": null}", "num_experts is missing"},
        {"mixtral", "{\"num_local_experts\": 5000}", "num_local_experts;4096"},
        {"mixtral", "{\"num_experts_per_tok\": 5}", "num_experts_per_tok;1 to 4"},
        {"qwen3_moe", "{\"moe_intermediate_size\": null}", "moe_intermediate_size is missing"},
        {"phi3", "{\"partial_rotary_factor\": 1.5}", "partial_rotary_factor"},
        {"phi3", "{\"partial_rotary_factor\": 0.3, \"head_dim\": 18}",
         "partial_rotary_factor gives 5;18"},
        {"phi3", "{\"rope_scaling\": {\"type\": \"longrope\", \"short_factor\": [1, 2]}}",
         "short_factor;8 numbers"},
        {"phi3", "{\"rope_scaling\": {\"type\": \"longrope\", \"short_factor\": [1,1,1,1,1,1,1,1], "
                 "\"long_factor\": [1,1,1,1,1,1,1,\"x\"]}}", "rope factor 7 is 0"},
        {"gemma2", "{\"query_pre_attn_scalar\": 0}", "query_pre_attn_scalar"},
        {"gemma2", "{\"final_logit_softcapping\": -1}", "final_logit_softcapping is -1"},
        {"gpt_oss", "{\"swiglu_alpha\": 1.5}", "swiglu_alpha"},
        {"bert", "{}", "model_type \"bert\";llama, mistral, mixtral, qwen2, qwen3;gpt_oss"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *text = changed(cases[i].type, cases[i].change);
        refuse_text(text, cases[i].words);
        free(text);
    }
    refuse_text("[1]", "not a JSON object");
    refuse_text("{\"model_type\": ", "line 1");
    refuse_text("{}", "model_type is missing");
    refuse_text("", "line");
}

static void test_class_name_stands_in_for_model_type(void **state)
{
    (void)state;
    char *text = changed("x", "{\"model_type\": null, \"architectures\": [\"Qwen3ForCausalLM\"]}");
    struct model_config c;
    struct err err = {0};
    assert_int_equal(hfconfig_parse(&c, text, strlen(text), NULL, 0, "config.json", &err), ERR_OK);
    assert_string_equal(c.arch, "qwen3");
    model_config_free(&c);
    free(text);
}

static void test_eos_lists_are_joined(void **state)
{
    (void)state;
    const char *generation = "{\"eos_token_id\": [7, 3, 500]}";
    char *text = changed("llama", "{\"eos_token_id\": 3}");
    struct model_config c;
    struct err err = {0};
    assert_int_equal(hfconfig_parse(&c, text, strlen(text), generation, strlen(generation),
                                    "config.json", &err), ERR_OK);
    assert_int_equal(c.n_eos, 2);           /* 500 is past the vocabulary */
    assert_int_equal(c.eos[0], 3);
    assert_int_equal(c.eos[1], 7);
    assert_int_equal(c.bos, -1);
    model_config_free(&c);
    assert_int_equal(hfconfig_parse(&c, text, strlen(text), "{", 1, "config.json", &err), ERR_FORMAT);
    assert_non_null(strstr(err.msg, "generation_config.json: line 1"));
    model_config_free(&c);
    free(text);
}

/* --- GGUF metadata */

static void put_key_f32(struct filebytes *f, const char *key, float v)
{
    put_str(f, key);
    put_u32(f, 6);
    put_f32(f, v);
}

static void put_key_ints(struct filebytes *f, const char *key, const int *v, int n, int type)
{
    put_str(f, key);
    put_u32(f, 9);
    put_u32(f, (uint32_t)type);
    put_u64(f, (uint64_t)n);
    for (int i = 0; i < n; i++)
        put(f, &v[i], type == 7 ? 1 : 4);
}

enum { FIELDS = 9 };
struct number_key { const char *name; int value; };
static const struct number_key sound[FIELDS] = {
    {"context_length", 128}, {"embedding_length", 64}, {"block_count", 4},
    {"feed_forward_length", 96}, {"attention.head_count", 4}, {"attention.head_count_kv", 2},
    {"rope.dimension_count", 16}, {"vocab_size", 50}, {"expert_count", 0}};

/* A header of metadata alone. `extra` appends n_extra more keys; skip leaves one of the usual out. */
static const char *gguf_file(const char *arch, const char *skip, int n_extra,
                             void (*extra)(struct filebytes *f, const char *arch))
{
    struct filebytes f = {.n = 0};
    char key[80];
    int n = 2 + n_extra;
    for (int i = 0; i < FIELDS; i++)
        n += !skip || strcmp(skip, sound[i].name) != 0;
    put_gguf_start(&f, 3, 0, (uint64_t)n);
    put_key_str(&f, "general.architecture", arch);
    snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", arch);
    put_key_f32(&f, key, 1e-5f);
    for (int i = 0; i < FIELDS; i++) {
        if (skip && strcmp(skip, sound[i].name) == 0)
            continue;
        snprintf(key, sizeof key, "%s.%s", arch, sound[i].name);
        put_key_u32(&f, key, (uint32_t)sound[i].value);
    }
    if (extra)
        extra(&f, arch);
    put_align(&f, 32);
    return tmp_save("model.gguf", &f);
}

static int read_gguf(const char *path, struct model_config *c, struct err *err)
{
    struct tensorfile t;
    *err = (struct err){0};
    assert_int_equal(tensorfile_open(&t, path, err), ERR_OK);
    int rc = model_config_read(c, &t, path, err);
    tensorfile_close(&t);
    return rc;
}

static void refuse_gguf(const char *path, const char *words)
{
    struct model_config c;
    struct err err;
    char copy[200], *save;
    int rc = read_gguf(path, &c, &err);
    if (rc != ERR_FORMAT)
        fail_msg("code %d instead of a refusal with %s (%s)", rc, words, err.msg);
    snprintf(copy, sizeof copy, "%s", words);
    for (char *w = strtok_r(copy, ";", &save); w; w = strtok_r(NULL, ";", &save))
        if (!strstr(err.msg, w))
            fail_msg("\"%s\" lacks \"%s\"", err.msg, w);
    assert_null(c.owned);
}

static void accept_gguf(const char *path, struct model_config *c)
{
    struct err err;
    if (read_gguf(path, c, &err) != ERR_OK)
        fail_msg("%s", err.msg);
}

static void extra_bad_heads(struct filebytes *f, const char *arch)
{
    put_key_u32(f, "llama.attention.head_count_kv", 3);
}
static void extra_equal_arrays(struct filebytes *f, const char *arch)
{
    put_key_ints(f, "llama.attention.head_count", (int[]){4, 4, 4, 4}, 4, 4);
}
static void extra_uneven_arrays(struct filebytes *f, const char *arch)
{
    put_key_ints(f, "llama.attention.head_count", (int[]){4, 4, 2, 4}, 4, 5);
}
static void extra_warp(struct filebytes *f, const char *arch)
{
    put_key_str(f, "llama.rope.scaling.type", "warp");
}
static void extra_sigmoid(struct filebytes *f, const char *arch)
{
    put_key_u32(f, "llama.expert_count", 4);
    put_key_u32(f, "llama.expert_used_count", 2);
    put_key_u32(f, "llama.expert_gating_func", 2);
}
static void extra_big_layers(struct filebytes *f, const char *arch)
{
    put_key_u32(f, "llama.block_count", 100000);
}
static void extra_text_number(struct filebytes *f, const char *arch)
{
    put_key_str(f, "llama.embedding_length", "many");
}

static void test_refused_ggufs(void **state)
{
    (void)state;
    refuse_gguf(gguf_file("mamba", NULL, 0, NULL), "model.gguf;mamba;llama, qwen2, qwen3;gpt-oss");
    refuse_gguf(gguf_file("llama", "context_length", 0, NULL), "llama.context_length is missing");
    refuse_gguf(gguf_file("llama", "block_count", 0, NULL), "llama.block_count is missing");
    refuse_gguf(gguf_file("llama", "feed_forward_length", 0, NULL), "feed_forward_length is missing");
    refuse_gguf(gguf_file("llama", "attention.head_count_kv", 1, extra_bad_heads),
                "attention.head_count is 4;3 KV heads");
    refuse_gguf(gguf_file("llama", "attention.head_count", 1, extra_uneven_arrays),
                "llama.attention.head_count differs");
    refuse_gguf(gguf_file("llama", NULL, 1, extra_warp), "warp;linear, yarn");
    refuse_gguf(gguf_file("llama", "expert_count", 3, extra_sigmoid), "expert_gating_func");
    refuse_gguf(gguf_file("llama", "block_count", 1, extra_big_layers), "block_count;1 to 1024");
    refuse_gguf(gguf_file("llama", "embedding_length", 1, extra_text_number),
                "embedding_length;whole number");
    refuse_gguf(gguf_file("gpt-oss", NULL, 0, NULL), "gpt-oss.expert_count;1 to 4096");
}

static void extra_old_linear(struct filebytes *f, const char *arch)
{
    put_key_f32(f, "llama.rope.scale_linear", 4.0f);
}

static void test_gguf_defaults(void **state)
{
    (void)state;
    struct model_config c;
    accept_gguf(gguf_file("llama", "attention.head_count_kv", 0, NULL), &c);
    assert_int_equal(c.n_kv_heads, 4);
    assert_int_equal(c.head_dim, 16);
    assert_int_equal(c.vocab, 50);
    assert_int_equal(c.rope_kind, ROPE_NORM);
    assert_true(c.tied && c.rope[0].base == 10000 && c.rope[0].scaling == SCALING_NONE);
    assert_true(fabs(c.q_scale - 0.25) < 1e-7);
    assert_string_equal(c.name, "model.gguf");
    model_config_free(&c);
    accept_gguf(gguf_file("llama", "attention.head_count", 1, extra_equal_arrays), &c);
    assert_int_equal(c.n_heads, 4);
    model_config_free(&c);
    accept_gguf(gguf_file("llama", NULL, 1, extra_old_linear), &c);
    assert_int_equal(c.rope[0].scaling, SCALING_LINEAR);
    assert_true(c.rope[0].factor == 4);
    model_config_free(&c);
}

static void extra_pattern(struct filebytes *f, const char *arch)
{
    put_key_ints(f, "gemma3.attention.sliding_window_pattern", (int[]){1, 0, 0, 1}, 4, 7);
    put_key_u32(f, "gemma3.attention.sliding_window", 12);
}

static void test_gguf_windows(void **state)
{
    (void)state;
    struct model_config c;
    accept_gguf(gguf_file("gemma2", NULL, 0, NULL), &c);
    for (int i = 0; i < 4; i++)
        assert_int_equal(c.layer[i].window, i % 2 == 0 ? 4096 : 0);
    assert_true(c.attn_softcap == 50 && c.final_softcap == 30 && c.embed_scale == 8);
    assert_false(c.norm_plus_one);
    model_config_free(&c);
    accept_gguf(gguf_file("gemma3", NULL, 2, extra_pattern), &c);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(c.layer[i].window, i == 0 || i == 3 ? 12 : 0);
        assert_int_equal(c.layer[i].rope, i == 0 || i == 3);
    }
    assert_true(c.rope[1].base == 10000);
    model_config_free(&c);
}

static void extra_yarn(struct filebytes *f, const char *arch)
{
    put_key_str(f, "qwen2.rope.scaling.type", "yarn");
    put_key_f32(f, "qwen2.rope.scaling.factor", 4.0f);
    put_key_u32(f, "qwen2.rope.scaling.original_context_length", 128);
    put_key_f32(f, "qwen2.rope.scaling.yarn_attn_factor", 0.5f);
}

static void test_gguf_yarn(void **state)
{
    (void)state;
    struct model_config c;
    accept_gguf(gguf_file("qwen2", NULL, 4, extra_yarn), &c);
    assert_int_equal(c.rope[0].scaling, SCALING_YARN);
    assert_true(fabs(c.rope[0].attn_factor - 0.5 * 1.1386294361) < 1e-6);
    assert_true(c.rope[0].truncate && c.qkv_bias);
    assert_int_equal(c.rope_kind, ROPE_NEOX);
    assert_int_equal(c.context, 512);
    model_config_free(&c);
}

static void extra_tokens(struct filebytes *f, const char *arch)
{
    static const char *const tokens[] = {"a", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "b"};
    put_str(f, "tokenizer.ggml.tokens");
    put_u32(f, 9);
    put_u32(f, 8);
    put_u64(f, 5);
    for (int i = 0; i < 5; i++)
        put_str(f, tokens[i]);
    /* <|eot_id|> is a normal token here: text, not an end. */
    put_key_ints(f, "tokenizer.ggml.token_type", (int[]){1, 3, 3, 1, 1}, 5, 5);
    put_key_u32(f, "tokenizer.ggml.eos_token_id", 2);
    put_key_u32(f, "tokenizer.ggml.bos_token_id", 4);
}

static void test_gguf_ends_of_turn(void **state)
{
    (void)state;
    struct model_config c;
    accept_gguf(gguf_file("qwen2", NULL, 4, extra_tokens), &c);
    assert_int_equal(c.vocab, 5);           /* the token list, not vocab_size */
    assert_int_equal(c.n_eos, 2);
    assert_int_equal(c.eos[0], 2);
    assert_int_equal(c.eos[1], 1);
    assert_int_equal(c.bos, 4);
    model_config_free(&c);
}

/* --- the smaller parts */

static void test_ln(void **state)
{
    (void)state;
    for (double x = 1e-6; x < 1e9; x *= 1.37)
        assert_true(fabs(modelcheck_ln(x) - log(x)) <= 4e-16 * fmax(1, fabs(log(x))));
    assert_true(modelcheck_ln(1) == 0);
    assert_true(modelcheck_yarn_mscale(1, 1) == 1 && modelcheck_yarn_mscale(0.5, 1) == 1);
    assert_true(modelcheck_longrope_scale(0.5, 4096) == 1);
}

static void test_names(void **state)
{
    (void)state;
    struct model_config c;
    char name[160], list[200], small[8];
    modelcheck_start(&c, arch_of_hf("mixtral"), "hf");
    snprintf(c.prefix, sizeof c.prefix, "model.");
    assert_string_equal(arch_tensor_name(&c, SLOT_EXPERT_UP_ONE, 3, 7, name, sizeof name),
                        "model.layers.3.block_sparse_moe.experts.7.w3.weight");
    assert_string_equal(arch_tensor_name(&c, SLOT_HEAD, 3, 7, name, sizeof name), "lm_head.weight");
    assert_null(arch_tensor_name(&c, SLOT_ROPE_DIVISORS, 0, 0, name, sizeof name));
    assert_null(arch_tensor_name(&c, SLOT_Q, 0, 0, small, sizeof small));
    modelcheck_start(&c, arch_of_gguf("phi3"), "gguf");
    assert_null(arch_tensor_name(&c, SLOT_GATE, 0, 0, name, sizeof name));
    assert_string_equal(arch_tensor_name(&c, SLOT_GATE_UP, 12, 0, name, sizeof name),
                        "blk.12.ffn_up.weight");
    assert_null(arch_of_gguf("mistral"));
    assert_null(arch_of_hf("bert"));
    assert_string_equal(arch_of_hf_class("Gemma2ForCausalLM")->name, "gemma2");
    assert_string_equal(arch_list(true, list, sizeof list),
                        "llama, qwen2, qwen3, qwen3moe, gemma2, gemma3, phi3, gpt-oss");
    assert_true(arch_ignores(&c, "rope_freqs.weight"));
    assert_false(arch_ignores(&c, "blk.0.attn_q.weight"));
}

static void test_text_files(void **state)
{
    (void)state;
    char *text, folder[200];
    size_t n;
    struct err err = {0};
    tmp_write("small.txt", "hello", 5);
    assert_int_equal(textfile_read(tmp_dir, "small.txt", 5, 1, &text, &n, &err), ERR_OK);
    assert_string_equal(text, "hello");
    assert_int_equal(n, 5);
    free(text);
    assert_int_equal(textfile_read(tmp_dir, "none.txt", 5, 0, &text, &n, &err), ERR_OK);
    assert_null(text);
    assert_int_equal(textfile_read(tmp_dir, "none.txt", 5, 1, &text, &n, &err), ERR_IO);
    assert_non_null(strstr(err.msg, "none.txt"));
    err = (struct err){0};
    assert_int_equal(textfile_read(tmp_dir, "small.txt", 4, 1, &text, &n, &err), ERR_LIMIT);
    assert_null(text);
    assert_int_equal(textfile_folder(tmp_path("small.txt"), folder, sizeof folder, &err), ERR_OK);
    assert_string_equal(folder, tmp_dir);
    assert_int_equal(textfile_folder(tmp_dir, folder, sizeof folder, &err), ERR_OK);
    assert_string_equal(folder, tmp_dir);
    assert_int_equal(textfile_folder("nofolder.gguf", folder, sizeof folder, &err), ERR_OK);
    assert_string_equal(folder, ".");
}

static int make_tmp(void **state)
{
    (void)state;
    tmp_make();
    return 0;
}
static int remove_tmp(void **state)
{
    (void)state;
    tmp_remove();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conventions),
        cmocka_unit_test(test_refused_configs),
        cmocka_unit_test(test_class_name_stands_in_for_model_type),
        cmocka_unit_test(test_eos_lists_are_joined),
        cmocka_unit_test(test_refused_ggufs),
        cmocka_unit_test(test_gguf_defaults),
        cmocka_unit_test(test_gguf_windows),
        cmocka_unit_test(test_gguf_yarn),
        cmocka_unit_test(test_gguf_ends_of_turn),
        cmocka_unit_test(test_ln),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_text_files),
    };
    return cmocka_run_group_tests(tests, make_tmp, remove_tmp);
}
