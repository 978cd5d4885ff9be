/* The table of number formats: geometry, names, and conversions at the edges. */
#include "workers/tensor/dtype.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

static void test_names_and_ids_agree(void **state)
{
    (void)state;
    int n = 0;
    for (int id = -1; id <= DT_MAX; id++) {
        const struct dtype_info *row = dtype_info(id);
        if (row == NULL)
            continue;
        n++;
        assert_int_equal(row->id, id);
        assert_ptr_equal(dtype_named(row->name), row);
        assert_true(row->block > 0 && row->bytes > 0);
    }
    assert_int_equal(n, 37);
    assert_null(dtype_info(4));
    assert_null(dtype_info(DT_MAX));
    assert_null(dtype_named("Q4_K"));
    assert_null(dtype_named(""));
}

static void test_bytes(void **state)
{
    (void)state;
    assert_int_equal(dtype_bytes(DT_F32, 3), 12);
    assert_int_equal(dtype_bytes(DT_Q4_K, 512), 288);
    assert_int_equal(dtype_bytes(DT_MXFP4, 64), 34);
    assert_true(dtype_bytes(DT_Q8_0, (int64_t)1 << 40) == ((size_t)1 << 35) * 34);
}

static void test_f16(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++)
        if ((h & 0x7fff) <= 0x7c00)
            assert_int_equal(dtype_f32_to_f16(dtype_f16_to_f32((uint16_t)h)), h);
    assert_true(isnan(dtype_f16_to_f32(dtype_f32_to_f16(NAN))));
    assert_true(dtype_f16_to_f32(0x3c00) == 1.0f);
    assert_true(dtype_f16_to_f32(1) == 0x1p-24f);
    assert_int_equal(dtype_f32_to_f16(0x1p-25f), 0);        /* a tie goes to even */
    assert_int_equal(dtype_f32_to_f16(0x1.000002p-25f), 1);
    assert_int_equal(dtype_f32_to_f16(-0x1p-30f), 0x8000);
    assert_int_equal(dtype_f32_to_f16(1e30f), 0x7c00);
}

static void test_bf16(void **state)
{
    (void)state;
    for (uint32_t b = 0; b < 65536; b++)
        if ((b & 0x7fff) <= 0x7f80)
            assert_int_equal(dtype_f32_to_bf16(dtype_bf16_to_f32((uint16_t)b)), b);
    union { uint32_t u; float f; } low_nan = {.u = 0x7f800001};     /* must not become infinity */
    assert_true(isnan(dtype_bf16_to_f32(dtype_f32_to_bf16(low_nan.f))));
}

static float one(enum dtype type, uint8_t byte)
{
    float x;
    dtype_info(type)->dequantise(&x, &byte, 1);
    return x;
}

/* Corners of the OCP FP8 tables. */
static void test_f8(void **state)
{
    (void)state;
    assert_true(one(DT_F8_E4M3, 0x7e) == 448.0f);
    assert_true(one(DT_F8_E4M3, 0x01) == 0x1p-9f);
    assert_true(one(DT_F8_E4M3, 0x08) == 0x1p-6f);
    assert_true(one(DT_F8_E4M3, 0xb8) == -1.0f);
    assert_true(isnan(one(DT_F8_E4M3, 0xff)));
    assert_true(one(DT_F8_E5M2, 0x7b) == 57344.0f);
    assert_true(one(DT_F8_E5M2, 0x01) == 0x1p-16f);
    assert_true(isinf(one(DT_F8_E5M2, 0x7c)));
}

static void test_f64(void **state)
{
    (void)state;
    double in[2] = {1.0 / 3, -2.5};
    float out[2];
    dtype_info(DT_F64)->dequantise(out, in, 2);
    assert_true(out[0] == (float)(1.0 / 3) && out[1] == -2.5f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_and_ids_agree), cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_f16), cmocka_unit_test(test_bf16), cmocka_unit_test(test_f8),
        cmocka_unit_test(test_f64),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
