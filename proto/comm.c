#include "proto/comm.h"

#include <sched.h>
#include <string.h>
#include <time.h>

/* How a wait gives way: spinning catches what comes within a reduction, yielding lets another rank on
 * the same core work, sleeping keeps an idle rank cool. */
enum { SPIN_US = 50, YIELD_US = 5000, SLEEP_NS = 50000 };

static const char *const channel_names[COMM_N_CHANNELS] = {"control", "beat", "tp", "pp",
                                                           "tokens", "dp", "load"};

void comm_close(struct comm *c)
{
    if (c->table != NULL)
        c->table->close(c);
    memset(c, 0, sizeof *c);
}

void comm_give_way(int64_t waited_us)
{
    if (waited_us < SPIN_US)
        return;
    if (waited_us < YIELD_US) {
        sched_yield();
        return;
    }
    nanosleep(&(struct timespec){.tv_nsec = SLEEP_NS}, NULL);
}

static int wait_one(struct comm *c, struct comm_req *req, int64_t begun, struct err *err)
{
    for (unsigned turn = 0;; turn++) {
        int done = 0;
        TRY(c->table->test(c, req, &done, err));
        if (done)
            return ERR_OK;
        if (c->revoked != NULL && *c->revoked)
            return err_set(err, ERR_PEER, "the plan was revoked (another rank has failed)");
        if (turn % 16 != 0)
            continue;       /* the clock costs as much as a test */
        int64_t waited = comm_now_us(c) - begun;
        if (waited > c->deadline_us)
            return err_set(err, ERR_TIMEOUT, "no message within %.0f s (in %s)", c->deadline_us / 1e6,
                           c->doing != NULL ? (const char *)c->doing : "a wait");
        comm_give_way(waited);
    }
}

int comm_wait(struct comm *c, struct comm_req *req, struct err *err)
{
    return comm_wait_all(c, req, 1, err);
}

int comm_wait_all(struct comm *c, struct comm_req *reqs, int n, struct err *err)
{
    int rc = ERR_OK;
    int64_t begun = comm_now_us(c);
    for (int i = 0; i < n && rc == ERR_OK; i++)
        rc = wait_one(c, &reqs[i], begun, err);
    if (rc != ERR_OK)
        for (int i = 0; i < n; i++)
            c->table->cancel(c, &reqs[i]);
    c->wait_us += comm_now_us(c) - begun;
    return rc;
}

static void name_wait(struct comm *c, int peer, enum comm_channel ch, const char *verb, int code,
                      struct err *err)
{
    if (code == ERR_TIMEOUT || code == ERR_PEER)
        err_prefix(err, "%s %s %d on %s", verb, peer == c->n_workers ? "coordinator" : "rank",
                   peer == c->n_workers ? 0 : peer, channel_names[ch]);
}

int comm_send(struct comm *c, int peer, enum comm_channel ch, const void *buf, size_t bytes,
              struct err *err)
{
    struct comm_req req = {0};
    int rc = c->table->send_begin(c, peer, ch, buf, bytes, &req, err);
    if (rc == ERR_OK)
        rc = comm_wait(c, &req, err);
    name_wait(c, peer, ch, "sending to", rc, err);
    return rc;
}

int comm_recv(struct comm *c, int peer, enum comm_channel ch, void *buf, size_t cap, size_t *bytes,
              struct err *err)
{
    struct comm_req req = {0};
    int rc = c->table->recv_begin(c, peer, ch, buf, cap, &req, err);
    if (rc == ERR_OK)
        rc = comm_wait(c, &req, err);
    *bytes = req.bytes;
    name_wait(c, peer, ch, "receiving from", rc, err);
    return rc;
}
