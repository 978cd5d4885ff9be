/* Channels modulated in one op: values and gradients as of products and sums in a row. */
#include "workers/models/nn.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/unit/near.h"

enum { BATCH = 3, CHANNELS = 4, SIDE = 5, N = BATCH * CHANNELS * SIDE * SIDE };

static float value[3][N];

struct result { struct nn_tensor *y, *in[3]; };

static struct result run(struct nn *nn, bool one)
{
    static const int64_t whole[4] = {BATCH, CHANNELS, SIDE, SIDE}, each[4] = {BATCH, CHANNELS, 1, 1};
    struct result r;
    nn->last = NULL;
    for (int i = 0; i < 3; i++) {
        r.in[i] = nn_input(nn, value[i], 4, i == 0 ? whole : each);
        r.in[i]->wants_grad = true;
    }
    r.y = one ? nn_modulate_channels(nn, r.in[0], r.in[1], r.in[2])
              : nn_add(nn, nn_add(nn, r.in[0], nn_mul(nn, r.in[0], r.in[1])), r.in[2]);
    nn_backward(nn, nn_mse(nn, r.y, nn_scale(nn, r.y, 0)), 7);
    return r;
}

static void one_is_three(void **state)
{
    (void)state;
    struct nn nn;
    unsigned seed = 1;
    nn_init(&nn, kernels_get(ISA_SCALAR), NULL);
    nn_set_parts(&nn, 2, (const int64_t[]){0, 1, BATCH});
    for (int i = 0; i < 3 * N; i++)
        value[i / N][i % N] = (float)((seed = seed * 1664525u + 1013904223u) >> 8) * 0x1p-23f - 1;
    nn.recording = true;
    struct result a = run(&nn, false), b = run(&nn, true);
    near_line(b.y->data, a.y->data, N, 3e-6);
    for (int i = 0; i < 3; i++)
        near_line(b.in[i]->grad, a.in[i]->grad, a.in[i]->n, 3e-6);
    nn_free(&nn);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(one_is_three)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
