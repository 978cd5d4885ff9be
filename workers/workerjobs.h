/* workerjobs.h - work that is not a step: quantising a file, timing the sums between ranks.
 * Why:    such work needs files or neighbours, which the coordinator does not have; arguments and
 *         results are text, so a job needs no message of its own.
 * Ranks:  runs on the ranks that got the Job; each answers with one JobDone. */
#ifndef MUSTER_WORKERJOBS_H
#define MUSTER_WORKERJOBS_H

#include "workers/workermodel.h"

struct workerjob {
    struct comm *comm;
    struct workermodel *model;
    const Muster__Job *message;
    int threads;                /* of this rank, where the job names none */
    int (*allreduce)(float *buf, int64_t n);
};

/* A job that fails answers with its code; only a lost connection is an error here. */
int workerjobs_run(struct workerjob *job, struct err *err);

#endif
