/* test_shipped.c - the picture models of deploy/models, by their names: small enough to ship, whole in
 * themselves, and good for what the README says of them. */
#include "tests/e2e/e2e.h"

#include "coordinator/image/pngfile.h"

#include <stdio.h>

enum { LIMIT_S = 60 };

static void run_well(int ranks, const char *args)
{
    struct e2e_run r;
    e2e_muster(&r, ranks, LIMIT_S, "imagine %s", args);
    e2e_expect(&r, 0);
    e2e_run_free(&r);
}

static void expect_shell(const char *command)
{
    struct e2e_run r;
    e2e_shell(&r, 20, "cd '%s' && %s", e2e_dir(), command);
    e2e_expect(&r, 0);
    e2e_run_free(&r);
}

static void expect_size(const char *name, long most)
{
    char command[600];
    snprintf(command, sizeof command, "n=$(find " E2E_SOURCE "/deploy/models/%s -type f -exec cat {} + | wc -c); "
             "echo $n bytes; test $n -gt 0 -a $n -le %ld", name, most);
    expect_shell(command);
}

static void expect_sides(const char *file, int side)
{
    char path[600];
    struct picture p;
    struct err err = {0};
    snprintf(path, sizeof path, "%s/%s", e2e_dir(), file);
    assert_int_equal(pngfile_load(&p, path, &err), ERR_OK);
    assert_int_equal(p.width, side);
    assert_int_equal(p.height, side);
    pngfile_free(&p);
}

/* Captions, truncation, a strip between seeds, an edit; the same bytes on one rank and on two. */
static void gan(void **state)
{
    (void)state;
    char args[1400];
    expect_size("scenes-gan", 2000000);
    for (int ranks = 1; ranks <= 2; ranks++) {
        snprintf(args, sizeof args, "-m scenes-gan 'a blue car on a green field' -n 5 --seed 1 -o '%s/gan%d'",
                 e2e_dir(), ranks);
        run_well(ranks, args);
    }
    expect_shell("for i in 0 1 2 3 4; do cmp gan1/00000$i.png gan2/00000$i.png || exit 1; done; "
                 "! cmp -s gan1/000000.png gan1/000001.png");
    expect_sides("gan1/000000.png", 32);
    snprintf(args, sizeof args, "-m scenes-gan 'a blue car on a green field' -n 5 --seed 1 --to-seed 9 "
             "--truncation 0.7 -o '%s/strip'", e2e_dir());
    run_well(1, args);
    snprintf(args, sizeof args, "-m scenes-gan 'a car on the sea' --edit 'a red car -> a blue car' -n 3 "
             "--seed 1 -o '%s/edit'", e2e_dir());
    run_well(2, args);
    expect_shell("! cmp -s strip/000000.png strip/000004.png && ! cmp -s strip/000000.png gan1/000000.png && "
                 "! cmp -s edit/000000.png edit/000002.png");
}

/* --- super-resolution: nearer to the large scene than the small one's pixels doubled */

enum { SMALL = 32, LARGE = 64, SCENES = 6 };

static void load(struct picture *p, const char *name, int i, int side)
{
    char path[600];
    struct err err = {0};
    snprintf(path, sizeof path, "%s/%s/%06d.png", e2e_dir(), name, i);
    if (pngfile_load(p, path, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(p->width, side);
    assert_int_equal(p->height, side);
}

/* Sums of squared differences of scene i: what was made, and doubled pixels, from the large picture. */
static void compare_scene(int i, double *made_sum, double *doubled_sum)
{
    struct picture small, large, made;
    load(&small, "small/train", i, SMALL);
    load(&large, "large/train", i, LARGE);
    load(&made, "made", i, LARGE);
    for (int k = 0; k < LARGE * LARGE * 3; k++) {
        int y = k / 3 / LARGE, x = k / 3 % LARGE;
        double a = (double)made.rgb[k] - large.rgb[k];
        double b = (double)small.rgb[(y / 2 * SMALL + x / 2) * 3 + k % 3] - large.rgb[k];
        *made_sum += a * a;
        *doubled_sum += b * b;
    }
    pngfile_free(&small);
    pngfile_free(&large);
    pngfile_free(&made);
}

static void super(void **state)
{
    (void)state;
    char args[1400];
    double made = 0, doubled = 0;
    expect_size("scenes-super", 2000000);
    for (int side = SMALL; side <= LARGE; side *= 2) {
        struct e2e_run r;
        e2e_muster(&r, 0, LIMIT_S, "train data -n %d --seed 77 --size %d --out '%s/%s'", SCENES, side, e2e_dir(),
                   side == SMALL ? "small" : "large");
        e2e_expect(&r, 0);
        e2e_run_free(&r);
    }
    expect_shell("i=0; while [ $i -lt 6 ]; do echo "
                 "'{\"prompt\": \"a ball on the sea\", \"seed\": 1, \"init\": \"'$PWD/small/train/00000$i.png'\"}'; "
                 "i=$((i + 1)); done > prompts.jsonl");
    snprintf(args, sizeof args, "-m scenes-super --prompts '%s/prompts.jsonl' -o '%s/made'", e2e_dir(), e2e_dir());
    run_well(2, args);
    for (int i = 0; i < SCENES; i++)
        compare_scene(i, &made, &doubled);
    print_message("mean squares: made %.1f, doubled pixels %.1f\n", made / (SCENES * LARGE * LARGE * 3),
                  doubled / (SCENES * LARGE * LARGE * 3));
    assert_true(made > 0 && made < 0.5 * doubled);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(gan), cmocka_unit_test(super)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
