/* worker.h - the life of a rank: report the node, describe and load a model, serve steps, stop.
 * Why:    a worker knows nothing of prompts or commands; it answers messages of the coordinator until
 *         one says stop.
 * Errors: whatever goes wrong becomes a Failure message to the coordinator, which ends the run (or
 *         plans anew); a worker that cannot reach it ends by itself with EXIT_PEER.
 * Ranks:  one on each rank, on its main thread. */
#ifndef MUSTER_WORKER_H
#define MUSTER_WORKER_H

#include "proto/comm.h"
#include "proto/sink.h"

struct worker_options {
    const char *version;        /* of the program */
    int local_ranks;            /* of this host */
    uint64_t rss_start;         /* resident bytes before the worker began */
    /* Counts messages handled: what the heartbeat shows. May be NULL. */
    volatile uint64_t *progress;
    const struct sink *sink;    /* where pictures go; may be NULL */
    int fails_at_step;          /* for tests: this rank fails at its step of this number; 0 never */
    /* Sums buf [n] over all ranks as MPI's all-reduce does, to be compared with; may be NULL. */
    int (*allreduce)(float *buf, int64_t n);
};

/* Returns the process's exit code: that of Stop. */
int worker_run(struct comm *comm, const struct worker_options *options);

#endif
