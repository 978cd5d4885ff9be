/* Attention of texts that share a sequence but do not see each other: as if each had one of its own. */
#include "workers/models/nn.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

enum { HEADS = 4, KV = 2, LENGTH = 9, D = 8, TEXTS = 3,
       Q_NUMBERS = HEADS * LENGTH * D, KV_NUMBERS = KV * LENGTH * D };

static const int starts[TEXTS + 1] = {0, 1, 6, LENGTH};

struct case_of { float q[Q_NUMBERS], k[KV_NUMBERS], v[KV_NUMBERS], y[Q_NUMBERS], slope[3][Q_NUMBERS]; };

/* Rows [begin, end) of every head, of `from` [heads, LENGTH, D] as [heads, end - begin, D], or back. */
static void cut(float *part, float *all, int heads, int begin, int end, bool back)
{
    for (int h = 0; h < heads; h++) {
        float *a = part + h * (end - begin) * D, *b = all + (h * LENGTH + begin) * D;
        memcpy(back ? b : a, back ? a : b, (size_t)(end - begin) * D * sizeof *a);
    }
}

/* Attention over rows [begin, end) into y and slope of c; the loss: the sum of squares of what comes out. */
static void attend(struct nn *nn, struct case_of *c, int begin, int end, const int32_t *first)
{
    static float part[4][Q_NUMBERS];
    const int64_t q_shape[4] = {1, HEADS, end - begin, D}, kv_shape[4] = {1, KV, end - begin, D};
    float *const all[3] = {c->q, c->k, c->v};
    struct nn_tensor *in[3];
    nn_reset(nn);
    nn_set_parts(nn, 1, (const int64_t[]){0, 1});
    nn->recording = true;
    for (int i = 0; i < 3; i++) {
        cut(part[i], all[i], i == 0 ? HEADS : KV, begin, end, false);
        in[i] = nn_input(nn, part[i], 4, i == 0 ? q_shape : kv_shape);
        in[i]->wants_grad = true;
    }
    struct nn_tensor *y = first != NULL ? nn_attention_since(nn, in[0], in[1], in[2], first)
                                        : nn_attention(nn, in[0], in[1], in[2], true, NULL);
    memset(part[3], 0, sizeof part[3]);
    struct nn_tensor *loss = nn_mse(nn, y, nn_input(nn, part[3], 4, q_shape));
    cut(y->data, c->y, HEADS, begin, end, true);
    nn_backward(nn, loss, (float)y->n);     /* the mean becomes a sum */
    for (int i = 0; i < 3; i++)
        cut(in[i]->grad, c->slope[i], i == 0 ? HEADS : KV, begin, end, true);
}

static void texts_apart(void **state)
{
    (void)state;
    static struct case_of together, alone;
    struct nn nn;
    int32_t first[LENGTH];
    unsigned seed = 7;
    float *const drawn[3] = {together.q, together.k, together.v};
    for (int k = 0; k < 3; k++)
        for (int i = 0; i < (k == 0 ? Q_NUMBERS : KV_NUMBERS); i++)
            drawn[k][i] = (float)((seed = seed * 1664525u + 1013904223u) >> 8) * 0x1p-22f - 2;
    alone = together;
    nn_init(&nn, kernels_get(ISA_SCALAR), NULL);
    for (int t = 0; t < TEXTS; t++) {
        attend(&nn, &alone, starts[t], starts[t + 1], NULL);
        for (int i = starts[t]; i < starts[t + 1]; i++)
            first[i] = starts[t];
    }
    attend(&nn, &together, 0, LENGTH, first);
    double most = 0;
    for (int i = 0; i < Q_NUMBERS; i++) {
        most = fmax(most, fabs((double)together.y[i] - alone.y[i]));
        for (int k = 0; k < 3; k++)
            most = fmax(most, fabs((double)together.slope[k][i] - alone.slope[k][i]));
    }
    assert_true(most < 1e-5);
    attend(&nn, &together, 0, LENGTH, NULL);        /* and it does make a difference */
    for (int i = 0, differ = 0; i < D; i++) {
        differ += fabs((double)together.y[(LENGTH - 1) * D + i] - alone.y[(LENGTH - 1) * D + i]) > 1e-3;
        assert_true(i < D - 1 || differ > 0);
    }
    nn_free(&nn);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(texts_apart)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
