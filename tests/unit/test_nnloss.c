/* What crosses samples: the term that keeps pictures of one caption apart. */
#include "workers/models/nn.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

enum { BATCH = 7, X = 6, Z = 3 };

static float x[BATCH * X], z[BATCH * Z];
static const int64_t x_shape[2] = {BATCH, X}, z_shape[2] = {BATCH, Z}, begin[3] = {0, 2, BATCH};

/* Pairs of parts {0, 1} and {2 .. 6}: 0 with 1, 2 with 3, 4 with 5; sample 6 is alone. */
static double gap(const float *t, int row)
{
    static const int pairs[3] = {0, 2, 4};
    double sum = 0;
    for (int p = 0; p < 3; p++)
        for (int i = 0; i < row; i++)
            sum += fabs((double)t[pairs[p] * row + i] - t[(pairs[p] + 1) * row + i]);
    return sum / row;
}

static void setup(struct nn *nn)
{
    unsigned seed = 1;
    for (int i = 0; i < BATCH * (X + Z); i++)
        (i < BATCH * X ? x : z - BATCH * X)[i] =
            (float)((seed = seed * 1664525u + 1013904223u) >> 8) * 0x1p-23f - 1;
    nn_init(nn, kernels_get(ISA_SCALAR), NULL);
    nn_set_parts(nn, 2, begin);
    nn->recording = true;
}

static void mode_seeking(void **state)
{
    (void)state;
    struct nn nn;
    setup(&nn);
    struct nn_tensor *in = nn_input(&nn, x, 2, x_shape);
    in->wants_grad = true;
    struct nn_tensor *y = nn_mode_seeking(&nn, in, nn_input(&nn, z, 2, z_shape));
    double want = 1 / (gap(x, X) / gap(z, Z) + 1e-5);
    assert_true(fabs(y->data[0] - want) < 1e-6 * want);
    nn_backward(&nn, y, 3);
    for (int i = 0; i < BATCH * X; i++) {
        float kept = x[i];
        double side[2];
        for (int s = 0; s < 2; s++) {
            x[i] = kept + (s == 0 ? 1e-3f : -1e-3f);
            side[s] = 1 / (gap(x, X) / gap(z, Z) + 1e-5);
        }
        double slope = 3 * (side[0] - side[1]) / ((double)(kept + 1e-3f) - (double)(kept - 1e-3f));
        x[i] = kept;
        assert_true(fabs(in->grad[i] - slope) < 1e-4);
        assert_true(i >= (BATCH - 1) * X ? in->grad[i] == 0 : in->grad[i] != 0);
    }
    nn_free(&nn);
}

/* Equal pictures: large, but a number. */
static void all_alike(void **state)
{
    (void)state;
    struct nn nn;
    setup(&nn);
    for (int i = 0; i < BATCH * X; i++)
        x[i] = 0.5f;
    struct nn_tensor *y = nn_mode_seeking(&nn, nn_input(&nn, x, 2, x_shape), nn_input(&nn, z, 2, z_shape));
    assert_true(isfinite(y->data[0]) && y->data[0] > 9e4f);
    nn_free(&nn);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(mode_seeking), cmocka_unit_test(all_alike)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
