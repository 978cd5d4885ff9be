/* team.h - the threads of a rank, kept close at hand for the length of a step.
 * Why:    a layer has half a dozen parallel pieces of 10 to 1000 us; opening an OpenMP region for each
 *         costs 1 to 5 us, handing a job to a thread that already waits for it some 0.2 us.
 * How:    team_enter opens one OpenMP region: thread 0 runs the body, the others serve team_run.
 *         Waiting threads spin about 50 us, then yield.
 * Ranks:  not collective. */
#ifndef MUSTER_TEAM_H
#define MUSTER_TEAM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef void team_job(void *ctx, int thread, int n_threads);

struct team {
    int n_threads;              /* wanted; 1 never opens a region */
    int n_running;              /* inside team_enter: how many there are, else 1 */
    team_job *job;
    void *ctx;
    _Alignas(64) atomic_uint generation;    /* of the job last handed out */
    _Alignas(64) atomic_int busy;           /* helpers still at it */
};

void team_init(struct team *t, int n_threads);

/* Runs body(arg) on the calling thread with the others standing by. Not nested. */
void team_enter(struct team *t, void (*body)(void *), void *arg);

/* job(ctx, i, n) on each of the n threads, once each; returns when all are done. Outside of
 * team_enter, job(ctx, 0, 1). Only thread 0 calls it. */
void team_run(struct team *t, team_job *job, void *ctx);

/* Share [*begin, *end) of n things for thread i of n_threads, in whole units of `unit`. */
static inline void team_share(int64_t n, int64_t unit, int i, int n_threads, int64_t *begin,
                              int64_t *end)
{
    int64_t units = (n + unit - 1) / unit;
    *begin = units * i / n_threads * unit;
    *end = units * (i + 1) / n_threads * unit;
    *end = *end < n ? *end : n;
    *begin = *begin < n ? *begin : n;
}

#endif
