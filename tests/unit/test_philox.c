/* Philox4x32-10 against the known answers of its authors (Random123, kat_vectors). */
#include "proto/philox.h"
#include "workers/kernels/normal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

/* counter[4], key[2], result[4] */
static const uint32_t known[][10] = {
    {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
    {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x408f276d, 0x41c83b0e,
     0xa20bc7c6, 0x6d5451fd},
    {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09, 0x94fdcceb,
     0x5001e420, 0x24126ea1},
};

static void test_known_answers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const uint32_t *k = known[i];
        uint32_t r[4];
        philox_block((uint64_t)k[5] << 32 | k[4], (uint64_t)k[1] << 32 | k[0], k[2], k[3], r);
        for (int j = 0; j < 4; j++)
            assert_int_equal(r[j], k[6 + j]);
    }
}

/* Box-Muller of the known answers above, computed in another language's doubles. */
static void test_known_normals(void **state)
{
    (void)state;
    static const float want[][4] = {
        {0.73792566f, -0.68843365f, -1.28601917f, -1.00378893f},
        {-0.03333555f, 0.76163395f, -1.26981205f, 0.62635592f},
        {-1.60650079f, -0.90962328f, 0.54802355f, 0.67017984f},
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        const uint32_t *k = known[i];
        float got[4];
        normal_block((uint64_t)k[5] << 32 | k[4], (uint64_t)k[1] << 32 | k[0], k[2], k[3], got);
        for (int j = 0; j < 4; j++)
            assert_true(fabsf(got[j] - want[i][j]) < 3e-7f);
    }
}

static void test_uniform(void **state)
{
    (void)state;
    double sum = 0;
    for (uint64_t i = 0; i < 100000; i++) {
        uint32_t r[4];
        float u = philox_uniform(42, i, 3, PHILOX_SAMPLE);
        assert_true(u >= 0 && u < 1);
        philox_block(42, i / 4, 3, PHILOX_SAMPLE, r);
        assert_true(u == (float)(r[i % 4] >> 8) / 16777216.0f);
        sum += u;
    }
    assert_true(sum > 49700 && sum < 50300);        /* three standard deviations */
    assert_true(philox_uniform(42, 7, 3, PHILOX_SAMPLE) != philox_uniform(42, 7, 3, PHILOX_TRAIN));
    assert_true(philox_uniform(42, 7, 3, PHILOX_SAMPLE) != philox_uniform(42, 7, 4, PHILOX_SAMPLE));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers),
        cmocka_unit_test(test_known_normals),
        cmocka_unit_test(test_uniform),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
