/* Conversion of folders to GGUF: the same tensors, keys and descriptions as llama.cpp's converter wrote,
 * and vocabularies that cut text as the folder's tokenizer does. */
#include "coordinator/text/tokenizer.h"
#include "workers/models/exportvocab.h"
#include "workers/models/modelconfig.h"
#include "workers/models/quantize.h"

#include "tests/unit/container.h"
#include "tests/unit/filebytes.h"

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static char root[1024];

static bool ends(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

static void must_open(struct tensorfile *t, const char *path)
{
    struct err err = {0};
    if (tensorfile_open(t, path, &err) != ERR_OK)
        fail_msg("%s", err.msg);
}

static void *bytes_of(struct tensorfile *t, const struct tensor_entry *e)
{
    struct err err = {0};
    void *p = malloc(e->bytes + 1);
    if (tensorfile_read(t, e, 0, p, e->bytes, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    return p;
}

/* Tables that are computed: another power function may round otherwise. */
static void nearly_equal(const float *a, const float *b, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        assert_true(fabsf(a[i] - b[i]) <= 1e-6f * fabsf(a[i]));
}

static int compare_tensor(struct tensorfile *ref, const struct tensor_entry *a, struct tensorfile *ours)
{
    const struct tensor_entry *b = tensorfile_find(ours, a->name);
    if (b == NULL)
        fail_msg("%s: %s is missing", ours->path[0], a->name);
    assert_int_equal(a->n_dims, b->n_dims);
    assert_memory_equal(a->shape, b->shape, (size_t)a->n_dims * sizeof *a->shape);
    if (a->type != b->type)
        return 0;       /* another choice of types */
    void *x = bytes_of(ref, a), *y = bytes_of(ours, b);
    if (strcmp(a->name, "rope_freqs.weight") == 0)
        nearly_equal(x, y, a->n_elements);
    else if (memcmp(x, y, a->bytes) != 0)
        fail_msg("%s: %s differs", ours->path[0], a->name);
    free(x);
    free(y);
    return 1;
}

/* Keys that may differ: names chosen by hand, sizes for people, what says nothing here. */
static bool is_free(const char *key)
{
    return strcmp(key, "general.name") == 0 || strcmp(key, "general.size_label") == 0
           || strcmp(key, "tokenizer.ggml.add_sep_token") == 0
           || ends(key, "rope.scaling.original_context_length");
}

/* Of the reference's control tokens some have a made-up score and kind. */
static void compare_arrays(const struct tensorfile *ref, const char *key, const struct meta_value *a,
                           const struct meta_value *b)
{
    const int32_t *kind = tensorfile_meta(ref, "tokenizer.ggml.token_type")->array;
    size_t size = 4;
    assert_int_equal(a->elem_type, b->elem_type);
    for (uint64_t i = 0; i < a->len; i++) {
        if (a->strings != NULL)
            assert_string_equal(a->strings[i], b->strings[i]);
        else if (kind[i] != 3 && memcmp((const char *)a->array + size * i,
                                        (const char *)b->array + size * i, size) != 0)
            fail_msg("%s[%d] differs", key, (int)i);
    }
}

static void compare_key(const struct tensorfile *ref, const char *key, const struct meta_value *a,
                        const struct meta_value *b)
{
    if (is_free(key))
        return;
    if (b == NULL)
        fail_msg("%s is missing", key);
    assert_int_equal(a->kind, b->kind);
    if (a->kind == META_STRING && strcmp(a->str, b->str) != 0)
        fail_msg("%s: \"%.60s\" instead of \"%.60s\"", key, b->str, a->str);
    if (a->kind != META_STRING && a->kind != META_ARRAY && (a->i != b->i || a->f != b->f))
        fail_msg("%s: %g instead of %g", key, b->f, a->f);
    if (a->kind == META_ARRAY) {
        assert_int_equal(a->len, b->len);
        compare_arrays(ref, key, a, b);
    }
}

/* What a decoder is built from must not depend on which of the two wrote the file. */
static void compare_configs(struct tensorfile *ref, struct tensorfile *ours)
{
    struct model_config a, b;
    struct err err = {0};
    if (model_config_read(&a, ref, ref->path[0], &err) != ERR_OK
        || model_config_read(&b, ours, ours->path[0], &err) != ERR_OK)
        fail_msg("%s", err.msg);
    assert_string_equal(a.arch, b.arch);
#define SAME(field) if (a.field != b.field) fail_msg("%s: " #field " differs", ours->path[0])
    SAME(n_layers); SAME(dim); SAME(n_heads); SAME(n_kv_heads); SAME(head_dim); SAME(value_dim);
    SAME(ffn_dim); SAME(vocab); SAME(context); SAME(norm_eps); SAME(embed_scale); SAME(q_scale);
    SAME(attn_softcap); SAME(final_softcap); SAME(tied); SAME(act); SAME(n_rot); SAME(n_experts);
    SAME(n_experts_used); SAME(expert_ffn_dim); SAME(moe_gate); SAME(moe_renormalise); SAME(bos);
    for (int i = 0; i < 2; i++) {
        SAME(rope[i].base); SAME(rope[i].scaling); SAME(rope[i].factor); SAME(rope[i].beta_fast);
        SAME(rope[i].beta_slow);
        assert_true(fabsf(a.rope[i].attn_factor - b.rope[i].attn_factor) < 1e-6f);
    }
    for (int i = 0; i < a.n_layers; i++) {
        SAME(layer[i].window);
        SAME(layer[i].rope);
        SAME(layer[i].moe);
    }
    model_config_free(&a);
    model_config_free(&b);
}

static void compare_files(const char *ref_path, const char *path, bool all_types)
{
    struct tensorfile ref, ours;
    must_open(&ref, ref_path);
    must_open(&ours, path);
    int same = 0;
    for (int i = 0; i < ref.n_tensors; i++)
        same += compare_tensor(&ref, &ref.tensor[i], &ours);
    assert_int_equal(ref.n_tensors, ours.n_tensors);
    assert_true(same > 0 && (same == ref.n_tensors || !all_types));
    for (int i = 0; i < ref.n_meta; i++)
        compare_key(&ref, ref.meta[i].key, &ref.meta[i].value,
                    tensorfile_meta(&ours, ref.meta[i].key));
    compare_configs(&ref, &ours);
    tensorfile_close(&ref);
    tensorfile_close(&ours);
}

/* MODEL.TYPE.gguf beside a folder of the same numbers. */
static int check_model(const char *model)
{
    static const char *const types[] = {"f32", "f16", "bf16", "mxfp4"};
    char folder[1536], ref[2048], path[2048];
    int n = 0;
    snprintf(folder, sizeof folder, "%s/llm/%s", root, model);
    for (int i = 0; i < 4; i++) {
        struct err err = {0};
        struct quantize_report report;
        snprintf(ref, sizeof ref, "%s/%s.%s.gguf", folder, model, types[i]);
        if (access(ref, R_OK) != 0)
            continue;
        snprintf(path, sizeof path, "%s/%s.gguf", tmp_dir, model);
        if (quantize_file(folder, path, types[i], NULL, NULL, &report, &err) != ERR_OK)
            fail_msg("%s: %s", model, err.msg);
        compare_files(ref, path, strcmp(types[i], "mxfp4") != 0);
        unlink(path);
        n++;
    }
    return n;
}

static void test_folders_as_the_converter(void **state)
{
    (void)state;
    char path[1536];
    struct dirent **list;
    snprintf(path, sizeof path, "%s/llm", root);
    int n = scandir(path, &list, NULL, alphasort), seen = 0;
    for (int i = 0; i < n; i++) {
        if (list[i]->d_name[0] != '.')
            seen += check_model(list[i]->d_name);
        free(list[i]);
    }
    if (n >= 0)
        free(list);
    assert_true(seen > 0);
}

/* --- vocabularies */

static struct tokenizer *exported(const char *folder, struct err *err)
{
    struct ggufwriter w;
    struct container c = {0};
    struct tokenizer *t = NULL;
    size_t n = 0;
    char path[128];
    strcpy(path, tmp_path("vocab.gguf"));
    assert_int_equal(ggufwriter_open(&w, path, err), ERR_OK);
    if (exportvocab_write(&w, folder, 1400, err) != ERR_OK) {
        ggufwriter_abandon(&w);
        return NULL;
    }
    assert_int_equal(ggufwriter_begin(&w, err), ERR_OK);
    assert_int_equal(ggufwriter_close(&w, err), ERR_OK);
    char *bytes = file_bytes(path, &n);
    container_add(&c, "gguf", bytes, n);
    if (tokenizer_open(&t, c.p, c.n, err) != ERR_OK)
        fail_msg("%s: %s", folder, err->msg);
    container_free(&c);
    free(bytes);
    return t;
}

static bool same_ids(const struct tokenizer *t, const json_t *row)
{
    const json_t *text = json_object_get(row, "text"), *want = json_object_get(row, "ids");
    struct tokenize_options opt = {json_is_true(json_object_get(row, "add_special")), true};
    struct token_list ids = {0};
    struct err err = {0};
    bool same = tokenizer_encode(t, json_string_value(text), json_string_length(text), opt, &ids, &err)
                    == ERR_OK && ids.n == (int)json_array_size(want);
    for (int i = 0; same && i < ids.n; i++)
        same = ids.id[i] == json_integer_value(json_array_get(want, (size_t)i));
    token_list_free(&ids);
    return same;
}

/* Share of the texts that the exported vocabulary cuts as the original. */
static double share_equal(const struct tokenizer *t, const char *folder)
{
    char path[2100], *line, *rest;
    size_t n;
    int same = 0, all = 0;
    snprintf(path, sizeof path, "%s/cases.jsonl", folder);
    char *bytes = file_bytes(path, &n);
    for (line = strtok_r(bytes, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) {
        json_t *row = json_loads(line, 0, NULL);
        same += same_ids(t, row);
        all++;
        json_decref(row);
    }
    free(bytes);
    return (double)same / all;
}

/* GGUF knows a blank before the text, not one before the first word only. */
static double least_share(const char *folder)
{
    char path[2100];
    size_t n;
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    char *text = file_bytes(path, &n);
    bool first = strstr(text, "\"prepend_scheme\":\"first\"") || strstr(text, "\"prepend_scheme\": \"first\"");
    free(text);
    return first ? 0.8 : 0.995;
}

static void test_vocabularies(void **state)
{
    (void)state;
    char path[1536], folder[2048];
    struct dirent **list;
    snprintf(path, sizeof path, "%s/tokenizers", root);
    int n = scandir(path, &list, NULL, alphasort), seen = 0;
    for (int i = 0; i < n; i++) {
        struct err err = {0};
        snprintf(folder, sizeof folder, "%s/%s/tokenizer.json", path, list[i]->d_name);
        if (list[i]->d_name[0] != '.' && access(folder, R_OK) == 0) {
            *strrchr(folder, '/') = '\0';
            struct tokenizer *t = exported(folder, &err);
            if (t == NULL) {        /* not sayable: the message must say so */
                assert_non_null(strstr(err.msg, "GGUF"));
            } else {
                double share = share_equal(t, folder);
                print_message("%s: %.4f\n", list[i]->d_name, share);
                assert_true(share >= least_share(folder));
                tokenizer_close(t);
                seen++;
            }
        }
        free(list[i]);
    }
    if (n >= 0)
        free(list);
    assert_true(seen > 0);
}

static int setup(void **state) { (void)state; tmp_make(); return 0; }
static int teardown(void **state) { (void)state; tmp_remove(); return 0; }

int main(void)
{
    const char *f = getenv("MUSTER_FIXTURES");
    snprintf(root, sizeof root, "%s", f != NULL ? f : FIXTURES_DEFAULT);
    if (access(root, R_OK) != 0)
        return 77;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_folders_as_the_converter, setup, teardown),
        cmocka_unit_test_setup_teardown(test_vocabularies, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
