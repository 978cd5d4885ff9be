/* outbox.h - messages on their way, so that the coordinator never waits in a send.
 * Why:    a worker that hands over megabytes of logits waits until they are taken; if the coordinator
 *         waited at that moment for the same worker to take a step, both would wait for ever.
 * Owner:  the outbox owns packed messages until they have left. A message is packed once, however
 *         many workers get it. Buffers are reused: nothing is allocated per step after the first few.
 * Ranks:  one thread. */
#ifndef MUSTER_OUTBOX_H
#define MUSTER_OUTBOX_H

#include "muster.pb-c.h"
#include "proto/comm.h"

#include <stdbool.h>

struct outbox_letter;
struct outbox { struct comm *comm; struct outbox_letter *letters; };

void outbox_init(struct outbox *o, struct comm *comm);
/* Forgets what has not left. */
void outbox_free(struct outbox *o);

/* Sends m to peers [n]; the envelope's epoch is filled in. Does not block. */
int outbox_send(struct outbox *o, const int *peers, int n, Muster__Envelope *m, struct err *err);
/* Looks after what is under way; ERR_TIMEOUT for a message that a rank did not take for
 * many deadlines (whether it is alive is the control threads' matter). */
int outbox_tend(struct outbox *o, struct err *err);
/* Waits until all has left, at most patience_us. Returns how many sends are left. */
int outbox_flush(struct outbox *o, int64_t patience_us);

#endif
