/* contactsheet.h - many small pictures on one: rows and columns with a narrow border, and words where
 * they are wanted, in a built-in font of 5 x 7 dots.
 * Shapes: rgb [height, width, 3], 8 bits.
 * Owner:  a sheet owns its pixels.
 * Ranks:  not collective. */
#ifndef MUSTER_CONTACTSHEET_H
#define MUSTER_CONTACTSHEET_H

#include "proto/err.h"

#include <stdint.h>

struct contactsheet { int width, height; uint8_t *rgb; };

enum { SHEET_GLYPH_WIDTH = 6, SHEET_GLYPH_HEIGHT = 9 };     /* with the gaps */

/* All white. ERR_LIMIT when it is larger than a PNG may be. */
int contactsheet_init(struct contactsheet *s, int width, int height, struct err *err);
void contactsheet_free(struct contactsheet *s);     /* accepts a zeroed one */

/* A picture [h, w, 3] at x, y, each pixel `zoom` times as wide and high; what lies outside is cut. */
void contactsheet_put(struct contactsheet *s, int x, int y, const uint8_t *rgb, int w, int h, int zoom);
/* Text in black from x, y (upper left) on, at most `width` pixels; letters that the font lacks are
 * boxes. Returns the width it took. */
int contactsheet_write(struct contactsheet *s, int x, int y, const char *text, int width, int zoom);

#endif
