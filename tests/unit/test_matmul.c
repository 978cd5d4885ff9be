/* matmul: every instruction set gives the numbers of plain C, bit by bit, wherever a row or a column stands
 * and however the pieces of K are shared out. */
#include "workers/kernels/kernels.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/unit/numbers.h"

struct product { int rows, n, k; float *x, *w, *bias, *packed, *out; };

static struct product make(int rows, int n, int k)
{
    struct product p = {rows, n, k, numbers((size_t)rows * (size_t)k), numbers((size_t)n * (size_t)k),
                        numbers((size_t)n), numbers(matmul_packed_floats(n, k)),
                        numbers(12 * (size_t)rows * (size_t)n)};
    matmul_pack(p.packed, p.w, k, n, k);
    return p;
}

static void drop(struct product *p)
{
    free(p->x);
    free(p->w);
    free(p->bias);
    free(p->packed);
    free(p->out);
}

static struct matmul_call call_of(const struct product *p, const struct split_program *prog, const float *bias)
{
    return (struct matmul_call){p->packed, p->n, p->k, prog, bias, p->x, p->k, p->out, p->n,
                                (int64_t)p->rows * p->n};
}

/* As its head says, from the matrix as it came. */
static float expected(const struct product *p, const struct split_program *prog, int r, int c)
{
    float stack[32];
    int top = 0;
    for (int s = 0; s < prog->n_seg; s++) {
        float sum = 0;
        for (int i = prog->seg[s].k_begin; i < prog->seg[s].k_end; i++)
            sum = fmaf(p->x[(size_t)r * (size_t)p->k + (size_t)i], p->w[(size_t)c * (size_t)p->k + (size_t)i], sum);
        stack[top++] = sum;
        for (int f = 0; f < prog->seg[s].folds; f++, top--)
            stack[top - 2] += stack[top - 1];
    }
    return stack[0] + p->bias[c];
}

static void check_shape(int rows, int n, int k, int unit)
{
    struct product p = make(rows, n, k);
    struct split_program progs[2] = {split_whole(k),
                                     split_program_for(k, unit, SPLIT_SEGMENTS, (struct split_range){0, 8})};
    for (int isa = 0; isa <= (int)isa_detect(); isa++)
        for (int i = 0; i < 2; i++) {
            struct matmul_call c = call_of(&p, &progs[i], p.bias);
            memset(p.out, 0xff, (size_t)(rows * n) * sizeof *p.out);
            kernels_get((enum isa)isa)->matmul(&c, 0, rows, 0, matmul_panels(n));
            for (int r = 0; r < rows; r++)
                for (int q = 0; q < n; q++) {
                    float want = expected(&p, &progs[i], r, q);
                    assert_memory_equal(&p.out[r * n + q], &want, sizeof want);
                }
        }
    drop(&p);
}

static void every_shape(void **unused)
{
    (void)unused;
    for (int rows = 1; rows <= 31; rows++)
        check_shape(rows, 40, 96, 32);
    check_shape(88, 128, 128, 32);
    check_shape(5, 1, 7, 3);
    check_shape(130, 33, 64, 32);
    check_shape(2, 96, 300, 32);
}

/* --- pairs of bfloat16 numbers */

/* Columns 2 i and 2 i + 1 in the place of one number. */
static float pair_of(float even, float odd)
{
    uint32_t low, high;
    memcpy(&low, &even, sizeof low);
    memcpy(&high, &odd, sizeof high);
    low = high | low >> 16;
    memcpy(&even, &low, sizeof low);
    return even;
}

static void make_pairs(float *pairs, float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        x[2 * i] = numbers_rounded(x[2 * i]);
        x[2 * i + 1] = numbers_rounded(x[2 * i + 1]);
        pairs[i] = pair_of(x[2 * i], x[2 * i + 1]);
    }
}

static float expected_of_pairs(const struct product *p, const struct split_program *prog, int r, int c)
{
    const float *x = p->x + (size_t)r * (size_t)p->k, *w = p->w + (size_t)c * (size_t)p->k;
    float stack[32];
    int top = 0;
    for (int s = 0; s < prog->n_seg; s++) {
        float sum = 0;
        for (int i = 2 * prog->seg[s].k_begin; i < 2 * prog->seg[s].k_end; i += 2)
            sum = fmaf(x[i], w[i], fmaf(x[i + 1], w[i + 1], sum));
        stack[top++] = sum;
        for (int f = 0; f < prog->seg[s].folds; f++, top--)
            stack[top - 2] += stack[top - 1];
    }
    return stack[0] + p->bias[c];
}

static void check_pairs(int rows, int n, int k)
{
    struct product p = make(rows, n, k);
    float *x = numbers((size_t)rows * (size_t)k / 2), *w = numbers((size_t)n * (size_t)k / 2);
    struct split_program progs[2] = {split_whole(k / 2),
                                     split_program_for(k / 2, 16, SPLIT_SEGMENTS, (struct split_range){0, 8})};
    make_pairs(x, p.x, (size_t)rows * (size_t)k / 2);
    make_pairs(w, p.w, (size_t)n * (size_t)k / 2);
    matmul_pack(p.packed, w, k / 2, n, k / 2);
    for (int isa = 0; isa <= (int)isa_detect(); isa++)
        for (int i = 0; i < 2; i++) {
            struct matmul_call c = call_of(&p, &progs[i], p.bias);
            c.x = x;
            c.k = k / 2;
            c.ldx = k / 2;
            memset(p.out, 0xff, (size_t)(rows * n) * sizeof *p.out);
            kernels_matmul_pairs((enum isa)isa)(&c, 0, rows, 0, matmul_panels(n));
            for (int r = 0; r < rows; r++)
                for (int q = 0; q < n; q++) {
                    float want = expected_of_pairs(&p, &progs[i], r, q);
                    assert_memory_equal(&p.out[r * n + q], &want, sizeof want);
                }
        }
    free(x);
    free(w);
    drop(&p);
}

static void pairs_of_every_shape(void **unused)
{
    (void)unused;
    for (int rows = 1; rows <= 31; rows += 3)
        check_pairs(rows, 40, 96);
    check_pairs(88, 128, 128);
    check_pairs(5, 1, 2);
    check_pairs(130, 33, 512);
}

/* Ranges of rows and panels, one after the other, write what the whole call writes and nothing else. */
static void ranges_of_a_call(void **unused)
{
    (void)unused;
    enum { ROWS = 37, N = 100, K = 64 };
    struct product p = make(ROWS, N, K);
    struct split_program prog = split_whole(K);
    struct matmul_call c = call_of(&p, &prog, NULL);
    matmul_run *run = kernels_get(isa_detect())->matmul;
    float *whole = p.out + ROWS * N;
    run(&c, 0, ROWS, 0, matmul_panels(N));
    memcpy(whole, p.out, ROWS * N * sizeof *whole);
    memset(p.out, 0, ROWS * N * sizeof *whole);
    for (int r = 0; r < ROWS; r += 5)
        for (int q = 0; q < matmul_panels(N); q++)
            run(&c, r, r + 5 < ROWS ? r + 5 : ROWS, q, q + 1);
    assert_memory_equal(whole, p.out, ROWS * N * sizeof *whole);
    drop(&p);
}

/* Pieces of a rank: the sums of the whole, when the ranks' are added as the tree says. */
static void pieces_of_a_rank(void **unused)
{
    (void)unused;
    enum { ROWS = 6, N = 35, K = 256 };
    struct product p = make(ROWS, N, K);
    struct split_program three = split_program_for(K, 32, SPLIT_SEGMENTS, (struct split_range){0, 3});
    matmul_run *run = kernels_get(isa_detect())->matmul;
    struct matmul_call c = call_of(&p, &three, NULL);
    assert_int_equal(three.n_piece, 2);
    run(&c, 0, ROWS, 0, matmul_panels(N));
    for (int piece = 0; piece < 2; piece++) {
        struct split_program one = split_program_for(K, 32, SPLIT_SEGMENTS,
                                                     (struct split_range){piece * 2, 2 + piece});
        for (int s = 0; s < one.n_seg; s++) {
            one.seg[s].k_begin += piece * 64;
            one.seg[s].k_end += piece * 64;
        }
        memset(p.bias, 0, N * sizeof *p.bias);
        for (int r = 0; r < ROWS; r++)
            for (int q = 0; q < N; q++)
                assert_true(expected(&p, &one, r, q) == p.out[(piece * ROWS + r) * N + q]);
    }
    drop(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_shape), cmocka_unit_test(pairs_of_every_shape),
                                       cmocka_unit_test(ranges_of_a_call), cmocka_unit_test(pieces_of_a_rank)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
