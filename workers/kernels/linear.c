/* The products: which kernel serves a (type, role), the walk over panels, rows and segments. */
#include "workers/kernels/linear_run.h"

#include "proto/err.h"

#include <string.h>

/* Rows that the self-check refused, on this rank or another. Written at start, before any product. */
static bool refused[ISA_COUNT][DT_MAX][2];
static bool blas_tiles;

static const struct linear_kernels *const table[ISA_COUNT] = {
    [ISA_SCALAR] = &linear_kernels_plain,
    [ISA_AVX2] = &linear_kernels_avx2,
    [ISA_AVX512] = &linear_kernels_avx512,
};

void linear_refuse(enum isa isa, enum dtype type, enum role role)
{
    if (isa > ISA_SCALAR)
        refused[isa][type][role] = true;
}

void linear_set_blas_tiles(bool ok) { blas_tiles = ok; }

bool linear_blas_tiles_ok(void) { return blas_tiles; }

const struct linear_kernels *linear_table(enum isa isa) { return table[isa]; }

struct linear_choice linear_choose(enum dtype type, enum isa isa, enum compute compute,
                                   enum role role)
{
    struct linear_choice c = {.family = FAMILY_F32};
    bool f32 = compute == COMPUTE_F32 || (type != DT_BF16 && !linear_kernels_plain.dot_q8[type]);
    if (!f32)
        c.family = type == DT_BF16 ? FAMILY_BF16 : FAMILY_Q8;
    for (int i = (int)isa; i >= 0; i--) {
        const struct linear_kernels *t = table[i];
        if (!t || refused[i][type][role])
            continue;
        if (!c.expand)
            c.expand = t->expand[type];
        if (!c.dot_q8)
            c.dot_q8 = t->dot_q8[type];
        if (!c.dot_f32)
            c.dot_f32 = t->dot_f32;
        if (!c.dot_bf16)
            c.dot_bf16 = t->dot_bf16;
        if (!c.prepare_q8)
            c.prepare_q8 = t->prepare_q8;
        if (!c.prepare_bf16)
            c.prepare_bf16 = t->prepare_bf16;
    }
    return c;
}

int linear_family(enum dtype type, enum isa isa, enum compute compute, enum role role)
{
    return (int)linear_choose(type, isa, compute, role).family;
}

size_t linear_x_stride(enum linear_family family, int k)
{
    size_t blocks = (size_t)linear_blocks(k);
    switch (family) {
    case FAMILY_Q8:
        return (blocks | 1) * sizeof(struct linear_xblock);
    case FAMILY_BF16:
        return (blocks | 1) * 64;
    case FAMILY_TILES:
        return blocks * 1024;
    default:
        return (2 * blocks + 1) * 64;
    }
}

size_t linear_x_bytes(const struct linear *l, enum isa isa, enum compute compute, enum role role,
                      int n_rows, int k)
{
    enum linear_family family = linear_choose(l->type, isa, compute, role).family;
    size_t rows = (size_t)n_rows, stride = linear_x_stride(family, k);
    return family == FAMILY_TILES ? (rows + 15) / 16 * stride : rows * stride;
}

static void prepare_f32(void *dst, const float *x, int k)
{
    memcpy(dst, x, (size_t)k * sizeof *x);
    memset((float *)dst + k, 0, (size_t)(linear_blocks(k) * 32 - k) * sizeof *x);
}

void linear_x_prepare(const struct linear *l, enum isa isa, enum compute compute, enum role role,
                      void *xq, const float *x, int64_t ldx, int n_rows, int k, int r0, int r1)
{
    struct linear_choice c = linear_choose(l->type, isa, compute, role);
    linear_prepare *prepare = c.family == FAMILY_Q8     ? c.prepare_q8
                              : c.family == FAMILY_BF16 ? c.prepare_bf16
                                                        : prepare_f32;
    size_t stride = linear_x_stride(c.family, k);
    for (int r = r0; r < r1; r++)
        prepare((uint8_t *)xq + (size_t)r * stride, x + r * ldx, k);
}

enum {
    ROW_TILE = 32,                              /* rows whose sums are kept at once */
    CHUNK = 16,                                 /* blocks expanded at once: 32 KB of f32 */
    STACK_MAX = SPLIT_PIECES_MAX + 8            /* pieces + the depth of a tree of 64 leaves */
};

/* Per thread: sums of a row tile, for each height of the program's stack. */
struct tile_scratch {
    float stack[STACK_MAX][ROW_TILE * LINEAR_PANEL];
    float pair[ROW_TILE * 2 * LINEAR_PANEL];    /* the two chains of f32 and bf16 products */
    float chunk[CHUNK * 32 * LINEAR_PANEL];
};

size_t linear_scratch_bytes(enum isa isa, enum compute compute, enum role role, int n_rows, int k)
{
    return sizeof(struct tile_scratch);
}

/* acc [n_rows][16] = columns [k0, k1) of f32 or bf16 products: two chains, then their sum. */
static void segment_pairs(const struct linear_choice *c, const struct linear_panel *w, int b0,
                          int b1, const uint8_t *x, size_t xs, int n_rows, float *acc,
                          struct tile_scratch *s)
{
    memset(s->pair, 0, (size_t)n_rows * 2 * LINEAR_PANEL * sizeof *s->pair);
    if (c->family == FAMILY_BF16) {
        c->dot_bf16((const uint16_t *)(w->q + (size_t)b0 * 1024), (b1 - b0) * 32, w->ahead,
                    x + (size_t)b0 * 64, xs, n_rows, s->pair);
    } else if (w->type == DT_F32) {
        c->dot_f32((const float *)(w->q + (size_t)b0 * 2048), (b1 - b0) * 32, w->ahead,
                   x + (size_t)b0 * 128, xs, n_rows, s->pair);
    } else {
        for (int b = b0; b < b1; b += CHUNK) {
            int end = b + CHUNK < b1 ? b + CHUNK : b1;
            c->expand(w, b, end, s->chunk);
            c->dot_f32(s->chunk, (end - b) * 32, 0, x + (size_t)b * 128, xs, n_rows, s->pair);
        }
    }
    for (int r = 0; r < n_rows; r++)
        for (int i = 0; i < LINEAR_PANEL; i++)
            acc[r * LINEAR_PANEL + i] = s->pair[2 * r * LINEAR_PANEL + i] +
                                        s->pair[(2 * r + 1) * LINEAR_PANEL + i];
}

/* Sums of one panel and up to ROW_TILE rows, as the program says; returns the height of the stack. */
static int run_program(const struct linear_choice *c, const struct linear_panel *w,
                       const struct split_program *prog, const uint8_t *x, size_t xs, int n_rows,
                       struct tile_scratch *s)
{
    int height = 0;
    for (int i = 0; i < prog->n_seg; i++) {
        int b0 = prog->seg[i].k_begin / 32, b1 = linear_blocks(prog->seg[i].k_end);
        ASSERT(height < STACK_MAX && prog->seg[i].k_begin % 32 == 0 && prog->seg[i].k_end <= w->k);
        float *acc = s->stack[height++];
        if (c->family == FAMILY_Q8)
            c->dot_q8(w, b0, b1, x, xs, n_rows, acc);
        else
            segment_pairs(c, w, b0, b1, x, xs, n_rows, acc, s);
        for (int f = 0; f < prog->seg[i].folds; f++) {
            height--;
            float *a = s->stack[height - 1];
            const float *b = s->stack[height];
            for (int j = 0; j < n_rows * LINEAR_PANEL; j++)
                a[j] += b[j];
        }
    }
    return height;
}

void linear_run(const struct linear *l, enum isa isa, enum compute compute, enum role role,
                const struct split_program *prog, float *out, int64_t ldo, int64_t piece_stride,
                const void *xq, int n_rows, int p0, int p1, void *scratch)
{
    struct linear_choice c = linear_choose(l->type, isa, compute, role);
    size_t xs = linear_x_stride(c.family, l->k);
    struct tile_scratch *s = scratch;
    for (int p = p0; p < p1; p++) {
        int lanes = l->n_out - p * LINEAR_PANEL < LINEAR_PANEL ? l->n_out - p * LINEAR_PANEL
                                                               : LINEAR_PANEL;
        for (int r0 = 0; r0 < n_rows; r0 += ROW_TILE) {
            int rows = n_rows - r0 < ROW_TILE ? n_rows - r0 : ROW_TILE;
            struct linear_panel w = linear_panel_at(l, p, r0 == 0 && p + 1 < p1);
            int height = run_program(&c, &w, prog, (const uint8_t *)xq + (size_t)r0 * xs, xs, rows, s);
            ASSERT(height == prog->n_piece);
            for (int i = 0; i < height; i++)
                for (int r = 0; r < rows; r++)
                    memcpy(out + i * piece_stride + (r0 + r) * ldo + p * LINEAR_PANEL,
                           s->stack[i] + r * LINEAR_PANEL, (size_t)lanes * sizeof *out);
        }
    }
}

int linear_self_check(enum isa isa, char *list, size_t cap)
{
    if (cap)
        *list = 0;
    return 0;
}

void linear_disable(const char *list, bool tiles)
{
    linear_set_blas_tiles(tiles && blas_tiles);
}
