#include "proto/liveness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct liveness_rank {
    int64_t heard_us;               /* begun_us until heard is set */
    int heard, answered;
    uint64_t progress;
    enum comm_activity activity;
    char doing[64];
};

int liveness_init(struct liveness *l, int n, const struct liveness_limits *limits, int64_t now_us,
                  struct err *err)
{
    *l = (struct liveness){.n = n, .limits = *limits, .begun_us = now_us, .moved_us = now_us};
    l->rank = calloc((size_t)n, sizeof *l->rank);
    if (l->rank == NULL)
        return err_set(err, ERR_NOMEM, "no memory for the heartbeats of %d ranks", n);
    for (int i = 0; i < n; i++)
        l->rank[i].heard_us = now_us;
    return ERR_OK;
}

void liveness_free(struct liveness *l)
{
    free(l->rank);
    memset(l, 0, sizeof *l);
}

void liveness_beat(struct liveness *l, int rank, uint64_t progress, enum comm_activity activity,
                   const char *doing, int64_t now_us)
{
    struct liveness_rank *r = &l->rank[rank];
    if (!r->heard || progress != r->progress || activity == COMM_WORKING)
        l->moved_us = now_us;
    r->heard = 1;
    r->heard_us = now_us;
    r->progress = progress;
    r->activity = activity;
    snprintf(r->doing, sizeof r->doing, "%s", doing != NULL ? doing : "");
}

struct liveness_verdict liveness_check(struct liveness *l, enum comm_activity own,
                                       uint64_t own_progress, int64_t now_us)
{
    int waiting = -1;
    if (own == COMM_WORKING || own_progress != l->own_progress)
        l->moved_us = now_us;
    l->own_progress = own_progress;
    for (int i = 0; i < l->n; i++) {
        const struct liveness_rank *r = &l->rank[i];
        if (r->activity == COMM_GONE)
            continue;
        int64_t silence = now_us - r->heard_us;
        if (silence > (r->heard ? l->limits.silent_us : l->limits.first_us))
            return (struct liveness_verdict){LIVENESS_SILENT, i, silence};
        if (waiting < 0 && r->activity == COMM_WAITING)
            waiting = i;
    }
    if (waiting >= 0 && now_us - l->moved_us > l->limits.stuck_us)
        return (struct liveness_verdict){LIVENESS_STUCK, waiting, now_us - l->moved_us};
    return (struct liveness_verdict){LIVENESS_FINE, -1, 0};
}

void liveness_ask(struct liveness *l)
{
    for (int i = 0; i < l->n; i++)
        l->rank[i].answered = 0;
}

void liveness_answer(struct liveness *l, int rank) { l->rank[rank].answered = 1; }

int liveness_unanswered(const struct liveness *l)
{
    for (int i = 0; i < l->n; i++)
        if (!l->rank[i].answered && l->rank[i].activity != COMM_GONE)
            return i;
    return -1;
}

void liveness_forgive(struct liveness *l, int64_t now_us)
{
    l->moved_us = now_us;
    for (int i = 0; i < l->n; i++)
        l->rank[i].heard_us = now_us;
}

int liveness_any_gone(const struct liveness *l)
{
    for (int i = 0; i < l->n; i++)
        if (l->rank[i].activity == COMM_GONE)
            return 1;
    return 0;
}

void liveness_describe(const struct liveness *l, const struct liveness_verdict *v, char *line,
                       size_t size)
{
    double s = (double)v->for_us / 1e6;
    if (v->fault == LIVENESS_FINE) {
        snprintf(line, size, "all ranks are alive");
        return;
    }
    const struct liveness_rank *r = &l->rank[v->rank];
    const char *last = r->doing[0] != '\0' ? r->doing : "starting";
    if (v->fault == LIVENESS_SILENT)
        snprintf(line, size, "rank %d is dead or stopped: nothing heard of it for %.0f s (last: %s)",
                 v->rank, s, last);
    else
        snprintf(line, size, "rank %d is stuck: %s, and no message has moved for %.0f s", v->rank, last,
                 s);
}
