/* sceneoutline.h - how far the outline of a thing is from the one it should have.
 * Why:    a lump may leave as little of a ball as a soft ball does; points, corners and a trunk show in how
 *         what is there lies around its middle, however soft and a little large or small it is.
 * How:    what stands out from the ground, weighed by its squared distance from its middle, as turns of one
 *         to six around it; two outlines are as far apart as these six pairs of numbers.
 * Shapes: planes as in scenetable.h.
 * Ranks:  not collective. */
#ifndef MUSTER_SCENEOUTLINE_H
#define MUSTER_SCENEOUTLINE_H

#include "coordinator/scenes/scenestretch.h"

/* Between what stands out from the empty place in a and in b, within the box and a pixel around it: 0: alike;
 * 1: very far. */
double sceneoutline_apart(const struct scenestretch_view *a, const struct scenestretch_view *b,
                          const struct scenestretch_view *empty, const struct scene_box *box);

#endif
