/* test_trained_folder.c - folders that `muster train diffusion` writes, opened by diffusers and transformers:
 * the same ids from the tokenizer, the same tensors from text encoder and denoiser within 1e-4. Needs a
 * Python with both (MUSTER_PYTHON, else python3); says so and is skipped without. */
#include "coordinator/train/captiontokens.h"
#include "tests/e2e/e2e.h"
#include "tests/fixturetensor.h"
#include "workers/train/diffusiontask.h"

#include <string.h>

enum { LIMIT_S = 110, SKIPPED = 77, ROWS = 2 };

static bool no_python;

/* y and hidden of both rows as this program computes them, against the file's. */
static void compare(struct tensorfile *t, const char *model)
{
    struct trainconfig *c = calloc(1, sizeof *c);
    struct train_task task = {.row = &train_task_diffusion};
    struct err err = {0};
    struct nn nn;
    char text[800];
    const struct tensor_entry *e;
    snprintf(text, sizeof text, "{\"from\": \"%s\"}", model);
    if (trainconfig_open(c, text, &err) != ERR_OK || task.row->create(&task, c, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    struct diffusion *d = task.state;
    nn_init(&nn, kernels_get(isa_detect()), NULL);
    nn_set_parts(&nn, ROWS, (const int64_t[]){0, 1, 2});
    float *x = fixture_floats(t, "x", &e);
    struct nn_tensor *in = nn_input(&nn, x, 4, e->shape), *out;
    double *time = fixture_values(t, "t", &e), *id = fixture_values(t, "ids", &e), top;
    int32_t ids[ROWS * 64];
    for (int64_t i = 0; i < e->n_elements; i++)
        ids[i] = (int32_t)id[i];
    struct train_weights w = {{&task.set[0].params, &task.set[1].params}};
    if (diffusion_forward(d, &nn, &w, in, time, ids, &out, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    double *y = fixture_values(t, "y", &e);
    double off = fixture_distance(out->data, y, e->n_elements, &top);
    printf("%s: denoiser off by %.3g of %.3g\n", model, off, top);
    assert_true(off <= 1e-4 && top > 0.05);
    free(x), free(time), free(id), free(y);
    nn_free(&nn);
    task.row->destroy(&task);
    for (int s = 0; s < task.n_sets; s++)
        params_free(&task.set[s].params);
    trainconfig_close(c);
    free(c);
}

static void compare_ids(struct tensorfile *t, const char *model)
{
    static const char *const prompt[ROWS] = {"a red boat left of a yellow house on the sea",
                                             "a blue ball on the road"};
    char path[700];
    struct tokenizer *tokens;
    struct err err = {0};
    const struct tensor_entry *e;
    snprintf(path, sizeof path, "%s/tokenizer", model);
    if (captiontokens_open(&tokens, path, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    double *want = fixture_values(t, "ids", &e);
    for (int r = 0; r < ROWS; r++) {
        struct token_list ids = {0};
        assert_int_equal(tokenizer_encode(tokens, prompt[r], strlen(prompt[r]),
                                          (struct tokenize_options){false, false}, &ids, &err), ERR_OK);
        const double *row = want + r * e->shape[1];
        assert_int_equal((int)row[0], tokenizer_bos(tokens));
        for (int i = 0; i < ids.n; i++)
            assert_int_equal(ids.id[i], (int)row[i + 1]);
        assert_int_equal((int)row[ids.n + 1], tokenizer_eos(tokens));
        token_list_free(&ids);
    }
    free(want);
    tokenizer_close(tokens);
}

static void check_layout(const char *name, const char *more)
{
    struct e2e_run r;
    struct tensorfile t;
    struct err err = {0};
    char model[600], file[600];
    const char *python = getenv("MUSTER_PYTHON");
    if (no_python)
        skip();
    snprintf(model, sizeof model, "%s/%s/model", e2e_dir(), name);
    snprintf(file, sizeof file, "%s/%s.safetensors", e2e_dir(), name);
    e2e_muster(&r, 0, LIMIT_S, "train diffusion --out '%s/%s' --steps 60 --warmup 5 --f32 --previews 0 --batch 8 "
               "--set ema=0 --set width=32 --set layers=2 --set text_width=16 %s", e2e_dir(), name, more);
    e2e_expect(&r, 0);
    e2e_run_free(&r);
    e2e_shell(&r, LIMIT_S, "'%s' '%s/tests/bench/trained_folder.py' '%s' '%s'",
              python != NULL ? python : "python3", E2E_SOURCE, model, file);
    if (r.status == SKIPPED || r.status == 127) {
        printf("skipped: %s\n", r.status == 127 ? "no Python" : r.out);
        no_python = true;
        e2e_run_free(&r);
        skip();
    }
    e2e_expect(&r, 0);
    e2e_run_free(&r);
    if (tensorfile_open(&t, file, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    compare_ids(&t, model);
    compare(&t, model);
    tensorfile_close(&t);
}

static void two_streams(void **state)
{
    (void)state;
    check_layout("mmdit", "");
}

static void cross_attention(void **state)
{
    (void)state;
    check_layout("pixart", "--set layout=pixart --set objective=v --set times=uniform --set shift=1");
}

static void super_resolution(void **state)
{
    (void)state;
    check_layout("super", "--set super=true");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(two_streams), cmocka_unit_test(cross_attention),
                                       cmocka_unit_test(super_resolution)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return failed == 0 && no_python ? SKIPPED : failed;
}
