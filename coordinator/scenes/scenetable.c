#include "coordinator/scenes/scenetable.h"

#include <stdlib.h>
#include <string.h>

static float shade_of(enum colour c, int channel)
{
    struct rgb s = scene_thing_shade(c);
    return channel == 0 ? s.r : channel == 1 ? s.g : s.b;
}

/* The thing alone, painted at (1, 1) on a ground of one grey, into planes. */
static void paint_on(struct scene_thing t, enum place p, int side, int grey,
                     float (*planes)[SCENETABLE_PLANE])
{
    uint8_t rgb[4 * SCENE_SIDE * SCENE_SIDE * 3];
    t.x = t.y = 1;
    memset(rgb, grey, (size_t)(side * side * 3));
    scene_paint_thing(&t, p, side, rgb);
    scenetable_planes(rgb, side, planes);
}

/* Of the unknown maps: on black a thing is key + w colour, so two colours give w and key, and the
 * difference between grounds of white and black is 255 (1 - cover). */
struct measured { float light[3][SCENETABLE_PLANE], dark[3][SCENETABLE_PLANE], plain[3][SCENETABLE_PLANE],
                  on_black[3][SCENETABLE_PLANE], on_white[3][SCENETABLE_PLANE]; };

static void measure(struct scenetable_map *m, const struct measured *v, int size, enum colour own)
{
    float contrast = shade_of(COLOUR_WHITE, 0) - shade_of(COLOUR_BLACK, 0);
    for (int row = 0; row < size + 2; row++)
        for (int col = 0; col < size + 2; col++) {
            int from = (row + 1) * SCENETABLE_STRIDE + col + 1, to = row * SCENETABLE_MAP + col;
            m->cover[to] = 1 - (v->on_white[0][from] - v->on_black[0][from]) / 255;
            m->w[to] = (v->light[0][from] - v->dark[0][from]) / contrast;
            m->w_squares += m->w[to] * m->w[to];
            m->ring[to] = m->cover[to] - 1 + (v->plain[0][from] - v->dark[0][from]) / 255;
            for (int ch = 0; ch < 3; ch++) {
                m->key[ch][to] = v->on_black[ch][from] - m->w[to] * shade_of(own, ch);
                if (m->ring[to] > 0.2f && m->ring[to] == m->cover[to])      /* ring and nothing else */
                    m->ring_shade[ch] = m->key[ch][to] / m->ring[to];
            }
        }
}

static void measure_looks(struct scenetable_map *m, enum thing kind, int size, int side, struct measured *v)
{
    static const enum place place[N_LOOKS] = {PLACE_ROAD, PLACE_SNOW, PLACE_NIGHT};
    static const enum colour own[N_LOOKS] = {COLOUR_BLACK, COLOUR_WHITE, COLOUR_BLACK};
    paint_on((struct scene_thing){kind, COLOUR_WHITE, size}, PLACE_ROAD, side, 0, v->light);
    paint_on((struct scene_thing){kind, COLOUR_BLACK, size}, PLACE_ROAD, side, 0, v->dark);
    paint_on((struct scene_thing){kind, COLOUR_BLACK, size}, PLACE_ROAD, side, 255, v->plain);
    for (int look = 0; look < N_LOOKS; look++) {
        paint_on((struct scene_thing){kind, own[look], size}, place[look], side, 0, v->on_black);
        paint_on((struct scene_thing){kind, own[look], size}, place[look], side, 255, v->on_white);
        measure(&m[look], v, size, own[look]);
    }
}

static void fill_places(struct scenetable *t)
{
    uint8_t rgb[SCENE_SIDE * SCENE_SIDE * 3];
    for (int p = 0; p < N_PLACES; p++)
        for (int h = 0; h < SCENETABLE_HORIZONS; h++) {
            int horizon = p == PLACE_NIGHT ? 0 : SCENETABLE_HORIZON_MIN + h;
            scene_paint_place((enum place)p, horizon, SCENE_SIDE, rgb);
            scenetable_planes(rgb, SCENE_SIDE, t->place[p][h]);
        }
}

struct scenetable *scenetable_new(int side, struct err *err)
{
    struct scenetable *t = calloc(1, sizeof *t);
    struct measured *v = calloc(1, sizeof *v);
    if (t == NULL || v == NULL) {
        err_set(err, ERR_NOMEM, "no memory for the scorer's tables");
        free(t);
        free(v);
        return NULL;
    }
    for (int kind = 0; kind < N_THINGS; kind++)
        for (int size = SCENETABLE_SIZE_MIN; size <= SCENETABLE_SIZE_MAX; size++)
            measure_looks(t->map[kind][size - SCENETABLE_SIZE_MIN], (enum thing)kind, size, side, v);
    free(v);
    fill_places(t);
    return t;
}

void scenetable_destroy(struct scenetable *t) { free(t); }

void scenetable_put(const struct scenetable *t, const struct scene_thing *thing, enum place p,
                    float (*planes)[SCENETABLE_PLANE])
{
    const struct scenetable_map *m = scenetable_map(t, thing, p);
    for (int ch = 0; ch < 3; ch++) {
        float shade = shade_of(thing->colour, ch);
        for (int row = 0; row < thing->size + 2; row++) {
            float *out = planes[ch] + (thing->y + row) * SCENETABLE_STRIDE + thing->x;
            const float *cover = m->cover + row * SCENETABLE_MAP, *w = m->w + row * SCENETABLE_MAP;
            const float *key = m->key[ch] + row * SCENETABLE_MAP;
            for (int col = 0; col < thing->size + 2; col++)
                out[col] += key[col] - cover[col] * out[col] + w[col] * shade;
        }
    }
}

void scenetable_put_place(const struct scenetable *t, enum place p, int horizon,
                          float (*planes)[SCENETABLE_PLANE])
{
    int h = p == PLACE_NIGHT ? 0 : horizon - SCENETABLE_HORIZON_MIN;
    memcpy(planes, t->place[p][h], 3 * sizeof planes[0]);
}

void scenetable_planes(const uint8_t *rgb, int side, float (*planes)[SCENETABLE_PLANE])
{
    int k = side / SCENE_SIDE;
    memset(planes, 0, 3 * sizeof planes[0]);
    for (int row = 0; row < side; row++)
        for (int col = 0; col < side; col++)
            for (int ch = 0; ch < 3; ch++)
                planes[ch][(row / k + 1) * SCENETABLE_STRIDE + col / k + 1] +=
                    (float)rgb[(row * side + col) * 3 + ch] / (float)(k * k);
}
