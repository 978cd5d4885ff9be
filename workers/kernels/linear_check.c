/* The start-up check of the products: every (type, role) row of an instruction set against plain C
 * on a small known case, and cblas_sgemm in the one shape that it is used in. Integer and f32 rows
 * must give plain C's bits; bf16 rows its values within their rounding. */
#include "workers/kernels/linear_run.h"

#include <cblas.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    N_OUT = 2 * LINEAR_PANEL,
    K = 160, K_ORIGIN = 160,    /* 5 blocks, from inside one superblock into the next */
    ROWS = 31                   /* 16 + 8 + 4 + 2 + 1: every row count that kernels are made for */
};

/* Everything of one check; static, so that the check neither allocates nor needs a large stack. */
static struct {
    _Alignas(64) uint8_t packed[N_OUT * 1024];
    _Alignas(64) uint8_t xq[(ROWS + 1) * 1024];
    _Alignas(64) uint8_t scratch[1 << 20];
    float x[ROWS * K], expect[ROWS * N_OUT], expect_f32[ROWS * N_OUT], got[ROWS * N_OUT];
    float a[LINEAR_BLAS_ROWS][LINEAR_BLAS_K + 16], b[LINEAR_BLAS_K][LINEAR_BLAS_COLUMNS];
    float c[2][LINEAR_BLAS_ROWS][LINEAR_BLAS_COLUMNS];
} s;

static uint32_t next(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* In [-1, 1). */
static float number(uint32_t *state) { return (float)next(state) * 0x1p-23f - 1.0f; }

/* n f16 numbers of either sign, of size 2^-7 to 2^-6: scales. */
static void fill_scales(uint8_t *at, size_t n, uint32_t *state)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t r = next(state);
        uint16_t h = (uint16_t)(0x2000 | (r & 0x3ff) | (r & 0x8000));
        memcpy(at + 2 * i, &h, 2);
    }
}

static void fill_bytes(uint8_t *at, size_t n, uint32_t low, uint32_t high, uint32_t *state)
{
    for (size_t i = 0; i < n; i++)
        at[i] = (uint8_t)(low + next(state) % (high - low));
}

/* A packed matrix of random codes and scales, or of random numbers. */
static struct linear fill_linear(enum dtype type)
{
    struct linear l = {
        .type = type, .n_out = N_OUT, .k = K, .k_origin = K_ORIGIN, .packed = s.packed};
    struct linear_format f = linear_format(type);
    uint32_t state = 17u + (uint32_t)type;
    for (int p = 0; p < N_OUT / LINEAR_PANEL; p++) {
        struct linear_panel w = linear_panel_at(&l, p, 0);
        uint8_t *q = (uint8_t *)w.q, *h = (uint8_t *)w.h, *scale = (uint8_t *)w.s;
        size_t n = (size_t)LINEAR_PANEL * K, n_scale = (size_t)f.s_parts * n / 32;
        if (f.layout == LAYOUT_F32) {
            for (size_t i = 0; i < n; i++)
                ((float *)q)[i] = number(&state);
        } else if (f.layout == LAYOUT_CODES) {
            fill_bytes(q, (size_t)f.q_bytes * K / 32, 0, 256, &state);
            fill_scales(h, (size_t)(scale - h) / 2, &state);
            if (f.s_width == 2)
                fill_scales(scale, n_scale, &state);
            else
                fill_bytes(scale, n_scale, f.e8m0 ? 116 : 0, f.e8m0 ? 124 : 64, &state);
        } else {
            for (size_t i = 0; i < n; i++) {
                float v = number(&state);
                ((uint16_t *)q)[i] =
                    f.layout == LAYOUT_F16 ? dtype_f32_to_f16(v) : dtype_f32_to_bf16(v);
            }
        }
    }
    return l;
}

static void run(const struct linear *l, enum isa isa, enum compute compute, enum role role,
                int rows, int panels, float *out)
{
    struct split_program whole = split_whole(K);
    linear_x_prepare(l, isa, compute, role, s.xq, s.x, K, rows, K, 0, rows);
    linear_run(l, isa, compute, role, &whole, out, N_OUT, 0, s.xq, rows, 0, panels, s.scratch);
}

/* got against expect: the same bits, or near ones where `close` allows an error power. */
static bool agree(const float *expect, int rows, int panels, double close)
{
    double error = 0, power = 0;
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < panels * LINEAR_PANEL; i++) {
            double e = (double)expect[r * N_OUT + i], g = (double)s.got[r * N_OUT + i];
            if (close == 0 && memcmp(expect + r * N_OUT + i, s.got + r * N_OUT + i, sizeof(float)))
                return false;
            error += (g - e) * (g - e);
            power += e * e;
        }
    return close == 0 || error <= close * power;        /* false for a NaN */
}

/* Row and panel counts that reach every kernel of a family. */
static const struct { int rows, panels; } shapes[] = {{31, 2}, {9, 2}, {6, 2}, {15, 1}};

static bool default_row_right(const struct linear *l, enum isa isa, enum role role)
{
    int family = linear_family(l->type, isa, COMPUTE_DEFAULT, role);
    /* tiles round x and weights to bf16, while expect has x in 8 bits: 1e-4 apart at most */
    double close = family == FAMILY_TILES ? 1e-3 : family == FAMILY_BF16 ? 1e-10 : 0;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        run(l, isa, COMPUTE_DEFAULT, role, shapes[i].rows, shapes[i].panels, s.got);
        if (!agree(s.expect, shapes[i].rows, shapes[i].panels, close))
            return false;
    }
    return true;
}

static bool f32_row_right(const struct linear *l, enum isa isa, enum role role, int rows)
{
    run(l, isa, COMPUTE_F32, role, rows, 2, s.got);
    return agree(s.expect_f32, rows, 2, 0);
}

static int append(char *list, size_t cap, enum isa isa, enum dtype type, enum role role)
{
    size_t used = strlen(list);
    if (used < cap)
        snprintf(list + used, cap - used, "%s%s:%s/%s", used ? "," : "", isa_name(isa),
                 dtype_info((int)type)->name, role == ROLE_KIND_PROMPT ? "prompt" : "generated");
    return 1;
}

/* Refuses rows from the top until what is left is right. */
static int check_type(enum dtype type, enum isa isa, char *list, size_t cap)
{
    struct linear l = fill_linear(type);
    bool plain = linear_format(type).layout != LAYOUT_CODES;
    int rows_f32 = plain ? ROWS : 7, refused = 0;
    run(&l, ISA_SCALAR, COMPUTE_DEFAULT, ROLE_KIND_GENERATED, ROWS, 2, s.expect);
    run(&l, ISA_SCALAR, COMPUTE_F32, ROLE_KIND_GENERATED, rows_f32, 2, s.expect_f32);
    for (int role = 0; role < 2; role++)
        for (int i = (int)isa; i > ISA_SCALAR; i--) {
            if (!linear_has_row((enum isa)i, type))
                continue;
            if (default_row_right(&l, (enum isa)i, (enum role)role) &&
                f32_row_right(&l, (enum isa)i, (enum role)role, rows_f32))
                break;
            linear_refuse((enum isa)i, type, (enum role)role);
            refused += append(list, cap, (enum isa)i, type, (enum role)role);
        }
    return refused;
}

/* Tests plant a wrong row: MUSTER_TEST_WRONG_KERNEL=type/role. */
static void plant(enum isa isa)
{
    const char *wish = getenv("MUSTER_TEST_WRONG_KERNEL"), *slash = wish ? strchr(wish, '/') : NULL;
    char name[16] = "";
    if (slash && (size_t)(slash - wish) < sizeof name)
        memcpy(name, wish, (size_t)(slash - wish));
    const struct dtype_info *info = dtype_named(name);
    if (info)
        linear_plant_wrong(isa, info->id,
                           !strcmp(slash, "/prompt") ? ROLE_KIND_PROMPT : ROLE_KIND_GENERATED);
}

static void tile(int n)
{
    linear_blas_tile(&s.a[0][0], LINEAR_BLAS_K + 16, &s.b[0][0], LINEAR_BLAS_K, true,
                     &s.c[n][0][0]);
    linear_blas_tile(&s.a[0][0], LINEAR_BLAS_K + 16, &s.b[0][0], 96, false, &s.c[n][0][0]);
}

/* Tile 0 is near what plain C says. */
static bool tile_right(void)
{
    for (int r = 0; r < LINEAR_BLAS_ROWS; r++)
        for (int i = 0; i < LINEAR_BLAS_COLUMNS; i++) {
            double sum = 0, size = 1;
            for (int k = 0; k < LINEAR_BLAS_K; k++) {
                double v = (double)s.a[r][k] * (double)s.b[k][i] * (k < 96 ? 2 : 1);
                sum += v;
                size += v < 0 ? -v : v;
            }
            double error = sum - (double)s.c[0][r][i];
            if (!(error < 1e-5 * size && error > -1e-5 * size))
                return false;
        }
    return true;
}

/* A number of the tile must depend on its row of x and its column of w, not on where they lie or on
 * what lies beside them: row r (column i) is put among copies of itself, which must all come out as
 * it. */
static bool tile_place_invariant(void)
{
    float a[LINEAR_BLAS_ROWS][LINEAR_BLAS_K + 16], b[LINEAR_BLAS_K][LINEAR_BLAS_COLUMNS];
    memcpy(a, s.a, sizeof a);
    memcpy(b, s.b, sizeof b);
    bool same = true;
    for (int r = 0; r < LINEAR_BLAS_ROWS; r++) {
        for (int j = 0; j < LINEAR_BLAS_ROWS; j++)
            memcpy(s.a[j], a[r], sizeof a[r]);
        tile(1);
        for (int j = 0; j < LINEAR_BLAS_ROWS; j++)
            same &= !memcmp(s.c[1][j], s.c[0][r], sizeof s.c[1][j]);
    }
    memcpy(s.a, a, sizeof a);
    for (int i = 0; i < LINEAR_BLAS_COLUMNS; i += 3) {
        for (int k = 0; k < LINEAR_BLAS_K; k++)
            for (int j = 0; j < LINEAR_BLAS_COLUMNS; j++)
                s.b[k][j] = b[k][i];
        tile(1);
        for (int r = 0; r < LINEAR_BLAS_ROWS; r++)
            for (int j = 0; j < LINEAR_BLAS_COLUMNS; j++)
                same &= !memcmp(&s.c[1][r][j], &s.c[0][r][i], sizeof(float));
    }
    memcpy(s.b, b, sizeof b);
    return same;
}

static bool blas_tiles_right(void)
{
    uint32_t state = 5;
    for (int r = 0; r < LINEAR_BLAS_ROWS; r++)
        for (int k = 0; k < LINEAR_BLAS_K + 16; k++)
            s.a[r][k] = number(&state);
    for (int k = 0; k < LINEAR_BLAS_K; k++)
        for (int i = 0; i < LINEAR_BLAS_COLUMNS; i++)
            s.b[k][i] = number(&state);
    /* Ours are the only threads, and inside a team of one OpenBLAS would start its own. */
    openblas_set_num_threads(1);
    tile(0);
    return tile_right() && tile_place_invariant();
}

int linear_self_check(enum isa isa, char *list, size_t cap)
{
    int refused = 0;
    uint32_t state = 3;
    if (cap)
        *list = 0;
    linear_reset();
    plant(isa);
    for (int i = 0; i < ROWS * K; i++)
        s.x[i] = number(&state) * (i % 29 == 0 ? 4.0f : 1.0f);
    for (int type = 0; type < DT_MAX; type++) {
        enum layout layout = linear_format((enum dtype)type).layout;
        if (layout != LAYOUT_NONE && layout != LAYOUT_FILE)
            refused += check_type((enum dtype)type, isa, list, cap);
    }
    linear_set_blas_tiles(blas_tiles_right());
    return refused;
}

/* One entry "isa:type/role". */
static void disable(const char *entry)
{
    char isa[16], type[16], role[16];
    if (sscanf(entry, "%15[^:]:%15[^/]/%15s", isa, type, role) != 3)
        return;
    const struct dtype_info *info = dtype_named(type);
    if (isa_named(isa) >= 0 && info)
        linear_refuse((enum isa)isa_named(isa), info->id,
                      !strcmp(role, "prompt") ? ROLE_KIND_PROMPT : ROLE_KIND_GENERATED);
}

void linear_disable(const char *list, bool blas_tiles)
{
    while (*list) {
        char entry[48] = "";
        size_t n = strcspn(list, ",");
        if (n < sizeof entry)
            memcpy(entry, list, n);
        disable(entry);
        list += n + (list[n] == ',');
    }
    linear_set_blas_tiles(blas_tiles && linear_blas_tiles_ok());
}
