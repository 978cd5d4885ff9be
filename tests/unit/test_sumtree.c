/* The tree of sums: its shape for a few groups, and what it adds. */
#include "workers/parallel/sumtree.h"

#include "workers/kernels/kernels.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

static void make_mesh(struct mesh *m, int tp)
{
    memset(m, 0, sizeof *m);
    m->tp = tp;
    m->leaves = split_leaves(tp);
    for (int i = 0; i < tp; i++)
        m->peer_segments[i] = split_even(m->leaves, tp, i);
}

static void test_shape(void **state)
{
    (void)state;
    struct mesh m;
    struct sumtree t;
    /* three ranks: leaves 0-1, 2-4, 5-7; the second owns 2-3 and 4, the third 5 and 6-7 */
    make_mesh(&m, 3);
    assert_int_equal(sumtree_most_pieces(&m), 2);
    sumtree_init(&t, &m, 8 * 32, 32);
    assert_int_equal(t.n_items, 5);
    static const int rank[] = {0, 1, 1, 2, 2}, piece[] = {0, 0, 1, 0, 1}, folds[] = {0, 1, 0, 1, 2};
    for (int i = 0; i < 5; i++) {
        assert_int_equal(t.item[i].rank, rank[i]);
        assert_int_equal(t.item[i].piece, piece[i]);
        assert_int_equal(t.item[i].folds, folds[i]);
    }
    /* one unit: it lies in the last leaf, so two of the ranks have nothing to give */
    sumtree_init(&t, &m, 32, 32);
    assert_int_equal(t.n_items, 1);
    assert_int_equal(t.item[0].rank, 2);
    assert_int_equal(t.n_piece[0] + t.n_piece[1], 0);
    make_mesh(&m, 64);
    sumtree_init(&t, &m, 64 * 32, 32);
    assert_int_equal(t.n_items, 64);
    assert_int_equal(t.item[63].folds, 6);
}

static void test_adds_in_tree_order(void **state)
{
    (void)state;
    enum { N = 2500 };
    static float piece[3][2][N], out[N];
    const float *src[3] = {piece[0][0], piece[1][0], piece[2][0]};
    const int64_t stride[3] = {N, N, N};
    const struct kernels *k = kernels_get(ISA_SCALAR);
    struct mesh m;
    struct sumtree t;
    make_mesh(&m, 3);
    sumtree_init(&t, &m, 8 * 32, 32);
    for (int i = 0; i < N; i++)     /* numbers whose sum depends on the order */
        for (int j = 0; j < 6; j++)
            piece[j / 2][j % 2][i] = (float)(1 << (3 * j)) + (float)((i * 7 + j) % 13) * 0x1p-10f;
    sumtree_add(&t, k->add, out, src, stride, N);
    for (int i = 0; i < N; i++) {
        float left = piece[0][0][i] + piece[1][0][i];
        float right = piece[1][1][i] + piece[2][0][i];
        assert_true(out[i] == left + (right + piece[2][1][i]));
    }
    sumtree_add(&t, k->add, piece[0][0], src, stride, N);       /* in place of a piece */
    assert_memory_equal(piece[0][0], out, sizeof out);
    t.n_items = 0;
    sumtree_add(&t, k->add, out, src, stride, N);
    assert_true(out[0] == 0 && out[N - 1] == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shape),
        cmocka_unit_test(test_adds_in_tree_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
