/* scenepaint.h - a scene as pixels: whole-number arithmetic, 8 x 8 samples a pixel.
 * Why:    the same bytes on every machine, for ever; the scorer draws with it too.
 * Shapes: rgb [side, side, 3], 8 bits; side is 32 or 64.
 * Ranks:  not collective. */
#ifndef MUSTER_SCENEPAINT_H
#define MUSTER_SCENEPAINT_H

#include "coordinator/scenes/scene.h"

struct rgb { uint8_t r, g, b; };

/* side: 32 or 64. */
void scene_paint(const struct scene *s, int side, uint8_t *rgb);
/* In steps, as the scorer needs them: the empty place, and one thing on top of what is there. */
void scene_paint_place(enum place p, int horizon, int side, uint8_t *rgb);
void scene_paint_thing(const struct scene_thing *t, enum place p, int side, uint8_t *rgb);
/* The same stretched into a box that is not square, as no real thing is but many a model's are.
 * longer: pixels by which the trunk of a tree is longer than it should be; fatter: eighths by which the inner
 * corners of a star lie further out. */
struct scene_box { int x, y, w, h, longer, fatter; };
static inline struct scene_box scene_box_of(const struct scene_thing *t)
{
    return (struct scene_box){t->x, t->y, t->size, t->size, 0, 0};
}
void scene_paint_thing_in(enum thing kind, enum colour c, const struct scene_box *box, enum place p, int side,
                          uint8_t *rgb);
void scene_silhouette_in(enum thing kind, const struct scene_box *box, int side, uint8_t *coverage);
/* Coverage of the silhouette, 0..64 for each pixel of [side, side]. */
void scene_silhouette(const struct scene_thing *t, int side, uint8_t *coverage);

struct rgb scene_thing_shade(enum colour c);
struct rgb scene_ground_shade(enum place p);
/* Thing and ground of one shade: it gets a one-pixel outline. */
bool scene_outlined(enum colour c, enum place p);

/* [side, side, 3] bytes to [3, side, side] in -1..1, and back with rounding. */
void scene_to_floats(const uint8_t *rgb, int side, float *chw);
void scene_from_floats(const float *chw, int side, uint8_t *rgb);

#endif
