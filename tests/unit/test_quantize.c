/* Conversion between types: who gets which, what is copied, what is refused. */
#include "workers/models/quantize.h"
#include "workers/weights/gguf.h"
#include "workers/weights/ggufwriter.h"

#include "tests/unit/filebytes.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

struct made { const char *name; int rows, cols; };

/* cols 0: a vector of `rows`. */
static const struct made tensors[] = {
    {"token_embd.weight", 8, 256}, {"blk.0.attn_norm.weight", 256, 0}, {"blk.0.attn_q.weight", 8, 256},
    {"blk.0.attn_v.weight", 5, 288}, {"blk.0.ffn_down.weight", 4, 48}, {"blk.0.attn_q.bias", 8, 0},
    {"blk.0.ffn_gate_inp.weight", 4, 256}, {"output.weight", 8, 256},
};
enum { N_TENSORS = sizeof tensors / sizeof *tensors };

/* A value for every place, no two rows alike. */
static float number(int tensor, int i) { return (float)((i * 37 + tensor * 11) % 101 - 50) / 40.0f; }

static const char *make(const char *name, int n_tensors, float poison)
{
    struct ggufwriter w;
    struct err err = {0};
    static float x[8 * 288];
    const char *path = tmp_path(name);
    struct meta_value no = {.kind = META_INT, .elem_type = GGUF_U16};
    assert_int_equal(ggufwriter_open(&w, path, &err), ERR_OK);
    ggufwriter_string(&w, "general.architecture", "llama", 5);
    ggufwriter_u32(&w, "general.file_type", 0);
    ggufwriter_f32(&w, "some.key", 0.5f);
    ggufwriter_copy(&w, "split.no", &no);
    for (int t = 0; t < n_tensors; t++)
        ggufwriter_tensor(&w, tensors[t].name, DT_F32, tensors[t].cols ? 2 : 1,
                          (int64_t[]){tensors[t].rows, tensors[t].cols});
    assert_int_equal(ggufwriter_begin(&w, &err), ERR_OK);
    for (int t = 0; t < n_tensors; t++) {
        int n = tensors[t].rows * (tensors[t].cols ? tensors[t].cols : 1);
        for (int i = 0; i < n; i++)
            x[i] = number(t, i);
        if (t == 2 && poison != 0)
            x[3 * 256 + 7] = poison;
        assert_int_equal(ggufwriter_write(&w, x, (size_t)n * 4, &err), ERR_OK);
    }
    assert_int_equal(ggufwriter_close(&w, &err), ERR_OK);
    return path;
}

/* Converts and opens the result. */
static void convert(const char *from, const char *to, const char *type, struct tensorfile *t,
                    struct quantize_report *r)
{
    struct err err = {0};
    char path[160];
    strcpy(path, tmp_path(to));
    if (quantize_file(from, path, type, NULL, NULL, r, &err) != ERR_OK
        || tensorfile_open(t, path, &err) != ERR_OK)
        fail_msg("%s", err.msg);
}

static void expect_types(const char *type, const enum dtype *types, int n_fallback)
{
    struct tensorfile t;
    struct quantize_report r;
    char from[160];
    strcpy(from, make("in.gguf", N_TENSORS, 0));
    convert(from, "out.gguf", type, &t, &r);
    assert_int_equal(t.n_tensors, N_TENSORS);
    for (int i = 0; i < N_TENSORS; i++) {
        const struct tensor_entry *e = tensorfile_find(&t, tensors[i].name);
        if (e->type != types[i])
            fail_msg("%s: %s has type %s", type, tensors[i].name, dtype_info((int)e->type)->name);
        assert_int_equal(e->shape[0], tensors[i].rows);
    }
    assert_int_equal(r.n_fallback, n_fallback);
    assert_int_equal(r.n_tensors, N_TENSORS);
    assert_true(r.bytes_out == t.file_bytes[0]);
    tensorfile_close(&t);
}

static void test_types(void **state)
{
    (void)state;
    expect_types("q4_k", (enum dtype[]){DT_Q4_K, DT_F32, DT_Q4_K, DT_Q5_0, DT_F16, DT_F32, DT_F32,
                                        DT_Q6_K}, 2);
    expect_types("Q4_K_M", (enum dtype[]){DT_Q4_K, DT_F32, DT_Q4_K, DT_Q8_0, DT_F16, DT_F32, DT_F32,
                                          DT_Q6_K}, 2);
    expect_types("q8_0", (enum dtype[]){DT_Q8_0, DT_F32, DT_Q8_0, DT_Q8_0, DT_F16, DT_F32, DT_F32,
                                        DT_Q8_0}, 1);
    expect_types("q4_0", (enum dtype[]){DT_Q4_0, DT_F32, DT_Q4_0, DT_Q4_0, DT_F16, DT_F32, DT_F32,
                                        DT_Q6_K}, 1);
    expect_types("iq4_xs", (enum dtype[]){DT_IQ4_XS, DT_F32, DT_IQ4_XS, DT_IQ4_NL, DT_F16, DT_F32, DT_F32,
                                          DT_Q6_K}, 2);
    expect_types("bf16", (enum dtype[]){DT_BF16, DT_F32, DT_BF16, DT_BF16, DT_BF16, DT_F32, DT_F32,
                                        DT_BF16}, 0);
}

/* Without an output matrix the embedding is the head. */
static void test_tied_head_is_kept_better(void **state)
{
    (void)state;
    struct tensorfile t;
    struct quantize_report r;
    char from[160];
    strcpy(from, make("in.gguf", N_TENSORS - 1, 0));
    convert(from, "out.gguf", "q4_k", &t, &r);
    assert_int_equal(tensorfile_find(&t, "token_embd.weight")->type, DT_Q6_K);
    tensorfile_close(&t);
}

static void test_keys(void **state)
{
    (void)state;
    struct tensorfile t;
    struct quantize_report r;
    char from[160];
    strcpy(from, make("in.gguf", N_TENSORS, 0));
    convert(from, "out.gguf", "q8_0", &t, &r);
    assert_true(tensorfile_meta(&t, "some.key")->f == 0.5);
    assert_string_equal(tensorfile_meta(&t, "general.architecture")->str, "llama");
    assert_int_equal(tensorfile_meta(&t, "general.file_type")->i, 7);
    assert_int_equal(tensorfile_meta(&t, "general.quantization_version")->i, 2);
    assert_null(tensorfile_meta(&t, "split.no"));
    tensorfile_close(&t);
}

/* Numbers within half a step of the type. */
static void test_values(void **state)
{
    (void)state;
    struct tensorfile t;
    struct quantize_report r;
    struct err err = {0};
    char from[160], raw[8 * 256 * 4];
    float x[8 * 256];
    strcpy(from, make("in.gguf", N_TENSORS, 0));
    convert(from, "out.gguf", "q8_0", &t, &r);
    for (int k = 0; k < N_TENSORS; k++) {
        const struct tensor_entry *e = tensorfile_find(&t, tensors[k].name);
        assert_int_equal(tensorfile_read(&t, e, 0, raw, e->bytes, &err), ERR_OK);
        dtype_info((int)e->type)->dequantise(x, raw, e->n_elements);
        for (int i = 0; i < e->n_elements; i++)
            if (fabsf(x[i] - number(k, i)) > (e->type == DT_F32 ? 0 : 1.25f / 127 * 0.51f))
                fail_msg("%s[%d] is %g, was %g", e->name, i, x[i], number(k, i));
    }
    tensorfile_close(&t);
}

/* What is coarser already is not rounded a second time; f16 and f32 are, on demand, made of anything. */
static void test_from_quantised(void **state)
{
    (void)state;
    struct tensorfile a, b;
    struct quantize_report r;
    struct err err = {0};
    char from[160], small[160], x[144], y[144];
    strcpy(from, make("in.gguf", N_TENSORS, 0));
    convert(from, "q4.gguf", "q4_0", &a, &r);
    strcpy(small, tmp_path("q4.gguf"));
    convert(small, "q8.gguf", "q8_0", &b, &r);
    const struct tensor_entry *p = tensorfile_find(&a, "token_embd.weight");
    const struct tensor_entry *q = tensorfile_find(&b, "token_embd.weight");
    assert_int_equal(q->type, DT_Q4_0);
    assert_int_equal(tensorfile_read(&a, p, 0, x, sizeof x, &err), ERR_OK);
    assert_int_equal(tensorfile_read(&b, q, 0, y, sizeof y, &err), ERR_OK);
    assert_memory_equal(x, y, sizeof x);
    tensorfile_close(&b);
    convert(small, "f16.gguf", "f16", &b, &r);
    assert_int_equal(tensorfile_find(&b, "token_embd.weight")->type, DT_F16);
    tensorfile_close(&b);
    tensorfile_close(&a);
}

static void refuse(const char *from, const char *to, const char *type, int code, const char *words)
{
    struct err err = {0};
    int before = 0, after = 0, rc;
    DIR *d = opendir(tmp_dir);
    while (readdir(d) != NULL)
        before++;
    rc = quantize_file(from, to, type, NULL, NULL, NULL, &err);
    if (rc != code || strstr(err.msg, words) == NULL)
        fail_msg("code %d, \"%s\" lacks \"%s\"", rc, err.msg, words);
    rewinddir(d);
    while (readdir(d) != NULL)
        after++;
    closedir(d);
    assert_int_equal(before, after);    /* nothing half-written is left */
}

static void test_refused(void **state)
{
    (void)state;
    char from[160], bad[160], out[160];
    strcpy(from, make("in.gguf", N_TENSORS, 0));
    strcpy(out, tmp_path("out.gguf"));
    refuse(from, out, "q9_z", ERR_INVAL, "--type q9_z: no such type; choose one of f32 f16");
    refuse(from, from, "q8_0", ERR_INVAL, "is the input too");
    refuse(from, tmp_path("no/folder/x.gguf"), "q8_0", ERR_OUTPUT, "cannot be created");
    refuse(from, "/dev/full", "q8_0", ERR_OUTPUT, "No space left");
    refuse(tmp_path("nothing"), out, "q8_0", ERR_IO, "No such file");
    strcpy(bad, make("nan.gguf", N_TENSORS, NAN));
    refuse(bad, out, "q4_k", ERR_FORMAT, "nan.gguf: tensor blk.0.attn_q.weight holds NaN or infinity in row 3");
    strcpy(bad, make("large.gguf", N_TENSORS, 70000));
    refuse(bad, out, "f16", ERR_FORMAT, "too large for f16: try bf16");
    strcpy(bad, make("inf.gguf", N_TENSORS, INFINITY));
    refuse(bad, out, "f16", ERR_FORMAT, "inf.gguf: tensor blk.0.attn_q.weight");
}

static void note(void *ctx, const struct quantize_progress *p)
{
    uint64_t *last = ctx;
    assert_true(p->done > *last && p->done <= p->all && p->i < p->n && p->tensor != NULL);
    *last = p->done;
}

static void test_progress(void **state)
{
    (void)state;
    struct err err = {0};
    struct quantize_report r;
    uint64_t last = 0;
    char from[160];
    strcpy(from, make("in.gguf", N_TENSORS, 0));
    assert_int_equal(quantize_file(from, tmp_path("out.gguf"), "f32", note, &last, &r, &err), ERR_OK);
    assert_true(last == r.bytes_in);    /* of the same type here */
}

static int setup(void **state) { (void)state; tmp_make(); return 0; }
static int teardown(void **state) { (void)state; tmp_remove(); return 0; }

int main(void)
{
#define IN_FOLDER(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_types), IN_FOLDER(test_tied_head_is_kept_better), IN_FOLDER(test_keys),
        IN_FOLDER(test_values), IN_FOLDER(test_from_quantised), IN_FOLDER(test_refused),
        IN_FOLDER(test_progress),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
