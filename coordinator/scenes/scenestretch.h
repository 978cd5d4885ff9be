/* scenestretch.h - scenes whose things are wider or taller than real ones, and what an eye sees between two
 * pictures.
 * Why:    what models paint is a pixel or two off in width, height and outline, and soft at its edges. Nobody
 *         stumbles over that; over a missing mast everybody does.
 * How:    a pixel is explained when each of its channels lies between those that the other picture has there
 *         and next to there; what is beyond counts, of both pictures against each other, and with it a
 *         quarter of what is left after a blur of [1 2 1] both ways.
 * Shapes: planes as in scenetable.h.
 * Ranks:  not collective. */
#ifndef MUSTER_SCENESTRETCH_H
#define MUSTER_SCENESTRETCH_H

#include "coordinator/scenes/scenetable.h"

/* A scene, its things in boxes of their own: box [SCENE_THINGS_MAX]. */
struct scenestretch { struct scene scene; struct scene_box box[SCENE_THINGS_MAX]; };

/* Planes of a picture; low and high: between which values a pixel of another one is explained. */
struct scenestretch_view {
    float at[3][SCENETABLE_PLANE], low[3][SCENETABLE_PLANE], high[3][SCENETABLE_PLANE];
};

/* low and high of v->at. n_things: those of a pair are small, and looked at more closely. */
void scenestretch_look(struct scenestretch_view *v, int n_things);
/* Square boxes. */
void scenestretch_init(struct scenestretch *s, const struct scene *scene);
/* side: of the picture that the scene is compared with. */
void scenestretch_paint(const struct scenestretch *s, int side, struct scenestretch_view *v);
/* Moves the edges of thing i, and how long its trunk is or how fat the star, to where the scene leaves least
 * of the picture. */
void scenestretch_fit(struct scenestretch *s, int i, int side, const struct scenestretch_view *picture);

/* Squares of what neither explains of the other, summed over channels: square [SCENETABLE_PLANE]. */
void scenestretch_left(const struct scenestretch_view *a, const struct scenestretch_view *b, float *square);
/* Sum over a box and a pixel around it. */
double scenestretch_sum(const float *square, const struct scene_box *box);

#endif
