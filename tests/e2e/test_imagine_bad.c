/* test_imagine_bad.c - what can be wrong with a batch of pictures: one line, an exit code, no hang, and nothing
 * half made. */
#include "tests/e2e/e2e.h"
#include "tests/e2e/imagefolder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LIMIT_S = 60, INPUT = 3, USAGE = 2, OUTPUT = 6 };

static const char *model(void) { return imagefolder_make("paint"); }

static void expect_failure(int status, const char *what, const char *args)
{
    struct e2e_run r;
    e2e_remove(e2e_place("bad"));
    e2e_ranks(&r, 2, 20, "imagine -m '%s' %s -o '%s'", model(), args, e2e_place("bad"));
    e2e_expect_error(&r, status, what);
    e2e_run_free(&r);
}

static void bad_arguments(void **state)
{
    expect_failure(USAGE, "there are", "'a red car' --sampler nonsense");
    expect_failure(USAGE, "flow_euler", "'a red car' --sampler ddim");
    expect_failure(USAGE, "--steps", "'a red car' --steps 0");
    expect_failure(USAGE, "--compute", "'a red car' --compute f16");
    expect_failure(USAGE, "multiples of 4, at most 32", "'a red car' --size 18x18");
    expect_failure(USAGE, "multiples of 4, at most 32", "'a red car' --size 640");
    expect_failure(USAGE, "--mask goes with --init", "'a red car' --mask x.png");
    expect_failure(USAGE, "it needs {index}", "'a red car' -n 2 --name {seed}.png");
    expect_failure(USAGE, "a prompt is wanted", "");
    expect_failure(USAGE, "--time-limit wants", "'a red car' --time-limit soon");
    expect_failure(INPUT, "nowhere.png", "'a red car' --init nowhere.png");
}

/* More ranks wanted than there are, than layers; a GAN is not shared. */
static void groups_that_cannot_be(void **state)
{
    expect_failure(USAGE, "wants 4 ranks, there are 2", "'a red car' --tp 2 --pp 2");
    expect_failure(USAGE, "layers", "'a red car' --pp 200");
    expect_failure(USAGE, "--tp", "'a red car' --tp 9");
}

static void mask_of_another_size(void **state)
{
    struct e2e_run r;
    char args[1200];
    for (int wide = 0; wide < 2; wide++) {
        e2e_muster(&r, 0, LIMIT_S, "imagine -m '%s' 'a red car' --steps 1 --size %s -o '%s'", model(),
                   wide ? "24x16" : "16x16", e2e_place(wide ? "wide.png" : "square.png"));
        e2e_expect(&r, 0);
        e2e_run_free(&r);
    }
    snprintf(args, sizeof args, "'a red car' --init '%s/square.png' --mask '%s/wide.png'", e2e_dir(), e2e_dir());
    expect_failure(USAGE, "a mask has the size of its picture", args);
}

static void broken_prompts(void **state)
{
    static const struct { const char *text, *what; } cases[] = {
        {"{\"prompt\": \"a\"}\n\n{\"prompt\": \"a\"\n", "line 3"},
        {"{\"prompt\": \"a\"}\n{\"promt\": \"a\"}\n", "line 2: \"promt\" is not known"},
        {"{\"prompt\": \"a\", \"steps\": 0}\n", "line 1: \"steps\" wants a whole number"},
        {"{\"prompt\": \"a\", \"seed\": -1}\n", "line 1: \"seed\""},
        {"{\"prompt\": \"a\", \"sampler\": \"no\"}\n", "line 1: no sampler 'no'"},
        {"{\"prompt\": \"a\", \"compute\": \"f8\"}\n", "line 1: compute 'f8' is not known"},
        {"{\"prompt\": \"a\"}\n{\"prompt\": \"a\", \"compute\": \"bf16\"}\n", "line 2: compute bf16, and f32 before"},
        {"[]\n", "line 1: not a JSON object"},
        {"\n", "no prompts in it"}};
    char args[600];
    snprintf(args, sizeof args, "--prompts '%s'", e2e_place("broken.jsonl"));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        e2e_write_file(e2e_place("broken.jsonl"), cases[i].text, strlen(cases[i].text));
        bool usage = strstr(cases[i].what, "no sampler") != NULL || strstr(cases[i].what, "compute") != NULL;
        expect_failure(usage ? USAGE : INPUT, cases[i].what, args);
    }
}

static void warnings(void **state)
{
    struct e2e_run r;
    unlink(e2e_place("w.png"));
    e2e_muster(&r, 2, LIMIT_S, "imagine -m '%s' 'a red zeppelin' --steps 2 -o '%s'", model(),
               e2e_place("w.png"));
    e2e_expect(&r, 0);
    assert_non_null(strstr(r.err, "never saw 'zeppelin'"));
    assert_null(strstr(r.err, "'red'"));
    e2e_run_free(&r);
    e2e_muster(&r, 2, LIMIT_S, "imagine -m '%s' 'a red car on a field on a field on a field on a "
               "blue field' "
               "--steps 2 -o '%s'", model(), e2e_place("w.png"));
    e2e_expect(&r, 0);
    assert_non_null(strstr(r.err, "longer than the 40 tokens"));
    assert_non_null(strstr(r.err, "cut off: '"));
    e2e_run_free(&r);
}

static void output_that_cannot_be(void **state)
{
    struct e2e_run r;
    e2e_write_file(e2e_place("file"), "x", 1);
    e2e_ranks(&r, 2, 20, "imagine -m '%s' 'a red car' -o '%s/below'", model(), e2e_place("file"));
    e2e_expect_error(&r, OUTPUT, "file");
    e2e_run_free(&r);
    e2e_ranks(&r, 2, 20, "imagine -m '%s' 'a red car' -o /proc/pictures", model());
    e2e_expect_error(&r, OUTPUT, "/proc/pictures");
    e2e_run_free(&r);
}

/* A disk that fills up in the middle: the journal says what is there, and once there is room, the rest is
 * made. */
static void disk_full(void **state)
{
    struct e2e_run r;
    const char *disk = e2e_place("disk");
    mkdir(disk, 0777);
    if (mount("none", disk, "tmpfs", 0, "size=400k") != 0)
        skip();
    e2e_muster(&r, 2, LIMIT_S, "imagine -m '%s' 'a red car' -n 400 --steps 2 -o '%s/out'", model(), disk);
    int status = r.status;
    bool said = strstr(r.err, "No space left") != NULL || strstr(r.err, "full") != NULL;
    e2e_run_free(&r);
    e2e_shell(&r, 10, "mount -o remount,size=20m '%s'", disk);
    e2e_run_free(&r);
    e2e_muster(&r, 2, LIMIT_S, "imagine --resume -o '%s/out'", disk);
    int again = r.status;
    bool some = strstr(r.out, "of them now") != NULL;
    e2e_run_free(&r);
    umount2(disk, MNT_DETACH);
    assert_int_equal(status, OUTPUT);
    assert_true(said);
    assert_int_equal(again, 0);
    assert_true(some);
}

static void broken_journal(void **state)
{
    struct e2e_run r;
    e2e_remove(e2e_place("journal"));
    e2e_muster(&r, 1, LIMIT_S, "imagine -m '%s' 'a red car' -n 3 --steps 2 -o '%s'", model(),
               e2e_place("journal"));
    e2e_expect(&r, 0);
    e2e_run_free(&r);
    size_t n;
    char *bytes = e2e_read_file(e2e_place("journal/journal.sqlite"), &n);
    memset(bytes + 100, 0xa5, n - 100);
    e2e_write_file(e2e_place("journal/journal.sqlite"), bytes, n);
    free(bytes);
    e2e_ranks(&r, 2, 20, "imagine --resume -o '%s'", e2e_place("journal"));
    e2e_expect_error(&r, INPUT, "the journal is damaged");
    e2e_run_free(&r);
    e2e_write_file(e2e_place("journal/journal.sqlite"), "not a data base at all, but text", 32);
    e2e_ranks(&r, 2, 20, "imagine --resume -o '%s'", e2e_place("journal"));
    e2e_expect_error(&r, INPUT, "the journal is damaged");
    e2e_run_free(&r);
    e2e_ranks(&r, 2, 20, "imagine --resume -o '%s'", e2e_place("nowhere"));
    e2e_expect_error(&r, INPUT, "no folder with a batch there");
    e2e_run_free(&r);
}

static void broken_models(void **state)
{
    static const char *const missing[] = {"transformer", "text_encoder", "scheduler", "model_index.json"};
    struct e2e_run r;
    char path[700];
    for (size_t i = 0; i < sizeof missing / sizeof *missing; i++) {
        char name[16];
        snprintf(name, sizeof name, "broken%zu", i);
        const char *folder = imagefolder_make(name);
        snprintf(path, sizeof path, "rm -r '%s/%s'", folder, missing[i]);
        assert_int_equal(system(path), 0);
        e2e_ranks(&r, 2, 20, "imagine -m '%s' 'a red car' -o '%s'", folder, e2e_place("x.png"));
        e2e_expect_error(&r, INPUT, missing[i]);
        e2e_run_free(&r);
    }
    e2e_ranks(&r, 2, 20, "imagine -m '%s' 'a red car' -o '%s'", e2e_place("no-model"), e2e_place("x.png"));
    e2e_expect_error(&r, INPUT, "no-model");
    e2e_run_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_arguments), cmocka_unit_test(groups_that_cannot_be),
        cmocka_unit_test(mask_of_another_size), cmocka_unit_test(broken_prompts), cmocka_unit_test(warnings),
        cmocka_unit_test(output_that_cannot_be), cmocka_unit_test(disk_full),
        cmocka_unit_test(broken_journal), cmocka_unit_test(broken_models)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
