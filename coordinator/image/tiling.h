/* tiling.h - how a picture is cut into blocks that are enlarged one by one, with the same result as in one
 * piece.
 * How:    blocks of a fixed size lie on a fixed grid, whatever ranks or memory there are; each is computed
 *         with all the pixels around it that its result depends on (the network's reach), cut off at the
 *         picture's edge, where the network itself pads. So a pixel's arithmetic is one for all.
 * Ranks:  pure arithmetic. */
#ifndef MUSTER_TILING_H
#define MUSTER_TILING_H

#include <stdint.h>

struct tiling {
    int width, height;          /* of the picture, multiples of `multiple` */
    int core, halo;             /* sides of a block; pixels around it */
    int columns, rows;
};

/* Where a block lies: what is computed [x, x + w) x [y, y + h), and what of it is kept. */
struct tiling_block { int x, y, w, h, keep_x, keep_y, keep_w, keep_h; };

/* reach and multiple are the network's. */
void tiling_init(struct tiling *t, int width, int height, int reach, int multiple);
static inline int tiling_count(const struct tiling *t) { return t->columns * t->rows; }
struct tiling_block tiling_block(const struct tiling *t, int i);

#endif
