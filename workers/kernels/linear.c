/* The products: which kernel serves a (type, role), and what callers need around it. */
#include "workers/kernels/linear_run.h"

#include "proto/err.h"

#include <string.h>

/* Rows that the self-check refused, on this rank or another. Written at start, before any
 * product. */
static bool refused[ISA_COUNT][DT_MAX][2];
static bool blas_tiles;

static const struct linear_kernels *const table[ISA_COUNT] = {
    [ISA_SCALAR] = &linear_kernels_plain,
    [ISA_AVX2] = &linear_kernels_avx2,
    [ISA_AVX512] = &linear_kernels_avx512,
    [ISA_AMX] = &linear_kernels_amx,
};

void linear_refuse(enum isa isa, enum dtype type, enum role role)
{
    if (isa > ISA_SCALAR)
        refused[isa][type][role] = true;
}

/* A row that a test made wrong: while it serves, its first sum is off. */
static struct { bool on; enum isa isa; enum dtype type; enum role role; } wrong;

void linear_plant_wrong(enum isa isa, enum dtype type, enum role role)
{
    wrong.on = true;
    wrong.isa = isa;
    wrong.type = type;
    wrong.role = role;
}

void linear_reset(void)
{
    memset(refused, 0, sizeof refused);
    blas_tiles = wrong.on = false;
}

void linear_set_blas_tiles(bool ok) { blas_tiles = ok; }

bool linear_blas_tiles_ok(void) { return blas_tiles; }

bool linear_has_row(enum isa isa, enum dtype type)
{
    const struct linear_kernels *t = table[isa];
    return (t->dot_q8 && t->dot_q8[type]) || t->expand[type] || t->expand_tiles[type] ||
           (type == DT_F32 && t->dot_f32) || (type == DT_BF16 && t->dot_bf16);
}

#define INHERIT(member, from)                                                                      \
    do {                                                                                           \
        if (!c.member)                                                                             \
            c.member = (from);                                                                     \
    } while (0)

struct linear_choice linear_choose(enum dtype type, enum isa isa, enum compute compute,
                                   enum role role)
{
    struct linear_choice c = {.family = FAMILY_F32};
    for (int i = (int)isa; i >= 0; i--) {
        const struct linear_kernels *t = table[i];
        if (refused[i][type][role])
            continue;
        INHERIT(dot_q8, t->dot_q8 ? t->dot_q8[type] : NULL);
        INHERIT(expand, t->expand[type]);
        INHERIT(expand_tiles, t->expand_tiles[type]);
        INHERIT(dot_f32, t->dot_f32);
        INHERIT(dot_f16, t->dot_f16);
        if (i >= ISA_AVX512 && isa_has_fast_bf16())
            INHERIT(dot_bf16, linear_dot_bf16_avx512bf16);
        INHERIT(dot_bf16, t->dot_bf16);
        INHERIT(dot_tiles, t->dot_tiles);
        INHERIT(tiles_begin, t->tiles_begin);
        INHERIT(tiles_end, t->tiles_end);
        INHERIT(prepare_tiles, t->prepare_tiles);
        INHERIT(prepare_q8, t->prepare_q8);
        INHERIT(prepare_bf16, t->prepare_bf16);
    }
    if (role == ROLE_KIND_PROMPT && blas_tiles)
        c.family = FAMILY_F32_BLAS;
    if (compute == COMPUTE_F32)
        return c;
    if (role == ROLE_KIND_PROMPT && c.dot_tiles && c.expand_tiles)
        c.family = FAMILY_TILES;
    else if (type == DT_BF16)
        c.family = FAMILY_BF16;
    else if (c.dot_q8)
        c.family = FAMILY_Q8;
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
        return (3 * blocks | 1) * 64;
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
    if (family == FAMILY_TILES)
        return (rows + 15) / 16 * stride;
    if (family == FAMILY_F32_BLAS)
        rows = (rows + LINEAR_BLAS_ROWS - 1) / LINEAR_BLAS_ROWS * LINEAR_BLAS_ROWS;
    if (family == FAMILY_Q8)            /* kernels of 16 rows may read on */
        rows = (rows + 15) / 16 * 16;
    return rows * stride;
}

static void prepare_f32(uint8_t *dst, size_t step, const float *x, int k)
{
    memcpy(dst, x, (size_t)k * sizeof *x);
    memset((float *)dst + k, 0, (size_t)(linear_blocks(k) * 32 - k) * sizeof *x);
}

/* Row r of x goes to row r % 16 of each tile; rows up to 16s are zero. */
static void prepare_tiles(const struct linear_choice *c, uint8_t *xq, const float *x, int64_t ldx,
                          int n_rows, int k, int r0, int r1)
{
    size_t stride = linear_x_stride(FAMILY_TILES, k);
    for (int r = r0; r < r1; r++)
        c->prepare_tiles(xq + (size_t)(r / 16) * stride + (size_t)(r % 16) * 64, 1024, x + r * ldx,
                         k);
    for (int r = n_rows; r1 == n_rows && r % 16; r++)
        for (int b = 0; b < linear_blocks(k); b++)
            memset(xq + (size_t)(r / 16) * stride + (size_t)b * 1024 + (size_t)(r % 16) * 64, 0,
                   64);
}

void linear_x_prepare(const struct linear *l, enum isa isa, enum compute compute, enum role role,
                      void *xq, const float *x, int64_t ldx, int n_rows, int k, int r0, int r1)
{
    struct linear_choice c = linear_choose(l->type, isa, compute, role);
    if (c.family == FAMILY_TILES) {
        prepare_tiles(&c, xq, x, ldx, n_rows, k, r0, r1);
        return;
    }
    linear_prepare *prepare = c.family == FAMILY_Q8     ? c.prepare_q8
                              : c.family == FAMILY_BF16 ? c.prepare_bf16
                                                        : prepare_f32;
    size_t stride = linear_x_stride(c.family, k);
    size_t step =
        c.family == FAMILY_BF16 ? sizeof(struct linear_xpairs) : sizeof(struct linear_xblock);
    for (int r = r0; r < r1; r++)
        prepare((uint8_t *)xq + (size_t)r * stride, step, x + r * ldx, k);
    for (int r = n_rows; c.family == FAMILY_F32_BLAS && r1 == n_rows && r % LINEAR_BLAS_ROWS; r++)
        memset((uint8_t *)xq + (size_t)r * stride, 0, stride);
}

size_t linear_scratch_bytes(enum isa isa, enum compute compute, enum role role, int n_rows, int k)
{
    size_t most = linear_lanes_scratch(n_rows);
    if (role == ROLE_KIND_PROMPT) {
        size_t blas = linear_blas_scratch(n_rows);
        size_t tiles =
            isa == ISA_AMX && compute == COMPUTE_DEFAULT ? linear_tiles_scratch(n_rows) : 0;
        most = blas > most ? blas : most;
        most = tiles > most ? tiles : most;
    }
    return most;
}

int linear_segments(const struct split_program *prog, int k, linear_segment *segment, void *ctx,
                    float *stack, size_t slot_floats, size_t used)
{
    int height = 0;
    for (int i = 0; i < prog->n_seg; i++) {
        int k0 = prog->seg[i].k_begin, k1 = prog->seg[i].k_end;
        ASSERT(height < LINEAR_STACK_MAX && k0 % 32 == 0 && k1 <= k && (k1 % 32 == 0 || k1 == k));
        segment(ctx, k0 / 32, linear_blocks(k1), stack + (size_t)height * slot_floats);
        height++;
        for (int f = 0; f < prog->seg[i].folds; f++) {
            height--;
            float *a = stack + (size_t)(height - 1) * slot_floats;
            const float *b = a + slot_floats;
            for (size_t j = 0; j < used; j++)
                a[j] += b[j];
        }
    }
    ASSERT(height == prog->n_piece);
    return height;
}

void linear_copy_out(const struct linear_job *job, int piece, int panel, int r0, int rows,
                     const float *acc)
{
    int at = panel * LINEAR_PANEL, left = job->l->n_out - at;
    float *out = job->out + piece * job->piece_stride + r0 * job->ldo + at;
    if (left >= LINEAR_PANEL) {         /* a size that the compiler knows is a pair of moves */
        for (int r = 0; r < rows; r++)
            memcpy(out + r * job->ldo, acc + r * LINEAR_PANEL, LINEAR_PANEL * sizeof *acc);
        return;
    }
    for (int r = 0; r < rows; r++)
        memcpy(out + r * job->ldo, acc + r * LINEAR_PANEL, (size_t)left * sizeof *acc);
}

void linear_run(const struct linear *l, enum isa isa, enum compute compute, enum role role,
                const struct split_program *prog, float *out, int64_t ldo, int64_t piece_stride,
                const void *xq, int n_rows, int p0, int p1, void *scratch)
{
    struct linear_choice c = linear_choose(l->type, isa, compute, role);
    struct linear_job job = {.l = l, .choice = &c, .prog = prog, .out = out, .ldo = ldo,
                             .piece_stride = piece_stride, .x = xq,
                             .xs = linear_x_stride(c.family, l->k), .n_rows = n_rows, .p0 = p0,
                             .p1 = p1};
    if (c.family == FAMILY_TILES)
        linear_run_tiles(&job, scratch);
    else if (c.family == FAMILY_F32_BLAS)
        linear_run_blas(&job, scratch);
    else
        linear_run_lanes(&job, scratch);
    if (wrong.on && wrong.type == l->type && wrong.role == role && wrong.isa <= isa &&
        !refused[wrong.isa][l->type][role])
        out[p0 * LINEAR_PANEL] += 1.0f;
}
