/* A convolution beside a change of size as one: values and all gradients as of the two ops in a row. */
#include "workers/models/nn.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/unit/near.h"

enum { BATCH = 3, IN = 4, OUT = 5, SIDE = 6, BIG = 2 * SIDE };

static float x[BATCH * IN * BIG * BIG], w[OUT * IN * 9], b[OUT];

static void fill(float *v, int n, unsigned seed)
{
    for (int i = 0; i < n; i++)
        v[i] = (float)((seed = seed * 1664525u + 1013904223u) >> 8) * 0x1p-23f - 1;
}

/* Gradients of sum(y^2) / 2 by ops in a row or as one; each part's. */
struct result { struct nn_tensor *y, *x, *w, *b; };

static struct result run(struct nn *nn, bool up, bool one)
{
    int64_t side = up ? SIDE : BIG;
    nn->last = NULL;        /* what ran before is not gone through again */
    struct result r = {.x = nn_input(nn, x, 4, (const int64_t[]){BATCH, IN, side, side}),
                       .w = nn_param(nn, w, 4, (const int64_t[]){OUT, IN, 3, 3}),
                       .b = nn_param(nn, b, 1, (const int64_t[]){OUT})};
    r.x->wants_grad = true;
    if (one)
        r.y = up ? nn_up2_conv3(nn, r.x, r.w, r.b) : nn_conv3_pool2(nn, r.x, r.w, r.b);
    else if (up)
        r.y = nn_conv2d(nn, nn_upsample_nearest2(nn, r.x), r.w, r.b, 1, 1, 1);
    else
        r.y = nn_avg_pool2(nn, nn_conv2d(nn, r.x, r.w, r.b, 1, 1, 1));
    nn_backward(nn, nn_mse(nn, r.y, nn_scale(nn, r.y, 0)), 7);
    return r;
}

static double limit = 3e-6;     /* of the largest number */

static void one_is_two(void **state)
{
    (void)state;
    struct nn nn;
    nn_init(&nn, kernels_get(ISA_SCALAR), NULL);
    nn_set_parts(&nn, 2, (const int64_t[]){0, 1, BATCH});
    fill(x, BATCH * IN * BIG * BIG, 1);
    fill(w, OUT * IN * 9, 2);
    fill(b, OUT, 3);
    for (int up = 0; up < 2; up++) {
        nn_reset(&nn);
        nn.recording = true;
        struct result a = run(&nn, up, false);
        struct result c = run(&nn, up, true);
        assert_int_equal(a.y->n, c.y->n);
        near_line(c.y->data, a.y->data, a.y->n, limit);
        near_line(c.x->grad, a.x->grad, a.x->n, limit);
        near_line(c.w->grad, a.w->grad, 2 * a.w->n, limit);
        near_line(c.b->grad, a.b->grad, 2 * a.b->n, limit);
    }
    nn_free(&nn);
}

/* Products of bfloat16 numbers (8 bits), sums of f32: near those of f32, and not the same. */
static void half_is_near(void **state)
{
    (void)state;
    struct nn nn;
    if (!isa_has_bf16())
        skip();
    nn_init(&nn, kernels_get(ISA_SCALAR), NULL);
    nn_set_parts(&nn, 2, (const int64_t[]){0, 1, BATCH});
    limit = 2e-2;
    for (int up = 0; up < 2; up++) {
        nn_reset(&nn);
        nn.recording = true;
        nn.half = false;
        struct result a = run(&nn, up, true);
        nn.half = true;
        struct result c = run(&nn, up, true);
        near_line(c.y->data, a.y->data, a.y->n, limit);
        near_line(c.x->grad, a.x->grad, a.x->n, limit);
        near_line(c.w->grad, a.w->grad, 2 * a.w->n, limit);
        assert_memory_not_equal(c.y->data, a.y->data, (size_t)a.y->n * sizeof(float));
    }
    limit = 3e-6;
    nn_free(&nn);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(one_is_two), cmocka_unit_test(half_is_near)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
