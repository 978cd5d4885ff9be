/* The cut of K: every element once, and the same sum tree for every number of ranks. */
#include "proto/split.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

/* A sum written as text: two orders of addition are equal only if their texts are. */
struct text { char s[2048]; };

static void run_program(const struct split_program *p, int k_origin, struct text *stack, int *height)
{
    for (int i = 0; i < p->n_seg; i++) {
        snprintf(stack[(*height)++].s, sizeof stack->s, "%d-%d", p->seg[i].k_begin + k_origin,
                 p->seg[i].k_end + k_origin);
        for (int f = 0; f < p->seg[i].folds; f++) {
            struct text sum;
            (*height)--;
            snprintf(sum.s, sizeof sum.s, "(%.1000s+%.1000s)", stack[*height - 1].s,
                     stack[*height].s);
            stack[*height - 1] = sum;
        }
    }
}

/* Sums pieces of all ranks by the tree, as reduce does. */
static int combine(int first, int last, int *at, const int (*piece)[2], struct text *stack, int n,
                   struct text *out)
{
    if (*at < n && piece[*at][0] == first && piece[*at][1] == last) {
        *out = stack[(*at)++];
        return 1;
    }
    if (last - first == 1)
        return 0;
    struct text a, b;
    int mid = (first + last) / 2, l = combine(first, mid, at, piece, stack, n, &a);
    int r = combine(mid, last, at, piece, stack, n, &b);
    if (l && r)
        snprintf(out->s, sizeof out->s, "(%.1000s+%.1000s)", a.s, b.s);
    else
        *out = l ? a : b;
    return l || r;
}

static void check_tree_is_the_same(int n, int unit)
{
    struct split_program whole =
        split_program_for(n, unit, SPLIT_SEGMENTS, (struct split_range){0, SPLIT_SEGMENTS});
    struct text expect[SPLIT_SEGMENTS_MAX];
    int height = 0;
    run_program(&whole, 0, expect, &height);
    assert_int_equal(height, 1);
    assert_int_equal(whole.n_piece, 1);
    for (int tp = 1; tp <= 8; tp++) {
        struct text stack[SPLIT_SEGMENTS_MAX], sum;
        int piece[SPLIT_SEGMENTS_MAX][2], n_piece = 0, covered = 0, at = 0;
        for (int r = 0; r < tp; r++) {
            struct split_range segs = split_even(SPLIT_SEGMENTS, tp, r);
            struct split_range own = split_owned(n, unit, SPLIT_SEGMENTS, segs);
            struct split_program p = split_program_for(n, unit, SPLIT_SEGMENTS, segs);
            int h = n_piece;
            run_program(&p, own.begin, stack, &h);
            assert_int_equal(h - n_piece, p.n_piece);
            for (int i = 0; i < p.n_piece; i++) {
                piece[n_piece][0] = p.piece[i].first;
                piece[n_piece++][1] = p.piece[i].last;
            }
            covered += own.end - own.begin;
        }
        assert_int_equal(covered, n);
        assert_int_equal(combine(0, SPLIT_SEGMENTS, &at, (const int(*)[2])piece, stack, n_piece,
                                 &sum), 1);
        assert_string_equal(sum.s, expect[0].s);
    }
}

static void test_tree_is_the_same_for_every_tp(void **state)
{
    (void)state;
    static const int ns[][2] = {{2048, 64}, {5632, 32}, {172, 32}, {64, 32}, {576, 64}, {32, 32},
                                {176, 32}, {20, 32}};
    for (size_t i = 0; i < sizeof ns / sizeof *ns; i++)
        check_tree_is_the_same(ns[i][0], ns[i][1]);
}

static void test_head_unit(void **state)
{
    (void)state;
    assert_int_equal(split_head_unit(64), 1);
    assert_int_equal(split_head_unit(16), 2);
    assert_int_equal(split_head_unit(8), 4);
    assert_int_equal(split_head_unit(80), 2);
}

static void test_more_ranks_than_leaves(void **state)
{
    (void)state;
    assert_int_equal(split_leaves(8), 8);
    assert_int_equal(split_leaves(9), 16);
    for (int r = 0, end = 0; r < 11; r++) {
        struct split_range s = split_even(split_leaves(11), 11, r);
        assert_int_equal(s.begin, end);
        end = s.end;
        if (r == 10)
            assert_int_equal(end, 16);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tree_is_the_same_for_every_tp),
        cmocka_unit_test(test_head_unit),
        cmocka_unit_test(test_more_ranks_than_leaves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
