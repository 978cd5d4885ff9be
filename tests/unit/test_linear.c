/* Products of every weight type on every instruction set of this machine: the dequantised weights'
 * values within the family's bound, and the same bits however rows, panels and threads are cut. */
#include "tests/linear_blocks.h"
#include "workers/kernels/linear_format.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

enum { N_OUT = 50, ROWS = 100, K_QUANT = 768, K_PLAIN = 172, FIRST_SEG = 1, LAST_SEG = 6 };

/* A matrix cut by column as a tensor-parallel rank holds it, its values and some x. */
struct fixture {
    enum dtype type;
    struct linear l;
    uint8_t *packed;
    float *w;                   /* [N_OUT][k] */
    float *x;                   /* [ROWS][k] */
    double *expect;             /* [ROWS][N_OUT] */
    struct split_program uneven;
};

static void *aligned(size_t n)
{
    void *p = aligned_alloc(64, (n + 63) & ~(size_t)63);
    assert_non_null(p);
    return p;
}

static bool is_weight(int type)
{
    const struct dtype_info *info = dtype_info(type);
    return info && info->dequantise && linear_format((enum dtype)type).layout != LAYOUT_NONE;
}
static bool is_plain(enum dtype type) { return dtype_info(type)->block == 1; }

static void fixture_expect(struct fixture *f)
{
    f->expect = malloc(sizeof *f->expect * ROWS * N_OUT);
    for (int r = 0; r < ROWS; r++)
        for (int o = 0; o < N_OUT; o++) {
            double sum = 0;
            for (int i = 0; i < f->l.k; i++)
                sum += (double)f->w[o * f->l.k + i] * (double)f->x[r * f->l.k + i];
            f->expect[r * N_OUT + o] = sum;
        }
}

static struct fixture fixture_make(enum dtype type)
{
    const struct dtype_info *info = dtype_info(type);
    int n = is_plain(type) ? K_PLAIN : K_QUANT, block = info->block;
    struct split_range segs = {FIRST_SEG, is_plain(type) ? 8 : LAST_SEG};
    struct split_range own = split_owned(n, 32, 8, segs);
    struct fixture f = {.type = type, .uneven = split_program_for(n, 32, 8, segs)};
    f.l = (struct linear){.type = type, .n_out = N_OUT, .k = own.end - own.begin,
                          .k_origin = own.begin};
    size_t stride = dtype_bytes(type, n);
    uint8_t *src = malloc(stride * N_OUT);
    float *whole = malloc(sizeof *whole * (size_t)n);
    uint64_t seed = 77 + (uint64_t)type;
    blocks_fill(type, src, (int64_t)n * N_OUT, &seed);
    size_t bytes = linear_packed_bytes(type, N_OUT, f.l.k, f.l.k_origin);
    f.l.packed = f.packed = aligned(bytes);
    memset(f.packed, 0xff, bytes);      /* lanes of no row must be cleared by packing */
    const uint8_t *cut = src + dtype_bytes(type, own.begin / block * block);
    struct err err = {0};
    assert_int_equal(linear_pack(&f.l, 0, 17, cut, stride, &err), ERR_OK);
    assert_int_equal(linear_pack(&f.l, 17, N_OUT - 17, cut + 17 * stride, stride, &err), ERR_OK);
    f.w = malloc(sizeof *f.w * N_OUT * (size_t)f.l.k);
    for (int o = 0; o < N_OUT; o++) {
        info->dequantise(whole, src + (size_t)o * stride, n);
        memcpy(f.w + o * f.l.k, whole + own.begin, sizeof *whole * (size_t)f.l.k);
    }
    f.x = malloc(sizeof *f.x * ROWS * (size_t)f.l.k);
    for (int i = 0; i < ROWS * f.l.k; i++)
        f.x[i] = blocks_normal(&seed) * (i % 37 == 0 ? 8 : 1);
    fixture_expect(&f);
    free(src);
    free(whole);
    return f;
}

static void fixture_free(struct fixture *f)
{
    free(f->packed);
    free(f->w);
    free(f->x);
    free(f->expect);
}

/* out [n_piece][n_rows][N_OUT] of rows [r0, r0 + n_rows), x prepared and panels run in odd
 * parts. */
static void product(const struct fixture *f, enum isa isa, enum compute compute, enum role role,
                    const struct split_program *prog, int r0, int n_rows, float *out)
{
    const struct linear *l = &f->l;
    void *xq = aligned(linear_x_bytes(l, isa, compute, role, n_rows, l->k));
    void *scratch = aligned(linear_scratch_bytes(isa, compute, role, n_rows, l->k));
    const float *x = f->x + r0 * l->k;
    int cut = n_rows / 3, panels = (N_OUT + LINEAR_PANEL - 1) / LINEAR_PANEL;
    linear_x_prepare(l, isa, compute, role, xq, x, l->k, n_rows, l->k, cut, n_rows);
    linear_x_prepare(l, isa, compute, role, xq, x, l->k, n_rows, l->k, 0, cut);
    int border = n_rows % 2 ? 0 : 1 + n_rows % 3;
    linear_run(l, isa, compute, role, prog, out, N_OUT, n_rows * N_OUT, xq, n_rows, border, panels,
               scratch);
    if (border)
        linear_run(l, isa, compute, role, prog, out, N_OUT, n_rows * N_OUT, xq, n_rows, 0, border,
                   scratch);
    free(xq);
    free(scratch);
}

static double nmse(const float *got, const double *expect, int n)
{
    double error = 0, power = 0;
    for (int i = 0; i < n; i++) {
        error += (got[i] - expect[i]) * (got[i] - expect[i]);
        power += expect[i] * expect[i];
    }
    return error / power;
}

/* Bounds measured on these fixtures, with a factor of 2 to 4. */
static double bound(int family)
{
    switch (family) {
    case FAMILY_Q8:
        return 4e-4;
    case FAMILY_BF16:
    case FAMILY_TILES:
        return 2e-5;
    default:
        return 1e-12;
    }
}

struct way { enum isa isa; enum compute compute; enum role role; };

static void check_bits(const float *a, const float *b, int n, const char *what,
                       const struct fixture *f, struct way way, int rows)
{
    if (!memcmp(a, b, sizeof *a * (size_t)n))
        return;
    fail_msg("%s: %s on %s, role %d, compute %d, %d rows: other bits", what,
             dtype_info((int)f->type)->name, isa_name(way.isa), way.role, way.compute, rows);
}

/* One way of multiplying: right, and every row the same for any number of rows. */
static void check_way(const struct fixture *f, struct way way, int most)
{
    static const int counts[] = {1, 2, 3, 16, 17, 64, ROWS};
    struct split_program whole = split_whole(f->l.k);
    struct split_program eight = split_program_for(f->l.k, 32, 8, (struct split_range){0, 8});
    const struct split_program *progs[] = {&whole, &eight, &f->uneven};
    int family = linear_family(f->type, way.isa, way.compute, way.role);
    for (int p = 0; p < 3; p++) {
        int pieces = progs[p]->n_piece, n = pieces * most * N_OUT;
        float *all = malloc(sizeof *all * (size_t)n), *some = malloc(sizeof *some * (size_t)n);
        product(f, way.isa, way.compute, way.role, progs[p], 0, most, all);
        float *sum = malloc(sizeof *sum * (size_t)(most * N_OUT));
        for (int i = 0; i < most * N_OUT; i++) {
            sum[i] = 0;
            for (int j = 0; j < pieces; j++)
                sum[i] += all[j * most * N_OUT + i];
        }
        double error = nmse(sum, f->expect, most * N_OUT);
        if (!(error <= bound(family)))
            fail_msg("%s on %s, role %d, compute %d, program %d: NMSE %g",
                     dtype_info((int)f->type)->name, isa_name(way.isa), way.role, way.compute, p,
                     error);
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
            int rows = counts[c], r0 = rows < most ? (most - rows) / 2 : 0;
            if (rows >= most)
                continue;
            product(f, way.isa, way.compute, way.role, progs[p], r0, rows, some);
            for (int j = 0; j < pieces; j++)
                check_bits(some + j * rows * N_OUT, all + (j * most + r0) * N_OUT, rows * N_OUT,
                           "row count", f, way, rows);
        }
        free(all);
        free(some);
        free(sum);
    }
}

/* Integer and f32 rows do the plain C row's operations: the same bits on every instruction set. */
static void check_against_plain(const struct fixture *f, struct way way)
{
    float got[2][3 * 5 * N_OUT];
    struct way plain = {ISA_SCALAR, way.compute, way.role};
    int family = linear_family(f->type, way.isa, way.compute, way.role);
    if (family != linear_family(f->type, ISA_SCALAR, way.compute, way.role))
        return;
    assert_true(f->uneven.n_piece <= 3);
    product(f, way.isa, way.compute, way.role, &f->uneven, 3, 5, got[0]);
    product(f, ISA_SCALAR, plain.compute, plain.role, &f->uneven, 3, 5, got[1]);
    check_bits(got[0], got[1], f->uneven.n_piece * 5 * N_OUT, "plain C", f, way, 5);
}

static void check_rows(const struct fixture *f)
{
    float row[K_QUANT];
    for (int o = 0; o < N_OUT; o++) {
        linear_row(&f->l, o, row);
        assert_memory_equal(row, f->w + o * f->l.k, sizeof *row * (size_t)f->l.k);
    }
}

static void test_every_type(void **state)
{
    (void)state;
    enum isa best = isa_detect();
    char refused[256];
    assert_int_equal(linear_self_check(best, refused, sizeof refused), 0);
    for (int type = 0; type < DT_MAX; type++) {
        if (!is_weight(type))
            continue;
        struct fixture f = fixture_make((enum dtype)type);
        check_rows(&f);
        for (int isa = 0; isa <= (int)best; isa++)
            for (int compute = COMPUTE_DEFAULT; compute <= COMPUTE_F32; compute++)
                for (int role = 0; role < 2; role++) {
                    struct way way = {(enum isa)isa, (enum compute)compute, (enum role)role};
                    bool slow = isa == ISA_SCALAR || linear_format(f.type).layout == LAYOUT_FILE;
                    if (isa == ISA_SCALAR && role == 0)     /* one family for both roles */
                        continue;
                    check_way(&f, way, slow ? 3 : ROWS);
                    check_against_plain(&f, way);
                }
        fixture_free(&f);
    }
}

/* The row for processors with fast bf16 pairs, wherever the instruction exists at all. */
static void test_bf16_pairs(void **state)
{
    (void)state;
    if (!isa_has_bf16())
        skip();
    struct fixture f = fixture_make(DT_BF16);
    struct linear_panel w = linear_panel_at(&f.l, 0, 0);
    size_t xs = linear_x_stride(FAMILY_BF16, f.l.k);
    uint8_t *x = aligned(xs * 15);
    float got[2][15 * 32];
    for (int r = 0; r < 15; r++)
        linear_kernels_plain.prepare_bf16(x + (size_t)r * xs, sizeof(struct linear_xpairs),
                                          f.x + r * f.l.k, f.l.k);
    for (int i = 0; i < 15 * 32; i++)
        got[0][i] = got[1][i] = (float)i;
    linear_kernels_plain.dot_bf16((const uint16_t *)w.q, linear_blocks(f.l.k), 0, x, xs, 15,
                                  got[0]);
    linear_dot_bf16_avx512bf16((const uint16_t *)w.q, linear_blocks(f.l.k), 0, x, xs, 15, got[1]);
    assert_memory_equal(got[0], got[1], sizeof got[0]);
    free(x);
    fixture_free(&f);
}

static void test_sizes_stay_near_the_file(void **state)
{
    (void)state;
    for (int type = 0; type < DT_MAX; type++)
        if (is_weight(type)) {
            double file = (double)dtype_bytes((enum dtype)type, 2048) * 4096;
            double packed = (double)linear_packed_bytes((enum dtype)type, 4096, 2048, 0);
            assert_true(packed >= file && packed <= 1.04 * file);
        }
}

static void test_nan_scales_are_refused(void **state)
{
    (void)state;
    for (int type = 0; type < DT_MAX; type++) {
        if (!is_weight(type) || type == DT_IQ1_M || type == DT_NVFP4 || type == DT_F8_E4M3 ||
            type == DT_F8_E5M2 || type == DT_F64)
            continue;       /* their scales or numbers are no plain f16 */
        uint8_t src[2048], *packed;
        uint64_t seed = 5;
        struct err err = {0};
        struct linear l = {.type = (enum dtype)type, .n_out = 1, .k = 256};
        blocks_fill(l.type, src, 256, &seed);
        packed = l.packed = aligned(linear_packed_bytes(l.type, 1, 256, 0));
        assert_int_equal(linear_pack(&l, 0, 1, src, 0, &err), ERR_OK);
        int at[3], bytes = dtype_info(type)->bytes;
        blocks_scales_at(l.type, at);
        uint8_t *last = src + (256 / dtype_info(type)->block - 1) * bytes + at[at[1] >= 0 ? 1 : 0];
        if (type == DT_MXFP4)
            *last = 255;
        else
            memset(last, 0xff, type == DT_F32 ? 4 : 2);
        assert_int_equal(linear_pack(&l, 0, 1, src, 0, &err), ERR_FORMAT);
        assert_non_null(strstr(err.msg, "NaN"));
        free(packed);
    }
}

/* Roles are one where one kernel serves both. */
static void test_family_says_whether_roles_differ(void **state)
{
    (void)state;
    for (int isa = 0; isa < ISA_AMX; isa++)
        assert_int_equal(
            linear_family(DT_Q4_K, (enum isa)isa, COMPUTE_DEFAULT, ROLE_KIND_PROMPT),
            linear_family(DT_Q4_K, (enum isa)isa, COMPUTE_DEFAULT, ROLE_KIND_GENERATED));
    assert_int_equal(linear_family(DT_Q8_0, ISA_AVX2, COMPUTE_DEFAULT, ROLE_KIND_PROMPT),
                     linear_family(DT_Q4_0, ISA_AVX2, COMPUTE_DEFAULT, ROLE_KIND_GENERATED));
    assert_int_not_equal(linear_family(DT_Q8_0, ISA_AVX2, COMPUTE_DEFAULT, ROLE_KIND_PROMPT),
                         linear_family(DT_F32, ISA_AVX2, COMPUTE_DEFAULT, ROLE_KIND_PROMPT));
}

/* A block of zeros, a huge number and a NaN: defined results, the neighbours untouched. */
static void test_odd_activations(void **state)
{
    (void)state;
    enum isa best = isa_detect();
    struct fixture f = fixture_make(DT_Q4_1);
    float clean[3 * N_OUT], odd[3 * N_OUT];
    product(&f, ISA_SCALAR, COMPUTE_DEFAULT, ROLE_KIND_GENERATED, &f.uneven, 1, 1, clean);
    memset(f.x, 0, 32 * sizeof *f.x);
    f.x[40] = NAN;
    f.x[80] = INFINITY;
    f.x[120] = 1e-38f;
    for (int isa = 0; isa <= (int)best; isa++) {
        product(&f, (enum isa)isa, COMPUTE_DEFAULT, ROLE_KIND_GENERATED, &f.uneven, 0, 1, odd);
        product(&f, (enum isa)isa, COMPUTE_DEFAULT, ROLE_KIND_GENERATED, &f.uneven, 1, 1, odd);
        assert_memory_equal(odd, clean, sizeof *odd * (size_t)(f.uneven.n_piece * N_OUT));
    }
    fixture_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_type),
        cmocka_unit_test(test_bf16_pairs),
        cmocka_unit_test(test_sizes_stay_near_the_file),
        cmocka_unit_test(test_nan_scales_are_refused),
        cmocka_unit_test(test_family_says_whether_roles_differ),
        cmocka_unit_test(test_odd_activations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
