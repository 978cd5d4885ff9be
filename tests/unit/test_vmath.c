/* Own exp, log, sin, cos, tanh, erf against libm (long double), and every vector row against both. */
#include "workers/kernels/vmath.h"
#include "workers/kernels/kernels.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static double step(double *x, double first, double last, int i, int n)
{
    *x = first + (last - first) * ((double)i + 0.37) / n;
    return *x;
}

static void close_to(double got, long double want, double relative, double absolute)
{
    long double error = fabsl(got - want);
    if (!(error <= relative * fabsl(want) + absolute)) {
        print_error("got %.17g want %.17Lg\n", got, want);
        fail();
    }
}

static void test_doubles(void **state)
{
    double x, s, c;
    for (int i = 0; i < 20000; i++) {
        step(&x, -740, 709, i, 20000);
        close_to(vmath_exp(x), expl(x), x < -700 ? 1e-10 : 4e-16, 5e-324);
        step(&x, 1e-3, 50, i, 20000);
        close_to(vmath_log(x), logl(x), 4e-16, 2e-17);
        close_to(vmath_log(x * 1e-310), logl(x * 1e-310), 4e-16, 0);
        step(&x, -4000, 4000, i, 20000);
        vmath_sincos(x, &s, &c);
        close_to(s, sinl(x), 0, 3e-16);
        close_to(c, cosl(x), 0, 3e-16);
        vmath_sincos(x * 200, &s, &c);
        close_to(s, sinl(x * 200), 0, 3e-16);
        step(&x, -7, 7, i, 20000);
        close_to(vmath_tanh(x), tanhl(x), 2e-11, 0);
        close_to(vmath_erf(x), erfl(x), 1e-14, 0);
        close_to(vmath_sigmoid(x), 1 / (1 + expl(-x)), 1e-15, 0);
        close_to(vmath_pow(10000, x / 7), powl(10000, x / 7), 1e-14, 0);
    }
    assert_true(vmath_exp(-1e300) == 0 && vmath_exp(1e300) == INFINITY && isnan(vmath_exp(NAN)));
    assert_true(vmath_log(0) == -INFINITY && isnan(vmath_log(-1)) && vmath_log(INFINITY) == INFINITY);
    assert_true(vmath_exp(0) == 1 && vmath_log(1) == 0 && vmath_erf(-9) == -1 && isnan(vmath_erf(NAN)));
}

/* --- rows */

enum { N = 1003 };      /* no multiple of any width */

static void each_row(void (*check)(const struct kernels *k))
{
    for (int isa = ISA_SCALAR; isa <= (int)isa_detect(); isa++) {
        const struct kernels *k = kernels_get(isa);
        assert_int_equal(k->isa, isa);
        check(k);
    }
}

static void check_function(void (*row)(float *, const float *, int64_t), long double (*truth)(long double),
                           double first, double last, double relative, double absolute)
{
    float x[N], y[N], one;
    for (int part = 0; part < 20; part++) {
        double v;
        for (int i = 0; i < N; i++)
            x[i] = (float)step(&v, first, last, i * 20 + part, N * 20);
        row(y, x, N);
        for (int i = 0; i < N; i++) {
            close_to(y[i], truth(x[i]), relative, absolute);
            row(&one, x + i, 1);        /* a number's place never shows */
            assert_memory_equal(&one, y + i, sizeof one);
        }
    }
}

static long double sigmoid_truth(long double x) { return 1 / (1 + expl(-x)); }

static void check_functions(const struct kernels *k)
{
    check_function(k->exp, expl, -87, 88.7, 2e-7, 0);
    check_function(k->exp, expl, -104, -87, 0, 3e-45);
    check_function(k->exp, expl, -1, 1, 1.2e-7, 0);
    check_function(k->tanh, tanhl, -12, 12, 2e-7, 0);
    check_function(k->tanh, tanhl, -0.01, 0.01, 1.2e-7, 0);
    check_function(k->sigmoid, sigmoid_truth, -80, 40, 3e-7, 0);
    check_function(k->erf, erfl, -6, 6, 2.5e-7, 0);
    check_function(k->log, logl, 1e-4, 60, 1e-7, 0);
    float edge[] = {-INFINITY, -1e30f, 200, INFINITY, NAN, 0}, out[6];
    k->exp(out, edge, 6);
    assert_true(out[0] == 0 && out[1] == 0 && isinf(out[2]) && isinf(out[3]) && isnan(out[4]));
    assert_true(out[5] == 1);
    k->tanh(out, edge, 6);
    assert_true(out[0] == -1 && out[1] == -1 && out[2] == 1 && out[3] == 1 && isnan(out[4]));
    k->erf(out, edge, 6);
    assert_true(out[0] == -1 && out[2] == 1 && isnan(out[4]) && out[5] == 0);
    k->sigmoid(out, edge, 6);
    assert_true(out[0] == 0 && out[1] == 0 && out[2] == 1 && isnan(out[4]) && out[5] == 0.5f);
}

static void test_functions(void **state) { each_row(check_functions); }

static void fill(float *x, int n, unsigned seed, float spread)
{
    for (int i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = ((float)(seed >> 8) / 8388608.0f - 1.0f) * spread;
    }
}

static void check_gates(const struct kernels *k)
{
    float g[N], u[N], y[N];
    fill(g, N, 1, 9);
    fill(u, N, 2, 9);
    k->silu_mul(y, g, u, N);
    for (int i = 0; i < N; i++)
        close_to(y[i], g[i] / (1 + expl(-g[i])) * u[i], 5e-7, 1e-30);
    k->gelu_mul(y, g, u, N);
    for (int i = 0; i < N; i++) {
        long double x = g[i], t = tanhl(sqrtl(2 / acosl(-1)) * (x + 0.044715L * x * x * x));
        close_to(y[i], 0.5L * x * (1 + t) * u[i], 5e-7, 3e-6);  /* 1 + tanh cancels below -3 */
    }
    k->swiglu_oss(y, g, u, 7, N);
    for (int i = 0; i < N; i++) {
        long double x = g[i] < 7 ? g[i] : 7, v = u[i] > 7 ? 7 : u[i] < -7 ? -7 : u[i];
        close_to(y[i], x / (1 + expl(-1.702L * x)) * (v + 1), 8e-7, 1e-30);
    }
    memcpy(y, g, sizeof y);
    k->softcap(y, 5, N);
    for (int i = 0; i < N; i++)
        close_to(y[i], 5 * tanhl(g[i] / 5.0L), 4e-7, 0);
    k->add(y, g, u, N);
    for (int i = 0; i < N; i++)
        assert_true(y[i] == g[i] + u[i]);
    memcpy(y, u, sizeof y);
    k->add_scaled(y, g, 0.3f, N);
    for (int i = 0; i < N; i++)
        close_to(y[i], u[i] + (long double)0.3f * g[i], 1.2e-7, 2e-7);
    k->scale(y, 0, N);
    for (int i = 0; i < N; i++)
        assert_true(y[i] == 0);
}

static void test_gates(void **state) { each_row(check_gates); }

static void check_norms(const struct kernels *k)
{
    static const int sizes[] = {1, 8, 16, 31, 64, 100, 576, N};
    float x[N], w[N], b[N], y[N];
    fill(x, N, 3, 4);
    fill(w, N, 4, 2);
    fill(b, N, 5, 1);
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        int n = sizes[s];
        long double sum = 0, squares = 0, spread = 0;
        for (int i = 0; i < n; i++) {
            sum += x[i];
            squares += (long double)x[i] * x[i];
        }
        for (int i = 0; i < n; i++)
            spread += (x[i] - sum / n) * (x[i] - sum / n);
        k->rmsnorm(y, x, w, n, 1e-5f);
        for (int i = 0; i < n; i++)
            close_to(y[i], x[i] / sqrtl(squares / n + 1e-5L) * w[i], 8e-7, 0);
        k->layernorm(y, x, w, b, n, 1e-5f);
        for (int i = 0; i < n; i++)
            close_to(y[i], (x[i] - sum / n) / sqrtl(spread / n + 1e-5L) * w[i] + b[i], 1e-6, 4e-6);
        k->layernorm(y, x, NULL, NULL, n, 1e-5f);
        for (int i = 0; i < n; i++)
            close_to(y[i], (x[i] - sum / n) / sqrtl(spread / n + 1e-5L), 1e-6, 4e-6);
    }
}

static void test_norms(void **state) { each_row(check_norms); }

static void check_rope(const struct kernels *k)
{
    static const int sizes[] = {2, 12, 16, 64, 80, 128};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        int n = sizes[s], half = n / 2;
        float x[130], y[130], angle[64], c[64], d[64];
        fill(x, 130, 6, 3);
        fill(angle, 64, 7, 30000);
        k->sincos(d, c, angle, 64);
        for (int i = 0; i < 64; i++)
            close_to(d[i], sinl(angle[i]), 0, 1e-7);
        for (int neox = 0; neox < 2; neox++) {
            memcpy(y, x, sizeof y);
            k->rope(y, c, d, n, neox);
            for (int i = 0; i < half; i++) {
                int a = neox ? i : 2 * i, b = neox ? i + half : 2 * i + 1;
                close_to(y[a], (long double)x[a] * c[i] - (long double)x[b] * d[i], 0, 1e-6);
                close_to(y[b], (long double)x[b] * c[i] + (long double)x[a] * d[i], 0, 1e-6);
            }
            assert_memory_equal(x + n, y + n, sizeof *x * (size_t)(130 - n));
        }
    }
}

static void test_rope(void **state) { each_row(check_rope); }

static void check_picks(const struct kernels *k)
{
    float x[N];
    fill(x, N, 8, 3);
    for (int at = 0; at < N; at += 77) {
        float keep = x[at];
        x[at] = 5;
        x[(at + 500) % N] = 5;
        assert_int_equal(k->argmax(x, N), at < (at + 500) % N ? at : (at + 500) % N);
        x[at] = keep;
        x[(at + 500) % N] = 0;
    }
    x[0] = NAN;
    x[N - 1] = 4;
    assert_int_equal(k->argmax(x, N), N - 1);
    x[0] = 0;
    long double sum = 0;
    for (int i = 0; i < N; i++)
        sum += expl((x[i] - 4) * 0.7L);
    int64_t whole = k->exp_sum(x, 4, 0.7f, N), parts = 0;
    close_to((double)whole * 0x1p-40, sum, 2e-7, 0);
    for (int i = N; i > 0;) {       /* any cut, any order */
        int take = i % 37 + 1 < i ? i % 37 + 1 : i;
        i -= take;
        parts += k->exp_sum(x + i, 4, 0.7f, take);
    }
    assert_true(parts == whole);
    double a[N], e[N];
    for (int i = 0; i < N; i++)
        a[i] = x[i] * 20;
    k->exp_f64(e, a, N);
    for (int i = 0; i < N; i++) {
        double same = vmath_exp(a[i]);
        assert_memory_equal(&same, e + i, sizeof same);
    }
}

static void test_picks(void **state) { each_row(check_picks); }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_doubles), cmocka_unit_test(test_functions), cmocka_unit_test(test_gates),
        cmocka_unit_test(test_norms),   cmocka_unit_test(test_rope),      cmocka_unit_test(test_picks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
