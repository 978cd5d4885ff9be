/* Rotary frequencies of each scaling against formulas written a second way, with libm. */
#include "workers/models/rope.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <math.h>
#include <cmocka.h>

#include "tests/unit/near.h"

enum { N_ROT = 64, HALF = N_ROT / 2 };

static struct rope_config plain(void)
{
    return (struct rope_config){.base = 10000, .factor = 1, .attn_factor = 1};
}

/* The frequency of pair i, read off an angle small enough not to wrap. */
static double frequency(const struct rope_config *c, int i, bool is_long)
{
    struct rope r;
    struct err err = {0};
    float cosine[HALF], sine[HALF];
    assert_int_equal(rope_init(&r, c, N_ROT, &err), ERR_OK);
    rope_angles(&r, is_long, 1, cosine, sine);
    rope_free(&r);
    rope_free(&r);
    return atan2(sine[i], cosine[i]);
}

static double unscaled(double base, int i) { return pow(base, -2.0 * i / N_ROT); }

static void near(double got, double want) { near_number(got, want, 2e-7 * fabs(want)); }

static void test_plain_and_linear(void **state)
{
    struct rope_config c = plain();
    for (int i = 0; i < HALF; i++)
        near(frequency(&c, i, false), unscaled(10000, i));
    c.scaling = SCALING_LINEAR;
    c.factor = 8;
    for (int i = 0; i < HALF; i++)
        near(frequency(&c, i, false), unscaled(10000, i) / 8);
}

static void test_llama3(void **state)
{
    struct rope_config c = plain();
    float divisors[HALF];
    c.base = 500000;
    c.scaling = SCALING_LLAMA3;
    c.factor = 8;
    c.low_freq_factor = 1;
    c.high_freq_factor = 4;
    c.original_context = 8192;
    int kinds[3] = {0};
    for (int i = 0; i < HALF; i++) {
        double f = unscaled(500000, i), wave = 2 * acos(-1) / f, want = f;
        if (wave > 8192) {
            want = f / 8;
            kinds[0]++;
        } else if (wave >= 2048) {
            double s = (8192 / wave - 1) / 3;
            want = (1 - s) * f / 8 + s * f;
            kinds[1]++;
        } else {
            kinds[2]++;
        }
        near(frequency(&c, i, false), want);
        divisors[i] = (float)(1 + i);
    }
    assert_true(kinds[0] > 0 && kinds[1] > 0 && kinds[2] > 0);
    c.divisors = divisors;      /* a file's own win */
    near(frequency(&c, 5, false), unscaled(500000, 5) / 6);
}

static double yarn(double beta, double original, double base)
{
    return N_ROT * log(original / (beta * 2 * acos(-1))) / (2 * log(base));
}

static void test_yarn(void **state)
{
    struct rope_config c = plain();
    c.scaling = SCALING_YARN;
    c.factor = 4;
    c.beta_fast = 32;
    c.beta_slow = 1;
    c.original_context = 4096;
    for (int truncate = 0; truncate < 2; truncate++) {
        double low = yarn(32, 4096, 10000), high = yarn(1, 4096, 10000);
        c.truncate = truncate;
        if (truncate) {
            low = floor(low);
            high = ceil(high);
        }
        for (int i = 0; i < HALF; i++) {
            double f = unscaled(10000, i), ramp = (i - low) / (high - low);
            ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
            near(frequency(&c, i, false), f / 4 * ramp + f * (1 - ramp));
        }
    }
    c.base = 10;        /* everything outside the range: clamped, not divided by nothing */
    assert_true(isfinite(frequency(&c, 3, false)));
}

static void test_longrope(void **state)
{
    struct rope_config c = plain();
    float shorter[HALF], longer[HALF];
    for (int i = 0; i < HALF; i++) {
        shorter[i] = 1.0f + (float)i / 100;
        longer[i] = 2.0f + (float)i;
    }
    c.scaling = SCALING_LONGROPE;
    c.short_factors = shorter;
    c.long_factors = longer;
    c.original_context = 64;
    for (int i = 0; i < HALF; i++) {
        near(frequency(&c, i, false), unscaled(10000, i) / shorter[i]);
        near(frequency(&c, i, true), unscaled(10000, i) / longer[i]);
    }
}

static void test_angles(void **state)
{
    struct rope_config c = plain();
    struct rope r;
    struct err err = {0};
    float cosine[HALF], sine[HALF];
    c.attn_factor = 1.25f;
    assert_int_equal(rope_init(&r, &c, N_ROT, &err), ERR_OK);
    static const int positions[] = {0, 1, 77, 4095, 131071};
    for (int p = 0; p < 5; p++) {
        rope_angles(&r, false, positions[p], cosine, sine);
        for (int i = 0; i < HALF; i++) {
            double angle = positions[p] * unscaled(10000, i);
            assert_true(fabs(cosine[i] - 1.25 * cos(angle)) < 2e-7);
            assert_true(fabs(sine[i] - 1.25 * sin(angle)) < 2e-7);
        }
    }
    rope_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_and_linear), cmocka_unit_test(test_llama3),
        cmocka_unit_test(test_yarn),             cmocka_unit_test(test_longrope),
        cmocka_unit_test(test_angles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
