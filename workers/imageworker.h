/* imageworker.h - pictures on one rank: a queue of tasks, slots that are denoised together, a sink.
 * Why:    a replica's batch is slots: each picture carries its own step, schedule, guidance and sampler
 *         state, so a finished one is replaced at once and the network always sees a full batch.
 * Bytes:  a picture is a function of its task and the weights alone: noise is keyed by its seed, and the
 *         network computes each sample by itself (nn.h), whoever shares the call.
 * Guidance: the conditional and the unconditional half are two samples of one call; in a replica of two
 *         ranks the second one computes the unconditional halves (ImageHalf), with the same bits.
 * Groups: a denoiser may be shared by the ranks of a group (imagegroup.h); its first one does all else.
 * Ranks:  one for each rank; imageworker_turn of a replica's first rank waits for the others. */
#ifndef MUSTER_IMAGEWORKER_H
#define MUSTER_IMAGEWORKER_H

#include "muster.pb-c.h"
#include "proto/arena.h"
#include "proto/comm.h"
#include "proto/sink.h"

struct imageworker;

/* sink: where pictures go; may be NULL until a load says otherwise. */
int imageworker_new(struct imageworker **w, struct comm *comm, const struct sink *sink, struct err *err);
void imageworker_destroy(struct imageworker *w);     /* accepts NULL */

/* Opens the model's folder. Rank 0 answers with its ImageSpec (in mem), all with *digest. */
int imageworker_describe(struct imageworker *w, const char *path, struct arena *mem,
                         Muster__ImageSpec **spec, Muster__FileDigest *digest, struct err *err);
/* Makes slots; fills *done but for rank and memory peak. */
int imageworker_load(struct imageworker *w, const Muster__ImageLoad *l, int threads, Muster__Loaded *done,
                     struct err *err);
/* Queues the tasks (copies them). */
int imageworker_chunk(struct imageworker *w, const Muster__ImageChunk *c, struct err *err);
/* Queued tasks that no slot holds yet come back as ImageDone with ERR_CANCELLED. */
int imageworker_drop(struct imageworker *w, struct err *err);
/* One of those that share a leader's layers: its part of a batch that `peer` has begun. */
int imageworker_step(struct imageworker *w, const Muster__ImageStep *m, int peer, struct err *err);

/* One step of all slots, if any holds a picture; reports of the sink go out. *busy: there is more to do
 * at once. */
int imageworker_turn(struct imageworker *w, bool *busy, struct err *err);

#endif
