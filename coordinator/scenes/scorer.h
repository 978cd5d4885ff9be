/* scorer.h - reads a picture of the built-in world: the renderer, fitted to it.
 * Why:    what a model made of a caption must be judged by a rule that anybody can run again, and that
 *         is never kinder than an eye.
 * How:    scenefit.h finds the scene, scenestretch.h lets its things be a little wider or taller; it is
 *         painted again, and what is left between the two pictures, seen with the slack of scenestretch.h,
 *         decides: a mast that is one pixel off is no fault of the picture, a missing one is.
 * Answer: the scene, or why it is unreadable. The best guess is there even then.
 * Owner:  a scorer owns its tables and scratch: one at a time may read with it.
 * Ranks:  not collective. */
#ifndef MUSTER_SCORER_H
#define MUSTER_SCORER_H

#include "coordinator/scenes/scene.h"
#include "proto/err.h"

/* Why a picture is not read. Nothing: an empty place. Residual: place and things differ from the scene
 * painted again by more than worn real pictures do. Unexplained: there is something beside the things.
 * Ambiguous: another thing, colour or number would do nearly as well. */
enum scorer_verdict { SCORER_READ, SCORER_NOTHING, SCORER_RESIDUAL, SCORER_UNEXPLAINED, SCORER_AMBIGUOUS,
                      N_SCORER_VERDICTS };

struct scorer_reading {
    enum scorer_verdict verdict;
    struct scene scene;         /* the best fit; of two things the left or upper one is first */
    double rms;                 /* of the ground that is seen, against the empty place; levels of 255 */
    double beside;              /* the worst 5 x 5 pixels of it; levels */
    double misfit;              /* of the worst thing: what is left / what it adds to the ground */
    double rival;               /* what is left / what the best other kind or colour leaves; 1: as good */
    double toward;              /* how far it lies on the way to another kind; 0.5: midway */
    double doubt;               /* in the worst thing: these and its outline, weighed; over 1: too much */
};

struct scorer;

/* Makes its tables in about 0.1 s, 7 MB. NULL: err says why. */
struct scorer *scorer_new(struct err *err);
void scorer_destroy(struct scorer *s);          /* accepts NULL */

/* rgb [side, side, 3], side 32 or 64. */
void scorer_read(struct scorer *s, const uint8_t *rgb, int side, struct scorer_reading *out);
const char *scorer_verdict_name(enum scorer_verdict v);


#endif
