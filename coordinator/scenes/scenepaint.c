#include "coordinator/scenes/scenepaint.h"

#include "proto/err.h"

#include <string.h>

/* Coordinates: a thing's box is 64 x 64 units. On the picture everything is counted in 64ths of a pixel
 * times nothing else: unit u of a box of `w` pixels at x lies at 64 x + u w, and the samples of a
 * pixel at odd multiples of 4. All exact. */
enum { UNITS = 64, SAMPLES = 8, COVER = SAMPLES * SAMPLES, POINTS_MAX = 10, PARTS_MAX = 5 };

static const struct rgb thing_shade[N_COLOURS] = {{204, 36, 36},  {238, 130, 22}, {246, 224, 40},
                                                  {24, 118, 46},  {36, 66, 214},  {132, 44, 168},
                                                  {246, 246, 246}, {26, 26, 30}};
static const struct rgb sky_shade[N_PLACES] = {{150, 200, 236}, {172, 202, 226}, {168, 188, 206},
                                               {20, 24, 60},    {246, 216, 172}, {172, 186, 208}};
static const struct rgb ground_shade[N_PLACES] = {{128, 194, 92}, {58, 132, 176}, {108, 108, 114},
                                                  {20, 24, 60},   {212, 176, 108}, {236, 240, 246}};

struct rgb scene_thing_shade(enum colour c) { return thing_shade[c]; }
struct rgb scene_ground_shade(enum place p) { return ground_shade[p]; }

/* Pairs closer than 20 in CIE L*a*b* (the test computes all 48). */
bool scene_outlined(enum colour c, enum place p)
{
    return (c == COLOUR_WHITE && p == PLACE_SNOW) || (c == COLOUR_BLACK && p == PLACE_NIGHT);
}

/* --- shapes */

enum role { BODY, SHADED, DARK, LIGHT, TRUNK };

struct part {
    enum role role;
    int n;                      /* points of a polygon; 0: an ellipse {x, y} = centre, then radii */
    struct { int x, y; } point[POINTS_MAX];
};

static const struct part car[] = {
    {BODY, 4, {{15, 31}, {23, 13}, {44, 13}, {54, 31}}},
    {LIGHT, 4, {{21, 29}, {26, 17}, {42, 17}, {48, 29}}},
    {BODY, 4, {{0, 29}, {64, 29}, {64, 51}, {0, 51}}},
    {DARK, 0, {{16, 51}, {9, 9}}},
    {DARK, 0, {{48, 51}, {9, 9}}},
};
static const struct part house[] = {
    {BODY, 4, {{7, 29}, {57, 29}, {57, 64}, {7, 64}}},
    {SHADED, 3, {{0, 30}, {32, 1}, {64, 30}}},
    {DARK, 4, {{26, 44}, {38, 44}, {38, 64}, {26, 64}}},
};
static const struct part tree[] = {
    {TRUNK, 4, {{27, 40}, {37, 40}, {37, 64}, {27, 64}}},
    {BODY, 0, {{32, 23}, {23, 22}}},
};
static const struct part boat[] = {
    {DARK, 4, {{29, 4}, {33, 4}, {33, 44}, {29, 44}}},
    {BODY, 3, {{34, 4}, {62, 40}, {34, 40}}},
    {BODY, 3, {{27, 10}, {27, 40}, {6, 40}}},
    {SHADED, 4, {{0, 43}, {64, 43}, {50, 61}, {14, 61}}},
};
static const struct part ball[] = {
    {BODY, 0, {{32, 32}, {31, 31}}},
    {SHADED, 4, {{3, 28}, {61, 28}, {61, 36}, {3, 36}}},
};
static const struct part star[] = {
    {BODY, 10, {{32, 1}, {40, 23}, {63, 24}, {45, 39}, {51, 62}, {32, 49}, {13, 62}, {19, 39}, {1, 24},
                {24, 23}}},
};

#define PARTS(a) {a, sizeof a / sizeof *a}
static const struct { const struct part *part; size_t n; } shapes[N_THINGS] = {
    PARTS(car), PARTS(house), PARTS(tree), PARTS(boat), PARTS(ball), PARTS(star),
};

static struct rgb role_shade(enum role role, enum colour c)
{
    struct rgb s = thing_shade[c];
    switch (role) {
    case SHADED: return (struct rgb){(uint8_t)(s.r * 3 / 4), (uint8_t)(s.g * 3 / 4), (uint8_t)(s.b * 3 / 4)};
    case DARK: return (struct rgb){44, 40, 40};
    case LIGHT: return (struct rgb){206, 228, 240};
    case TRUNK: return (struct rgb){112, 74, 42};
    default: return s;
    }
}

/* Pixels that a box touches, a margin of one around it for the outline. */
struct box { int x0, y0, x1, y1, px, py, w, h; };

static struct box box_of(const struct scene_box *at, int side)
{
    int k = side / SCENE_SIDE;
    struct box b = {.px = at->x * k, .py = at->y * k, .w = at->w * k, .h = at->h * k};
    b.x0 = b.px > 1 ? b.px - 1 : 0;
    b.y0 = b.py > 1 ? b.py - 1 : 0;
    b.x1 = b.px + b.w + 1 < side ? b.px + b.w + 1 : side;
    int lower = b.py + b.h + (at->longer > 0 ? at->longer * k : 0) + 1;
    b.y1 = lower < side ? lower : side;
    return b;
}

/* --- coverage: a row of samples at a time. Sample n of a row lies at x = 8 n + 4, so that bit n % 8 of byte
 * n / 8 is its own and a byte is a pixel. */

struct sample_row { uint8_t bits[2 * SCENE_SIDE]; };

static int64_t ceil_div(int64_t a, int64_t b) { return a >= 0 ? (a + b - 1) / b : -(-a / b); }     /* b > 0 */

/* Turns over the samples first .. end - 1, as far as there are any. */
static void turn_over(struct sample_row *r, int64_t first, int64_t end)
{
    first = first < 0 ? 0 : first;
    end = end > SAMPLES * 2 * SCENE_SIDE ? SAMPLES * 2 * SCENE_SIDE : end;
    for (int64_t n = first; n < end;) {
        int64_t stop = (n / SAMPLES + 1) * SAMPLES < end ? (n / SAMPLES + 1) * SAMPLES : end;
        r->bits[n / SAMPLES] ^= (uint8_t)(0xff << n % SAMPLES & 0xff >> ((n / SAMPLES + 1) * SAMPLES - stop));
        n = stop;
    }
}

/* dx^2 ry^2 + dy^2 rx^2 <= rx^2 ry^2, solved for |dx|. */
static void ellipse_row(const struct part *p, int y, const struct box *b, struct sample_row *r)
{
    int64_t cx = 64 * b->px + p->point[0].x * b->w, dy = y - (64 * b->py + p->point[0].y * b->h);
    int64_t rx = (int64_t)p->point[1].x * b->w, ry = (int64_t)p->point[1].y * b->h;
    int64_t room = rx * rx * ry * ry - dy * dy * rx * rx, reach = 0;
    if (room < 0)
        return;
    room /= ry * ry;
    for (int64_t bit = 1 << 20; bit > 0; bit /= 2)      /* the whole root */
        if ((reach + bit) * (reach + bit) <= room)
            reach += bit;
    turn_over(r, ceil_div(cx - reach - 4, 8), ceil_div(cx + reach - 3, 8));
}

/* An edge that passes the row turns over all samples to its left: those with (x - ax) |by - ay| < (bx -
 * ax) (y - ay), signed as by - ay. */
static void polygon_row(const struct part *p, int y, const struct box *b, struct sample_row *r)
{
    for (int i = 0, j = p->n - 1; i < p->n; j = i++) {
        int64_t ax = 64 * b->px + p->point[i].x * b->w, ay = 64 * b->py + p->point[i].y * b->h;
        int64_t bx = 64 * b->px + p->point[j].x * b->w, by = 64 * b->py + p->point[j].y * b->h;
        if ((ay > y) == (by > y))
            continue;
        int64_t rise = by > ay ? by - ay : ay - by, reach = (by > ay ? 1 : -1) * (bx - ax) * (y - ay);
        turn_over(r, 0, ceil_div(reach + (ax - 4) * rise, 8 * rise));
    }
}

/* Samples of a row of pixels that lie in any of the parts, 0..64 for each pixel: cover [side]. */
static void cover_row(const struct part *part, size_t n, int row, const struct box *b, int side,
                      uint8_t *cover)
{
    memset(cover, 0, (size_t)side);
    for (int k = 0; k < SAMPLES; k++) {
        struct sample_row any = {{0}};
        for (size_t i = 0; i < n; i++) {
            struct sample_row one = {{0}};
            int y = row * 64 + 4 + 8 * k;
            (part[i].n == 0 ? ellipse_row : polygon_row)(&part[i], y, b, &one);
            for (int col = b->x0; col < b->x1; col++)
                any.bits[col] |= one.bits[col];
        }
        for (int col = b->x0; col < b->x1; col++)
            cover[col] += (uint8_t)__builtin_popcount(any.bits[col]);
    }
}

static uint8_t mix(int under, int over, int cover)
{
    return (uint8_t)((under * (COVER - cover) + over * cover + COVER / 2) / COVER);
}

static void blend(uint8_t *pixel, struct rgb c, int cover)
{
    pixel[0] = mix(pixel[0], c.r, cover);
    pixel[1] = mix(pixel[1], c.g, cover);
    pixel[2] = mix(pixel[2], c.b, cover);
}

/* A part as the box has it: a trunk that is longer, or shorter, than it should be, a star (the only
 * part of so many points) whose inner corners, every second one, lie further from its middle. */
static struct part bent(const struct part *p, const struct scene_box *box)
{
    enum { MIDDLE_X = 32, MIDDLE_Y = 34 };
    struct part out = *p;
    for (int i = 0; i < out.n && out.role == TRUNK && box->longer != 0; i++)
        if (out.point[i].y == UNITS)
            out.point[i].y += UNITS * box->longer / box->h;
    for (int i = 1; out.n == POINTS_MAX && box->fatter != 0 && i < out.n; i += 2) {
        out.point[i].x = MIDDLE_X + (out.point[i].x - MIDDLE_X) * (8 + box->fatter) / 8;
        out.point[i].y = MIDDLE_Y + (out.point[i].y - MIDDLE_Y) * (8 + box->fatter) / 8;
    }
    return out;
}

void scene_silhouette_in(enum thing kind, const struct scene_box *box, int side, uint8_t *coverage)
{
    struct box b = box_of(box, side);
    memset(coverage, 0, (size_t)(side * side));
    struct part part[PARTS_MAX];
    for (size_t i = 0; i < shapes[kind].n; i++)
        part[i] = bent(&shapes[kind].part[i], box);
    for (int row = b.y0; row < b.y1; row++)
        cover_row(part, shapes[kind].n, row, &b, side, coverage + row * side);
}

void scene_silhouette(const struct scene_thing *t, int side, uint8_t *coverage)
{
    struct scene_box box = scene_box_of(t);
    scene_silhouette_in(t->kind, &box, side, coverage);
}

/* A ring of one pixel around the silhouette: dark around white, light around black. */
static void paint_outline(enum thing kind, enum colour c, const struct scene_box *box, int side, uint8_t *rgb)
{
    uint8_t cover[64 * 64];
    struct rgb ring = c == COLOUR_BLACK ? (struct rgb){168, 172, 190} : (struct rgb){96, 104, 120};
    struct box b = box_of(box, side);
    scene_silhouette_in(kind, box, side, cover);
    for (int row = b.y0; row < b.y1; row++)
        for (int col = b.x0; col < b.x1; col++) {
            const uint8_t *at = cover + row * side + col;
            bool near = (col > 0 && at[-1] >= COVER / 2) || (col + 1 < side && at[1] >= COVER / 2) ||
                        (row > 0 && at[-side] >= COVER / 2) || (row + 1 < side && at[side] >= COVER / 2);
            if (near && *at < COVER / 2)
                blend(rgb + (row * side + col) * 3, ring, COVER);
        }
}

void scene_paint_thing_in(enum thing kind, enum colour c, const struct scene_box *box, enum place p, int side,
                          uint8_t *rgb)
{
    struct box b = box_of(box, side);
    ASSERT(side == SCENE_SIDE || side == 2 * SCENE_SIDE);
    if (scene_outlined(c, p))
        paint_outline(kind, c, box, side, rgb);
    for (size_t i = 0; i < shapes[kind].n; i++) {
        const struct part part = bent(&shapes[kind].part[i], box);
        struct rgb shade = role_shade(part.role, c);
        uint8_t cover[2 * SCENE_SIDE];
        for (int row = b.y0; row < b.y1; row++) {
            cover_row(&part, 1, row, &b, side, cover);
            for (int col = b.x0; col < b.x1; col++)
                if (cover[col] > 0)
                    blend(rgb + (row * side + col) * 3, shade, cover[col]);
        }
    }
}

void scene_paint_thing(const struct scene_thing *t, enum place p, int side, uint8_t *rgb)
{
    struct scene_box box = scene_box_of(t);
    scene_paint_thing_in(t->kind, t->colour, &box, p, side, rgb);
}

void scene_paint_place(enum place p, int horizon, int side, uint8_t *rgb)
{
    int k = side / SCENE_SIDE, dashes = (horizon + SCENE_SIDE) / 2 * k;
    for (int row = 0; row < side; row++)
        for (int col = 0; col < side; col++) {
            struct rgb c = row < horizon * k ? sky_shade[p] : ground_shade[p];
            if (p == PLACE_ROAD && row >= dashes && row < dashes + k && col / (4 * k) % 2 == 0)
                c = (struct rgb){232, 228, 196};
            uint8_t *pixel = rgb + (row * side + col) * 3;
            pixel[0] = c.r;
            pixel[1] = c.g;
            pixel[2] = c.b;
        }
}

void scene_paint(const struct scene *s, int side, uint8_t *rgb)
{
    scene_paint_place(s->place, s->horizon, side, rgb);
    for (int i = 0; i < s->n_things; i++)
        scene_paint_thing(&s->thing[i], s->place, side, rgb);
}

void scene_to_floats(const uint8_t *rgb, int side, float *chw)
{
    int area = side * side;
    for (int i = 0; i < area * 3; i++)
        chw[i % 3 * area + i / 3] = (float)rgb[i] / 127.5f - 1;
}

void scene_from_floats(const float *chw, int side, uint8_t *rgb)
{
    int area = side * side;
    for (int i = 0; i < area * 3; i++) {
        float v = (chw[i % 3 * area + i / 3] + 1) * 127.5f + 0.5f;
        rgb[i] = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
    }
}
