/* test_latent.c - pictures by folders with an autoencoder and by single files: the same bytes on any ranks,
 * guidance on two of them or on one; whatever can be wrong is one line. Needs fixtures/diffusion and the data
 * folder. */
#include "tests/e2e/e2e.h"

#include "coordinator/image/pngfile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LIMIT_S = 90, USAGE = 2, INPUT = 3 };

static char dit[512], pixart[512], sd3[512], digits[512], generator[512];

static void paint(int ranks, const char *model, const char *flags, const char *out)
{
    struct e2e_run r;
    e2e_muster(&r, ranks, LIMIT_S, "imagine -m '%s' --threads 1 %s -o '%s'", model, flags, out);
    e2e_expect(&r, 0);
    e2e_run_free(&r);
}

static void same_file(const char *a, const char *b)
{
    size_t n, m;
    char *x = e2e_read_file(a, &n), *y = e2e_read_file(b, &m);
    assert_non_null(x);
    assert_non_null(y);
    assert_true(n == m && memcmp(x, y, n) == 0);
    free(x);
    free(y);
}

static void classes(void **state)
{
    paint(0, dit, "--class 3 --seed 5 --steps 3 -n 2", e2e_place("dit1"));
    paint(4, dit, "--class 3 --seed 5 --steps 3 -n 2 --guidance-parallel --tp 2", e2e_place("dit2"));
    same_file(e2e_place("dit1/000000.png"), e2e_place("dit2/000000.png"));
    same_file(e2e_place("dit1/000001.png"), e2e_place("dit2/000001.png"));
    paint(0, dit, "--class 4 --seed 5 --steps 3", e2e_place("other.png"));
    struct picture a, b;
    struct err err = {0};
    assert_int_equal(pngfile_load(&a, e2e_place("dit1/000000.png"), &err), ERR_OK);
    assert_int_equal(pngfile_load(&b, e2e_place("other.png"), &err), ERR_OK);
    assert_true(a.width == 64 && b.width == 64 && memcmp(a.rgb, b.rgb, 64 * 64 * 3) != 0);
    pngfile_free(&a);
    pngfile_free(&b);
}

static void prompts(void **state)
{
    paint(0, pixart, "'a red cat' --size 64x128 --seed 5 --steps 2", e2e_place("cat1.png"));
    paint(2, pixart, "'a red cat' --size 64x128 --seed 5 --steps 2", e2e_place("cat2.png"));
    same_file(e2e_place("cat1.png"), e2e_place("cat2.png"));
}

static void three_encoders(void **state)
{
    static const char *const flags = "'a red cat' --negative 'blurry' --size 64x96 --seed 5 --steps 2";
    paint(0, sd3, flags, e2e_place("three1.png"));
    char shared[200];
    snprintf(shared, sizeof shared, "%s --tp 3 --pp 2", flags);
    paint(6, sd3, shared, e2e_place("three6.png"));
    same_file(e2e_place("three1.png"), e2e_place("three6.png"));
    paint(0, sd3, "'a blue cat' --negative 'blurry' --size 64x96 --seed 5 --steps 2", e2e_place("other3.png"));
    struct picture a, b;
    struct err err = {0};
    assert_int_equal(pngfile_load(&a, e2e_place("three1.png"), &err), ERR_OK);
    assert_int_equal(pngfile_load(&b, e2e_place("other3.png"), &err), ERR_OK);
    assert_true(a.width == 64 && a.height == 96 && memcmp(a.rgb, b.rgb, 64 * 96 * 3) != 0);
    pngfile_free(&a);
    pngfile_free(&b);
}

/* A mask whose left half is white, over a picture painted before: outside not a pixel changes. */
static void first_pictures(void **state)
{
    struct picture was, now;
    struct err err = {0};
    static uint8_t half[64 * 64 * 3];
    char flags[1200];
    for (int i = 0; i < 64 * 64; i++)
        memset(half + 3 * i, i % 64 < 30 ? 255 : 0, 3);
    assert_int_equal(pngfile_save(e2e_place("mask.png"), half, 64, 64, NULL, 0, &err), ERR_OK);
    snprintf(flags, sizeof flags, "--class 4 --seed 6 --steps 3 --init '%s' --mask '%s'",
             e2e_place("dit1/000000.png"), e2e_place("mask.png"));
    paint(0, dit, flags, e2e_place("masked.png"));
    assert_int_equal(pngfile_load(&was, e2e_place("dit1/000000.png"), &err), ERR_OK);
    assert_int_equal(pngfile_load(&now, e2e_place("masked.png"), &err), ERR_OK);
    int inside = 0;
    for (int i = 0; i < 64 * 64; i++) {
        bool same = memcmp(was.rgb + 3 * i, now.rgb + 3 * i, 3) == 0;
        assert_true(i % 64 < 30 || same);
        inside += !same;
    }
    assert_true(inside > 64 * 30 / 2);
    pngfile_free(&now);
    snprintf(flags, sizeof flags, "--class 4 --seed 6 --steps 4 --init '%s' --strength 0.5",
             e2e_place("dit1/000000.png"));
    paint(0, dit, flags, e2e_place("begun1.png"));
    snprintf(flags + strlen(flags), sizeof flags - strlen(flags), " --pp 2");
    paint(2, dit, flags, e2e_place("begun2.png"));
    same_file(e2e_place("begun1.png"), e2e_place("begun2.png"));
    pngfile_free(&was);
}

static void files(void **state)
{
    struct picture p;
    struct err err = {0};
    paint(0, digits, "--seed 1 --steps 3 -n 3", e2e_place("digits1"));
    paint(2, digits, "--seed 1 --steps 3 -n 3", e2e_place("digits2"));
    same_file(e2e_place("digits1/000002.png"), e2e_place("digits2/000002.png"));
    paint(0, generator, "--class 7 --seed 1", e2e_place("seven.png"));
    assert_int_equal(pngfile_load(&p, e2e_place("seven.png"), &err), ERR_OK);
    for (int i = 0; i < p.width * p.height; i++)
        assert_true(p.rgb[3 * i] == p.rgb[3 * i + 1] && p.rgb[3 * i] == p.rgb[3 * i + 2]);
    pngfile_free(&p);
}

static void refuse(const char *model, const char *flags, int status, const char *what)
{
    struct e2e_run r;
    const char *line;
    e2e_muster(&r, 0, LIMIT_S, "imagine -m '%s' %s -o '%s'", model, flags, e2e_place("never.png"));
    e2e_expect(&r, status);
    assert_int_equal(e2e_count_errors(r.err, &line), 1);
    assert_non_null(strstr(line, what));
    e2e_run_free(&r);
    assert_int_not_equal(access(e2e_place("never.png"), F_OK), 0);
}

static void wrong(void **state)
{
    struct e2e_run r;
    char flags[1200];
    refuse(dit, "", USAGE, "--class 0 to 999");
    refuse(dit, "--class 1000", USAGE, "--class 0 to 999");
    refuse(dit, "'a cat' --class 1", USAGE, "takes no prompt");
    refuse(dit, "--class 1 --size 60x64", USAGE, "multiples of 16");
    refuse(digits, "--size 32x32", USAGE, "multiples of");
    snprintf(flags, sizeof flags, "--class 1 --init '%s'", e2e_place("seven.png"));
    refuse(dit, flags, USAGE, "multiples of 16");
    refuse(sd3, "--prompt-ids 1,2", USAGE, "3 text encoders");
    refuse(digits, "--tp 2", USAGE, "cannot be shared");
    refuse(dit, "--class 1 --pp 4", USAGE, "has 3 layers");
    e2e_shell(&r, LIMIT_S, "cp -r '%s' '%s' && chmod -R u+w '%s' && rm -r '%s/vae'", pixart, e2e_place("cut"),
              e2e_place("cut"), e2e_place("cut"));
    e2e_expect(&r, 0);
    e2e_run_free(&r);
    refuse(e2e_place("cut"), "'a cat'", INPUT, "vae");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(classes), cmocka_unit_test(prompts),
                                       cmocka_unit_test(three_encoders), cmocka_unit_test(first_pictures),
                                       cmocka_unit_test(files), cmocka_unit_test(wrong)};
    const char *given = getenv("MUSTER_FIXTURES"), *data = e2e_data();
    const char *root = given != NULL ? given : FIXTURES_DEFAULT;
    snprintf(dit, sizeof dit, "%s/diffusion/dit", root);
    snprintf(pixart, sizeof pixart, "%s/diffusion/pixart_sigma", root);
    snprintf(sd3, sizeof sd3, "%s/diffusion/sd3", root);
    snprintf(digits, sizeof digits, "%s/image/ddpm_mnist.safetensors", data != NULL ? data : "");
    snprintf(generator, sizeof generator, "%s/image/gan_mnist_conditional.safetensors",
             data != NULL ? data : "");
    if (access(dit, R_OK) != 0 || access(digits, R_OK) != 0)
        return 77;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
