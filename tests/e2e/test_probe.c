/* test_probe.c - networks asked from outside: all parts of a diffusers folder and a GAN against the
 * reference, the same bytes on one rank and on three; whatever can be wrong is one line. */
#include "tests/e2e/e2e.h"

#include "proto/safewriter.h"
#include "tests/fixturetensor.h"

#include <string.h>
#include <unistd.h>

enum { LIMIT_S = 60, USAGE = 2, INPUT = 3, OUTPUT = 6 };

static char root[400];

/* Every tensor of `got` is one of `want`, within the limit; how many. */
static int compare(const char *got, const char *want, double limit)
{
    struct tensorfile a, b;
    struct err err = {0};
    assert_int_equal(tensorfile_open(&a, got, &err), ERR_OK);
    assert_int_equal(tensorfile_open(&b, want, &err), ERR_OK);
    int n = a.n_tensors;
    for (int i = 0; i < n; i++) {
        const struct tensor_entry *x, *y;
        double top, *expected = fixture_values(&b, a.tensor[i].name, &y);
        float *values = fixture_floats(&a, a.tensor[i].name, &x);
        assert_non_null(expected);
        assert_int_equal(x->n_elements, y->n_elements);
        assert_true(fixture_distance(values, expected, x->n_elements, &top) <= limit);
        free(expected);
        free(values);
    }
    tensorfile_close(&a);
    tensorfile_close(&b);
    return n;
}

static void probe(int ranks, const char *model, const char *in, const char *out, const char *flags)
{
    struct e2e_run r;
    e2e_muster(&r, ranks, LIMIT_S, "probe -m '%s/%s' --in '%s/%s' --out '%s' %s", root, model, root, in, out,
               flags);
    e2e_expect(&r, 0);
    e2e_run_free(&r);
}

static void same_bytes(const char *a, const char *b)
{
    size_t n, n_other;
    char *one = e2e_read_file(a, &n), *other = e2e_read_file(b, &n_other);
    assert_true(one != NULL && other != NULL && n == n_other && memcmp(one, other, n) == 0);
    free(one);
    free(other);
}

static void like_the_reference(void **state)
{
    char expected[600];
    snprintf(expected, sizeof expected, "%s/diffusion/pixel_mmdit/expected.safetensors", root);
    probe(1, "diffusion/pixel_mmdit", "diffusion/pixel_mmdit/expected.safetensors", e2e_place("one"), "");
    assert_int_equal(compare(e2e_place("one"), expected, 1e-4), 3 + 4);      /* text; times in the names */
    probe(3, "diffusion/pixel_mmdit", "diffusion/pixel_mmdit/expected.safetensors", e2e_place("three"),
          "--threads 1");
    same_bytes(e2e_place("one"), e2e_place("three"));
    snprintf(expected, sizeof expected, "%s/gan/resnet_generator.expected.safetensors", root);
    probe(2, "gan", "gan/resnet_generator.expected.safetensors", e2e_place("gan"), "--part resnet_generator");
    assert_int_equal(compare(e2e_place("gan"), expected, 1e-4), 1);
}

/* A file with one tensor of zeros. */
static void write_input(const char *path, const char *name, int n_dims, const int64_t *shape)
{
    struct safewriter w;
    struct err err = {0};
    size_t bytes = sizeof(float);
    for (int i = 0; i < n_dims; i++)
        bytes *= (size_t)shape[i];
    void *zeros = calloc(1, bytes);
    assert_int_equal(safewriter_open(&w, path, &err), ERR_OK);
    assert_int_equal(safewriter_tensor(&w, name, "F32", n_dims, shape, bytes, &err), ERR_OK);
    assert_int_equal(safewriter_begin(&w, &err), ERR_OK);
    assert_int_equal(safewriter_write(&w, zeros, bytes, &err), ERR_OK);
    assert_int_equal(safewriter_close(&w, &err), ERR_OK);
    free(zeros);
}

/* Denoisers shared by stages of ranks, one rank idle; the autoencoder's calls in the same file by the first. */
static void by_groups(void **state)
{
    static const char *const model[] = {"diffusion/dit", "diffusion/sd35"};
    char in[200], out[20];
    for (int i = 0; i < 2; i++) {
        snprintf(in, sizeof in, "%s/expected.safetensors", model[i]);
        snprintf(out, sizeof out, "alone%d", i);
        probe(0, model[i], in, e2e_place(out), "--threads 1");
        probe(5, model[i], in, e2e_place("group"), i == 0 ? "--threads 1 --tp 2 --pp 2" : "--threads 1 --tp 3");
        same_bytes(e2e_place(out), e2e_place("group"));
    }
}

/* Without mpirun, which takes most of a short run's time. */
static void refuse(const char *model, const char *in, const char *flags, int status, const char *what)
{
    struct e2e_run r;
    const char *line;
    e2e_muster(&r, 0, LIMIT_S, "probe -m '%s/%s' --in '%s' %s", root, model, in, flags);
    e2e_expect(&r, status);
    assert_int_equal(e2e_count_errors(r.err, &line), 1);
    assert_non_null(strstr(line, what));
    e2e_run_free(&r);
}

static void wrong_input(void **state)
{
    struct e2e_run r;
    char flags[700], expected[600];
    snprintf(flags, sizeof flags, "--out '%s'", e2e_place("never"));
    snprintf(expected, sizeof expected, "%s/gan/dcgan_generator.expected.safetensors", root);
    write_input(e2e_place("in"), "in", 4, (const int64_t[]){1, 3, 32, 32});
    e2e_ranks(&r, 2, LIMIT_S, "probe -m '%s/diffusion/pixel_mmdit' --in '%s' %s", root, e2e_place("in"), flags);
    e2e_expect_error(&r, INPUT, "the input t is missing");
    e2e_run_free(&r);
    write_input(e2e_place("in"), "z", 2, (const int64_t[]){2, 7});
    refuse("gan/dcgan_generator.safetensors", e2e_place("in"), flags, INPUT, "the input z is 2 x 7");
    write_input(e2e_place("in"), "context", 1, (const int64_t[]){2});
    refuse("gan/dcgan_generator.safetensors", e2e_place("in"), flags, INPUT, "no inputs of a DCGAN generator");
    refuse("gan", expected, flags, USAGE, "--part");
    refuse("diffusion/pixel_mmdit", e2e_place("in"), "--part unet --out never", USAGE, "it has text_encoder");
    refuse("gan/dcgan_generator.safetensors", e2e_place("nowhere"), flags, INPUT, "nowhere");
    refuse("nowhere", e2e_place("in"), flags, INPUT, "nowhere");
    refuse("gan/dcgan_generator.safetensors", expected, "--out /proc/x", OUTPUT, "/proc/x");
    assert_int_not_equal(access(e2e_place("never"), F_OK), 0);
}

static void wrong_groups(void **state)
{
    struct e2e_run r;
    char flags[700];
    snprintf(flags, sizeof flags, "--out '%s'", e2e_place("never"));
    refuse("diffusion/dit", e2e_place("in"), "--tp 2 --out never", USAGE, "wants 2 ranks, there are 1");
    write_input(e2e_place("in"), "in", 4, (const int64_t[]){1, 4, 8, 8});
    e2e_ranks(&r, 4, LIMIT_S, "probe -m '%s/diffusion/dit' --in '%s' --tp 2 --pp 2 %s", root, e2e_place("in"), flags);
    e2e_expect_error(&r, INPUT, "the input t is missing");
    e2e_run_free(&r);
    e2e_ranks(&r, 4, LIMIT_S, "probe -m '%s/diffusion/dit' --in '%s' --pp 4 %s", root, e2e_place("in"), flags);
    e2e_expect_error(&r, USAGE, "has 3 layers");
    e2e_run_free(&r);
    assert_int_not_equal(access(e2e_place("never"), F_OK), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(like_the_reference), cmocka_unit_test(wrong_input),
                                       cmocka_unit_test(by_groups), cmocka_unit_test(wrong_groups)};
    const char *given = getenv("MUSTER_FIXTURES");
    snprintf(root, sizeof root, "%s", given != NULL ? given : FIXTURES_DEFAULT);
    if (access(root, R_OK) != 0)
        return 77;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
