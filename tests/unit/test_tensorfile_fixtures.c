/* Real containers: every model of the fixtures opens, and where a folder and a GGUF hold the same numbers,
 * the embedding read through both is equal. */
#include "workers/weights/tensorfile.h"

#include <dirent.h>
#include <stdbool.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static char models[1024], data[1024];

static bool ends(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

/* All numbers of a tensor, malloc'd. */
static float *load(struct tensorfile *t, const char *name, int64_t *n)
{
    struct err err = {0};
    const struct tensor_entry *e = tensorfile_find(t, name);
    if (e == NULL)
        return NULL;
    void *raw = malloc(e->bytes);
    float *x = malloc((size_t)e->n_elements * sizeof *x);
    if (tensorfile_read(t, e, 0, raw, e->bytes, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    dtype_info((int)e->type)->dequantise(x, raw, e->n_elements);
    free(raw);
    *n = e->n_elements;
    return x;
}

static void must_open(struct tensorfile *t, const char *path)
{
    struct err err = {0};
    if (tensorfile_open(t, path, &err) != ERR_OK)
        fail_msg("%s", err.msg);
}

static void compare_embeddings(struct tensorfile *folder, struct tensorfile *gguf)
{
    int64_t n, m;
    float *a = load(folder, "model.embed_tokens.weight", &n), *b = load(gguf, "token_embd.weight", &m);
    assert_non_null(a);
    assert_non_null(b);
    assert_int_equal(n, m);
    assert_memory_equal(a, b, (size_t)n * sizeof *a);
    free(a);
    free(b);
}

/* One GGUF of a model's folder; folder may be NULL. */
static int check_gguf(const char *dir, const char *name, struct tensorfile *folder)
{
    char path[2048];
    struct tensorfile t;
    bool part = strstr(name, "-of-") != NULL;
    if (!ends(name, ".gguf") || (part && strstr(name, "-00001-of-") == NULL))
        return 0;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    must_open(&t, path);
    assert_true(t.n_tensors > 10);
    assert_int_equal(part, t.n_files > 1);
    assert_non_null(tensorfile_meta(&t, "general.architecture"));
    const struct meta_value *tokens = tensorfile_meta(&t, "tokenizer.ggml.tokens");
    assert_true(tokens != NULL && tokens->kind == META_ARRAY && tokens->strings != NULL);
    const struct tensor_entry *e = tensorfile_find(&t, "token_embd.weight");
    assert_int_equal(e->shape[0], (int64_t)tokens->len);
    if (folder != NULL && dtype_info((int)e->type)->block == 1)
        compare_embeddings(folder, &t);
    tensorfile_close(&t);
    return 1;
}

static int check_model(const char *name)
{
    char dir[1536], path[2048];
    struct tensorfile folder, *f = NULL;
    struct dirent **list;
    snprintf(dir, sizeof dir, "%s/%s", models, name);
    int n = scandir(dir, &list, NULL, alphasort), seen = 0;
    for (int i = 0; i < n; i++)     /* expected.*.safetensors are no model, so look for a real one */
        if (strncmp(list[i]->d_name, "model", 5) == 0 && ends(list[i]->d_name, ".safetensors") && !f) {
            must_open(f = &folder, dir);
            seen++;
        }
    for (int i = 0; i < n; i++) {
        seen += check_gguf(dir, list[i]->d_name, f);
        if (ends(list[i]->d_name, ".safetensors") || ends(list[i]->d_name, ".gguf")) {
            struct tensorfile t;        /* each file alone: part 2 of a set is refused, no more */
            struct err err = {0};
            snprintf(path, sizeof path, "%s/%s", dir, list[i]->d_name);
            if (tensorfile_open(&t, path, &err) == ERR_OK)
                tensorfile_close(&t);
            else
                assert_non_null(strstr(err.msg, "give the first part"));
        }
        free(list[i]);
    }
    if (n >= 0)
        free(list);
    if (f != NULL)
        tensorfile_close(f);
    return seen;
}

static void test_models(void **state)
{
    (void)state;
    struct dirent **list;
    int n = scandir(models, &list, NULL, alphasort), seen = 0;
    for (int i = 0; i < n; i++) {
        if (list[i]->d_name[0] != '.')
            seen += check_model(list[i]->d_name);
        free(list[i]);
    }
    free(list);
    assert_true(seen > 0);
}

/* Vocabulary files have no tensors, and up to a hundred thousand strings. */
static void test_vocabularies(void **state)
{
    (void)state;
    struct dirent **list;
    char path[2048];
    int n = scandir(data, &list, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        if (ends(list[i]->d_name, ".gguf")) {
            struct tensorfile t;
            snprintf(path, sizeof path, "%s/%s", data, list[i]->d_name);
            must_open(&t, path);
            assert_true(tensorfile_meta(&t, "tokenizer.ggml.tokens")->len > 1000);
            tensorfile_close(&t);
        }
        free(list[i]);
    }
    if (n >= 0)
        free(list);
}

int main(void)
{
    const char *f = getenv("MUSTER_FIXTURES"), *d = getenv("MUSTER_DATA");
    snprintf(models, sizeof models, "%s/llm", f != NULL ? f : FIXTURES_DEFAULT);
    snprintf(data, sizeof data, "%s/tokenizers", d != NULL ? d : DATA_DEFAULT);
    DIR *dir = opendir(models);
    if (dir == NULL)
        return 77;
    closedir(dir);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_models),
                                       cmocka_unit_test(test_vocabularies)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
