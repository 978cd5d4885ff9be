/* rankteam.h - several ranks in one process: a thread each, joined by local queues. */
#ifndef MUSTER_TESTS_RANKTEAM_H
#define MUSTER_TESTS_RANKTEAM_H

#include "proto/comm.h"

#include <pthread.h>
#include <stddef.h>

enum { RANKTEAM_MAX = 16 };

struct rankteam_member { struct comm *comm; int rank; void (*body)(struct comm *c, int rank, void *ctx);
                         void *ctx; };

static inline void *rankteam_main(void *arg)
{
    struct rankteam_member *m = arg;
    m->body(m->comm, m->rank, m->ctx);
    return NULL;
}

/* Runs body as ranks 0 .. n-1. cmocka's asserts must not be used inside: report through ctx. */
static inline int rankteam_run(int n, void (*body)(struct comm *c, int rank, void *ctx), void *ctx)
{
    struct comm comm[RANKTEAM_MAX + 1];
    struct rankteam_member member[RANKTEAM_MAX];
    pthread_t thread[RANKTEAM_MAX];
    struct err err = {0};
    if (n > RANKTEAM_MAX || comm_local_open(comm, n, &err) != ERR_OK)
        return -1;
    for (int i = 0; i < n; i++) {
        member[i] = (struct rankteam_member){&comm[i], i, body, ctx};
        if (pthread_create(&thread[i], NULL, rankteam_main, &member[i]) != 0)
            return -1;
    }
    for (int i = 0; i < n; i++)
        pthread_join(thread[i], NULL);
    for (int i = 0; i <= n; i++)
        comm_close(&comm[i]);
    return 0;
}

#endif
