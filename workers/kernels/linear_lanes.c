/* Products with one output row per lane: integer dots, f32 and bf16. One panel at a time, all rows
 * of x over it while it is in cache; the sums of a row tile never leave L1. */
#include "workers/kernels/linear_run.h"

#include <string.h>

enum {
    ROW_TILE = 32,              /* rows whose sums are kept at once */
    CHUNK = 16                  /* blocks expanded at once: 32 KB of f32 */
};

struct scratch {                /* of one thread */
    float stack[LINEAR_STACK_MAX][ROW_TILE * LINEAR_PANEL];
    float pair[ROW_TILE * 2 * LINEAR_PANEL];    /* the two chains of f32 and bf16 products */
    float chunk[CHUNK * 32 * LINEAR_PANEL];
};

size_t linear_lanes_scratch(int n_rows) { return sizeof(struct scratch); }

struct segment { const struct linear_job *job; struct linear_panel w; const uint8_t *x; int rows;
                 struct scratch *s; };

static void segment_q8(void *ctx, int b0, int b1, float *acc)
{
    struct segment *g = ctx;
    g->job->choice->dot_q8(&g->w, b0, b1, g->x, g->job->xs, g->rows, acc);
}

/* Both chains start at zero; their sum is the segment's. */
static void segment_pairs(void *ctx, int b0, int b1, float *acc)
{
    struct segment *g = ctx;
    const struct linear_choice *c = g->job->choice;
    const struct linear_panel *w = &g->w;
    float *pair = g->s->pair, *chunk = g->s->chunk;
    size_t xs = g->job->xs;
    memset(pair, 0, (size_t)g->rows * 2 * LINEAR_PANEL * sizeof *pair);
    if (c->family == FAMILY_BF16) {
        c->dot_bf16((const uint16_t *)(w->q + (size_t)b0 * 1024), b1 - b0, w->ahead,
                    g->x + (size_t)b0 * sizeof(struct linear_xpairs), xs, g->rows, pair);
    } else if (w->type == DT_F32) {
        c->dot_f32((const float *)(w->q + (size_t)b0 * 2048), (b1 - b0) * 32, w->ahead,
                   g->x + (size_t)b0 * 128, xs, g->rows, pair);
    } else if (w->type == DT_F16 && c->dot_f16) {
        c->dot_f16((const uint16_t *)(w->q + (size_t)b0 * 1024), (b1 - b0) * 32, w->ahead,
                   g->x + (size_t)b0 * 128, xs, g->rows, pair);
    } else {
        for (int b = b0; b < b1; b += CHUNK) {
            int end = b + CHUNK < b1 ? b + CHUNK : b1;
            c->expand(w, b, end, chunk, LINEAR_PANEL);
            c->dot_f32(chunk, (end - b) * 32, 0, g->x + (size_t)b * 128, xs, g->rows, pair);
        }
    }
    for (int r = 0; r < g->rows; r++)
        for (int i = 0; i < LINEAR_PANEL; i++)
            acc[r * LINEAR_PANEL + i] = pair[2 * r * LINEAR_PANEL + i] +
                                        pair[(2 * r + 1) * LINEAR_PANEL + i];
}

/* The output lines of a row tile, so that they arrive while it is computed. */
static void prefetch_out(const struct linear_job *job, int p, int r0, int rows)
{
    const float *out = job->out + r0 * job->ldo + p * LINEAR_PANEL;
    for (int r = 0; r < rows; r++, out += job->ldo)
        __builtin_prefetch(out, 1, 3);
}

void linear_run_lanes(const struct linear_job *job, void *scratch)
{
    struct segment g = {.job = job, .s = scratch};
    linear_segment *segment = job->choice->family == FAMILY_Q8 ? segment_q8 : segment_pairs;
    for (int p = job->p0; p < job->p1; p++)
        for (int r0 = 0; r0 < job->n_rows; r0 += ROW_TILE) {
            g.rows = job->n_rows - r0 < ROW_TILE ? job->n_rows - r0 : ROW_TILE;
            g.w = linear_panel_at(job->l, p, r0 == 0);
            g.x = job->x + (size_t)r0 * job->xs;
            prefetch_out(job, p, r0, g.rows);
            int height = linear_segments(job->prog, job->l->k, segment, &g, g.s->stack[0],
                                         ROW_TILE * LINEAR_PANEL, (size_t)g.rows * LINEAR_PANEL);
            for (int i = 0; i < height; i++)
                linear_copy_out(job, i, p, r0, g.rows, g.s->stack[i]);
        }
}
