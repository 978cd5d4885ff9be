/* trainprogress.h - how far a command that reads or writes much has come, on a terminal.
 * Owner:  the caller. Ranks: rank 0 only. */
#ifndef MUSTER_TRAINPROGRESS_H
#define MUSTER_TRAINPROGRESS_H

#include <stdint.h>

/* A line that the next one overwrites; shown a few times a second at most, nothing when stderr is no
 * terminal. Zeroed before the first. */
struct trainprogress { int64_t shown_ms, begun_ms; };
void trainprogress_show(struct trainprogress *p, const char *what, double share);
void trainprogress_wipe(void);

#endif
