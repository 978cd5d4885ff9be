/* The divergence of two files of logits, against numbers computed by hand. */
#include "proto/safewriter.h"
#include "workers/models/logitsfile.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static char base[64], other[64];

static int setup(void **state)
{
    (void)state;
    snprintf(base, sizeof base, "/tmp/muster-kl-%d-a.safetensors", (int)getpid());
    snprintf(other, sizeof other, "/tmp/muster-kl-%d-b.safetensors", (int)getpid());
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(base);
    unlink(other);
    return 0;
}

static void put(const char *path, const char *name, int64_t rows, int64_t vocab, const float *data)
{
    struct safewriter w;
    size_t bytes = (size_t)(rows * vocab) * sizeof *data;
    assert_int_equal(safewriter_open(&w, path, NULL), ERR_OK);
    assert_int_equal(safewriter_tensor(&w, name, "F32", 2, (int64_t[]){rows, vocab}, bytes, NULL), ERR_OK);
    assert_int_equal(safewriter_begin(&w, NULL), ERR_OK);
    assert_int_equal(safewriter_write(&w, data, bytes, NULL), ERR_OK);
    assert_int_equal(safewriter_close(&w, NULL), ERR_OK);
}

/* Rows: p = (1/2, 1/4, 1/4) against q = (1/4, 1/4, 1/2): ln 2 / 4. The same: 0. p = (3/4, 1/8, 1/8)
 * against uniform: ln 3 - H(p). Logits may be shifted, and a row's sum is no matter. */
static void test_known_divergences(void **state)
{
    (void)state;
    const float a[] = {logf(2) + 7, 7, 7, 1, 2, 3, logf(6), 0, 0};
    const float b[] = {-3, -3, logf(2) - 3, 1.5f, 2.5f, 3.5f, 0, 0, 0};
    struct logits_divergence d;
    double third = log(3) + .75 * log(.75) + .25 * log(.125), kl[] = {log(2) / 4, 0, third}, mean, sd = 0;
    mean = (kl[0] + kl[1] + kl[2]) / 3;
    for (int i = 0; i < 3; i++)
        sd += (kl[i] - mean) * (kl[i] - mean);
    put(base, "logits", 3, 3, a);
    put(other, "logits", 3, 3, b);
    assert_int_equal(logitsfile_compare(base, other, NULL, NULL, &d, NULL), ERR_OK);
    assert_true(d.rows == 3 && d.vocab == 3 && d.max_row == 2);
    assert_true(fabs(d.mean - mean) < 1e-7);
    assert_true(fabs(d.error - sqrt(sd / 2 / 3)) < 1e-7);
    assert_true(fabs(d.max - third) < 1e-7);
    assert_true(fabs(d.same - 2.0 / 3) < 1e-12);
    assert_int_equal(logitsfile_compare(base, base, NULL, NULL, &d, NULL), ERR_OK);
    assert_true(d.mean < 1e-12 && d.same == 1 && d.same_error == 0);
}

static void refused(const char *part)
{
    struct err err = {0};
    struct logits_divergence d;
    assert_int_equal(logitsfile_compare(base, other, NULL, NULL, &d, &err), ERR_FORMAT);
    if (strstr(err.msg, part) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err.msg, part);
}

static void test_files_that_do_not_fit(void **state)
{
    (void)state;
    const float x[] = {1, 2, 3, 4, 5, 6};
    put(base, "logits", 2, 3, x);
    put(other, "logits", 3, 2, x);
    refused("[2, 3]");
    put(other, "scores", 2, 3, x);
    refused("no tensor named logits");
    const float bad[] = {1, 2, 3, 4, NAN, 6};
    put(other, "logits", 2, 3, bad);
    refused("row 1");
    struct err err = {0};
    struct logits_divergence d;
    assert_int_equal(logitsfile_compare(base, "/nonexistent.safetensors", NULL, NULL, &d, &err), ERR_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_divergences),
        cmocka_unit_test(test_files_that_do_not_fit),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
