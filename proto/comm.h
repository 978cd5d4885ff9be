/* comm.h - one party's end of the conversations between ranks.
 * Why:    every wait must have a deadline and every message an epoch, so that a dead rank is an error
 *         and not a hang; and the deciding code must run without MPI, in tests and in `plan`.
 * Parties: workers are 0 .. n_workers-1 (world ranks); the coordinator is party n_workers and lives
 *         in rank 0's process, as a thread that reaches worker 0 by messages like any other.
 * Table:  transports are a table {send, recv, poll, now}: over MPI (comm_mpi_open), and in one
 *         process over queues (comm_local_open).
 * Order:  messages between two parties on one channel arrive in the order sent.
 * Epoch:  rides in every message (wire.h); receivers drop what belongs to an older one.
 * Threads: a struct comm belongs to one thread. */
#ifndef MUSTER_COMM_H
#define MUSTER_COMM_H

#include "proto/err.h"

#include <stddef.h>
#include <stdint.h>

/* One communicator per conversation. All tags of the program are this enum. */
enum comm_channel {
    COMM_CONTROL,       /* coordinator <-> workers: plans, steps, tokens, status */
    COMM_BEAT,          /* control threads: heartbeat, revoke */
    COMM_TP,            /* partial sums inside a tensor-parallel group */
    COMM_PP,            /* activations from stage to stage */
    COMM_TOKENS,        /* sampled tokens from the last stage to the first */
    COMM_DP,            /* sums of training, shared batches */
    COMM_GRAD,          /* gradients, on their way while training goes on */
    COMM_LOAD,          /* weight columns exchanged while loading */
    COMM_N_CHANNELS
};

struct comm;

/* One message under way. The buffer is untouchable between _begin and completion. */
struct comm_req {
    void *handle;       /* transport's own; NULL when nothing is under way */
    uint64_t word[4];   /* transport's own */
    size_t bytes;       /* of a completed receive: its true size */
    int peer;           /* whom it is for or from, and where: for errors and the state line */
    enum comm_channel channel;
};

/* What a party is at, as its control thread tells the others. */
enum comm_activity {
    COMM_WORKING,       /* computes, reads a file: nobody knows how long */
    COMM_IDLE,          /* polled and found nothing to do */
    COMM_WAITING,       /* inside comm_wait, for a message of another party */
    COMM_GONE           /* at its end, in good order */
};

/* Values of the flag that ends all waits. */
enum {
    COMM_REVOKED = 1,   /* by the coordinator, which will say what comes next */
    COMM_ALONE = 2,     /* the coordinator itself is gone: nothing will come */
    COMM_CALLED_OFF = 3 /* all are alive, but one of them failed: a Stop will come */
};

struct comm_table {
    int (*send_begin)(struct comm *c, int peer, enum comm_channel ch, const void *buf, size_t bytes,
                      struct comm_req *req, struct err *err);
    /* cap is the room in buf; a longer message is ERR_PEER. peer must be named. */
    int (*recv_begin)(struct comm *c, int peer, enum comm_channel ch, void *buf, size_t cap,
                      struct comm_req *req, struct err *err);
    /* *done = 1 and req empty when complete. */
    int (*test)(struct comm *c, struct comm_req *req, int *done, struct err *err);
    /* *peer = -1 when nothing waits on ch; else who sent and how many bytes, not yet received. */
    int (*poll)(struct comm *c, enum comm_channel ch, int *peer, size_t *bytes, struct err *err);
    /* Forgets an unfinished request (after a revoke). */
    void (*cancel)(struct comm *c, struct comm_req *req);
    int64_t (*now_us)(struct comm *c);
    void (*close)(struct comm *c);
};

struct comm {
    const struct comm_table *table;
    void *state;                /* the transport's */
    int self;                   /* this party */
    int n_workers;
    uint32_t epoch;             /* of the plan in force */
    int64_t deadline_us;        /* how long a wait may last without progress (default 30 s) */
    /* Set by the control thread (control.h); all NULL without one. */
    const volatile int *revoked;        /* COMM_REVOKED, ..: waits return ERR_PEER */
    const char *revoked_why;            /* one line; read only once revoked is set */
    const volatile int64_t *vouched_us; /* when all ranks were last known to be alive and not all
                                         * waiting for each other: deadlines count from then */
    /* Written here, read by the control thread. */
    const char *volatile doing;         /* the call under way, static text; may be NULL */
    volatile enum comm_activity activity;
    volatile int wait_peer, wait_channel;   /* while COMM_WAITING */
    volatile int64_t wait_begun_us;
    volatile uint64_t progress;         /* messages that came or left so far */
    volatile int called_off;            /* the coordinator's: ends the waits of all workers */
    int64_t wait_us;            /* time spent in waits, for the per-phase report */
    uint64_t sent_bytes, received_bytes;
};

static inline int comm_coordinator(const struct comm *c) { return c->n_workers; }

/* MPI: made once at start by the main, after MPI_Init_thread(MPI_THREAD_MULTIPLE). Dups one
 * communicator per channel, with MPI_ERRORS_RETURN. Collective on MPI_COMM_WORLD. */
int comm_mpi_init(struct err *err);
/* An end for one party of this process (its worker; on rank 0 the coordinator too; control threads
 * open one of their own for the same party). Not collective. */
int comm_mpi_open(struct comm *c, int party, struct err *err);
/* Frees the communicators. Collective; skipped when a peer is dead: then comm_mpi_leave. */
void comm_mpi_finish(void);
/* Ends the process after a peer's death or a revoke: MPI_Finalize would wait for the dead. `last`: one
 * rank, which also ends those that are stopped where the launcher does not (control.h says when). */
void comm_mpi_leave(int exit_code, int last) __attribute__((noreturn));
int comm_mpi_rank(void);
int comm_mpi_size(void);

/* In one process: n_workers + 1 ends c[0 .. n_workers] joined by queues; may be used by one thread
 * or by one thread each. Messages are copied. comm_close frees its end; the last one frees the rest. */
int comm_local_open(struct comm *c, int n_workers, struct err *err);

void comm_close(struct comm *c);

/* Blocks until req completes, c is revoked, or nothing moved for c->deadline_us (ERR_TIMEOUT, naming
 * peer and channel). Spins about 50 us, then yields. After a failure no request is under way, but the
 * buffers of unfinished sends stay untouchable: a transport may still read them. */
int comm_wait(struct comm *c, struct comm_req *req, struct err *err);
int comm_wait_all(struct comm *c, struct comm_req *reqs, int n, struct err *err);

/* What a loop that waits does between looks, after waiting so long: nothing, yield, sleep. */
void comm_give_way(int64_t waited_us);

/* From now on waits of this process do not spin: for one that has less processor time than its threads
 * could use. Called by the thread that waits most. */
void comm_spare_time(void);

/* For loops that poll: ERR_PEER once c is revoked, ERR_TIMEOUT when a wait that began at begun_us has
 * lasted too long, else ERR_OK. */
int comm_check_wait(struct comm *c, int64_t begun_us, struct err *err);

/* Words for messages: "rank 3" or "the coordinator" (returns out); "tp". */
const char *comm_party_name(const struct comm *c, int party, char out[24]);
const char *comm_channel_name(int channel);

/* Blocking pairs of the above. Block until peer `peer` receives / sends on ch. */
int comm_send(struct comm *c, int peer, enum comm_channel ch, const void *buf, size_t bytes,
              struct err *err);
int comm_recv(struct comm *c, int peer, enum comm_channel ch, void *buf, size_t cap, size_t *bytes,
              struct err *err);

static inline int64_t comm_now_us(struct comm *c) { return c->table->now_us(c); }

/* All of the workers in ranks[0..n) return the lowest code that any of them gave, and err holds the
 * message of the lowest rank that gave it. Point to point. Collective on ranks. Without it one rank's
 * missing file becomes everybody's deadlock. */
int comm_agree(struct comm *c, const int *ranks, int n, int rc, struct err *err);

#endif
