/* probegroup.h - the ranks of a probe that run a denoiser by more than one of them.
 * How:    the first rank leads: a Job names the part that is next, and all load their shares; then its
 *         ImageSteps come (imagegroup.h), and a Job without a name ends it.
 * Why:    the file with the inputs may lie where only the first rank sees it.
 * Owner:  borrows comm and parts.
 * Ranks:  probegroup_serve is what all but the leader call, and they take part in what the leader does. */
#ifndef MUSTER_PROBEGROUP_H
#define MUSTER_PROBEGROUP_H

#include "workers/imagegroup.h"

struct probegroup {
    struct comm *comm;
    int tp, pp;                 /* 1, 1: nobody else takes part */
    struct imagegroup group;
    bool broken;                /* a load failed somewhere: nobody listens any more */
};

/* How many ranks take part. */
int probegroup_ranks(const struct probegroup *g);
/* Do they run this part together? Others the leader runs alone. */
bool probegroup_shares(const struct probegroup *g, const struct imagepart *part);
/* All go on, or none does; before anything else, so that what the leader says is heard here and not where a
 * rank waits for work. Collective on the group. */
int probegroup_agree(struct probegroup *g, int rc, struct err *err);
/* The leader's: loads a part of which probegroup_shares says so, each rank its share. Collective on the
 * group. */
int probegroup_begin(struct probegroup *g, struct imagepart *part, struct err *err);
/* The leader's: no part comes any more. To be called in any case. */
void probegroup_end(struct probegroup *g);
/* A member's part in the whole probe. */
int probegroup_serve(struct probegroup *g, struct imagemodel *m, struct nn *nn, struct team *team,
                     struct err *err);

#endif
