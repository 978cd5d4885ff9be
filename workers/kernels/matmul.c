#include "workers/kernels/matmul.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

void matmul_pack(float *packed, const float *w, int64_t ldw, int n, int k)
{
    memset(packed, 0, matmul_packed_floats(n, k) * sizeof *packed);
    for (int p = 0; p < matmul_panels(n); p++) {
        float *to = packed + (int64_t)p * MATMUL_PANEL * k;
        for (int c = 0; c < MATMUL_PANEL && p * MATMUL_PANEL + c < n; c++) {
            const float *row = w + (int64_t)(p * MATMUL_PANEL + c) * ldw;
            for (int64_t i = 0; i < k; i++)
                to[i * MATMUL_PANEL + c] = row[i];
        }
    }
}

typedef float one_link(float x, float w, float sum);

static float link_f32(float x, float w, float sum) { return fmaf(x, w, sum); }

static float half_of(float pair, bool odd)
{
    uint32_t u;
    memcpy(&u, &pair, sizeof u);
    u = odd ? u & 0xffff0000 : u << 16;
    memcpy(&pair, &u, sizeof u);
    return pair;
}

static float link_pairs(float x, float w, float sum)
{
    sum = fmaf(half_of(x, true), half_of(w, true), sum);
    return fmaf(half_of(x, false), half_of(w, false), sum);
}

/* One number of out: its pieces. */
static int number(const struct matmul_call *c, one_link *link, const float *x, const float *w, float *stack)
{
    const struct split_program *p = c->prog;
    int top = 0;
    for (int s = 0; s < p->n_seg; s++) {
        float sum = 0;
        for (int64_t k = p->seg[s].k_begin; k < p->seg[s].k_end; k++)
            sum = link(x[k], w[k * MATMUL_PANEL], sum);
        stack[top++] = sum;
        for (int f = 0; f < p->seg[s].folds; f++, top--)
            stack[top - 2] += stack[top - 1];
    }
    return top;
}

static void run(const struct matmul_call *c, one_link *link, int64_t row0, int64_t row1, int panel0,
                int panel1)
{
    float stack[SPLIT_PIECES_MAX + 8];
    for (int64_t r = row0; r < row1; r++)
        for (int col = panel0 * MATMUL_PANEL; col < panel1 * MATMUL_PANEL && col < c->n; col++) {
            const float *w = c->packed + (int64_t)(col / MATMUL_PANEL) * MATMUL_PANEL * c->k +
                             col % MATMUL_PANEL;
            int n = number(c, link, c->x + r * c->ldx, w, stack);
            for (int i = 0; i < n; i++)
                c->out[i * c->piece_stride + r * c->ldo + col] =
                    c->bias != NULL ? stack[i] + c->bias[col] : stack[i];
        }
}

void matmul_scalar(const struct matmul_call *c, int64_t row0, int64_t row1, int panel0, int panel1)
{
    run(c, link_f32, row0, row1, panel0, panel1);
}

void matmul_pairs_scalar(const struct matmul_call *c, int64_t row0, int64_t row1, int panel0, int panel1)
{
    run(c, link_pairs, row0, row1, panel0, panel1);
}
