/* scenefit.h - the scene that explains a picture best: place, horizon, one or two things.
 * How:    the empty place by capped squares, so that things do not count; then for every kind, every
 *         second size and place the gain (squares that the thing explains) of all colours from one pass
 *         over its box; the best of each kind climb to their tops; then the best one and the best pair
 *         of boxes apart. With those things the place is judged anew, and all of it again if it changed.
 * Ranks:  not collective. */
#ifndef MUSTER_SCENEFIT_H
#define MUSTER_SCENEFIT_H

#include "coordinator/scenes/scenetable.h"

/* A thing and the squared levels that it explains. */
struct scenefit_thing { struct scene_thing thing; float gain; };

/* The scene; and what else was tried, for a judge who weighs it another way. */
struct scenefit {
    struct scene scene;         /* things in no order */
    /* The best thing of each kind where thing i stands; a gain of 0: none. */
    struct scenefit_thing other[SCENE_THINGS_MAX][N_THINGS];
    struct scene count;         /* the best scene of the other number of things; n_things 0: none */
};

enum { SCENEFIT_CANDIDATES = 160, SCENEFIT_COARSE = 12000 };

/* Working memory of a fit. */
struct scenefit_scratch {
    float picture[3][SCENETABLE_PLANE], ground[3][SCENETABLE_PLANE], diff[3][SCENETABLE_PLANE];
    float ring_meets[SCENETABLE_PLANE], ring_squares[SCENETABLE_PLANE];
    struct scenefit_thing coarse[SCENEFIT_COARSE], found[SCENEFIT_CANDIDATES];
    int n_coarse, n_found;
};

/* rgb [side, side, 3], 32 or 64. */
void scenefit(const struct scenetable *t, struct scenefit_scratch *w, const uint8_t *rgb, int side,
              struct scenefit *out);
/* Fills `other` for the things of f->scene, as the caller may have changed them. */
void scenefit_others(const struct scenefit_scratch *w, struct scenefit *f);

#endif
