/* test_compare.c - one caption through three models: the same picture on any number of ranks, the same
 * pictures as imagine makes, and errors of one line. The models are small and random; any picture model
 * may stand where the GAN does. */
#include "tests/e2e/e2e.h"

#include "coordinator/image/pngfile.h"
#include "tests/e2e/imagefolder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LIMIT_S = 120 };
static const char CAPTION[] = "a red boat on the sea";

static void compare(struct e2e_run *r, int ranks, const char *out)
{
    const char *folder = imagefolder_make("paint");
    e2e_muster(r, ranks, LIMIT_S, "compare '%s' -n 3 --seed 7 --diffusion '%s' --gan '%s' -o '%s/%s'", CAPTION,
               folder, folder, e2e_dir(), out);
}

static char *read_file(const char *folder, const char *name, size_t *n)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s/%s", e2e_dir(), folder, name);
    char *bytes = e2e_read_file(path, n);
    assert_non_null(bytes);
    return bytes;
}

static void same_file(const char *a, const char *b, const char *name)
{
    size_t n, n_other;
    char *one = read_file(a, name, &n), *other = read_file(b, name, &n_other);
    assert_int_equal(n, n_other);
    assert_memory_equal(one, other, n);
    free(one);
    free(other);
}

static void any_ranks(void **state)
{
    struct e2e_run r;
    struct picture sheet = {0};
    struct err err = {0};
    char path[1024];
    (void)state;
    compare(&r, 1, "one");
    e2e_expect(&r, 0);
    assert_non_null(strstr(r.out, "in French"));
    assert_non_null(strstr(r.out, "\ndiffusion "));
    assert_non_null(strstr(r.out, "\ngan "));
    e2e_run_free(&r);
    compare(&r, 2, "two");
    e2e_expect(&r, 0);
    e2e_run_free(&r);
    same_file("one", "two", "compare.png");
    snprintf(path, sizeof path, "%s/one/compare.png", e2e_dir());
    assert_int_equal(pngfile_load(&sheet, path, &err), ERR_OK);
    assert_true(sheet.width > 3 * 96 && sheet.height > 2 * 96);
    pngfile_free(&sheet);
}

static void as_imagine_makes_them(void **state)
{
    struct e2e_run r;
    (void)state;
    e2e_muster(&r, 1, LIMIT_S, "imagine '%s' -n 3 --seed 7 -m '%s' -o '%s/alone'", CAPTION,
               imagefolder_make("paint"), e2e_dir());
    e2e_expect(&r, 0);
    e2e_run_free(&r);
    same_file("alone", "one/diffusion", "000002.png");
    same_file("alone", "one/gan", "000000.png");
}

/* 16 pictures each of two captions, which are not on the sheet; the small models' 16 x 16 pixels are no
 * pictures of the world, so that nothing is judged. */
static void measured(void **state)
{
    struct e2e_run r;
    const char *folder = imagefolder_make("paint");
    (void)state;
    e2e_muster(&r, 2, LIMIT_S, "compare '%s' -n 3 --seed 7 --measure 40 --diffusion '%s' --gan '%s' -o '%s/more'",
               CAPTION, folder, folder, e2e_dir());
    e2e_expect(&r, 0);
    assert_null(strstr(r.out, "\ndrawn "));
    e2e_run_free(&r);
    same_file("one", "more", "compare.png");
    free(read_file("more/gan", "000034.png", &(size_t){0}));
}

static void bad_input(void **state)
{
    struct e2e_run r;
    (void)state;
    e2e_ranks(&r, 2, LIMIT_S, "compare");
    e2e_expect_error(&r, 2, "which caption");
    e2e_run_free(&r);
    e2e_ranks(&r, 2, LIMIT_S, "compare 'a tree' --gan '%s/none' -o '%s/bad'", e2e_dir(), e2e_dir());
    e2e_expect_error(&r, 3, "none");
    e2e_run_free(&r);
    e2e_ranks(&r, 2, LIMIT_S, "compare 'a tree' -o '%s/one'", e2e_dir());
    e2e_expect_error(&r, 2, "one/diffusion is there already");
    e2e_run_free(&r);
    char path[1024];
    snprintf(path, sizeof path, "%s/file", e2e_dir());
    e2e_write_file(path, "x", 1);
    e2e_ranks(&r, 2, LIMIT_S, "compare 'a tree' -o '%s/file/out'", e2e_dir());
    e2e_expect_error(&r, 6, "file/out");
    e2e_run_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(any_ranks), cmocka_unit_test(as_imagine_makes_them),
                                       cmocka_unit_test(measured),
                                       cmocka_unit_test(bad_input)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
