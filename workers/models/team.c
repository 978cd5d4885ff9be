#include "workers/models/team.h"

#include <omp.h>
#include <sched.h>
#include <stddef.h>

enum { SPINS = 1000 };      /* pauses of some 50 ns: about 50 us */

void team_init(struct team *t, int n_threads)
{
    t->n_threads = n_threads > 1 ? n_threads : 1;
    t->n_running = 1;
    t->job = NULL;
    t->ctx = NULL;
    atomic_init(&t->generation, 0);
    atomic_init(&t->busy, 0);
}

static void pause_or_yield(int *spins)
{
    if (++*spins < SPINS)
        __builtin_ia32_pause();
    else
        sched_yield();
}

/* Waits for jobs after generation `seen` until the one without a function. */
static void serve(struct team *t, unsigned seen, int thread)
{
    for (;;) {
        int spins = 0;
        while (atomic_load_explicit(&t->generation, memory_order_acquire) == seen)
            pause_or_yield(&spins);
        seen++;     /* thread 0 waits for everybody before it hands out the next */
        if (t->job == NULL)
            return;
        t->job(t->ctx, thread, t->n_running);
        atomic_fetch_sub_explicit(&t->busy, 1, memory_order_release);
    }
}

static void hand_out(struct team *t, team_job *job, void *ctx)
{
    t->job = job;
    t->ctx = ctx;
    atomic_store_explicit(&t->busy, t->n_running - 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&t->generation, 1, memory_order_release);
}

void team_enter(struct team *t, void (*body)(void *), void *arg)
{
    if (t->n_threads == 1) {
        body(arg);
        return;
    }
    unsigned seen = atomic_load(&t->generation);
#pragma omp parallel num_threads(t->n_threads)
    {
        if (omp_get_thread_num() == 0) {
            t->n_running = omp_get_num_threads();
            body(arg);
            hand_out(t, NULL, NULL);
        } else {
            serve(t, seen, omp_get_thread_num());
        }
    }
    t->n_running = 1;
}

void team_run(struct team *t, team_job *job, void *ctx)
{
    if (t->n_running == 1) {
        job(ctx, 0, 1);
        return;
    }
    int spins = 0;
    hand_out(t, job, ctx);
    job(ctx, 0, t->n_running);
    while (atomic_load_explicit(&t->busy, memory_order_acquire) != 0)
        pause_or_yield(&spins);
}
