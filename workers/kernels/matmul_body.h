/* matmul_body.h - the vector rows of matmul, over the names of vmath_vec.h. A file that includes it says how
 * tall a tile is (TALLEST rows, two registers wide), what the function is called (MATMUL_NAME) and, where
 * it is no f32 product, what a link of a chain is (MATMUL_LINK(v, w, sum)).
 * Ranks:  pure arithmetic. */
#include "workers/kernels/matmul.h"

#include "workers/kernels/vmath_vec.h"

#include <stdbool.h>

enum { WIDTH = 2 * VEC, STACK_MAX = SPLIT_PIECES_MAX + 8, ROWS_AT_ONCE = 8 * TALLEST };

#ifndef MATMUL_LINK
#define MATMUL_LINK vf_fma
#endif

#define FOLDED static inline __attribute__((always_inline))
#define UNROLL(...) _Pragma("GCC unroll 16") for (__VA_ARGS__)

/* acc [rows][2] = the chain over n columns of rows x (bytes ld apart), w [n, panel]. Three rows have one
 * pointer: what x86 can address without further ones. */
FOLDED void chain(const int rows, vf acc[TALLEST][2], const float *x, int64_t ld, const float *w, int n)
{
    const char *base[(TALLEST + 2) / 3];
    UNROLL (int r = 0; r < rows; r++)
        acc[r][0] = acc[r][1] = vf_set(0);
    UNROLL (int g = 0; g < (rows + 2) / 3; g++)
        base[g] = (const char *)x + 3 * g * ld;
    _Pragma("GCC unroll 4") for (int i = 0; i < n; i++) {
        vf a = vf_load(w), b = vf_load(w + VEC);
        UNROLL (int r = 0; r < rows; r++) {
            vf v = vf_set(*(const float *)(base[r / 3] + (r % 3) * ld));
            acc[r][0] = MATMUL_LINK(v, a, acc[r][0]);
            acc[r][1] = MATMUL_LINK(v, b, acc[r][1]);
        }
        UNROLL (int g = 0; g < (rows + 2) / 3; g++)
            base[g] += sizeof *x;
        w += MATMUL_PANEL;
    }
}

FOLDED void put(const int rows, vf acc[TALLEST][2], float *to, int64_t ldt, const float *bias)
{
    UNROLL (int r = 0; r < rows; r++)
        UNROLL (int i = 0; i < 2; i++) {
            vf v = acc[r][i];
            if (bias != NULL)
                v = v + vf_load(bias + i * VEC);
            vf_store(to + r * ldt + i * VEC, v);
        }
}

/* A tile's sums: rows of x from `x` on, WIDTH columns of w; slots of the stack are [rows][WIDTH]. */
struct tile { const struct matmul_call *c; const float *x, *w, *bias; float *out; int n_cols; };

FOLDED void copy_out(const struct tile *t, const int rows, int piece, const float *sums)
{
    float *out = t->out + piece * t->c->piece_stride;
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < t->n_cols; i++)
            out[r * t->c->ldo + i] = t->bias != NULL ? sums[r * WIDTH + i] + t->bias[i] : sums[r * WIDTH + i];
}

FOLDED void run_tile(const struct tile *t, const int rows)
{
    _Alignas(64) float stack[STACK_MAX][TALLEST * WIDTH];
    const struct split_program *p = t->c->prog;
    bool direct = t->n_cols == WIDTH && p->n_piece == 1;
    int top = 0;
    vf acc[TALLEST][2];
    for (int s = 0; s < p->n_seg; s++) {
        int64_t k = p->seg[s].k_begin;
        chain(rows, acc, t->x + k, t->c->ldx * (int64_t)sizeof(float), t->w + k * MATMUL_PANEL,
              p->seg[s].k_end - p->seg[s].k_begin);
        for (int f = 0; f < p->seg[s].folds; f++) {
            const float *before = stack[--top];
            UNROLL (int r = 0; r < rows; r++)
                UNROLL (int i = 0; i < 2; i++)
                    acc[r][i] = vf_load(before + r * WIDTH + i * VEC) + acc[r][i];
        }
        if (direct && s + 1 == p->n_seg) {
            put(rows, acc, t->out, t->c->ldo, t->bias);
            return;
        }
        put(rows, acc, stack[top++], WIDTH, NULL);
    }
    for (int i = 0; i < top; i++)
        copy_out(t, rows, i, stack[i]);
}

#define ROWS(n) static __attribute__((noinline)) void rows_##n(const struct tile *t) { run_tile(t, n); }
ROWS(1) ROWS(2) ROWS(3) ROWS(4) ROWS(5) ROWS(6)
#if TALLEST > 6
ROWS(7) ROWS(8) ROWS(9) ROWS(10) ROWS(11) ROWS(12) ROWS(13) ROWS(14)
#endif

static void (*const by_rows[TALLEST])(const struct tile *) = {
    rows_1, rows_2, rows_3, rows_4, rows_5, rows_6,
#if TALLEST > 6
    rows_7, rows_8, rows_9, rows_10, rows_11, rows_12, rows_13, rows_14
#endif
};

/* A panel over rows [r0, r1) in tiles of nearly one height: a short last one would waste registers. */
static void run_panel(const struct matmul_call *c, int64_t r0, int64_t r1, int panel)
{
    int64_t n = r1 - r0, tiles = (n + TALLEST - 1) / TALLEST;
    for (int at = 0; at < MATMUL_PANEL; at += WIDTH) {
        int column = panel * MATMUL_PANEL + at;
        if (column >= c->n)
            return;
        struct tile t = {.c = c, .w = c->packed + (int64_t)panel * MATMUL_PANEL * c->k + at,
                         .bias = c->bias != NULL ? c->bias + column : NULL,
                         .n_cols = c->n - column < WIDTH ? c->n - column : WIDTH};
        for (int64_t i = 0; i < tiles; i++) {
            int64_t a = r0 + n * i / tiles, b = r0 + n * (i + 1) / tiles;
            t.x = c->x + a * c->ldx;
            t.out = c->out + a * c->ldo + column;
            by_rows[b - a - 1](&t);
        }
    }
}

void MATMUL_NAME(const struct matmul_call *c, int64_t row0, int64_t row1, int panel0, int panel1)
{
    for (int64_t r = row0; r < row1; r += ROWS_AT_ONCE)
        for (int p = panel0; p < panel1; p++)
            run_panel(c, r, r + ROWS_AT_ONCE < row1 ? r + ROWS_AT_ONCE : row1, p);
}
