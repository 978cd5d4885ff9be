/* Probabilities of every setting in fixtures/sampling: within 1e-6, and the same tokens kept. */
#include "workers/models/sampler.h"
#include "workers/weights/tensorfile.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static char folder[512];

struct fixture { int n_configs, n_rows, vocab, n_history; float *logits; int64_t *history; double *probs; };

static void *read_all(struct tensorfile *t, const char *name, int64_t shape[TENSOR_DIMS_MAX])
{
    struct err err = {0};
    const struct tensor_entry *e = tensorfile_find(t, name);
    assert_non_null(e);
    memcpy(shape, e->shape, sizeof e->shape);
    void *p = malloc(e->bytes);
    assert_int_equal(tensorfile_read(t, e, 0, p, e->bytes, &err), ERR_OK);
    return p;
}

static void open_fixture(struct fixture *f)
{
    struct tensorfile t;
    struct err err = {0};
    char path[600];
    int64_t shape[TENSOR_DIMS_MAX];
    snprintf(path, sizeof path, "%s/sampling.safetensors", folder);
    assert_int_equal(tensorfile_open(&t, path, &err), ERR_OK);
    f->logits = read_all(&t, "logits", shape);
    f->n_rows = (int)shape[0];
    f->vocab = (int)shape[1];
    f->history = read_all(&t, "history", shape);
    f->n_history = (int)shape[1];
    f->probs = read_all(&t, "probs", shape);
    f->n_configs = (int)shape[0];
    tensorfile_close(&t);
}

static double number(const json_t *config, const char *name)
{
    const json_t *v = json_object_get(config, name);
    assert_non_null(v);
    return json_number_value(v);
}

static struct sampler_params params_of(json_t *config, uint32_t *tokens, float *values)
{
    struct sampler_params p = {
        .temperature = number(config, "temperature"), .top_k = (int)number(config, "top_k"),
        .top_p = number(config, "top_p"), .min_p = number(config, "min_p"),
        .typical_p = number(config, "typical_p"),
        .repeat_penalty = number(config, "repetition_penalty"),
        .presence_penalty = number(config, "presence_penalty"),
        .frequency_penalty = number(config, "frequency_penalty"),
        .no_repeat_ngram = (int)number(config, "no_repeat_ngram"),
        .bias_token = tokens, .bias_value = values};
    const char *key;
    json_t *value;
    json_object_foreach(json_object_get(config, "logit_bias"), key, value) {
        tokens[p.n_bias] = (uint32_t)atoi(key);
        values[p.n_bias++] = (float)json_number_value(value);
    }
    return p;
}

static void test_all_settings(void **state)
{
    struct fixture f;
    char path[600];
    open_fixture(&f);
    snprintf(path, sizeof path, "%s/configs.json", folder);
    json_t *root = json_load_file(path, 0, NULL), *configs = json_object_get(root, "configs");
    assert_int_equal(json_array_size(configs), f.n_configs);
    void *scratch = aligned_alloc(64, sampler_scratch_bytes(f.vocab));
    float *work = malloc(sizeof *work * (size_t)f.vocab);
    int32_t *history = malloc(sizeof *history * (size_t)f.n_history);
    const struct kernels *k = kernels_get(isa_detect());
    int wrong = 0;
    for (int c = 0; c < f.n_configs; c++) {
        uint32_t tokens[64];
        float values[64];
        json_t *config = json_array_get(configs, (size_t)c);
        struct sampler_params p = params_of(config, tokens, values);
        struct err err = {0};
        assert_int_equal(sampler_params_check(&p, f.vocab, &err), ERR_OK);
        for (int row = 0; row < f.n_rows; row++) {
            const double *want = f.probs + ((int64_t)c * f.n_rows + row) * f.vocab;
            memcpy(work, f.logits + (int64_t)row * f.vocab, sizeof *work * (size_t)f.vocab);
            for (int i = 0; i < f.n_history; i++)
                history[i] = (int32_t)f.history[(int64_t)row * f.n_history + i];
            const double *got = sampler_probabilities(&p, k, work, f.vocab, history, f.n_history,
                                                      (int)number(config, "n_prompt"), scratch);
            for (int i = 0; i < f.vocab; i++)
                if (fabs(got[i] - want[i]) > 1e-6 || (got[i] > 0) != (want[i] > 0)) {
                    print_error("setting %d row %d token %d: %.9g, not %.9g\n", c, row, i, got[i],
                                want[i]);
                    wrong++;
                    break;
                }
        }
    }
    assert_int_equal(wrong, 0);
    json_decref(root);
    free(scratch);
    free(work);
    free(history);
    free(f.logits);
    free(f.history);
    free(f.probs);
}

int main(void)
{
    const char *base = getenv("MUSTER_FIXTURES");
    snprintf(folder, sizeof folder, "%s/sampling", base != NULL ? base : FIXTURES_DEFAULT);
    if (access(folder, R_OK) != 0)
        return 77;
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_all_settings)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
