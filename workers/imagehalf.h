/* imagehalf.h - guidance by two ranks: the second one computes the unconditional halves of a step.
 * How:    an ImageHalf with the samples and their negative prompts goes out before the first rank computes
 *         its own halves, and the answer, a tensor, is awaited after them.
 * Ranks:  imagehalf_ask and _hear are called by a replica's first rank, imagehalf_serve by its second. */
#ifndef MUSTER_IMAGEHALF_H
#define MUSTER_IMAGEHALF_H

#include "workers/imageworker.h"

struct imagestep;

/* Not collective. */
int imagehalf_ask(struct imageworker *w, struct imagestep *s, struct err *err);
/* *uncond [n_guided, answer], in w's memory. Blocks until the second rank has answered. */
int imagehalf_hear(struct imageworker *w, const struct imagestep *s, const float **uncond, struct err *err);
/* Answers `peer`. */
int imagehalf_serve(struct imageworker *w, const Muster__ImageHalf *h, int peer, struct err *err);

#endif
