/* planweight.h - how much of the work each rank should get.
 * Why:    a measurement on a busy machine is off by a factor now and then, and an uneven split that
 *         follows it costs more than the even one it replaces; so only nodes that really differ count.
 * Rule:   ranks of one host with as many threads are equal (their mean); hosts nearer to each other
 *         than PLANWEIGHT_NEAR are equal too (again their mean). Weights asked for (plan_request.shares)
 *         are taken as they are.
 * Ranks:  not collective; pure arithmetic. */
#ifndef MUSTER_PLANWEIGHT_H
#define MUSTER_PLANWEIGHT_H

#include "coordinator/plan/plan.h"

#define PLANWEIGHT_NEAR 1.4     /* measured on machines with neighbours, best of 24 runs: up to 1.3 x */

/* weight [q->n_ranks], by world rank; only their ratios mean something. */
void planweight_ranks(const struct plan_request *q, double *weight);

#endif
