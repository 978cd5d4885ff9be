/* f32 products of prompts by cblas_sgemm, in tiles of one shape: 8 rows x 64 outputs, 128 columns
 * of K. OpenBLAS's results move with thread count and row count, and on some processors with a
 * row's place; with one shape, one thread and rows padded only the place is left, which the
 * start-up check proves not to matter (linear_check.c) before this family is used. The shape:
 * OpenBLAS multiplies small matrices without packing them; one core gave 0.160 TFLOP/s for 8 x 64 x
 * 128 against 0.172 for 384^3, and 8 rows are place-invariant on Haswell and Zen kernels too. */
#include "workers/kernels/linear_run.h"

#include <cblas.h>
#include <string.h>

enum {
    ROW_TILE = 256,                             /* rows per expansion of the weights */
    PANELS = LINEAR_BLAS_COLUMNS / LINEAR_PANEL,
    CHUNK = LINEAR_BLAS_K / 32                  /* blocks */
};

struct scratch {                                /* of one thread */
    float weights[LINEAR_BLAS_K * LINEAR_BLAS_COLUMNS];
    float panel[ROW_TILE * LINEAR_PANEL];       /* sums of one panel, to be copied out */
    float stack[];                              /* [height][rows up to 8s][64] */
};

static size_t slot_floats(int n_rows)
{
    int rows = n_rows < ROW_TILE
                   ? (n_rows + LINEAR_BLAS_ROWS - 1) / LINEAR_BLAS_ROWS * LINEAR_BLAS_ROWS
                   : ROW_TILE;
    return (size_t)rows * LINEAR_BLAS_COLUMNS;
}

size_t linear_blas_scratch(int n_rows)
{
    return sizeof(struct scratch) + LINEAR_STACK_MAX * slot_floats(n_rows) * sizeof(float);
}

void linear_blas_tile(const float *x, int ldx, const float *w, int k, bool fresh, float *acc)
{
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, LINEAR_BLAS_ROWS, LINEAR_BLAS_COLUMNS, k,
                1, x, ldx, w, LINEAR_BLAS_COLUMNS, fresh ? 0 : 1, acc, LINEAR_BLAS_COLUMNS);
}

struct segment { const struct linear_job *job; struct linear_panel w[PANELS]; int panels, rows;
                 const uint8_t *x; struct scratch *s; };

static void segment_blas(void *ctx, int b0, int b1, float *acc)
{
    struct segment *g = ctx;
    int ldx = (int)(g->job->xs / sizeof(float));
    for (int b = b0; b < b1; b += CHUNK) {
        int end = b + CHUNK < b1 ? b + CHUNK : b1;
        for (int i = 0; i < g->panels; i++)
            g->job->choice->expand(&g->w[i], b, end, g->s->weights + i * LINEAR_PANEL,
                                   LINEAR_BLAS_COLUMNS);
        for (int r = 0; r < g->rows; r += LINEAR_BLAS_ROWS)
            linear_blas_tile((const float *)(g->x + (size_t)r * g->job->xs) + 32 * b, ldx,
                             g->s->weights, (end - b) * 32, b == b0, acc + r * LINEAR_BLAS_COLUMNS);
    }
}

static void copy_panels(const struct segment *g, int p, int r0, int piece, const float *sums)
{
    for (int i = 0; i < g->panels; i++) {
        for (int r = 0; r < g->rows; r++)
            memcpy(g->s->panel + r * LINEAR_PANEL,
                   sums + r * LINEAR_BLAS_COLUMNS + i * LINEAR_PANEL, LINEAR_PANEL * sizeof *sums);
        linear_copy_out(g->job, piece, p + i, r0, g->rows, g->s->panel);
    }
}

void linear_run_blas(const struct linear_job *job, void *scratch)
{
    struct segment g = {.job = job, .s = scratch};
    size_t slot = slot_floats(job->n_rows);
    memset(g.s->weights, 0, sizeof g.s->weights);       /* panels that the last tile lacks */
    for (int p = job->p0; p < job->p1; p += PANELS)
        for (int r0 = 0; r0 < job->n_rows; r0 += ROW_TILE) {
            g.rows = job->n_rows - r0 < ROW_TILE ? job->n_rows - r0 : ROW_TILE;
            g.panels = job->p1 - p < PANELS ? job->p1 - p : PANELS;
            g.x = job->x + (size_t)r0 * job->xs;
            for (int i = 0; i < g.panels; i++)
                g.w[i] = linear_panel_at(job->l, p + i, p + i + PANELS < job->p1 ? PANELS : 0);
            int height = linear_segments(job->prog, job->l->k, segment_blas, &g, g.s->stack, slot,
                                         slot);
            for (int i = 0; i < height; i++)
                copy_panels(&g, p, r0, i, g.s->stack + (size_t)i * slot);
        }
}
