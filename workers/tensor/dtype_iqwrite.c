/* dtype_iqwrite.c - encoders of IQ3_S, IQ3_XXS and IQ2_S: magnitudes become rows of a grid, signs apart.
 * Way:    for a scale, each group of 4 or 8 magnitudes is rounded to the grid's levels; a table made once
 *         knows the grid rows nearest to every such tuple, and the best of these is taken. Scales are
 *         tried around the one that fits the largest magnitude, then solved for by least squares. */
#include "workers/tensor/dtype.h"

#include "workers/tensor/dtype_iq.h"
#include "workers/tensor/dtype_k.h"
#include "workers/tensor/dtype_rows.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>

enum { NEAR = 12, GROUP_MAX = 8, SUB_MAX = 32, GROUPS_MAX = 8 };

/* Rows near a tuple of levels: near[tuple * NEAR], nearest first. A tuple is a number of base n_levels. */
struct near_table { uint16_t *near; };

struct grid_format {
    const struct iq_grid *grid;
    int n_levels, sub;          /* sub: elements that share a scale */
    float base, step, factor;   /* value = d * (base + step * code) * factor * level */
    int most;                   /* code of a scale: 0..most */
    int even_signs;             /* minus signs come in even numbers per 8 elements */
    struct near_table *table;
};

static struct near_table near_iq3_s, near_iq3_xxs, near_iq2_s;
static const struct grid_format formats[] = {
    {&iq_grid_iq3_s, 8, 32, 1.0f, 2.0f, 1.0f, 15, 0, &near_iq3_s},
    {&iq_grid_iq3_xxs, 8, 32, 0.5f, 1.0f, 0.5f, 15, 1, &near_iq3_xxs},
    {&iq_grid_iq2_s, 3, 16, 0.5f, 1.0f, 0.25f, 15, 0, &near_iq2_s},
};

static int n_tuples(const struct grid_format *f)
{
    int n = 1;
    for (int i = 0; i < f->grid->elements; i++)
        n *= f->n_levels;
    return n;
}

/* Puts row into the sorted list if it is nearer than the last one there. */
static void keep_near(uint16_t *near, int *distance, int row, int d)
{
    int at = NEAR;
    while (at > 0 && distance[at - 1] > d)
        at--;
    if (at == NEAR)
        return;
    memmove(near + at + 1, near + at, (size_t)(NEAR - 1 - at) * sizeof *near);
    memmove(distance + at + 1, distance + at, (size_t)(NEAR - 1 - at) * sizeof *distance);
    near[at] = (uint16_t)row;
    distance[at] = d;
}

static void near_rows(const struct grid_format *f, int tuple, uint16_t *near)
{
    const struct iq_grid *g = f->grid;
    int level[GROUP_MAX], distance[NEAR];
    for (int j = 0; j < g->elements; j++, tuple /= f->n_levels)
        level[j] = g->value[tuple % f->n_levels];
    for (int i = 0; i < NEAR; i++)
        distance[i] = INT32_MAX;
    for (int row = 0; row < g->n; row++) {
        int d = 0;
        for (int j = 0; j < g->elements; j++) {
            int away = iq_grid_value(g, row, j) - level[j];
            d += away * away;
        }
        keep_near(near, distance, row, d);
    }
}

/* Without memory for it the tables stay NULL and every row is tried: slow, and the same or better. */
static void make_tables(void)
{
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        const struct grid_format *f = &formats[i];
        uint16_t *near = malloc((size_t)n_tuples(f) * NEAR * sizeof *near);
        for (int t = 0; near != NULL && t < n_tuples(f); t++)
            near_rows(f, t, near + (size_t)t * NEAR);
        f->table->near = near;
    }
}

/* One sub-block: magnitudes a [sub] (negative where the sign had to be flipped), and what was chosen. */
struct sub_block { float a[SUB_MAX]; uint16_t row[GROUPS_MAX]; };

/* The tuple of the levels nearest to a / scale. */
static int tuple_of(const struct grid_format *f, const float *a, float inv)
{
    const int8_t *value = f->grid->value;
    int tuple = 0;
    for (int j = f->grid->elements - 1; j >= 0; j--) {
        float v = a[j] * inv;
        int level = 0;
        while (level < f->n_levels - 1 && v > 0.5f * (float)(value[level] + value[level + 1]))
            level++;
        tuple = tuple * f->n_levels + level;
    }
    return tuple;
}

/* Squared error of a group, its row chosen for this scale. xv, vv: sums for the least-squares scale. */
static float choose_row(const struct grid_format *f, const float *a, float scale, uint16_t *row, float *xv,
                        float *vv)
{
    const struct iq_grid *g = f->grid;
    const uint16_t *near = f->table->near;
    int n = near != NULL ? NEAR : g->n;
    float least = INFINITY;
    near += near != NULL ? (size_t)tuple_of(f, a, scale > 0.0f ? 1.0f / scale : 0.0f) * NEAR : 0;
    for (int i = 0; i < n; i++) {
        int r = near != NULL ? near[i] : i;
        float error = 0.0f, av = 0.0f, v2 = 0.0f;
        for (int j = 0; j < g->elements; j++) {
            float v = (float)iq_grid_value(g, r, j), away = scale * v - a[j];
            error += away * away;
            av += a[j] * v;
            v2 += v * v;
        }
        if (error < least) {
            least = error;
            *row = (uint16_t)r;
            *xv = av;
            *vv = v2;
        }
    }
    return least;
}

/* Error of the whole sub-block at this scale; *better: the scale that its rows would like best. */
static float try_scale(const struct grid_format *f, struct sub_block *s, float scale, float *better)
{
    float error = 0.0f, sum_xv = 0.0f, sum_vv = 0.0f;
    for (int k = 0; k < f->sub / f->grid->elements; k++) {
        float xv = 0.0f, vv = 0.0f;
        error += choose_row(f, s->a + k * f->grid->elements, scale, &s->row[k], &xv, &vv);
        sum_xv += xv;
        sum_vv += vv;
    }
    *better = sum_vv > 0.0f ? sum_xv / sum_vv : 0.0f;
    return error;
}

static float search_sub_scale(const struct grid_format *f, struct sub_block *s)
{
    float largest = 0.0f, best = 0.0f, least = INFINITY;
    for (int i = 0; i < f->sub; i++)
        largest = fabsf(s->a[i]) > largest ? fabsf(s->a[i]) : largest;
    if (!(largest > 1e-15f) || largest > 1e30f)
        return 0.0f;
    float top = (float)f->grid->value[f->n_levels - 1];
    for (int step = -6; step <= 7; step++) {
        float scale = largest / (top * (1.0f + 0.05f * (float)step));
        for (int turn = 0; turn < 3 && scale > 0.0f; turn++) {
            float better, error = try_scale(f, s, scale, &better);
            if (!(error < least) && turn > 0)
                break;
            if (error < least) {
                least = error;
                best = scale;
            }
            scale = better;
        }
    }
    return best;
}

/* Magnitudes and signs [sub / 8] of a sub-block. */
static void take_signs(const struct grid_format *f, const float *x, struct sub_block *s, uint8_t *signs)
{
    for (int i = 0; i < f->sub; i++)
        s->a[i] = fabsf(x[i]);
    for (int k = 0; k < f->sub / 8; k++) {
        int minus = 0, weakest = 0;
        for (int j = 0; j < 8; j++) {
            minus |= (x[8 * k + j] < 0.0f) << j;
            weakest = s->a[8 * k + j] < s->a[8 * k + weakest] ? j : weakest;
        }
        if (f->even_signs && __builtin_parity((unsigned)minus)) {
            minus ^= 1 << weakest;
            s->a[8 * k + weakest] = -s->a[8 * k + weakest];
        }
        signs[k] = (uint8_t)minus;
    }
}

/* A superblock's choices. */
struct chosen {
    float d;
    uint8_t code[K_BLOCK / 16];         /* of each sub-block's scale */
    uint8_t signs[K_BLOCK / 8];
    uint16_t row[K_BLOCK / 4];
};

static float scale_of(const struct grid_format *f, float d, int code)
{
    return d * (f->base + f->step * (float)code) * f->factor;
}

/* The best code of three around the wanted scale; its rows end in s. */
static int choose_code(const struct grid_format *f, struct sub_block *s, float d, float wanted)
{
    float unused, least = INFINITY, exact = d > 0.0f ? (wanted / (d * f->factor) - f->base) / f->step : 0.0f;
    int middle = exact < 0.0f ? 0 : exact > (float)f->most ? f->most : (int)(exact + 0.5f), best = middle;
    for (int c = middle > 0 ? middle - 1 : 0; c <= middle + 1 && c <= f->most; c++) {
        float error = try_scale(f, s, scale_of(f, d, c), &unused);
        if (error < least) {
            least = error;
            best = c;
        }
    }
    try_scale(f, s, scale_of(f, d, best), &unused);
    return best;
}

static void choose(const struct grid_format *f, const float *x, struct chosen *out)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_tables);
    struct sub_block sub[K_BLOCK / 16];
    float scale[K_BLOCK / 16], top = 0.0f;
    int n = K_BLOCK / f->sub, groups = f->sub / f->grid->elements;
    memset(out, 0, sizeof *out);
    for (int i = 0; i < n; i++) {
        take_signs(f, x + i * f->sub, &sub[i], out->signs + i * f->sub / 8);
        scale[i] = search_sub_scale(f, &sub[i]);
        top = scale[i] > top ? scale[i] : top;
    }
    out->d = dtype_f16_to_f32(dtype_f32_to_f16(top / (f->factor * (f->base + f->step * (float)f->most))));
    for (int i = 0; i < n; i++) {
        out->code[i] = (uint8_t)choose_code(f, &sub[i], out->d, scale[i]);
        memcpy(out->row + i * groups, sub[i].row, (size_t)groups * sizeof *out->row);
    }
}

QUANTISE(iq3_s)
{
    uint8_t *p = blocks;
    struct chosen c;
    for (int64_t b = 0; b < n / K_BLOCK; b++, p += 110, in += K_BLOCK) {
        choose(&formats[0], in, &c);
        memset(p, 0, 110);
        store_u16(p, dtype_f32_to_f16(c.d));
        for (int i = 0; i < 64; i++) {
            p[2 + i] = (uint8_t)c.row[i];
            p[66 + i / 8] |= (uint8_t)(c.row[i] >> 8 << i % 8);
        }
        memcpy(p + 74, c.signs, 32);
        for (int i = 0; i < 8; i++)
            p[106 + i / 2] |= (uint8_t)(c.code[i] << 4 * (i & 1));
    }
}

QUANTISE(iq3_xxs)
{
    uint8_t *p = blocks;
    struct chosen c;
    for (int64_t b = 0; b < n / K_BLOCK; b++, p += 98, in += K_BLOCK) {
        choose(&formats[1], in, &c);
        store_u16(p, dtype_f32_to_f16(c.d));
        for (int i = 0; i < 64; i++)
            p[2 + i] = (uint8_t)c.row[i];
        for (int i = 0; i < 8; i++) {
            uint32_t rest = (uint32_t)c.code[i] << 28;
            for (int k = 0; k < 4; k++)
                rest |= (uint32_t)(c.signs[4 * i + k] & 127) << 7 * k;
            store_u32(p + 66 + 4 * i, rest);
        }
    }
}

QUANTISE(iq2_s)
{
    uint8_t *p = blocks;
    struct chosen c;
    for (int64_t b = 0; b < n / K_BLOCK; b++, p += 82, in += K_BLOCK) {
        choose(&formats[2], in, &c);
        memset(p, 0, 82);
        store_u16(p, dtype_f32_to_f16(c.d));
        for (int i = 0; i < 32; i++) {
            p[2 + i] = (uint8_t)c.row[i];
            p[66 + i / 4] |= (uint8_t)(c.row[i] >> 8 << 2 * (i % 4));
        }
        memcpy(p + 34, c.signs, 32);
        for (int i = 0; i < 16; i++)
            p[74 + i / 2] |= (uint8_t)(c.code[i] << 4 * (i & 1));
    }
}
