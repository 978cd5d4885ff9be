/* Every block format against ggml's own numbers: reading bit for bit, writing byte for byte where the
 * format defines the bytes, else with no larger error. Types and sizes come from the folder. */
#include "workers/tensor/dtype.h"
#include "workers/weights/tensorfile.h"

#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

struct fixture {
    struct tensorfile file;
    const struct dtype_info *type;
    char name[32];
};

static const char *folder(void)
{
    static char path[1024];
    const char *root = getenv("MUSTER_FIXTURES");
    snprintf(path, sizeof path, "%s/quants", root != NULL ? root : FIXTURES_DEFAULT);
    return path;
}

/* A tensor's bytes, malloc'd; NULL when the file has none of that name. */
static void *load(struct fixture *f, const char *name, int64_t *n)
{
    struct err err = {0};
    const struct tensor_entry *e = tensorfile_find(&f->file, name);
    if (e == NULL)
        return NULL;
    void *p = malloc(e->bytes + 1);
    assert_non_null(p);
    if (tensorfile_read(&f->file, e, 0, p, e->bytes, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    *n = e->n_elements;
    return p;
}

static void check_reading(struct fixture *f)
{
    int64_t n_raw, n;
    uint8_t *raw = load(f, "raw", &n_raw);
    float *expect = load(f, "f32", &n);
    if (raw == NULL || expect == NULL) {
        free(raw);
        free(expect);
        return;         /* an activation type */
    }
    assert_non_null(f->type->dequantise);
    assert_int_equal(n_raw, (int64_t)dtype_bytes(f->type->id, n));
    float *got = malloc((size_t)n * sizeof *got);
    f->type->dequantise(got, raw, n);
    int64_t bad = 0, first = -1;
    for (int64_t i = 0; i < n; i++)
        if (memcmp(&got[i], &expect[i], sizeof *got) != 0 && bad++ == 0)
            first = i;
    if (bad > 0)
        fail_msg("%s: %lld of %lld values differ, the first is %lld: %.9g, expected %.9g", f->name,
                 (long long)bad, (long long)n, (long long)first, got[first], expect[first]);
    print_message("%-8s read: %lld values equal\n", f->name, (long long)n);
    free(got);
    free(expect);
    free(raw);
}

/* Types whose encoder searches for good scales: another search may find other bytes as good. */
static int searches(enum dtype type)
{
    switch (type) {
    case DT_Q2_K: case DT_Q3_K: case DT_Q4_K: case DT_Q5_K: case DT_Q6_K: case DT_IQ4_NL:
    case DT_IQ4_XS: case DT_IQ3_S: case DT_IQ3_XXS: case DT_IQ2_S:
        return 1;
    default:
        return 0;
    }
}

static double squared_error(const float *a, const float *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
    return sum;
}

/* No row may be clearly worse than the reference's, and their mean ratio at most 1. */
static void check_error(struct fixture *f, const uint8_t *got, const float *in, int64_t n, int64_t row)
{
    int64_t n_ref;
    float *ref = load(f, "quantised_f32", &n_ref);
    float *back = malloc((size_t)n * sizeof *back);
    assert_non_null(ref);
    f->type->dequantise(back, got, n);
    double ours = 0, theirs = 0;
    for (int64_t r = 0; r < n / row; r++) {
        double norm = 1e-30, a = squared_error(back + r * row, in + r * row, row);
        double b = squared_error(ref + r * row, in + r * row, row);
        for (int64_t i = 0; i < row; i++)
            norm += (double)in[r * row + i] * in[r * row + i];
        ours += a / norm;
        theirs += b / norm;
        if (a / norm > 1.05 * b / norm + 5e-7)    /* f16 rounds by 2^-12 each */
            fail_msg("%s: row %lld has relative error %.4g, the reference %.4g", f->name, (long long)r,
                     a / norm, b / norm);
    }
    print_message("%-8s write: error %.6g, reference %.6g\n", f->name, ours, theirs);
    assert_true(ours <= theirs * 1.0001);
    free(back);
    free(ref);
}

static void check_writing(struct fixture *f)
{
    int64_t n, n_bytes;
    float *in = load(f, "input", &n);
    uint8_t *expect = load(f, "quantised", &n_bytes);
    if (in == NULL || expect == NULL || f->type->quantise == NULL) {
        free(in);
        free(expect);
        return;
    }
    const struct tensor_entry *e = tensorfile_find(&f->file, "input");
    size_t bytes = dtype_bytes(f->type->id, n), bad = 0, first = 0;
    assert_true(tensorfile_find(&f->file, "quantised")->bytes == bytes);
    uint8_t *got = malloc(bytes);
    f->type->quantise(got, in, n);
    for (size_t i = 0; i < bytes; i++)
        if (got[i] != expect[i] && bad++ == 0)
            first = i;
    if (bad == 0)
        print_message("%-8s write: %zu bytes equal\n", f->name, bytes);
    else if (!searches(f->type->id))
        fail_msg("%s: %zu of %zu bytes differ, the first is %zu", f->name, bad, bytes, first);
    else
        check_error(f, got, in, n, e->shape[e->n_dims - 1]);
    free(got);
    free(expect);
    free(in);
}

static void test_all(void **state)
{
    (void)state;
    struct dirent **list;
    int n = scandir(folder(), &list, NULL, alphasort), n_types = 0;
    for (int i = 0; i < n; i++) {
        struct fixture f = {0};
        struct err err = {0};
        char path[2048];
        size_t len = strcspn(list[i]->d_name, ".");
        if (strcmp(list[i]->d_name + len, ".safetensors") == 0 && len < sizeof f.name && len > 0) {
            memcpy(f.name, list[i]->d_name, len);
            snprintf(path, sizeof path, "%s/%s", folder(), list[i]->d_name);
            f.type = dtype_named(f.name);
            if (f.type == NULL || tensorfile_open(&f.file, path, &err) != ERR_OK)
                fail_msg("%s %s", f.name, err.msg);
            check_reading(&f);
            check_writing(&f);
            tensorfile_close(&f.file);
            n_types++;
        }
        free(list[i]);
    }
    free(list);
    assert_true(n_types > 0);
}

int main(void)
{
    DIR *d = opendir(folder());
    if (d == NULL)
        return 77;
    closedir(d);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_all)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
