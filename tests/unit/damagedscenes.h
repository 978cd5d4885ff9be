/* damagedscenes.h - real renders as no scorer should take them, and as it should: worn but plain to see.
 * Everything is drawn from (seed, index), so a picture that fails can be looked at again. */
#ifndef MUSTER_DAMAGEDSCENES_H
#define MUSTER_DAMAGEDSCENES_H

#include "coordinator/scenes/scenepaint.h"

#include <math.h>
#include <string.h>

/* WORN: a little blur, noise of up to 8 levels, colours off by up to 6: still read. The rest: never.
 * BLOB: lumps in place of things. BLEND: two scenes through each other. NOISE: of 32 to 64 levels. EXTRA:
 * a third thing. EMPTY: none. HALF: a side of a thing is gone. */
enum damage { DAMAGE_NONE, DAMAGE_WORN, DAMAGE_BLOB, DAMAGE_BLEND, DAMAGE_NOISE, DAMAGE_EXTRA, DAMAGE_EMPTY,
              DAMAGE_HALF, N_DAMAGES };

static const char *const damage_names[N_DAMAGES] = {"none", "worn", "blob", "blend", "noise", "extra", "empty",
                                                    "half"};

static int damage_between(struct scene_random *r, int low, int high)
{
    return low + scene_uniform(r, high - low + 1);
}

static uint8_t damage_level(double v) { return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v + 0.5); }

/* About normal, of deviation 1: twelve uniform numbers. */
static double damage_normal(struct scene_random *r)
{
    double sum = -6;
    for (int i = 0; i < 12; i++)
        sum += (scene_uniform(r, 1 << 20) + 0.5) / (1 << 20);
    return sum;
}

static void damage_noise(struct scene_random *r, uint8_t *rgb, int side, double deviation)
{
    for (int i = 0; i < side * side * 3; i++)
        rgb[i] = damage_level(rgb[i] + deviation * damage_normal(r));
}

/* share percent to each of the four neighbours. */
static void damage_blur(uint8_t *rgb, int side, int share)
{
    static uint8_t from[64 * 64 * 3];
    memcpy(from, rgb, (size_t)(side * side * 3));
    for (int i = 0; i < side * side * 3; i++) {
        int row = i / 3 / side, col = i / 3 % side, at = from[i], sum = 0;
        sum += (row > 0 ? from[i - side * 3] : at) + (row < side - 1 ? from[i + side * 3] : at);
        sum += (col > 0 ? from[i - 3] : at) + (col < side - 1 ? from[i + 3] : at);
        rgb[i] = damage_level((at * (100.0 - 4 * share) + sum * share) / 100);
    }
}

static void damage_wear(struct scene_random *r, uint8_t *rgb, int side)
{
    int shift[3] = {damage_between(r, -6, 6), damage_between(r, -6, 6), damage_between(r, -6, 6)};
    damage_blur(rgb, side, damage_between(r, 0, 8));
    for (int i = 0; i < side * side * 3; i++)
        rgb[i] = damage_level(rgb[i] + shift[i % 3]);
    damage_noise(r, rgb, side, damage_between(r, 0, 8));
}

static void damage_ellipse(uint8_t *rgb, int side, double x, double y, double rx, double ry, struct rgb c)
{
    for (int row = 0; row < side; row++)
        for (int col = 0; col < side; col++) {
            double dx = (col + 0.5 - x) / rx, dy = (row + 0.5 - y) / ry;
            if (dx * dx + dy * dy <= 1)
                memcpy(rgb + (row * side + col) * 3, &c, 3);
        }
}

/* Three to five ellipses within the box. */
static void damage_lump(struct scene_random *r, uint8_t *rgb, int side, const struct scene_thing *t)
{
    int k = side / SCENE_SIDE, n = damage_between(r, 3, 5);
    for (int i = 0; i < n; i++) {
        double rx = t->size * k * damage_between(r, 12, 32) / 100.0;
        double ry = t->size * k * damage_between(r, 12, 32) / 100.0;
        double x = t->x * k + rx + (t->size * k - 2 * rx) * scene_uniform(r, 101) / 100;
        double y = t->y * k + ry + (t->size * k - 2 * ry) * scene_uniform(r, 101) / 100;
        damage_ellipse(rgb, side, x, y, rx, ry, scene_thing_shade(t->colour));
    }
}

static bool damage_meet(const struct scene_thing *a, const struct scene_thing *b)
{
    return a->x < b->x + b->size && b->x < a->x + a->size && a->y < b->y + b->size && b->y < a->y + a->size;
}

/* A thing more than the two, beside them. False: no room. */
static bool damage_add(struct scene_random *r, const struct scene *s, uint8_t *rgb, int side)
{
    for (int attempt = 0; attempt < 200; attempt++) {
        int size = damage_between(r, 9, 13);
        struct scene_thing t = {(enum thing)scene_uniform(r, N_THINGS), (enum colour)scene_uniform(r, N_COLOURS),
                                size, damage_between(r, 1, 31 - size), damage_between(r, 1, 31 - size)};
        if (damage_meet(&t, &s->thing[0]) || damage_meet(&t, &s->thing[1]))
            continue;
        scene_paint_thing(&t, s->place, side, rgb);
        return true;
    }
    return false;
}

/* The empty place over the left, right, upper or lower half of a thing. */
static void damage_cut(struct scene_random *r, const struct scene *s, uint8_t *rgb, int side)
{
    static uint8_t empty[64 * 64 * 3];
    const struct scene_thing *t = &s->thing[scene_uniform(r, s->n_things)];
    int k = side / SCENE_SIDE, half = scene_uniform(r, 4), size = (t->size + 2) * k, keep = size / 2;
    int x = (t->x - 1) * k + (half == 1 ? keep : 0), y = (t->y - 1) * k + (half == 3 ? keep : 0);
    int w = half < 2 ? size - keep : size, h = half < 2 ? size : size - keep;
    scene_paint_place(s->place, s->horizon, side, empty);
    for (int row = y; row < y + h; row++)
        memcpy(rgb + (row * side + x) * 3, empty + (row * side + x) * 3, (size_t)w * 3);
}

/* Scene index of a set, painted and damaged. */
static void damaged_scene(enum damage d, uint64_t seed, uint32_t index, enum scene_set set, int side,
                          struct scene *s, uint8_t *rgb)
{
    static uint8_t other[64 * 64 * 3];
    struct scene_random r = {seed, index, 0x7001, 0};
    struct scene second;
    int share;
    scene_draw(s, seed, index, set, d == DAMAGE_EXTRA ? 2 : 0);
    scene_paint(s, side, rgb);
    switch (d) {
    case DAMAGE_WORN: damage_wear(&r, rgb, side); break;
    case DAMAGE_BLOB:
        scene_paint_place(s->place, s->horizon, side, rgb);
        for (int i = 0; i < s->n_things; i++)
            damage_lump(&r, rgb, side, &s->thing[i]);
        break;
    case DAMAGE_BLEND:
        share = damage_between(&r, 35, 65);
        scene_draw(&second, seed + 1, index, set, 0);
        scene_paint(&second, side, other);
        for (int i = 0; i < side * side * 3; i++)
            rgb[i] = damage_level((rgb[i] * share + other[i] * (100 - share)) / 100.0);
        break;
    case DAMAGE_NOISE: damage_noise(&r, rgb, side, damage_between(&r, 32, 64)); break;
    case DAMAGE_EXTRA:
        while (!damage_add(&r, s, rgb, side)) {     /* no room: the next scene */
            scene_draw(s, seed, index += 1000000, set, 2);
            scene_paint(s, side, rgb);
        }
        break;
    case DAMAGE_EMPTY: scene_paint_place(s->place, s->horizon, side, rgb); break;
    case DAMAGE_HALF: damage_cut(&r, s, rgb, side); break;
    default: break;
    }
}

#endif
