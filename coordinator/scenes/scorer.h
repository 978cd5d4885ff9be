/* scorer.h - reads a picture of the built-in world: the renderer, fitted to it.
 * Why:    what a model made of a caption must be judged by a rule that anybody can run again, and that
 *         is never kinder than an eye.
 * How:    place and horizon by the pixels that agree with them; things by matched filters of every kind
 *         and size over every position, all colours at once; then the scene is painted again and what is
 *         left between the two pictures decides whether it counts as read.
 * Answer: the scene, or why it is unreadable. The best guess is there even then.
 * Owner:  a scorer owns its tables and scratch: one at a time may read with it.
 * Ranks:  not collective. */
#ifndef MUSTER_SCORER_H
#define MUSTER_SCORER_H

#include "coordinator/scenes/scene.h"
#include "proto/err.h"

/* Why a picture is not read. Nothing: an empty place. Residual: the whole differs from the scene painted
 * again by more than worn real pictures do. Unexplained: one part of it does. Ambiguous: another thing,
 * colour or place would do nearly as well. */
enum scorer_verdict { SCORER_READ, SCORER_NOTHING, SCORER_RESIDUAL, SCORER_UNEXPLAINED, SCORER_AMBIGUOUS,
                      N_SCORER_VERDICTS };

struct scorer_reading {
    enum scorer_verdict verdict;
    struct scene scene;         /* the best fit; of two things the left or upper one is first */
    double rms;                 /* picture against scene painted again, in levels of 255 */
    double worst;               /* the same in the worst 5 x 5 pixels (of 32 x 32) */
    double misfit;              /* of the worst thing: what is left of it, as a share of its contrast */
    double rival;               /* best against second best; 1: no better */
};

struct scorer;

/* Makes its tables in about 0.1 s, 7 MB. NULL: err says why. */
struct scorer *scorer_new(struct err *err);
void scorer_destroy(struct scorer *s);          /* accepts NULL */

/* rgb [side, side, 3], side 32 or 64. */
void scorer_read(struct scorer *s, const uint8_t *rgb, int side, struct scorer_reading *out);
const char *scorer_verdict_name(enum scorer_verdict v);


#endif
