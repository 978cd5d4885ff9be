/* test_train.c - `muster train diffusion` as a user runs it: the same weights, bit for bit, on one, two and
 * four ranks and across a kill and a resume; the files of a run; and what can go wrong, each with one line
 * and an exit code. */
#include "tests/e2e/badtraining.h"
#include "tests/e2e/e2e.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LIMIT_S = 60, INPUT = 3, USAGE = 2, STEPS = 50 };

/* A model so small that a step takes some milliseconds. */
#define TINY "--batch 8 --warmup 5 --set width=16 --set heads=2 --set layers=2 --set patch=8 " \
             "--set text_width=16 --set text_heads=2 --set text_layers=1 --set preview_steps=2 --previews 2 " \
             "--log-every 5 --f32"

static void expect_same(const char *a, const char *b, const char *file)
{
    char one[600], other[600];
    size_t n, m;
    snprintf(one, sizeof one, "%s/%s/%s", e2e_dir(), a, file);
    snprintf(other, sizeof other, "%s/%s/%s", e2e_dir(), b, file);
    char *x = e2e_read_file(one, &n), *y = e2e_read_file(other, &m);
    if (x == NULL || y == NULL || n != m || memcmp(x, y, n) != 0)
        fail_msg("%s and %s differ, or are not there", one, other);
    free(x);
    free(y);
}

static void run_well(const char *out, int ranks, int steps, const char *more)
{
    struct e2e_run r;
    e2e_muster(&r, ranks, LIMIT_S, "train diffusion --out '%s/%s' --steps %d %s %s", e2e_dir(), out, steps,
               ranks > 0 ? "--threads 1" : "", more);
    e2e_expect(&r, 0);
    e2e_run_free(&r);
}

static void same_weights_on_any_ranks(void **state)
{
    (void)state;
    run_well("one", 1, STEPS, TINY);
    run_well("two", 2, STEPS, TINY);
    run_well("four", 4, STEPS, TINY);
    static const char *const files[] = {
        "checkpoint-000050.safetensors", "model/transformer/diffusion_pytorch_model.safetensors",
        "model/text_encoder/model.safetensors", "preview-000050.png"};
    for (int i = 0; i < 4; i++) {
        expect_same("one", "two", files[i]);
        expect_same("one", "four", files[i]);
    }
}

/* The same for products of bfloat16 numbers, where the processor has them. */
static void same_weights_in_bf16(void **state)
{
    (void)state;
    struct e2e_run r;
    e2e_muster(&r, 1, LIMIT_S, "train diffusion --out '%s/h1' --steps %d --compute bf16 %s", e2e_dir(), STEPS,
               TINY);
    if (r.status == USAGE && strstr(r.err, "bfloat16") != NULL) {
        e2e_run_free(&r);
        skip();
    }
    e2e_expect(&r, 0);
    e2e_run_free(&r);
    run_well("h2", 2, STEPS, "--compute bf16 " TINY);
    expect_same("h1", "h2", "checkpoint-000050.safetensors");
}

static void files_of_a_run(void **state)
{
    (void)state;
    char path[600];
    size_t n;
    static const char *const files[] = {
        "model/model_index.json", "model/transformer/config.json", "model/text_encoder/config.json",
        "model/scheduler/scheduler_config.json", "model/tokenizer/vocab.json", "model/tokenizer/merges.txt",
        "checkpoint.json", "tokenizer/vocab.json"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "%s/one/%s", e2e_dir(), files[i]);
        if (access(path, R_OK) != 0)
            fail_msg("%s is not there", path);
    }
    snprintf(path, sizeof path, "%s/one/metrics.csv", e2e_dir());
    char *csv = e2e_read_file(path, &n);
    int rows = 0;
    for (size_t i = 0; i < n; i++)
        rows += csv[i] == '\n';
    assert_int_equal(rows, 1 + STEPS / 5);
    assert_memory_equal(csv, "step,seconds,samples_per_s,loss,", 32);
    free(csv);
}

/* The folder says how it wants to paint, and which words it has seen. */
static void hints_of_a_model(void **state)
{
    (void)state;
    struct e2e_run r;
    e2e_muster(&r, 1, LIMIT_S, "imagine 'a fluffy red car' --seed 1 --steps 1 -m '%s/one/model' -o '%s/hint.png'",
               e2e_dir(), e2e_dir());
    e2e_expect(&r, 0);
    assert_non_null(strstr(r.err, "'fluffy'"));
    assert_null(strstr(r.err, "'red'"));
    e2e_run_free(&r);
    e2e_muster(&r, 0, LIMIT_S, "inspect '%s/hint.png'", e2e_dir());
    e2e_expect(&r, 0);
    assert_non_null(strstr(r.out, "CFG scale: 3,"));        /* the trainer's, not imagine's 5 */
    e2e_run_free(&r);
}

/* Killed without warning behind its first checkpoint, and finished on two ranks. */
static void killed_and_resumed(void **state)
{
    (void)state;
    struct e2e_run r;
    char command[3000];
    run_well("straight", 0, 400, TINY);
    snprintf(command, sizeof command,
             "%s train diffusion --out '%s/killed' --steps 400 --checkpoint-every 50 %s & p=$!; "
             "while kill -0 $p && ! [ -e '%s/killed/checkpoint.json' ]; do sleep 0.02; done; kill -9 $p; "
             "wait $p; true", E2E_MUSTER, e2e_dir(), TINY, e2e_dir());
    e2e_shell(&r, LIMIT_S, "%s", command);
    e2e_expect(&r, 0);
    e2e_run_free(&r);
    char path[600];
    snprintf(path, sizeof path, "%s/killed/model", e2e_dir());
    assert_int_not_equal(access(path, F_OK), 0);        /* it had not come to its end */
    e2e_muster(&r, 2, LIMIT_S, "train diffusion --out '%s/killed' --resume --previews 2 --f32 --threads 1",
               e2e_dir());
    e2e_expect(&r, 0);
    e2e_run_free(&r);
    expect_same("straight", "killed", "checkpoint-000400.safetensors");
    expect_same("straight", "killed", "model/transformer/diffusion_pytorch_model.safetensors");
}

/* What others made goes on: the first step begins at the folder's weights. */
static void goes_on_from_a_folder(void **state)
{
    (void)state;
    char more[800];
    snprintf(more, sizeof more, "--batch 8 --from '%s/one/model' --lr 0 --set ema=0 --previews 0 --f32",
             e2e_dir());
    run_well("onwards", 2, 2, more);
    expect_same("one", "onwards", "model/text_encoder/config.json");
}

static void expect_same_losses(const char *a, const char *b)
{
    struct e2e_run r[2];
    const char *const of[2] = {a, b};
    for (int i = 0; i < 2; i++) {
        e2e_shell(&r[i], LIMIT_S, "cut -d, -f1,4 '%s/%s/metrics.csv'", e2e_dir(), of[i]);
        e2e_expect(&r[i], 0);
    }
    assert_non_null(strstr(r[0].out, "loss\n1,"));
    assert_string_equal(r[0].out, r[1].out);
    for (int i = 0; i < 2; i++)
        e2e_run_free(&r[i]);
}

/* More layers, and yet the same function: what they do begins at nothing. From there two ranks go on. */
static void grows(void **state)
{
    (void)state;
    char more[800];
    for (int layers = 2; layers <= 4; layers += 2) {
        snprintf(more, sizeof more, "--batch 8 --from '%s/one/model' --lr 0 --log-every 1 --previews 0 "
                 "--set layers=%d", e2e_dir(), layers);
        run_well(layers == 2 ? "as-it-was" : "deeper", 1, 4, more);
    }
    expect_same_losses("as-it-was", "deeper");
    snprintf(more, sizeof more, "--batch 8 --from '%s/deeper/model' --warmup 1 --previews 2 --log-every 1",
             e2e_dir());
    run_well("deeper-learns", 2, 4, more);
    expect_same("deeper", "deeper-learns", "model/transformer/config.json");
}

/* --- what can go wrong */

static void expect_failure(int status, const char *what, const char *args)
{
    char all[1000];
    snprintf(all, sizeof all, "diffusion %s", args);
    badtraining_fails(status, what, all);
}

static void bad_usage(void **state)
{
    (void)state;
    char args[900];
    expect_failure(USAGE, "--out", "--steps 3");
    expect_failure(USAGE, "KEY=VALUE", "--out x --set width");
    snprintf(args, sizeof args, "--out '%s/u1' --steps 3 --set widht=32", e2e_dir());
    expect_failure(USAGE, "widht", args);
    snprintf(args, sizeof args, "--out '%s/u2' --steps 3 --set width=2.5", e2e_dir());
    expect_failure(USAGE, "width wants a whole number", args);
    snprintf(args, sizeof args, "--out '%s/u3' --steps 3 --set objective=guess", e2e_dir());
    expect_failure(USAGE, "flow, epsilon, v", args);
    snprintf(args, sizeof args, "--out '%s/u4' --steps 3 --batch 1", e2e_dir());
    expect_failure(USAGE, "fewer", args);
    snprintf(args, sizeof args, "--out '%s/one' --steps 90", e2e_dir());
    expect_failure(USAGE, "--resume", args);
    snprintf(args, sizeof args, "--out '%s/u5' --steps 3 --data '%s/nothing' --tokenizer '%s/one/tokenizer'",
             e2e_dir(), e2e_dir(), e2e_dir());
    expect_failure(USAGE, "nothing", args);
    snprintf(args, sizeof args, "--out '%s/u6' --steps 3 --tokenizer '%s/nothing'", e2e_dir(), e2e_dir());
    expect_failure(INPUT, "nothing", args);
    struct e2e_run r;
    e2e_muster(&r, 0, LIMIT_S, "train tokenizer --data scenes --type clip --vocab 560 --out '%s/other-tok'",
               e2e_dir());
    e2e_expect(&r, 0);
    e2e_run_free(&r);
    snprintf(args, sizeof args, "--out '%s/u8' --steps 3 --from '%s/one/model' --set layers=1", e2e_dir(),
             e2e_dir());
    expect_failure(USAGE, "layers=1: the model to go on from has 2", args);
    snprintf(args, sizeof args, "--out '%s/u7' --steps 3 --from '%s/one/model' --tokenizer '%s/other-tok'",
             e2e_dir(), e2e_dir(), e2e_dir());
    expect_failure(INPUT, "another model's tokenizer", args);
}

/* "two" is of no use to anybody afterwards. */
static const struct badtraining bad = {"diffusion " TINY, "two", STEPS, "--set width=32"};
static void unwritable_output(void **state) { (void)state; badtraining_output(&bad); }
static void bad_checkpoints(void **state) { (void)state; badtraining_checkpoint(&bad); }
static void disk_fills_up(void **state) { (void)state; badtraining_disk(&bad); }

/* Ends at the step, and says which checkpoint is good; that one is there. */
static void loss_that_is_no_number(void **state)
{
    (void)state;
    char args[900], path[600];
    snprintf(args, sizeof args, "--out '%s/nan' --steps 2000 --checkpoint-every 1 %s --warmup 0 --lr 100 "
             "--set lr_floor=100 --set clip=0 --set beta1=0 --set decay=10", e2e_dir(), TINY);
    expect_failure(INPUT, "not a number at step", args);
    snprintf(path, sizeof path, "%s/nan/checkpoint.json", e2e_dir());
    assert_int_equal(access(path, R_OK), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_weights_on_any_ranks),
        cmocka_unit_test(same_weights_in_bf16),
        cmocka_unit_test(files_of_a_run), cmocka_unit_test(hints_of_a_model),
        cmocka_unit_test(killed_and_resumed),
        cmocka_unit_test(goes_on_from_a_folder),
        cmocka_unit_test(grows),
        cmocka_unit_test(bad_usage),
        cmocka_unit_test(unwritable_output),
        cmocka_unit_test(bad_checkpoints),
        cmocka_unit_test(loss_that_is_no_number),
        cmocka_unit_test(disk_fills_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
