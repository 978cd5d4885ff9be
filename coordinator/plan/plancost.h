/* plancost.h - how fast a layout would be: bytes over bandwidth, flops over speed, messages over links.
 * Why:    decoding is bound by reading weights, prompts by arithmetic, and both by the sums between
 *         ranks; those three numbers choose a layout well enough.
 * Pure:   figures come from the node reports; where a report has none (nothing was measured), from
 *         the constants in plancost.c.
 * Ranks:  not collective. */
#ifndef MUSTER_PLANCOST_H
#define MUSTER_PLANCOST_H

#include "coordinator/plan/plan.h"

/* Bytes per second that the rank reads weights with, and its f32 products per second. */
double plancost_bandwidth(const Muster__NodeReport *r);
double plancost_flops(const Muster__NodeReport *r);
/* Microseconds for `bytes` from rank a to rank b. */
double plancost_hop(const struct plan_request *q, int a, int b, double bytes);

/* Needs p's message, shares, tp and pp. */
struct plan_speed plancost_speed(const struct plan *p, const struct plan_request *q);

#endif
