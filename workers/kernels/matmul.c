#include "workers/kernels/matmul.h"

#include <math.h>
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

/* One number of out: its pieces. */
static int number(const struct matmul_call *c, const float *x, const float *w, float *stack)
{
    const struct split_program *p = c->prog;
    int top = 0;
    for (int s = 0; s < p->n_seg; s++) {
        float sum = 0;
        for (int64_t k = p->seg[s].k_begin; k < p->seg[s].k_end; k++)
            sum = fmaf(x[k], w[k * MATMUL_PANEL], sum);
        stack[top++] = sum;
        for (int f = 0; f < p->seg[s].folds; f++, top--)
            stack[top - 2] += stack[top - 1];
    }
    return top;
}

void matmul_scalar(const struct matmul_call *c, int64_t row0, int64_t row1, int panel0, int panel1)
{
    float stack[SPLIT_PIECES_MAX + 8];
    for (int64_t r = row0; r < row1; r++)
        for (int col = panel0 * MATMUL_PANEL; col < panel1 * MATMUL_PANEL && col < c->n; col++) {
            const float *w = c->packed + (int64_t)(col / MATMUL_PANEL) * MATMUL_PANEL * c->k +
                             col % MATMUL_PANEL;
            int n = number(c, c->x + r * c->ldx, w, stack);
            for (int i = 0; i < n; i++)
                c->out[i * c->piece_stride + r * c->ldo + col] =
                    c->bias != NULL ? stack[i] + c->bias[col] : stack[i];
        }
}
