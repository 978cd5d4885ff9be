/* imagequeue.h - which pictures go to which replica, and when: the factory's state machine.
 * Why:    replicas must never wait for the coordinator, a slow one must not hold up the end, and what a
 *         lost one had goes to others; so it is decided here, where a test can play any history.
 * How:    a replica has at most two chunks in flight. A chunk is about a second's work at the rate that
 *         the replica has shown, at least its slots, and towards the end its fair share of what is left.
 * Pure:   events in, chunks out, the time is an argument; no I/O.
 * Owner:  the queue owns its tables.
 * Ranks:  the coordinator's thread only. */
#ifndef MUSTER_IMAGEQUEUE_H
#define MUSTER_IMAGEQUEUE_H

#include "proto/err.h"

#include <stdbool.h>
#include <stdint.h>

enum { IMAGEQUEUE_CHUNK_MAX = 64, IMAGEQUEUE_CHUNKS = 2 };

struct imagequeue_chunk { int64_t task[IMAGEQUEUE_CHUNK_MAX]; int n, left; };   /* n 0: free */

struct imagequeue_replica {
    bool gone;
    struct imagequeue_chunk chunk[IMAGEQUEUE_CHUNKS];
    int64_t n_done, begun_us;           /* pictures since its first chunk went out */
};

struct imagequeue {
    int64_t n, n_done, n_out;           /* all, made, in flight */
    uint8_t *state;                     /* [n] */
    int64_t next;                       /* no waiting task before this one */
    int n_replicas, slots;
    struct imagequeue_replica *replica; /* [n_replicas] */
    bool stopping;
    int64_t begun_us, n_before;         /* n_before: made in earlier runs */
};

/* slots: pictures that a replica has in the making at a time. If it fails you owe nothing. */
int imagequeue_init(struct imagequeue *q, int64_t n, int n_replicas, int slots, int64_t now_us,
                    struct err *err);
void imagequeue_free(struct imagequeue *q);     /* accepts a zeroed queue */

/* The journal says that it is made. Before any chunk. */
void imagequeue_made(struct imagequeue *q, int64_t task);

/* The next chunk of a replica into task [IMAGEQUEUE_CHUNK_MAX]; returns how many, 0: nothing to send
 * now. They count as in flight. */
int imagequeue_chunk(struct imagequeue *q, int replica, int64_t now_us, int64_t *task);

/* A picture is durable. False: it was not in flight at this replica (an answer that came too late). */
bool imagequeue_done(struct imagequeue *q, int replica, int64_t task);
/* It comes back unmade (dropped while stopping): it waits again. False as above. */
bool imagequeue_returned(struct imagequeue *q, int replica, int64_t task);
/* The replica is no more; what it had waits again. */
void imagequeue_lost(struct imagequeue *q, int replica);
/* From now on no chunk goes out. */
void imagequeue_stop(struct imagequeue *q);

/* Nothing is in flight, and nothing will be: all made, stopped, or nobody left. */
bool imagequeue_idle(const struct imagequeue *q);
/* Seconds to the end at the rate so far; -1: nobody knows yet. */
double imagequeue_eta(const struct imagequeue *q, int64_t now_us);

#endif
