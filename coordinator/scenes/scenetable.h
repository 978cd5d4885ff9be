/* scenetable.h - the renderer turned into tables: what each thing adds to a picture, as sums of products.
 * Why:    a fit that painted every thing in every size at every place would take minutes a picture.
 * What:   a thing of a kind and size on ground `bg` looks like bg + u + w colour, where u = key - cover
 *         bg, for each pixel and channel; cover, w and key do not depend on where it stands, nor (but
 *         for outlined ones) on its colour. They are measured from scene_paint_thing, so that there is
 *         one renderer; 8 bits of its rounding make them good to a level.
 * Shapes: planes of a picture are [SCENETABLE_ROWS, SCENETABLE_STRIDE], the picture from (1, 1) on, zero
 *         around it; maps of a thing are [size + 2, SCENETABLE_MAP], a margin of one around its box, zero
 *         where it is not.
 * Owner:  a table owns its memory.
 * Ranks:  not collective. */
#ifndef MUSTER_SCENETABLE_H
#define MUSTER_SCENETABLE_H

#include "coordinator/scenes/scenepaint.h"
#include "proto/err.h"

/* Sizes: those of real scenes and one more on either side. */
enum { SCENETABLE_SIZE_MIN = 8, SCENETABLE_SIZE_MAX = 21,
       SCENETABLE_SIZES = SCENETABLE_SIZE_MAX - SCENETABLE_SIZE_MIN + 1,
       SCENETABLE_MAP = 24, SCENETABLE_ROWS = 34, SCENETABLE_STRIDE = 48,
       SCENETABLE_PLANE = SCENETABLE_ROWS * SCENETABLE_STRIDE,
       SCENETABLE_HORIZON_MIN = 12, SCENETABLE_HORIZONS = 8 };

/* Plain, or with the ring that white has in the snow and black at night. */
enum scenetable_look { LOOK_PLAIN, LOOK_WHITE_RINGED, LOOK_BLACK_RINGED, N_LOOKS };

struct scenetable_map {
    float cover[(SCENETABLE_SIZE_MAX + 2) * SCENETABLE_MAP];
    float w[(SCENETABLE_SIZE_MAX + 2) * SCENETABLE_MAP];
    float key[3][(SCENETABLE_SIZE_MAX + 2) * SCENETABLE_MAP];
    float ring[(SCENETABLE_SIZE_MAX + 2) * SCENETABLE_MAP];     /* cover of the ring */
    float ring_shade[3];
    float w_squares;            /* sum of w^2 */
};

struct scenetable {
    struct scenetable_map map[N_THINGS][SCENETABLE_SIZES][N_LOOKS];
    float place[N_PLACES][SCENETABLE_HORIZONS][3][SCENETABLE_PLANE];    /* empty ones; night: all alike */
};

/* For pictures of side 32, or of side 64 (means of 2 x 2, where a ring is half as wide). */
struct scenetable *scenetable_new(int side, struct err *err);
void scenetable_destroy(struct scenetable *t);      /* accepts NULL */

/* The look that a colour has at a place. */
static inline enum scenetable_look scenetable_look(enum colour c, enum place p)
{
    return !scene_outlined(c, p) ? LOOK_PLAIN : c == COLOUR_WHITE ? LOOK_WHITE_RINGED : LOOK_BLACK_RINGED;
}
static inline const struct scenetable_map *scenetable_map(const struct scenetable *t,
                                                          const struct scene_thing *thing, enum place p)
{
    return &t->map[thing->kind][thing->size - SCENETABLE_SIZE_MIN][scenetable_look(thing->colour, p)];
}

/* Puts a thing on the planes [3] of a picture. */
void scenetable_put(const struct scenetable *t, const struct scene_thing *thing, enum place p,
                    float (*planes)[SCENETABLE_PLANE]);
/* An empty place into planes [3]. */
void scenetable_put_place(const struct scenetable *t, enum place p, int horizon,
                          float (*planes)[SCENETABLE_PLANE]);
/* Picture [side, side, 3], 32 or 64 (then means of 2 x 2), to planes [3]. */
void scenetable_planes(const uint8_t *rgb, int side, float (*planes)[SCENETABLE_PLANE]);

#endif
