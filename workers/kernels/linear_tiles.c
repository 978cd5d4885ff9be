/* Products by matrix tiles (AMX): two panels at a time are expanded to bf16 in L2 and all rows of x
 * multiplied with them, 32 rows x 32 outputs in the tile registers over the whole piece of K. (One
 * core, random data: 31 ns per 32 x 32 x 32 with both operands in L2, 21 in L1; but cutting K so
 * that the weights stay in L1 costs more in loads and stores of sums than it saves.) */
#include "workers/kernels/linear_run.h"

#include <string.h>

enum {
    ROW_TILE = 256,             /* rows per expansion; x of 2,048 columns is then 1 MB of L2 */
    GROUP = 32,                 /* rows in the tile registers */
    CHUNK = 64                  /* blocks expanded at once: two panels are 128 KB */
};

struct scratch {                /* of one thread */
    uint16_t weights[2][CHUNK * 512];
    float stack[];              /* [height][panel 2][rows up to 32s][16] */
};

static size_t slot_floats(int n_rows)
{
    int rows = n_rows < ROW_TILE ? (n_rows + GROUP - 1) / GROUP * GROUP : ROW_TILE;
    return (size_t)rows * LINEAR_PANEL;
}

size_t linear_tiles_scratch(int n_rows)
{
    return sizeof(struct scratch) + LINEAR_STACK_MAX * 2 * slot_floats(n_rows) * sizeof(float);
}

struct segment { const struct linear_job *job; struct linear_panel w[2]; int p, panels, r0, rows;
                 struct scratch *s; size_t slot; };

/* Output lines of the rows to come, two panels wide: without this, 2 MB of output cost a third of
 * the product of 256 rows. */
static void prefetch_out(const struct segment *g, int r0, int rows)
{
    const float *out = g->job->out + r0 * g->job->ldo + g->p * LINEAR_PANEL;
    for (int r = 0; r < rows; r++, out += g->job->ldo) {
        __builtin_prefetch(out, 1, 3);
        __builtin_prefetch(out + LINEAR_PANEL, 1, 3);
    }
}

static void segment_tiles(void *ctx, int b0, int b1, float *acc)
{
    struct segment *g = ctx;
    const struct linear_choice *c = g->job->choice;
    size_t xs = g->job->xs;
    for (int b = b0; b < b1; b += CHUNK) {
        int end = b + CHUNK < b1 ? b + CHUNK : b1;
        const uint16_t *w[2] = {NULL, NULL};
        for (int i = 0; i < g->panels; i++) {
            if (g->w[i].type == DT_BF16) {      /* packed as tiles */
                w[i] = (const uint16_t *)(g->w[i].q + (size_t)b * 1024);
                continue;
            }
            c->expand_tiles(&g->w[i], b, end, g->s->weights[i]);
            w[i] = g->s->weights[i];
        }
        for (int r = 0; r < g->rows; r += GROUP) {
            int rows = g->rows - r < GROUP ? g->rows - r : GROUP;
            const uint8_t *x = g->job->x + (size_t)((g->r0 + r) / 16) * xs + (size_t)b * 1024;
            float *at = acc + r * LINEAR_PANEL;
            if (b == b0)
                prefetch_out(g, g->r0 + r, rows);
            c->dot_tiles(w[0], w[1], end - b, x, xs, rows, b == b0, at, at + g->slot);
        }
    }
}

void linear_run_tiles(const struct linear_job *job, void *scratch)
{
    struct segment g = {.job = job, .s = scratch, .slot = slot_floats(job->n_rows)};
    job->choice->tiles_begin();
    for (int p = job->p0; p < job->p1; p += 2)
        for (int r0 = 0; r0 < job->n_rows; r0 += ROW_TILE) {
            g.p = p;
            g.r0 = r0;
            g.rows = job->n_rows - r0 < ROW_TILE ? job->n_rows - r0 : ROW_TILE;
            g.panels = p + 1 < job->p1 ? 2 : 1;
            for (int i = 0; i < g.panels; i++)
                g.w[i] = linear_panel_at(job->l, p + i, r0 == 0 && p + i + 2 < job->p1 ? 2 : 0);
            int height = linear_segments(job->prog, job->l->k, segment_tiles, &g, g.s->stack,
                                         2 * g.slot, 2 * g.slot);
            for (int i = 0; i < height; i++)
                for (int j = 0; j < g.panels; j++)
                    linear_copy_out(job, i, p + j, r0, g.rows,
                                    g.s->stack + ((size_t)i * 2 + (size_t)j) * g.slot);
        }
    job->choice->tiles_end();
}
