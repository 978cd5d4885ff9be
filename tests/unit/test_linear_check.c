/* The start-up check finds a wrong row, names it, and the next lower set serves in its place. */
#include "tests/linear_blocks.h"
#include "workers/kernels/linear_format.h"
#include "workers/kernels/membw.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <cmocka.h>

enum { N_OUT = 64, K = 256, ROWS = 20 };

static void product(enum dtype type, enum isa isa, enum role role, float *out)
{
    static _Alignas(64) uint8_t packed[N_OUT * K * 4], xq[(ROWS + 12) * K * 8], scratch[2 << 20];
    static uint8_t src[N_OUT * K * 4];
    static float x[ROWS * K];
    struct linear l = {.type = type, .n_out = N_OUT, .k = K, .packed = packed};
    struct split_program whole = split_whole(K);
    struct err err = {0};
    uint64_t seed = 9;
    blocks_fill(type, src, N_OUT * K, &seed);
    for (int i = 0; i < ROWS * K; i++)
        x[i] = blocks_normal(&seed);
    assert_true(linear_packed_bytes(type, N_OUT, K, 0) <= sizeof packed);
    assert_true(linear_scratch_bytes(isa, COMPUTE_DEFAULT, role, ROWS, K) <= sizeof scratch);
    assert_int_equal(linear_pack(&l, 0, N_OUT, src, dtype_bytes(type, K), &err), ERR_OK);
    linear_x_prepare(&l, isa, COMPUTE_DEFAULT, role, xq, x, K, ROWS, K, 0, ROWS);
    linear_run(&l, isa, COMPUTE_DEFAULT, role, &whole, out, N_OUT, 0, xq, ROWS, 0, N_OUT / 16,
               scratch);
}

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

static void test_sound_rows_pass_in_milliseconds(void **state)
{
    (void)state;
    char refused[256] = "?";
    double best = 1e9;
    for (int i = 0; i < 5; i++) {
        double t = now_ms();
        assert_int_equal(linear_self_check(isa_detect(), refused, sizeof refused), 0);
        t = now_ms() - t;
        best = t < best ? t : best;
    }
    print_message("self-check: %.2f ms, BLAS tiles %s\n", best,
                  linear_blas_tiles_ok() ? "ok" : "refused");
    assert_string_equal(refused, "");
#ifndef __SANITIZE_ADDRESS__
    assert_true(best < 100); /* 5 on a machine of its own */
#endif
}

static void test_wrong_row_is_refused(void **state)
{
    (void)state;
    static const struct { const char *wish; enum dtype type; enum role role; } cases[] = {
        {"q4_k/generated", DT_Q4_K, ROLE_KIND_GENERATED},
        {"q8_0/prompt", DT_Q8_0, ROLE_KIND_PROMPT},
        {"bf16/prompt", DT_BF16, ROLE_KIND_PROMPT},
        {"f16/generated", DT_F16, ROLE_KIND_GENERATED},
    };
    enum isa best = isa_detect();
    if (best == ISA_SCALAR)
        skip();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char refused[256], name[64];
        float below[ROWS * N_OUT], got[ROWS * N_OUT];
        /* f16 has no row of its own in the AMX table: a row planted there is found one lower */
        enum isa at = best == ISA_AMX && cases[i].type == DT_F16 ? ISA_AVX512 : best;
        linear_self_check(at, refused, sizeof refused);
        product(cases[i].type, at - 1, cases[i].role, below);
        setenv("MUSTER_TEST_WRONG_KERNEL", cases[i].wish, 1);
        assert_int_equal(linear_self_check(at, refused, sizeof refused), 1);
        unsetenv("MUSTER_TEST_WRONG_KERNEL");
        snprintf(name, sizeof name, "%s:%s", isa_name(at), cases[i].wish);
        assert_string_equal(refused, name);
        product(cases[i].type, at, cases[i].role, got);
        assert_memory_equal(got, below, sizeof got);
        assert_int_equal(linear_family(cases[i].type, at, COMPUTE_DEFAULT, cases[i].role),
                         linear_family(cases[i].type, at - 1, COMPUTE_DEFAULT, cases[i].role));
    }
}

/* What another rank refused is refused here, too; nonsense is not obeyed. */
static void test_disable(void **state)
{
    (void)state;
    char refused[256];
    enum isa best = isa_detect();
    float before[ROWS * N_OUT], after[ROWS * N_OUT];
    linear_self_check(best, refused, sizeof refused);
    bool tiles = linear_blas_tiles_ok();
    linear_disable(":/,::,q4_k,amx:none/prompt,avx1024:q4_k/prompt,", true);
    assert_int_equal(linear_blas_tiles_ok(), tiles);
    if (best == ISA_AMX) {
        product(DT_Q4_K, ISA_AVX512, ROLE_KIND_PROMPT, before);
        assert_int_equal(linear_family(DT_Q4_K, best, COMPUTE_DEFAULT, ROLE_KIND_PROMPT),
                         FAMILY_TILES);
        linear_disable("amx:q8_0/prompt,amx:q4_k/prompt", true);
        assert_int_equal(linear_family(DT_Q4_K, best, COMPUTE_DEFAULT, ROLE_KIND_PROMPT),
                         FAMILY_Q8);
        assert_int_equal(linear_family(DT_Q5_K, best, COMPUTE_DEFAULT, ROLE_KIND_PROMPT),
                         FAMILY_TILES);
        product(DT_Q4_K, best, ROLE_KIND_PROMPT, after);
        assert_memory_equal(before, after, sizeof before);
    }
    linear_disable("", false);
    assert_false(linear_blas_tiles_ok());
    assert_int_equal(linear_family(DT_F32, best, COMPUTE_DEFAULT, ROLE_KIND_PROMPT), FAMILY_F32);
}

static void test_isa_names(void **state)
{
    (void)state;
    enum isa isa;
    struct err err = {0};
    for (int i = 0; i < ISA_COUNT; i++)
        assert_int_equal(isa_named(isa_name((enum isa)i)), i);
    assert_int_equal(isa_named("sse9"), -1);
    setenv("MUSTER_ISA", "scalar", 1);
    assert_int_equal(isa_choose(&isa, &err), ERR_OK);
    assert_int_equal(isa, ISA_SCALAR);
    setenv("MUSTER_ISA", "sse9", 1);
    assert_int_equal(isa_choose(&isa, &err), ERR_INVAL);
    assert_non_null(strstr(err.msg, "scalar, avx2, avx512"));
    if (isa_detect() < ISA_AMX) {
        struct err other = {0};
        setenv("MUSTER_ISA", "amx", 1);
        assert_int_equal(isa_choose(&isa, &other), ERR_INVAL);
    }
    unsetenv("MUSTER_ISA");
    assert_int_equal(isa_choose(&isa, &err), ERR_OK);
    assert_int_equal(isa, isa_detect());
}

static void test_limits_of_the_machine(void **state)
{
    (void)state;
    size_t bytes = 8 << 20;
    char *buf = aligned_alloc(64, bytes);
    memset(buf, 1, bytes);
    double rate = membw_read(buf, bytes, 2, 3);
    assert_true(rate > 1e8 && rate < 1e13);
    assert_true(membw_read_seconds(buf, bytes, 1) > 0);
    double best = membw_read_best(buf, bytes, 2, 3);     /* one piece, smaller than MEMBW_PIECE */
    assert_true(best > 1e8 && best < 1e13);
    float *work = aligned_alloc(64, 2 * 3 * sizeof(float) * MEMBW_SGEMM_DIM * MEMBW_SGEMM_DIM);
    memset(work, 0, 2 * 3 * sizeof(float) * MEMBW_SGEMM_DIM * MEMBW_SGEMM_DIM);
    double flops = membw_sgemm(work, 2, 2);
    assert_true(flops > 1e8 && flops < 1e14);
    free(work);
    free(buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sound_rows_pass_in_milliseconds),
        cmocka_unit_test(test_wrong_row_is_refused),
        cmocka_unit_test(test_disable),
        cmocka_unit_test(test_isa_names),
        cmocka_unit_test(test_limits_of_the_machine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
