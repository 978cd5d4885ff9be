/* trainflat.h - the flat row of a group's weights: sums of gradients, the optimiser's share, gathering.
 * Why:    a rank steps a run of numbers whatever tensors they belong to (ZeRO-1, Rajbhandari et al.
 *         1910.02054).
 * Bits:   sums are those of the tree over parts; squares are added in fixed chunks, in their order.
 * Ranks:  collective where it says so. */
#ifndef MUSTER_TRAINFLAT_H
#define MUSTER_TRAINFLAT_H

#include "workers/train/trainer.h"

/* Lists of the trained weights of every group. Not collective. */
int trainflat_make(struct trainer *t, struct err *err);
int64_t trainflat_longest(const struct trainer *t);
/* This rank's share and its state: zeros, averages that begin at the weights; where the run goes on from
 * a checkpoint (resume not NULL), what that says. Not collective. */
int trainflat_share(struct trainer *t, const char *resume, struct err *err);
void trainflat_free(struct trainer *t);

/* flat.grad of a group = sum over all parts of all ranks, of this rank's share; what is whole on the way
 * back (nn.h) is under way by then. Collective. */
int trainflat_sum(struct trainer *t, int group, struct err *err);
/* Sum of squares of the whole row. Collective. */
int trainflat_squares(struct trainer *t, int group, double *sum, struct err *err);
/* Steps this rank's share; averages too. */
void trainflat_adam(struct trainer *t, int group, const struct adam_config *c, double scale);
/* New weights of all ranks to all ranks. Collective. */
int trainflat_gather(struct trainer *t, int group, struct err *err);
/* A share of every rank ([hi - lo] numbers) to worker 0: the whole row in t->wire there. Collective. */
int trainflat_collect(struct trainer *t, int group, const float *mine, struct err *err);
/* On worker 0: sets with the moving averages (weights where there are none). Collective. */
int trainflat_average(struct trainer *t, struct train_weights *w, struct err *err);

/* All of a checkpoint, into weights, shares and counters. (traincheckpoint.c) Not collective. */
int trainer_resume(struct trainer *t, const char *path, struct err *err);

#endif
