/* Packed linear layers: every form gives the product of its (rounded) numbers, in pieces too; a row's bits
 * depend neither on the rows beside it nor on threads; bfloat16 numbers stay near the f32 ones. */
#include "workers/models/nn.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/unit/numbers.h"

enum { ROWS_MAX = 500, FORMS = 3 };

struct layer { int rows, n, k; float *x, *w, *bias, *out; };

static struct layer make(int rows, int n, int k)
{
    size_t r = (size_t)rows, c = (size_t)n, d = (size_t)k;
    return (struct layer){rows, n, k, numbers(r * d), numbers(c * d), numbers(c), numbers(r * c)};
}

static void drop(struct layer *l)
{
    free(l->x);
    free(l->w);
    free(l->bias);
    free(l->out);
}

struct job { struct nn *nn; const struct nn_packed *w; const struct layer *l; const struct split_program *prog; };

static void multiply(void *ctx)
{
    const struct job *j = ctx;
    nn_packed_product(j->nn, j->w, j->prog, j->l->bias, j->l->x, j->l->rows, j->l->out, 0);
}

static void product(const struct layer *l, enum nn_form form, const struct split_program *prog, int threads)
{
    struct nn nn;
    struct team team;
    struct nn_packed w;
    struct err err = {0};
    team_init(&team, threads);
    nn_init(&nn, kernels_get(isa_detect()), &team);
    assert_int_equal(nn_pack(&w, l->w, l->n, l->k, form, &err), ERR_OK);
    struct job j = {&nn, &w, l, prog};
    memset(l->out, 0xff, (size_t)l->rows * (size_t)l->n * sizeof *l->out);
    team_enter(&team, multiply, &j);
    nn_packed_free(&w);
    nn_packed_free(&w);
    nn_free(&nn);
}

/* Largest distance from the product in double, of rounded numbers or not. */
static double distance(const struct layer *l, bool of_rounded)
{
    double worst = 0;
    for (int r = 0; r < l->rows; r++)
        for (int c = 0; c < l->n; c++) {
            double sum = l->bias[c];
            for (int i = 0; i < l->k; i++) {
                float x = l->x[(size_t)r * (size_t)l->k + (size_t)i];
                float w = l->w[(size_t)c * (size_t)l->k + (size_t)i];
                sum += of_rounded ? (double)numbers_rounded(x) * numbers_rounded(w) : (double)x * w;
            }
            worst = fmax(worst, fabs(sum - l->out[(size_t)r * (size_t)l->n + (size_t)c]));
        }
    return worst;
}

/* Numbers of -1 to 1: a rounded product is off by 2^-8 / 3 or so, k of them by the root of k times that. */
static void check(int rows, int n, int k, int unit)
{
    struct layer l = make(rows, n, k);
    struct split_program cut = split_program_for(k, unit, SPLIT_SEGMENTS, (struct split_range){0, 8});
    for (int form = 0; form < FORMS; form++)
        for (int i = 0; i < 2; i++) {
            product(&l, (enum nn_form)form, i == 0 ? NULL : &cut, 1);
            assert_true(distance(&l, form != NN_FORM_F32) < 1e-6 * k);
            assert_true(distance(&l, false) < 4e-3 * sqrt(k));
            assert_true(form == NN_FORM_F32 || k < 32 || distance(&l, false) > 1e-5);
        }
    drop(&l);
}

static void every_form(void **unused)
{
    (void)unused;
    check(1, 40, 96, 32);
    check(3, 33, 64, 32);
    check(20, 128, 128, 32);
    check(5, 7, 31, 32);
    check(230, 48, 160, 32);
    check(2, 70, 257, 32);
}

static void rows_and_threads(void **unused)
{
    (void)unused;
    for (int form = 0; form < FORMS; form++) {
        struct layer l = make(ROWS_MAX, 72, 192);
        size_t row = (size_t)l.n;
        product(&l, (enum nn_form)form, NULL, 1);
        float *want = l.out;
        l.out = numbers(ROWS_MAX * row);
        for (int threads = 2; threads <= 3; threads++) {
            product(&l, (enum nn_form)form, NULL, threads);
            assert_memory_equal(l.out, want, ROWS_MAX * row * sizeof *want);
        }
        for (int at = 0; at < ROWS_MAX; at += 37) {
            struct layer one = l;
            one.x = l.x + (size_t)at * (size_t)l.k;
            one.rows = at % 2 ? 1 : 13;
            product(&one, (enum nn_form)form, NULL, 2);
            assert_memory_equal(one.out, want + (size_t)at * row, (size_t)one.rows * row * sizeof *want);
        }
        free(want);
        drop(&l);
    }
}

static void form_of_a_context(void **unused)
{
    (void)unused;
    struct nn nn;
    nn_init(&nn, kernels_get(isa_detect()), NULL);
    assert_int_equal(nn_form(&nn), NN_FORM_F32);
    nn.half = true;
    assert_int_equal(nn_form(&nn), isa_detect() == ISA_AMX ? NN_FORM_TILES : NN_FORM_PAIRS);
    nn_free(&nn);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_form), cmocka_unit_test(rows_and_threads),
                                       cmocka_unit_test(form_of_a_context)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
