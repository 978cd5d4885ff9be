/* test_train_others.c - `muster train llm` and `train gan` as a user runs them: the same weights, bit for bit,
 * on one, two and four ranks and across a kill and a resume; a model that generate runs and others open; what
 * can go wrong with their data. */
#include "tests/e2e/badtraining.h"
#include "tests/e2e/e2e.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LIMIT_S = 90, INPUT = 3, USAGE = 2, STEPS = 50, SKIPPED = 77 };

#define LLM "llm --data '%s/text' --tokenizer '%s/tok' --batch 8 --warmup 5 --set hidden=32 --set layers=2 " \
            "--set ffn=48 --set length=32 --previews 2 --log-every 5 --f32 "
#define GAN "gan --batch 8 --set g=16-16-8 --set d=8-16 --set z=16 --set condition=8 --previews 2 " \
            "--log-every 5 --f32 "

static char llm_args[1400];

static void expect_same(const char *a, const char *b, const char *file)
{
    char one[600], other[600];
    size_t n = 0, m = 0;
    snprintf(one, sizeof one, "%s/%s/%s", e2e_dir(), a, file);
    snprintf(other, sizeof other, "%s/%s/%s", e2e_dir(), b, file);
    char *x = e2e_read_file(one, &n), *y = e2e_read_file(other, &m);
    if (x == NULL || y == NULL || n != m || memcmp(x, y, n) != 0)
        fail_msg("%s and %s differ, or are not there", one, other);
    free(x);
    free(y);
}

/* A few hundred sentences, and a tokenizer learnt from them. */
static int make_text(void **state)
{
    (void)state;
    static const char *const who[] = {"boat", "house", "star", "car", "tree", "ball"};
    static const char *const how[] = {"red", "blue", "green", "white"};
    char path[600], *text = malloc(1 << 16);
    size_t at = 0;
    struct e2e_run r;
    for (unsigned i = 0; i < 600 && text != NULL; i++)
        at += (size_t)snprintf(text + at, (1 << 16) - at, "{\"text\": \"a %s %s left of a %s %s\"}\n",
                               how[i % 4], who[i * 7 % 6], how[i / 4 % 4], who[i * 5 / 3 % 6]);
    e2e_shell(&r, LIMIT_S, "mkdir '%s/text'", e2e_dir());
    e2e_run_free(&r);
    snprintf(path, sizeof path, "%s/text/sentences.jsonl", e2e_dir());
    e2e_write_file(path, text, at);
    free(text);
    e2e_muster(&r, 0, LIMIT_S, "train tokenizer --in '%s' --vocab 300 --out '%s/tok'", path, e2e_dir());
    e2e_expect(&r, 0);
    e2e_run_free(&r);
    snprintf(llm_args, sizeof llm_args, LLM, e2e_dir(), e2e_dir());
    return 0;
}

static void run_well(const char *out, int ranks, int steps, const char *args)
{
    struct e2e_run r;
    e2e_muster(&r, ranks, LIMIT_S, "train %s --out '%s/%s' --steps %d %s", args, e2e_dir(), out, steps,
               ranks > 0 ? "--threads 1" : "");
    e2e_expect(&r, 0);
    e2e_run_free(&r);
}

static void on_any_ranks(const char *name, const char *args, const char *const *files, int n_files)
{
    static const int ranks[3] = {1, 2, 4};
    char one[32], other[32];
    snprintf(one, sizeof one, "%s-1", name);
    for (int i = 0; i < 3; i++) {
        snprintf(other, sizeof other, "%s-%d", name, ranks[i]);
        run_well(other, ranks[i], STEPS, args);
        for (int k = 0; k < n_files && i > 0; k++)
            expect_same(one, other, files[k]);
    }
}

/* Killed without warning behind its first checkpoint, and finished on two ranks. */
static void killed(const char *name, const char *args, int steps, const char *file)
{
    struct e2e_run r;
    char straight[32], path[600];
    snprintf(straight, sizeof straight, "%s-straight", name);
    run_well(straight, 0, steps, args);
    e2e_shell(&r, LIMIT_S,
              "%s train %s --out '%s/%s-killed' --steps %d --checkpoint-every 50 & p=$!; "
              "while kill -0 $p && ! [ -e '%s/%s-killed/checkpoint.json' ]; do sleep 0.02; done; kill -9 $p; "
              "wait $p; true", E2E_MUSTER, args, e2e_dir(), name, steps, e2e_dir(), name);
    e2e_expect(&r, 0);
    e2e_run_free(&r);
    snprintf(path, sizeof path, "%s/%s-killed/model", e2e_dir(), name);
    assert_int_not_equal(access(path, F_OK), 0);        /* it had not come to its end */
    e2e_muster(&r, 2, LIMIT_S, "train %.3s --out '%s/%s-killed' --resume --previews 2 --f32 --threads 1",
               args, e2e_dir(), name);
    e2e_expect(&r, 0);
    e2e_run_free(&r);
    snprintf(path, sizeof path, "%s-killed", name);
    expect_same(straight, path, file);
}

static void llm_on_any_ranks(void **state)
{
    (void)state;
    static const char *const files[] = {"checkpoint-000050.safetensors", "model/model.safetensors",
                                        "model/model.gguf", "preview.txt"};
    on_any_ranks("llm", llm_args, files, 4);
}

static void gan_on_any_ranks(void **state)
{
    (void)state;
    static const char *const files[] = {"checkpoint-000050.safetensors", "model/generator/model.safetensors",
                                        "preview-000050.png"};
    on_any_ranks("gan", GAN, files, 3);
}

static void llm_killed(void **state) { (void)state; killed("llm", llm_args, 600, "model/model.safetensors"); }
static void gan_killed(void **state)
{
    (void)state;
    killed("gan", GAN, 200, "model/generator/model.safetensors");
}

/* Told by captions: the encoder and its tokenizer go along. Pairs told the same are kept apart. */
static void gan_of_captions(void **state)
{
    (void)state;
    char args[1400], path[700];
    run_well("diffusion", 0, 3, "diffusion --batch 8 --set width=16 --set heads=2 --set layers=1 --set patch=8 "
             "--set text_width=16 --set text_heads=2 --set text_layers=1 --previews 0 --f32");
    snprintf(args, sizeof args, GAN "--batch 16 --set diversity=0.1 --set text_encoder='%s/diffusion/model/"
             "text_encoder'", e2e_dir());
    run_well("told", 2, 3, args);
    run_well("told-1", 0, 3, args);
    expect_same("told", "told-1", "checkpoint-000003.safetensors");
    static const char *const files[] = {"generator/model.safetensors", "text_encoder/model.safetensors",
                                        "tokenizer/vocab.json", "model_index.json"};
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/told/model/%s", e2e_dir(), files[i]);
        if (access(path, R_OK) != 0)
            fail_msg("%s is not there", path);
    }
}

/* Texts of the built-in world: no file is wanted, the tokenizer is the one that can be had alone, ranks do
 * not show. */
static void llm_of_the_world(void **state)
{
    (void)state;
    struct e2e_run r;
    static const char args[] = "llm --data scenes --batch 8 --warmup 2 --set vocab=400 --set hidden=32 "
                               "--set layers=1 --set ffn=48 --set length=48 --evaluate-every 6 --previews 1 "
                               "--log-every 3 --f32 ";
    run_well("world-1", 0, 12, args);
    run_well("world-2", 2, 12, args);
    expect_same("world-1", "world-2", "model/model.safetensors");
    e2e_muster(&r, 0, LIMIT_S, "train tokenizer --data scenes --vocab 400 --out '%s/world-tok'", e2e_dir());
    e2e_expect(&r, 0);
    e2e_run_free(&r);
    expect_same("world-1/model", "world-tok", "tokenizer.json");
    e2e_shell(&r, LIMIT_S, "grep -q eval_loss '%s/world-2/events.out.'*", e2e_dir());
    e2e_expect(&r, 0);
    e2e_run_free(&r);
}

/* The folder and the GGUF file in it say the same. */
static void llm_generates(void **state)
{
    (void)state;
    char *text[2];
    for (int i = 0; i < 2; i++) {
        struct e2e_run r;
        e2e_muster(&r, 2, LIMIT_S, "generate -m '%s/llm-1/model%s' -p 'a red boat left of' -n 12 --temp 0 "
                   "--compute f32", e2e_dir(), i == 0 ? "" : "/model.gguf");
        e2e_expect(&r, 0);
        text[i] = strdup(r.out);
        e2e_run_free(&r);
    }
    assert_string_equal(text[0], text[1]);
    free(text[0]);
    free(text[1]);
}

/* A folder trained further, at a rate of nothing, is the folder. */
static void llm_goes_on(void **state)
{
    (void)state;
    char args[1400];
    snprintf(args, sizeof args, "llm --data '%s/text' --batch 8 --set length=32 --from '%s/llm-1/model' --lr 0 "
             "--set ema=0 --previews 0 --f32", e2e_dir(), e2e_dir());
    run_well("onwards", 2, 2, args);
    expect_same("llm-1", "onwards", "model/model.safetensors");
    expect_same("llm-1", "onwards", "model/config.json");
    expect_same("llm-1", "onwards", "model/tokenizer.json");
}

static void llm_in_other_programs(void **state)
{
    (void)state;
    struct e2e_run r;
    const char *python = getenv("MUSTER_PYTHON");
    e2e_muster(&r, 0, LIMIT_S, "logits -m '%s/llm-1/model' --compute f32 --ids 5,9,100,42,7 --out "
               "'%s/logits.safetensors'", e2e_dir(), e2e_dir());
    e2e_expect(&r, 0);
    e2e_run_free(&r);
    e2e_shell(&r, LIMIT_S, "'%s' '%s/tests/bench/trained_llm.py' '%s/llm-1/model' '%s/logits.safetensors' "
              "5,9,100,42,7", python != NULL ? python : "python3", E2E_SOURCE, e2e_dir(), e2e_dir());
    printf("%s", r.status == 127 ? "skipped: no Python\n" : r.out);
    int status = r.status;
    if (status != SKIPPED && status != 127)
        e2e_expect(&r, 0);
    e2e_run_free(&r);
    if (status != 0)
        skip();
}

static void bad_input(void **state)
{
    (void)state;
    struct e2e_run r;
    char args[2400], path[600];
    snprintf(args, sizeof args, "llm --data scenes --out '%s/b0' --steps 3 --set vocab=200", e2e_dir());
    badtraining_fails(USAGE, "vocab=200", args);
    snprintf(args, sizeof args, "llm --data '%s/text' --out '%s/b1' --steps 3", e2e_dir(), e2e_dir());
    badtraining_fails(USAGE, "--tokenizer FOLDER is wanted", args);
    snprintf(path, sizeof path, "%s/empty.txt", e2e_dir());
    e2e_write_file(path, "", 0);
    snprintf(args, sizeof args, "llm --data '%s' --tokenizer '%s/tok' --out '%s/b2' --steps 3", path, e2e_dir(),
             e2e_dir());
    badtraining_fails(USAGE, "tokens of text, a row has 128", args);
    snprintf(args, sizeof args, "%s --out '%s/b3' --steps 3 --set heads=5", llm_args, e2e_dir());
    badtraining_fails(INPUT, "num_attention_heads", args);
    snprintf(args, sizeof args, "llm --data '%s/text' --tokenizer '%s/world-tok' --from '%s/llm-1/model' --out "
             "'%s/b7' --steps 3", e2e_dir(), e2e_dir(), e2e_dir(), e2e_dir());
    badtraining_fails(INPUT, "another model's tokenizer", args);
    snprintf(args, sizeof args, "llm --data '%s/text' --from '%s/llm-1/model/model.gguf' --out '%s/b8' --steps 3",
             e2e_dir(), e2e_dir(), e2e_dir());
    badtraining_fails(USAGE, "this is a GGUF file", args);
    snprintf(args, sizeof args, "llm --data '%s/text' --out '%s/gan-1' --resume --steps 90", e2e_dir(), e2e_dir());
    badtraining_fails(INPUT, "holds a run of train gan", args);
    snprintf(args, sizeof args, GAN "--out '%s/b4' --steps 3 --set g=16-x", e2e_dir());
    badtraining_fails(USAGE, "no list of", args);
    snprintf(args, sizeof args, GAN "--out '%s/b5' --steps 3 --set side=64 --set g=16-8-8-8-8-8-8-8-8",
             e2e_dir());
    badtraining_fails(USAGE, "does not make 64 pixels", args);
    snprintf(args, sizeof args, GAN "--out '%s/b6' --steps 3 --set text_encoder=/nothing", e2e_dir());
    badtraining_fails(INPUT, "/nothing", args);
    snprintf(args, sizeof args, GAN "--out '%s/b9' --steps 3 --set diversity=1", e2e_dir());
    badtraining_fails(USAGE, "--batch 16", args);
    e2e_muster(&r, 0, LIMIT_S, "train tokenizer --data scenes --type clip --vocab 560 --out '%s/clip-tok'",
               e2e_dir());
    e2e_expect(&r, 0);
    e2e_run_free(&r);
    snprintf(args, sizeof args, GAN "--out '%s/b10' --steps 3 --tokenizer '%s/clip-tok' --set text_encoder='%s/"
             "diffusion/model/text_encoder'", e2e_dir(), e2e_dir(), e2e_dir());
    badtraining_fails(INPUT, "another model's tokenizer", args);
}

/* A loss that is no number ends the run, says where, and names the last good checkpoint. */
static void diverges(void **state)
{
    (void)state;
    char args[1600], path[600];
    const char *const kinds[2] = {llm_args, GAN}, *const more[2] = {"--set clip=0", ""};
    for (int i = 0; i < 2; i++) {
        snprintf(args, sizeof args, "%s --out '%s/wild-%d' --steps 40 --checkpoint-every 1 --lr 100 --set decay=10 "
                 "%s", kinds[i], e2e_dir(), i, more[i]);
        badtraining_fails(INPUT, "is not a number at step", args);
        snprintf(path, sizeof path, "%s/wild-%d/checkpoint.json", e2e_dir(), i);
        assert_int_equal(access(path, R_OK), 0);
    }
}

/* Runs on two ranks are of no use to anybody afterwards. */
static void each_badly(void (*what)(const struct badtraining *b))
{
    const struct badtraining llm = {llm_args, "llm-2", STEPS, "--set ffn=64"};
    const struct badtraining gan = {GAN, "gan-2", STEPS, "--set z=24"};
    what(&llm);
    what(&gan);
}

static void bad_output(void **state) { (void)state; each_badly(badtraining_output); }
static void bad_checkpoints(void **state) { (void)state; each_badly(badtraining_checkpoint); }
static void disk_fills_up(void **state) { (void)state; each_badly(badtraining_disk); }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(llm_on_any_ranks), cmocka_unit_test(gan_on_any_ranks), cmocka_unit_test(llm_killed),
        cmocka_unit_test(gan_killed), cmocka_unit_test(gan_of_captions), cmocka_unit_test(llm_generates),
        cmocka_unit_test(llm_of_the_world),
        cmocka_unit_test(llm_goes_on), cmocka_unit_test(llm_in_other_programs), cmocka_unit_test(bad_input),
        cmocka_unit_test(diverges), cmocka_unit_test(bad_output), cmocka_unit_test(bad_checkpoints),
        cmocka_unit_test(disk_fills_up)};
    return cmocka_run_group_tests(tests, make_text, NULL);
}
