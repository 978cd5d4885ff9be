/* Descriptions of every model folder and GGUF file among the fixtures: numbers against config.json, the
 * two formats of one model against each other, and every tensor of a file accounted for. */
#include "workers/models/modelconfig.h"

#include "tests/unit/fixturemodels.h"
#include "workers/models/tensormap.h"

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

struct model { struct tensorfile file; struct model_config config; };

static void open_model(struct model *m, const char *path)
{
    struct err err = {0};
    if (tensorfile_open(&m->file, path, &err) != ERR_OK ||
        model_config_read(&m->config, &m->file, path, &err) != ERR_OK ||
        tensormap_check(&m->config, &m->file, &err) != ERR_OK)
        fail_msg("%s", err.msg);
}

static void close_model(struct model *m)
{
    model_config_free(&m->config);
    model_config_free(&m->config);
    tensorfile_close(&m->file);
}

static json_t *load_config(const char *folder)
{
    char path[1500];
    snprintf(path, sizeof path, "%s/config.json", folder);
    json_t *j = json_load_file(path, 0, NULL);
    assert_non_null(j);
    return j;
}

static void same_int(const json_t *j, const char *key, int value, const char *folder)
{
    const json_t *v = json_object_get(j, key);
    if (json_is_integer(v) && json_integer_value(v) != value)
        fail_msg("%s: %s is %d, expected %d", folder, key, value, (int)json_integer_value(v));
}

static void check_json(const struct model_config *c, const char *folder)
{
    json_t *j = load_config(folder);
    same_int(j, "hidden_size", c->dim, folder);
    same_int(j, "num_hidden_layers", c->n_layers, folder);
    same_int(j, "num_attention_heads", c->n_heads, folder);
    same_int(j, "num_key_value_heads", c->n_kv_heads, folder);
    same_int(j, "head_dim", c->head_dim, folder);
    same_int(j, "intermediate_size", c->ffn_dim, folder);
    same_int(j, "vocab_size", c->vocab, folder);
    same_int(j, "max_position_embeddings", c->context, folder);
    same_int(j, "num_local_experts", c->n_experts, folder);
    same_int(j, "num_experts_per_tok", c->n_experts_used, folder);
    same_int(j, "moe_intermediate_size", c->expert_ffn_dim, folder);
    if (!json_object_get(j, "head_dim"))
        assert_int_equal(c->head_dim * c->n_heads, c->dim);
    assert_float_equal(c->norm_eps, json_real_value(json_object_get(j, "rms_norm_eps")), 1e-12);
    assert_int_equal(c->tied, json_is_true(json_object_get(j, "tie_word_embeddings")));
    const json_t *eos = json_object_get(j, "eos_token_id");
    size_t n = json_is_array(eos) ? json_array_size(eos) : 1;
    assert_int_equal(c->n_eos, n);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(c->eos[i], json_integer_value(json_is_array(eos) ? json_array_get(eos, i)
                                                                          : eos));
    const json_t *types = json_object_get(j, "layer_types");
    for (int i = 0; types && i < c->n_layers; i++) {
        const char *type = json_string_value(json_array_get(types, (size_t)i));
        bool local = strcmp(type, "sliding_attention") == 0;
        const json_t *window = json_object_get(j, "sliding_window");
        assert_int_equal(c->layer[i].window, local ? json_integer_value(window) : 0);
    }
    json_decref(j);
}

static void check_folder(const char *path, const char *folder)
{
    struct model m;
    if (path != folder)
        return;
    open_model(&m, folder);
    assert_string_equal(m.config.format, "hf");
    assert_int_equal(m.config.rope_kind, ROPE_NEOX);
    check_json(&m.config, folder);
    close_model(&m);
}

static void test_folders_say_what_their_config_says(void **state)
{
    (void)state;
    assert_true(fixture_each(check_folder) > 0);
}

static void same_factors(const float *a, const float *b, int n)
{
    assert_int_equal(a != NULL, b != NULL);
    for (int i = 0; a && i < n; i++)
        assert_float_equal(a[i], b[i], 1e-6 * fabs(b[i]));
}

/* The two formats of one model; what rightly differs is left out by the caller's flags. */
static void check_same(const struct model_config *g, const struct model_config *h)
{
    assert_int_equal(g->n_layers, h->n_layers);
    assert_int_equal(g->dim, h->dim);
    assert_int_equal(g->n_heads, h->n_heads);
    assert_int_equal(g->n_kv_heads, h->n_kv_heads);
    assert_int_equal(g->head_dim, h->head_dim);
    assert_int_equal(g->value_dim, h->value_dim);
    assert_int_equal(g->ffn_dim, h->ffn_dim);
    assert_int_equal(g->vocab, h->vocab);
    assert_int_equal(g->context, h->context);
    assert_int_equal(g->n_rot, h->n_rot);
    assert_int_equal(g->tied, h->tied);
    assert_int_equal(g->qkv_bias, h->qkv_bias);
    assert_int_equal(g->o_bias, h->o_bias);
    assert_int_equal(g->qk_norm, h->qk_norm);
    assert_int_equal(g->post_norms, h->post_norms);
    assert_int_equal(g->sinks, h->sinks);
    assert_int_equal(g->act, h->act);
    assert_int_equal(g->n_experts, h->n_experts);
    assert_int_equal(g->n_experts_used, h->n_experts_used);
    assert_int_equal(g->expert_ffn_dim, h->expert_ffn_dim);
    assert_int_equal(g->moe_gate, h->moe_gate);
    if (h->n_experts)
        assert_int_equal(g->moe_renormalise, h->moe_renormalise || h->moe_gate);
    assert_float_equal(g->norm_eps, h->norm_eps, 1e-9);
    assert_float_equal(g->embed_scale, h->embed_scale, 0);
    assert_float_equal(g->q_scale, h->q_scale, 0);
    assert_float_equal(g->attn_softcap, h->attn_softcap, 0);
    assert_float_equal(g->final_softcap, h->final_softcap, 0);
    assert_float_equal(g->act_limit, h->act_limit, 0);
}

static void check_same_rope(const struct model_config *g, const struct model_config *h)
{
    for (int i = 0; i < 2; i++) {
        const struct rope_config *a = &g->rope[i], *b = &h->rope[i];
        assert_float_equal(a->base, b->base, 0);
        if (b->scaling == SCALING_LLAMA3) {     /* a tensor of divisors on the other side */
            assert_non_null(a->divisors);
            continue;
        }
        assert_int_equal(a->scaling, b->scaling);
        assert_float_equal(a->attn_factor, b->attn_factor, 1e-6);
        if (a->scaling == SCALING_LINEAR || a->scaling == SCALING_YARN)
            assert_float_equal(a->factor, b->factor, 0);
        if (a->scaling == SCALING_YARN || a->scaling == SCALING_LONGROPE)
            assert_int_equal(a->original_context, b->original_context);
        same_factors(a->short_factors, b->short_factors, g->n_rot / 2);
        same_factors(a->long_factors, b->long_factors, g->n_rot / 2);
    }
}

static void check_gguf(const char *path, const char *folder)
{
    struct model g, h;
    if (path == folder)
        return;
    open_model(&g, path);
    assert_string_equal(g.config.format, "gguf");
    const struct meta_value *arch = tensorfile_meta(&g.file, "general.architecture");
    assert_int_equal(g.config.rope_kind, strcmp(arch->str, "llama") == 0 ? ROPE_NORM : ROPE_NEOX);
    if (fixture_has_weights(folder)) {
        open_model(&h, folder);
        check_same(&g.config, &h.config);
        check_same_rope(&g.config, &h.config);
        /* A llama file has no window, whatever the model was; elsewhere they agree. */
        for (int i = 0; i < g.config.n_layers; i++) {
            bool lost = strcmp(arch->str, "llama") == 0;
            assert_int_equal(g.config.layer[i].window, lost ? 0 : h.config.layer[i].window);
            assert_int_equal(g.config.layer[i].rope, h.config.layer[i].rope);
            assert_int_equal(g.config.layer[i].moe, h.config.layer[i].moe);
        }
        for (int i = 0; i < g.config.n_eos; i++) {
            bool known = false;
            for (int k = 0; k < h.config.n_eos; k++)
                known |= g.config.eos[i] == h.config.eos[k];
            assert_true(known);
        }
        assert_true(g.config.n_eos > 0);
        close_model(&h);
    }
    close_model(&g);
}

static void test_both_formats_agree(void **state)
{
    (void)state;
    assert_true(fixture_each(check_gguf) > 0);
}

/* Sums of a tensor list: the parts of a layer cover every number of their tensors exactly. */
static void check_cover(const char *path, const char *folder)
{
    struct model m;
    struct err err = {0};
    open_model(&m, path);
    int64_t *left = calloc((size_t)m.file.n_tensors, sizeof *left);
    for (int i = 0; i < m.file.n_tensors; i++)
        left[i] = m.file.tensor[i].n_elements;
    for (int layer = TENSORMAP_AFTER; layer < m.config.n_layers; layer++) {
        struct tensormap map = {0};
        assert_int_equal(tensormap_layer(&map, &m.config, &m.file, layer, &err), ERR_OK);
        for (int i = 0; i < map.n; i++) {
            const struct load_source *s = &map.part[i].source;
            int lanes = map.part[i].vector ? 1 : s->lanes;
            int64_t n = (int64_t)s->n_mats * s->rows * s->cols * lanes;
            if (s->scales)
                left[s->scales - m.file.tensor] -= n / 32;
            left[s->data - m.file.tensor] -= s->form == LOAD_MXFP4_SPLIT ? n / 2 : n;
        }
        tensormap_free(&map);
    }
    for (int i = 0; i < m.file.n_tensors; i++)
        if (left[i] != 0 && !arch_ignores(&m.config, m.file.tensor[i].name))
            fail_msg("%s: %lld numbers of %s are in no part", path, (long long)left[i],
                     m.file.tensor[i].name);
    free(left);
    close_model(&m);
}

static void test_parts_cover_tensors(void **state)
{
    (void)state;
    assert_true(fixture_each(check_cover) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_folders_say_what_their_config_says),
        cmocka_unit_test(test_both_formats_agree),
        cmocka_unit_test(test_parts_cover_tensors),
    };
    if (!fixture_exists(fixture_root(), "."))
        return 77;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
