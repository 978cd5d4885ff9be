/* workertrain.h - a rank's side of a training run: the messages Train* in, the trainer behind them.
 * Owner:  the trainer, from the setup on; workertrain_free, twice if you like.
 * Ranks:  every message goes to all workers, in the same order; what it starts is collective. */
#ifndef MUSTER_WORKERTRAIN_H
#define MUSTER_WORKERTRAIN_H

#include "muster.pb-c.h"
#include "workers/train/trainer.h"

struct workertrain { struct trainer trainer; bool open; };

/* Is it one of the messages below? */
bool workertrain_takes(const Muster__Envelope *m);
/* Setup, batch, save or sample; answers go to the coordinator. threads: of this rank, where the setup
 * names none. */
int workertrain_serve(struct workertrain *w, const Muster__Envelope *m, struct comm *comm, int threads,
                      struct err *err);
void workertrain_free(struct workertrain *w);

#endif
