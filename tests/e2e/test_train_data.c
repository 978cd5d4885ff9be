/* test_train_data.c - data for training as a user has it: `muster train data`, folders of pictures with
 * captions and with classes, what can be wrong with them; and a run that is asked to end. */
#include "tests/e2e/e2e.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LIMIT_S = 90, INPUT = 3, USAGE = 2, INTERRUPTED = 130 };

#define DIFFUSION "diffusion --batch 8 --warmup 5 --set width=16 --set heads=2 --set layers=1 --set patch=8 " \
                  "--set text_width=16 --set text_heads=2 --set text_layers=1 --previews 0 --f32 --threads 1 "
#define GAN "gan --batch 8 --set g=16-16-8 --set d=8-16 --set z=16 --set condition=8 --previews 0 --f32 " \
            "--threads 1 "

static void good(int ranks, const char *fmt, const char *a, const char *b, const char *c)
{
    struct e2e_run r;
    e2e_muster(&r, ranks, LIMIT_S, fmt, a, b, c);
    e2e_expect(&r, 0);
    e2e_run_free(&r);
}

static void shell(const char *fmt, const char *a, const char *b)
{
    struct e2e_run r;
    e2e_shell(&r, LIMIT_S, fmt, a, b);
    e2e_expect(&r, 0);
    e2e_run_free(&r);
}

/* Pictures, their tokenizer, and a copy in folders of classes. */
static int make_data(void **state)
{
    (void)state;
    const char *d = e2e_dir();
    good(0, "train data --out '%s/world' -n 40 --seed 5", d, "", "");
    good(0, "train tokenizer --type clip --in '%s/world/train/metadata.jsonl' --vocab 1024 --out '%s/tok'", d, d,
         "");
    shell("cd '%s' && mkdir -p kinds/one kinds/two && cp world/train/00000*.png kinds/one && "
          "cp world/train/00001*.png kinds/two%s", d, "");
    return 0;
}

static void files_of_train_data(void **state)
{
    (void)state;
    const char *d = e2e_dir();
    struct e2e_run r;
    good(0, "train data --out '%s/again' -n 12 --seed 5", d, "", "");
    shell("cd '%s' && for i in 00 05 11; do cmp again/train/0000$i.png world/train/0000$i.png || exit 1; done && "
          "head -n 12 world/train/metadata.jsonl | cmp - again/train/metadata.jsonl%s", d, "");
    good(0, "train data --out '%s/large' -n 3 --size 64 --held-out", d, "", "");
    shell("cd '%s' && grep -q '\"set\":\"relation\"' large/test/metadata.jsonl && ! [ -e large/train ]%s", d, "");
    good(0, "train data --kind text --out '%s/text' -n 60", d, "", "");
    shell("[ \"$(wc -l < '%s/text/train/text.jsonl')\" = 60 ]%s", d, "");
    e2e_muster(&r, 0, LIMIT_S, "train data --out '%s/again'", d);
    e2e_expect_error(&r, USAGE, "is there already");
    e2e_run_free(&r);
    e2e_muster(&r, 0, LIMIT_S, "train data --out '%s/x' --size 40", d);
    e2e_expect_error(&r, USAGE, "--size 40");
    e2e_run_free(&r);
    e2e_muster(&r, 0, LIMIT_S, "train data --out /proc/nowhere");
    e2e_expect_error(&r, 6, "/proc/nowhere");
    e2e_run_free(&r);
}

/* Ranks do not show in what is learnt from folders. */
static void learns_from_folders(void **state)
{
    (void)state;
    const char *d = e2e_dir();
    static const int ranks[2] = {0, 2};
    for (int i = 0; i < 2; i++) {
        good(ranks[i], i == 0 ? "train " DIFFUSION "--data '%s/world' --tokenizer '%s/tok' --steps 8 --out '%s/d0'"
                              : "train " DIFFUSION "--data '%s/world' --tokenizer '%s/tok' --steps 8 --out '%s/d2'",
             d, d, d);
        good(ranks[i], i == 0 ? "train " GAN "--data '%s/kinds' --set classes=2 --steps 4 --out '%s/g0%s'"
                              : "train " GAN "--data '%s/kinds' --set classes=2 --steps 4 --out '%s/g2%s'", d, d,
             "");
    }
    shell("cd '%s' && cmp d0/checkpoint-000008.safetensors d2/checkpoint-000008.safetensors && "
          "cmp g0/checkpoint-000004.safetensors g2/checkpoint-000004.safetensors%s", d, "");
    good(0, "train llm --data '%s/text/train' --tokenizer '%s/tok' --steps 2 --batch 2 --set hidden=32 --set "
         "layers=1 --set length=32 --previews 0 --threads 1 --out '%s/l0'", d, d, d);
}

/* --- what can be wrong with a folder */

static void expect_bad(const char *what, const char *folder, const char *more)
{
    struct e2e_run r;
    char path[700];
    e2e_ranks(&r, 2, LIMIT_S, "train " DIFFUSION "--data '%s/%s' --tokenizer '%s/tok' --steps 60 --out "
              "'%s/out-%s' %s", e2e_dir(), folder, e2e_dir(), e2e_dir(), folder, more);
    e2e_expect_error(&r, INPUT, what);
    e2e_run_free(&r);
    snprintf(path, sizeof path, "%s/out-%s/model", e2e_dir(), folder);
    assert_int_not_equal(access(path, F_OK), 0);
}

/* The same of a GAN, which looks at pictures only. */
static void expect_bad_gan(const char *what, const char *folder)
{
    struct e2e_run r;
    e2e_ranks(&r, 2, LIMIT_S, "train " GAN "--data '%s/%s' --steps 60 --out '%s/gan-%s'", e2e_dir(), folder,
              e2e_dir(), folder);
    e2e_expect_error(&r, INPUT, what);
    e2e_run_free(&r);
}

static void bad_folders(void **state)
{
    (void)state;
    const char *d = e2e_dir();
    shell("cd '%s' && for f in missing broken cut line name mute; do cp -r world/train $f; done; mkdir empty; "
          "rm missing/000007.png; echo hello > broken/000003.png; "
          "head -c 200 world/train/000002.png > cut/000002.png; "
          "sed -i '4s/}//' line/metadata.jsonl; sed -i '2s/file_name/file/' name/metadata.jsonl; "
          "sed -i '5s/\"text\"/\"caption\"/' mute/metadata.jsonl%s", d, "");
    expect_bad("line 8: 000007.png: No such file", "missing", "");
    expect_bad("line 4: 000003.png: not a PNG", "broken", "");
    expect_bad("000002.png", "cut", "");
    expect_bad("metadata.jsonl: line 4: ", "line", "");
    expect_bad("line 2: no \"file_name\"", "name", "");
    expect_bad("line 5: no \"text\"", "mute", "");
    expect_bad("empty data set", "empty", "");
    expect_bad_gan("line 8: 000007.png: No such file", "missing");
    expect_bad_gan("line 4: 000003.png: not a PNG", "broken");
    expect_bad_gan("empty data set", "empty");
    expect_bad("32 x 32 pixels, the model wants 64 x 64", "world", "--set side=64");
    expect_bad("tokens, the model takes 4", "again", "--set length=6");
}

static void too_many_classes(void **state)
{
    (void)state;
    struct e2e_run r;
    shell("cd '%s' && cp -r kinds/one kinds/three%s", e2e_dir(), "");
    e2e_ranks(&r, 2, LIMIT_S, "train " GAN "--data '%s/kinds' --set classes=2 --steps 4 --out '%s/g3'", e2e_dir(),
              e2e_dir());
    e2e_expect_error(&r, INPUT, "3 folders of classes, the model has 2");
    e2e_run_free(&r);
}

/* --- an early end */

/* Until the run has written a row. (Not by e2e_shell, which ends all that was begun.) */
static void wait_for_rows(const char *out)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s/metrics.csv", e2e_dir(), out);
    for (double until = e2e_now() + LIMIT_S; e2e_now() < until; usleep(20000)) {
        size_t n;
        char *csv = e2e_read_file(path, &n);
        const char *row = csv != NULL ? strchr(csv, '\n') : NULL;
        bool there = row != NULL && row[1] != '\0';
        free(csv);
        if (there)
            return;
    }
    fail_msg("%s: no row in %d s", path, LIMIT_S);
}

/* Asked to end by a signal to rank 0: a checkpoint, 130 and the way on; which leads to the same weights. */
static void asked_to_end(void **state)
{
    (void)state;
    static const struct { const char *name; int signal, ranks; } cases[] = {
        {"int", SIGINT, 0}, {"term", SIGTERM, 0}, {"usr1", SIGUSR1, 2}};
    const char *d = e2e_dir();
    good(0, "train " DIFFUSION "--steps 120 --log-every 5 --out '%s/straight%s%s'", d, "", "");
    for (int i = 0; i < 3; i++) {
        struct e2e_process p;
        struct e2e_run r;
        char command[600] = "exec";
        int pids[E2E_RANKS_MAX], ranks[E2E_RANKS_MAX];
        if (cases[i].ranks > 0)
            snprintf(command, sizeof command, "exec %s -n %d", e2e_mpirun(), cases[i].ranks);
        e2e_begin(&p, "%s %s train " DIFFUSION "--steps 120 --log-every 5 --out '%s/%s'", command, E2E_MUSTER, d,
                  cases[i].name);
        wait_for_rows(cases[i].name);
        int n = e2e_find_ranks(pids, ranks, E2E_RANKS_MAX);
        for (int k = 0; k < n; k++)
            if (ranks[k] <= 0)
                kill(pids[k], cases[i].signal);
        e2e_end(&p, &r, LIMIT_S);
        e2e_expect(&r, INTERRUPTED);
        assert_non_null(strstr(r.err, "steps are done and saved; to go on: muster train diffusion --resume"));
        e2e_run_free(&r);
        good(0, "train diffusion --resume --out '%s/%s' --previews 0 --f32 --threads 1%s", d, cases[i].name, "");
        shell("cd '%s' && cmp straight/checkpoint-000120.safetensors %s/checkpoint-000120.safetensors", d,
              cases[i].name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_of_train_data), cmocka_unit_test(learns_from_folders),
        cmocka_unit_test(bad_folders), cmocka_unit_test(too_many_classes), cmocka_unit_test(asked_to_end)};
    return cmocka_run_group_tests(tests, make_data, NULL);
}
