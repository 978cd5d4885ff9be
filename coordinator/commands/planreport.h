/* planreport.h - a plan as people and programs read it: who holds what, how fast, why, and what else.
 * Owner:  borrows all it shows.
 * Ranks:  the coordinator's thread only. */
#ifndef MUSTER_PLANREPORT_H
#define MUSTER_PLANREPORT_H

#include "coordinator/plan/plan.h"

enum { PLANREPORT_LIST = 256, PLANREPORT_NEXT = 5 };

struct planreport {
    const char *model, *nodes, *link;           /* link: "" where the links were measured */
    const struct plan_request *q;
    const struct plan *plan;
    const struct plan_candidate *list; int n_list;      /* fastest first, the chosen one among them */
    const char *kv;
};

int planreport_text(const struct planreport *r, struct err *err);
int planreport_json(const struct planreport *r, struct err *err);

#endif
