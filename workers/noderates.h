/* noderates.h - what products of a weight type, and what a layer beside its products, cost on this rank.
 * Why:    a planner that knows bandwidth and flops alone is off by half: kernels differ by type and by the
 *         number of rows, and small layers are bound by hand-outs. Shapes here are fixed, so that a
 *         prediction is one for every other shape.
 * Ranks:  not collective; all ranks of a host measure at once, so each gets its share. */
#ifndef MUSTER_NODERATES_H
#define MUSTER_NODERATES_H

#include "workers/node.h"

/* Rates of each of the types (those this program multiplies) into f->rate, layers into f->layer; about
 * 0.3 s a type. comm: only its clock is used. */
int noderates_measure(struct node_facts *f, const uint32_t *types, size_t n_types, struct comm *comm,
                      struct err *err);

#endif
