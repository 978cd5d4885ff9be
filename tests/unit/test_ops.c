/* Ops on views: what each computes, roles that share a step, and that a tape takes every op over.
 * Routing of experts; a mixture of experts against plain loops. */
#include "workers/models/moe.h"
#include "workers/models/ops.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/unit/near.h"

enum { DIM = 96, OUT = 70, ROWS = 9, EXPERTS = 5, USED = 2, FFN = 64 };

static struct arena arena;
static struct team team;
static struct ops ops;

static float noise(unsigned *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (float)(*seed >> 8) / 8388608.0f - 1.0f;
}

static void fill(float *x, int64_t n, unsigned seed)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = noise(&seed);
}

/* An F32 matrix [n_out, k], packed; values [n_out][k] are left in *plain. */
static struct linear matrix(int n_out, int k, unsigned seed, float **plain)
{
    struct linear l = {.type = DT_F32, .n_out = n_out, .k = k};
    struct err err = {0};
    *plain = malloc(sizeof(float) * (size_t)n_out * (size_t)k);
    fill(*plain, (int64_t)n_out * k, seed);
    l.packed = aligned_alloc(64, (linear_packed_bytes(DT_F32, n_out, k, 0) + 63) / 64 * 64);
    assert_int_equal(linear_pack(&l, 0, n_out, (const uint8_t *)*plain, sizeof(float) * (size_t)k, &err),
                     ERR_OK);
    return l;
}

static int setup(void **state)
{
    assert_int_equal(arena_init(&arena, 8 << 20), ERR_OK);
    team_init(&team, 2);
    ops = (struct ops){.isa = isa_detect(), .compute = COMPUTE_F32, .scratch = &arena, .team = &team};
    ops.kernels = kernels_get(ops.isa);
    ops.thread_scratch_bytes = ops_thread_scratch(ops.isa, ops.compute, ROWS, DIM, 64) + (1 << 20);
    ops.thread_scratch = aligned_alloc(4096, ops.thread_scratch_bytes * 2);
    return 0;
}

static int teardown(void **state)
{
    arena_free(&arena);
    free(ops.thread_scratch);
    return 0;
}

static double dot(const float *a, const float *b, int n)
{
    double s = 0;
    for (int i = 0; i < n; i++)
        s += (double)a[i] * b[i];
    return s;
}

static void near(double got, double want) { near_number(got, want, 1e-5 * (1 + fabs(want))); }

static void run_linear(void *arg) { op_linear(&ops, arg); }

static void test_linear(void **state)
{
    float *w[2], bias[OUT], *x = malloc(sizeof(float) * ROWS * DIM), y[2][ROWS * 80];
    struct linear l[2] = {matrix(OUT, DIM, 1, &w[0]), matrix(33, DIM, 2, &w[1])};
    fill(x, ROWS * DIM, 3);
    fill(bias, OUT, 4);
    struct op_product p[2] = {{&l[0], {y[0], ROWS, OUT, 80}, bias}, {&l[1], tensor_of(y[1], ROWS, 33), NULL}};
    for (int n_prompt = 0; n_prompt <= ROWS; n_prompt += 3) {
        struct op_linear a = {.x = tensor_of(x, ROWS, DIM), .n_prompt = n_prompt, .product = p,
                              .n_products = 2};
        memset(y, 0, sizeof y);
        team_enter(&team, run_linear, &a);
        for (int r = 0; r < ROWS; r++) {
            for (int i = 0; i < OUT; i++)
                near(y[0][r * 80 + i], dot(x + r * DIM, w[0] + i * DIM, DIM) + bias[i]);
            for (int i = 0; i < 33; i++)
                near(y[1][r * 33 + i], dot(x + r * DIM, w[1] + i * DIM, DIM));
            assert_true(y[0][r * 80 + OUT] == 0);       /* the view's gap is left alone */
        }
        assert_int_equal(arena.used, 0);
    }
    size_t scratch = ops_linear_scratch(ops.isa, ops.compute, (const struct linear *[]){&l[0], &l[1]}, 2,
                                        ROWS);
    assert_true(arena.peak <= scratch);
    for (int i = 0; i < 2; i++) {
        free(w[i]);
        free(l[i].packed);
    }
    free(x);
}

static void test_pieces(void **state)
{
    float *w, x[2 * 256], y[12][2 * 40];
    struct linear l = matrix(40, 256, 5, &w);
    struct split_program prog = split_program_for(256, 32, 8, (struct split_range){1, 6});
    fill(x, 2 * 256, 6);
    l.k = 160;      /* segments 1 to 5: columns 32 to 191 of the whole */
    free(l.packed);
    struct err err = {0};
    l.packed = aligned_alloc(64, (linear_packed_bytes(DT_F32, 40, 160, 32) + 63) / 64 * 64);
    l.k_origin = 32;
    assert_int_equal(linear_pack(&l, 0, 40, (const uint8_t *)(w + 32), 256 * sizeof(float), &err), ERR_OK);
    struct op_product p = {&l, tensor_of(y[0], 2, 40), NULL};
    struct op_linear a = {.x = {x + 32, 2, 160, 256}, .program = &prog, .piece_stride = 2 * 40,
                          .product = &p, .n_products = 1};
    op_linear(&ops, &a);
    assert_int_equal(prog.n_piece, 3);
    for (int i = 0; i < 3; i++) {       /* leaves 1, 2-3, 4-5 */
        static const int first[] = {32, 64, 128}, count[] = {32, 64, 64};
        for (int r = 0; r < 2; r++)
            for (int k = 0; k < 40; k++)
                near(y[i][r * 40 + k], dot(x + r * 256 + first[i], w + k * 256 + first[i], count[i]));
    }
    free(w);
    free(l.packed);
}

static void test_rows(void **state)
{
    float x[ROWS * DIM], y[ROWS * DIM], z[ROWS * DIM], row[DIM];
    fill(x, ROWS * DIM, 7);
    fill(z, ROWS * DIM, 8);
    fill(row, DIM, 9);
    struct tensor tx = tensor_of(x, ROWS, DIM), ty = tensor_of(y, ROWS, DIM), tz = tensor_of(z, ROWS, DIM);
    op_rmsnorm(&ops, ty, tx, row, 1e-5f);
    for (int r = 0; r < ROWS; r++)
        near(y[r * DIM + 5], x[r * DIM + 5] * row[5] / sqrt(dot(x + r * DIM, x + r * DIM, DIM) / DIM + 1e-5));
    op_add(&ops, ty, tx, tz);
    near(y[77], x[77] + z[77]);
    op_add_row(&ops, ty, row);
    near(y[2 * DIM + 3], x[2 * DIM + 3] + z[2 * DIM + 3] + row[3]);
    op_gate(&ops, ty, tx, tz, ACT_SILU, 0);
    near(y[11], x[11] / (1 + exp(-x[11])) * z[11]);
    op_gate(&ops, ty, tx, tz, ACT_SWIGLU_OSS, 0.5f);
    double g = x[11] < 0.5f ? x[11] : 0.5, u = z[11] > 0.5f ? 0.5 : z[11] < -0.5f ? -0.5 : z[11];
    near(y[11], g / (1 + exp(-1.702 * g)) * (u + 1));
    op_gate(&ops, ty, tx, tz, ACT_GELU_TANH, 0);
    near(y[11], 0.5 * x[11] * (1 + tanh(sqrt(2 / acos(-1)) * (x[11] + 0.044715 * pow(x[11], 3)))) * z[11]);
    memcpy(y, x, sizeof y);
    op_softcap(&ops, ty, 0.7f);
    near(y[400], 0.7f * tanh(x[400] / 0.7f));
    memcpy(y, x, sizeof y);
    op_head_rmsnorm(&ops, ty, 32, row, 1e-5f);
    near(y[70], x[70] * row[6] / sqrt(dot(x + 64, x + 64, 32) / 32 + 1e-5));
    float cosine[ROWS * 8], sine[ROWS * 8];
    fill(cosine, ROWS * 8, 10);
    fill(sine, ROWS * 8, 11);
    memcpy(y, x, sizeof y);
    op_rope(&ops, ty, 32, 16, ROPE_NEOX, cosine, sine);     /* 3 heads, half of each turns */
    int at = 4 * DIM + 32;
    near(y[at + 2], x[at + 2] * cosine[4 * 8 + 2] - x[at + 10] * sine[4 * 8 + 2]);
    near(y[at + 10], x[at + 10] * cosine[4 * 8 + 2] + x[at + 2] * sine[4 * 8 + 2]);
    assert_true(y[at + 16] == x[at + 16]);
    static const int rows[2] = {4, 0};
    op_pick(&ops, tensor_of(y, 2, DIM), tx, rows);
    assert_memory_equal(y, x + 4 * DIM, DIM * sizeof *x);
    assert_memory_equal(y + DIM, x, DIM * sizeof *x);
}

/* A tape that counts: with it an op computes nothing. */
static int seen[12];
static void tape_rmsnorm(struct ops_tape *t, struct tensor out, struct tensor x, const float *w, float eps)
{
    seen[0] += out.rows == ROWS && eps == 0.5f;
}
static void tape_head(struct ops_tape *t, struct tensor x, int head_dim, const float *w, float eps)
{
    seen[1] += head_dim == 32;
}
static void tape_add(struct ops_tape *t, struct tensor out, struct tensor a, struct tensor b) { seen[2]++; }
static void tape_add_row(struct ops_tape *t, struct tensor x, const float *row) { seen[3]++; }
static void tape_softcap(struct ops_tape *t, struct tensor x, float cap) { seen[4] += cap == 3; }
static void tape_gate(struct ops_tape *t, struct tensor out, struct tensor gate, struct tensor up,
                      enum ffn_act act, float limit)
{
    seen[5] += act == ACT_GELU_TANH;
}
static void tape_rope(struct ops_tape *t, struct tensor x, int head_dim, int n_rot, enum rope_kind kind,
                      const float *cosine, const float *sine)
{
    seen[6] += n_rot == 16 && kind == ROPE_NEOX;
}
static void tape_linear(struct ops_tape *t, const struct op_linear *l) { seen[7] += l->n_products == 0; }
static int tape_reduce(struct ops_tape *t, struct tensor out, const struct op_reduce *r, struct err *err)
{
    seen[8]++;
    return ERR_LIMIT;
}
static int tape_embed(struct ops_tape *t, struct tensor out, const struct op_embed *e, struct err *err)
{
    seen[9]++;
    return ERR_LIMIT;
}
static void tape_attention(struct ops_tape *t, struct tensor out, const struct op_attention *a)
{
    seen[10]++;
}
static void tape_pick(struct ops_tape *t, struct tensor out, struct tensor x, const int *rows)
{
    seen[11]++;
}

static void test_tape(void **state)
{
    struct ops_tape tape = {tape_rmsnorm, tape_head, tape_add, tape_add_row, tape_softcap, tape_gate,
                            tape_rope, tape_linear, tape_reduce, tape_embed, tape_attention, tape_pick};
    static const int once[12] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    struct tensor x = tensor_of(NULL, ROWS, DIM);       /* a name: never read */
    struct err err = {0};
    memset(seen, 0, sizeof seen);
    ops.tape = &tape;
    op_rmsnorm(&ops, x, x, NULL, 0.5f);
    op_head_rmsnorm(&ops, x, 32, NULL, 0.5f);
    op_add(&ops, x, x, x);
    op_add_row(&ops, x, NULL);
    op_softcap(&ops, x, 3);
    op_gate(&ops, x, x, x, ACT_GELU_TANH, 0);
    op_rope(&ops, x, 32, 16, ROPE_NEOX, NULL, NULL);
    op_linear(&ops, &(struct op_linear){.x = x});
    assert_int_equal(op_reduce(&ops, x, &(struct op_reduce){0}, &err), ERR_LIMIT);
    assert_int_equal(op_embed(&ops, x, &(struct op_embed){0}, &err), ERR_LIMIT);
    op_attention(&ops, x, &(struct op_attention){.q = x});
    op_pick(&ops, x, x, NULL);
    ops.tape = NULL;
    assert_memory_equal(seen, once, sizeof seen);
}

static void test_route(void **state)
{
    static const float logits[] = {1, 3, 3, -2, 2.5f, 3};
    int32_t ids[4];
    float weights[4];
    moe_route(logits, 6, 3, MOE_SOFTMAX_CHOSEN, false, ids, weights);
    assert_true(ids[0] == 1 && ids[1] == 2 && ids[2] == 5);
    near(weights[1], 1.0 / 3);
    moe_route(logits, 6, 2, MOE_SOFTMAX_ALL, true, ids, weights);
    assert_true(ids[0] == 1 && ids[1] == 2);        /* of equal ones the lower ids */
    near(weights[0], 0.5);
    moe_route(logits, 6, 4, MOE_SOFTMAX_ALL, false, ids, weights);
    assert_true(ids[0] == 1 && ids[1] == 2 && ids[2] == 4 && ids[3] == 5);
    double all = exp(1) + 3 * exp(3) + exp(-2) + exp(2.5);
    near(weights[2], exp(2.5) / all);
    near(weights[3], exp(3) / all);
}

struct moe_case { const struct op_moe *m; float *out; };
static void run_moe(void *arg)
{
    struct moe_case *c = arg;
    moe_forward(&ops, c->m, c->out, ROWS * DIM);
}

static void test_experts(void **state)
{
    struct expert_weights expert[EXPERTS];
    float *w[EXPERTS][3], *router, x[ROWS * DIM], out[ROWS * DIM], gate_bias[FFN], down_bias[DIM];
    struct model_config c = {.dim = DIM, .n_experts = EXPERTS, .n_experts_used = USED,
                             .expert_ffn_dim = FFN, .act = ACT_SILU, .moe_gate = MOE_SOFTMAX_ALL,
                             .moe_renormalise = true};
    struct layer_weights lw = {.router = matrix(EXPERTS, DIM, 20, &router), .expert = expert};
    struct split_program prog = split_program_for(FFN, 32, 8, (struct split_range){0, 8});
    struct moe_buffers b;
    uint8_t *memory = aligned_alloc(64, moe_buffers_place(&b, NULL, &c, ROWS, FFN));
    moe_buffers_place(&b, memory, &c, ROWS, FFN);
    fill(x, ROWS * DIM, 21);
    fill(gate_bias, FFN, 22);
    fill(down_bias, DIM, 23);
    for (int e = 0; e < EXPERTS; e++)
        expert[e] = (struct expert_weights){
            .gate = matrix(FFN, DIM, 30 + (unsigned)e, &w[e][0]), .up = matrix(FFN, DIM, 40 + (unsigned)e, &w[e][1]),
            .down = matrix(DIM, FFN, 50 + (unsigned)e, &w[e][2]), .gate_bias = gate_bias,
            .down_bias = down_bias};
    for (int rows = 1; rows <= ROWS; rows += ROWS - 1) {
        struct op_moe m = {.x = tensor_of(x, rows, DIM), .n_prompt = rows / 2, .w = &lw, .c = &c,
                           .program = &prog, .b = &b,
                           .linear_bytes = ops_thread_scratch(ops.isa, ops.compute, ROWS, DIM, 64)};
        team_enter(&team, run_moe, &(struct moe_case){&m, out});
        moe_add_bias(&ops, &m, tensor_of(out, rows, DIM));
        for (int r = 0; r < rows; r++) {
            float logits[EXPERTS], weight[USED];
            int32_t ids[USED];
            double want[DIM] = {0};
            for (int e = 0; e < EXPERTS; e++)
                logits[e] = (float)dot(x + r * DIM, router + e * DIM, DIM);
            moe_route(logits, EXPERTS, USED, c.moe_gate, true, ids, weight);
            for (int j = 0; j < USED; j++) {
                float h[FFN];
                for (int i = 0; i < FFN; i++) {
                    double g = dot(x + r * DIM, w[ids[j]][0] + i * DIM, DIM) + gate_bias[i];
                    h[i] = (float)(g / (1 + exp(-g)) * dot(x + r * DIM, w[ids[j]][1] + i * DIM, DIM));
                }
                for (int i = 0; i < DIM; i++)
                    want[i] += weight[j] * (dot(h, w[ids[j]][2] + i * FFN, FFN) + down_bias[i]);
            }
            for (int i = 0; i < DIM; i++)
                assert_true(fabs(out[r * DIM + i] - want[i]) < 1e-4);       /* terms of up to 50 */
        }
    }
    assert_true(arena.peak <= moe_scratch_bytes(&c, expert, ops.isa, ops.compute, ROWS) + 4096);
    for (int e = 0; e < EXPERTS; e++) {
        struct linear *l[3] = {&expert[e].gate, &expert[e].up, &expert[e].down};
        for (int i = 0; i < 3; i++) {
            free(w[e][i]);
            free(l[i]->packed);
        }
    }
    free(router);
    free(lw.router.packed);
    free(memory);
}

int main(void)
{
#define EACH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        EACH(test_linear), EACH(test_pieces), EACH(test_rows), EACH(test_tape),
        cmocka_unit_test(test_route), EACH(test_experts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
