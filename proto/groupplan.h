/* groupplan.h - the plan of one network on groups of ranks that are all alike: pp stages of tp ranks each.
 * Why:    a denoiser's layers are shared evenly, by rank numbers alone; who asks for it and who serves it
 *         can both say so without a message.
 * Ranks:  not collective. */
#ifndef MUSTER_GROUPPLAN_H
#define MUSTER_GROUPPLAN_H

#include "muster.pb-c.h"
#include "proto/arena.h"
#include "proto/err.h"

enum { GROUPPLAN_ARENA = 1 << 22 };     /* bytes that a plan of 1,000 ranks stays below */

struct groupplan { const char *network; int layers, tp, pp, groups; };

/* Can n ranks and the layers (0: the network cannot be shared) be laid out so? ERR_INVAL, in terms of --tp
 * and --pp. kind, name: of the network. */
int groupplan_check(const struct groupplan *g, int n, const char *kind, const char *name, struct err *err);
/* Group k takes ranks [k tp pp, (k + 1) tp pp), stage by stage. NULL: the arena is full. */
Muster__Plan *groupplan_lay(const struct groupplan *g, struct arena *mem);

#endif
