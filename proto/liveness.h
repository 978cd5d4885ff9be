/* liveness.h - who of n ranks is dead or stuck, as a pure state machine.
 * Why:    a load may take minutes and a dead rank no second; only heartbeats tell them apart. Without
 *         I/O and clocks of its own it can be played through in a test.
 * Rules:  a rank that is not heard for a while is dead, whatever the reason (killed, stopped, cut off).
 *         A rank that works may take as long as it likes. When nobody works, somebody waits for a
 *         message and no message moves any more, a message was lost: the ranks are stuck.
 * Ranks:  not collective; the coordinator's control thread drives it. */
#ifndef MUSTER_LIVENESS_H
#define MUSTER_LIVENESS_H

#include "proto/comm.h"

struct liveness_limits {
    int64_t first_us;       /* until a rank's first heartbeat */
    int64_t silent_us;      /* between heartbeats */
    int64_t stuck_us;       /* all waiting for each other */
};

struct liveness_rank;

struct liveness {
    struct liveness_rank *rank;     /* [n] */
    int n;
    struct liveness_limits limits;
    int64_t begun_us, moved_us;     /* moved: when somebody's progress was last seen to grow */
    uint64_t own_progress;          /* of the party that watches */
};

enum liveness_fault { LIVENESS_FINE, LIVENESS_SILENT, LIVENESS_STUCK };

struct liveness_verdict {
    enum liveness_fault fault;
    int rank;                       /* the one that is silent, or the lowest that waits */
    int64_t for_us;
};

int liveness_init(struct liveness *l, int n, const struct liveness_limits *limits, int64_t now_us,
                  struct err *err);
void liveness_free(struct liveness *l);

/* A heartbeat of a rank came. doing is copied (63 bytes of it); may be NULL. */
void liveness_beat(struct liveness *l, int rank, uint64_t progress, enum comm_activity activity,
                   const char *doing, int64_t now_us);

/* own, own_progress: what the watching party is at. */
struct liveness_verdict liveness_check(struct liveness *l, enum comm_activity own,
                                       uint64_t own_progress, int64_t now_us);

/* Everybody is asked; a rank has answered; the lowest that has not, -1 none. A heartbeat is no answer: a
 * dead rank's last one may still be on its way. */
void liveness_ask(struct liveness *l);
void liveness_answer(struct liveness *l, int rank);
int liveness_unanswered(const struct liveness *l);

/* The watching party itself was stopped for a while: everybody's silence begins anew. */
void liveness_forgive(struct liveness *l, int64_t now_us);

/* Has a rank said goodbye? */
int liveness_any_gone(const struct liveness *l);

/* One line: who, since when, what it did last. */
void liveness_describe(const struct liveness *l, const struct liveness_verdict *v, char *line,
                       size_t size);

#endif
