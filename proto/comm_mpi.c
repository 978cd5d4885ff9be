/* comm_mpi.c - the transport over MPI.
 * Why: after start-up no blocking MPI call: isend, irecv and test only, so that every wait has a
 *      deadline. Tags say which party of a process a message is from and for (rank 0 has two).
 * Trap: a party's channel is polled by one thread only, so a plain probe cannot lose a race. */
#include "proto/comm.h"

#include <limits.h>
#include <mpi.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Tags: all of the program. */
enum tag { TAG_WORKER_TO_WORKER = 0, TAG_COORDINATOR_TO_WORKER = 1, TAG_WORKER_TO_COORDINATOR = 2,
           TAG_COORDINATOR_TO_ITSELF = 3 };

_Static_assert(sizeof(MPI_Request) <= sizeof(uint64_t), "a request must fit a word");

/* The process's communicators: made once, before threads start; const afterwards. */
static struct {
    MPI_Comm channel[COMM_N_CHANNELS];
    int rank, size, made;
} world;

int comm_mpi_rank(void) { return world.rank; }
int comm_mpi_size(void) { return world.size; }

static int mpi_failed(int mpi_code, const char *what, struct err *err)
{
    char text[MPI_MAX_ERROR_STRING];
    int n = 0;
    if (MPI_Error_string(mpi_code, text, &n) != MPI_SUCCESS)
        n = 0;
    return err_set(err, ERR_PEER, "%s: MPI says: %.*s", what, n < 160 ? n : 160, text);
}

int comm_mpi_init(struct err *err)
{
    int rc = MPI_Comm_rank(MPI_COMM_WORLD, &world.rank);
    if (rc == MPI_SUCCESS)
        rc = MPI_Comm_size(MPI_COMM_WORLD, &world.size);
    if (rc == MPI_SUCCESS)
        rc = MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    for (int i = 0; i < COMM_N_CHANNELS && rc == MPI_SUCCESS; i++) {
        rc = MPI_Comm_dup(MPI_COMM_WORLD, &world.channel[i]);
        if (rc == MPI_SUCCESS)
            rc = MPI_Comm_set_errhandler(world.channel[i], MPI_ERRORS_RETURN);
        if (rc == MPI_SUCCESS)
            world.made++;
    }
    return rc == MPI_SUCCESS ? ERR_OK : mpi_failed(rc, "starting the conversations", err);
}

void comm_mpi_finish(void)
{
    while (world.made > 0)
        MPI_Comm_free(&world.channel[--world.made]);
}

static int rank_of(const struct comm *c, int party) { return party == c->n_workers ? 0 : party; }

static int tag_of(const struct comm *c, int from, int to)
{
    return (from == c->n_workers ? 1 : 0) + (to == c->n_workers ? 2 : 0);
}

static int check_message(const struct comm *c, int peer, size_t bytes, struct err *err)
{
    if (peer < 0 || peer > c->n_workers)
        return err_set(err, ERR_INVAL, "no party %d among %d workers", peer, c->n_workers);
    if (bytes > INT_MAX)
        return err_set(err, ERR_LIMIT, "a message of %zu bytes: senders cut at %d", bytes, INT_MAX);
    return ERR_OK;
}

static void keep(struct comm_req *req, int peer, enum comm_channel ch, MPI_Request r)
{
    *req = (struct comm_req){.handle = req, .peer = peer, .channel = ch};
    memcpy(&req->word[0], &r, sizeof r);
}

static int send_begin(struct comm *c, int peer, enum comm_channel ch, const void *buf, size_t bytes,
                      struct comm_req *req, struct err *err)
{
    MPI_Request r;
    TRY(check_message(c, peer, bytes, err));
    int rc = MPI_Isend(buf, (int)bytes, MPI_BYTE, rank_of(c, peer), tag_of(c, c->self, peer),
                       world.channel[ch], &r);
    if (rc != MPI_SUCCESS)
        return mpi_failed(rc, "sending", err);
    keep(req, peer, ch, r);
    c->sent_bytes += bytes;
    return ERR_OK;
}

static int recv_begin(struct comm *c, int peer, enum comm_channel ch, void *buf, size_t cap,
                      struct comm_req *req, struct err *err)
{
    MPI_Request r;
    if (cap > INT_MAX)
        cap = INT_MAX;
    TRY(check_message(c, peer, cap, err));
    int rc = MPI_Irecv(buf, (int)cap, MPI_BYTE, rank_of(c, peer), tag_of(c, peer, c->self),
                       world.channel[ch], &r);
    if (rc != MPI_SUCCESS)
        return mpi_failed(rc, "receiving", err);
    keep(req, peer, ch, r);
    req->word[1] = 1;       /* a receive: its size is asked for */
    return ERR_OK;
}

static int test(struct comm *c, struct comm_req *req, int *done, struct err *err)
{
    MPI_Request r;
    MPI_Status status;
    int count = 0;
    *done = 1;
    if (req->handle == NULL)
        return ERR_OK;
    memcpy(&r, &req->word[0], sizeof r);
    int rc = MPI_Test(&r, done, &status);
    memcpy(&req->word[0], &r, sizeof r);
    if (rc != MPI_SUCCESS) {
        req->handle = NULL;
        return mpi_failed(rc, "a message failed", err);
    }
    if (!*done)
        return ERR_OK;
    req->handle = NULL;
    if (req->word[1]) {
        MPI_Get_count(&status, MPI_BYTE, &count);
        req->bytes = (size_t)count;
        c->received_bytes += req->bytes;
    }
    return ERR_OK;
}

static int poll_channel(struct comm *c, enum comm_channel ch, int *peer, size_t *bytes,
                        struct err *err)
{
    int parties[2] = {0, c->n_workers};     /* from a worker, from the coordinator */
    *peer = -1;
    for (int i = 0; i < 2; i++) {
        MPI_Status status;
        int there = 0, count = 0;
        int rc = MPI_Iprobe(i == 0 ? MPI_ANY_SOURCE : 0, tag_of(c, parties[i], c->self),
                            world.channel[ch], &there, &status);
        if (rc != MPI_SUCCESS)
            return mpi_failed(rc, "looking for messages", err);
        if (there) {
            MPI_Get_count(&status, MPI_BYTE, &count);
            *peer = i == 0 ? status.MPI_SOURCE : c->n_workers;
            *bytes = (size_t)count;
            return ERR_OK;
        }
    }
    return ERR_OK;
}

static void cancel(struct comm *c, struct comm_req *req)
{
    MPI_Request r;
    (void)c;
    if (req->handle == NULL)
        return;
    memcpy(&r, &req->word[0], sizeof r);
    if (r != MPI_REQUEST_NULL && req->word[1])
        MPI_Cancel(&r);     /* a receive; a send to the dead is left to itself */
    if (r != MPI_REQUEST_NULL)
        MPI_Request_free(&r);
    req->handle = NULL;
}

static int64_t now_us(struct comm *c)
{
    struct timespec ts;
    (void)c;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static void close_end(struct comm *c) { (void)c; }

static const struct comm_table mpi_table = {
    .send_begin = send_begin, .recv_begin = recv_begin, .test = test, .poll = poll_channel,
    .cancel = cancel, .now_us = now_us, .close = close_end,
};

int comm_mpi_open(struct comm *c, int party, struct err *err)
{
    if (world.made != COMM_N_CHANNELS)
        return err_set(err, ERR_INVAL, "the conversations were not started");
    *c = (struct comm){.table = &mpi_table, .self = party, .n_workers = world.size,
                       .deadline_us = 30000000};
    return ERR_OK;
}

void comm_mpi_leave(int exit_code, int last)
{
    const char *recovery = getenv("OMPI_MCA_orte_enable_recovery");
    signal(SIGTERM, SIG_IGN);       /* the launcher's, sent as soon as the first of us has left */
    if (last && recovery != NULL && strcmp(recovery, "0") != 0) {
        nanosleep(&(struct timespec){.tv_nsec = 500000000}, NULL);  /* let the others go by themselves */
        MPI_Abort(MPI_COMM_WORLD, exit_code);
    }
    _exit(exit_code);
}
