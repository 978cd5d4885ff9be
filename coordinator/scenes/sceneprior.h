/* sceneprior.h - how probable a seen scene is, of which only some is known.
 * Why:    the exact information of a text is summed over all scenes that it may be about.
 * Exact:  as scene_draw(.., SET_SEEN, 0) draws, apart from 2^-32 of rounding in its uniform numbers.
 * Ranks:  not collective. */
#ifndef MUSTER_SCENEPRIOR_H
#define MUSTER_SCENEPRIOR_H

#include "coordinator/scenes/scene.h"

/* What texts say of a scene; -1 where it is not known. Of one thing, the second's and the relation are
 * not there and stay -1. */
struct scene_facts {
    int things;             /* 1, 2 */
    int place;
    int kind[2], colour[2];
    int size[2];            /* 0 neither, 1 small, 2 big */
    int relation;           /* 0 left, 1 above */
};

double sceneprior(const struct scene_facts *f);
void sceneprior_facts(const struct scene *s, struct scene_facts *f);

#endif
