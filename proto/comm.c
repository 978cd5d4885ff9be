#include "proto/comm.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

/* How a wait gives way: spinning catches what comes within a reduction, yielding lets another rank on
 * the same core work, sleeping keeps an idle rank cool, and leaves a rank under a cpu quota its time: in
 * a pipeline that weighs its stages by speed that is a factor of 1.1 to 1.4 (tests/bench/uneven.sh). */
enum { SPIN_US = 50, YIELD_US = 1000, SLEEP_NS = 50000 };
/* Under a quota that is less than the threads could use, a wait that spins takes its time from the products
 * to come: it sleeps at once, a quarter of what it has waited. Two ranks that share every layer 3:1, one of
 * them at a third of a core, decode 1.4 x as fast (36 to 51 tokens/s; a sleep costs 15 us of the quota, so
 * that the shortest ones, with 45, are not the best). */
enum { SPARE_NS_LEAST = 50000, SPARE_NS_MOST = 500000, SPARE_NS_PER_US = 250, SLACK_NS = 1000 };
static volatile int sparing;

static const char *const channel_names[COMM_N_CHANNELS] = {"control", "beat", "tp", "pp",
                                                           "tokens", "dp", "grad", "load"};

void comm_close(struct comm *c)
{
    if (c->table != NULL)
        c->table->close(c);
    memset(c, 0, sizeof *c);
}

void comm_spare_time(void)
{
    sparing = 1;
    prctl(PR_SET_TIMERSLACK, SLACK_NS);     /* of this thread and those that it starts; a wish */
}

static void sleep_ns(int64_t ns)
{
    nanosleep(&(struct timespec){.tv_nsec = ns}, NULL);
}

void comm_give_way(int64_t waited_us)
{
    if (sparing) {
        int64_t ns = waited_us < SPARE_NS_MOST ? waited_us * SPARE_NS_PER_US : SPARE_NS_MOST;
        sleep_ns(ns < SPARE_NS_LEAST ? SPARE_NS_LEAST : ns > SPARE_NS_MOST ? SPARE_NS_MOST : ns);
        return;
    }
    if (waited_us < SPIN_US)
        return;
    if (waited_us < YIELD_US) {
        sched_yield();
        return;
    }
    sleep_ns(SLEEP_NS);
}

const char *comm_channel_name(int channel)
{
    return channel >= 0 && channel < COMM_N_CHANNELS ? channel_names[channel] : "?";
}

const char *comm_party_name(const struct comm *c, int party, char out[24])
{
    if (party == c->n_workers)
        snprintf(out, 24, "the coordinator");
    else
        snprintf(out, 24, "rank %d", party);
    return out;
}

static int is_revoked(const struct comm *c)
{
    return c->revoked != NULL && __atomic_load_n(c->revoked, __ATOMIC_ACQUIRE) != 0;
}

static int revoked(const struct comm *c, struct err *err)
{
    return err_set(err, ERR_PEER, "%s",
                   c->revoked_why != NULL ? c->revoked_why : "another rank has failed");
}

/* How long nothing has moved: since the wait began, or since all ranks were last found well. */
static int64_t silence_us(const struct comm *c, int64_t begun_us, int64_t now_us)
{
    if (c->vouched_us != NULL && *c->vouched_us > begun_us)
        begun_us = *c->vouched_us;
    return now_us - begun_us;
}

int comm_check_wait(struct comm *c, int64_t begun_us, struct err *err)
{
    if (is_revoked(c))
        return revoked(c, err);
    if (silence_us(c, begun_us, comm_now_us(c)) > c->deadline_us)
        return err_set(err, ERR_TIMEOUT, "no message within %.0f s (%s)", (double)c->deadline_us / 1e6,
                       c->doing != NULL ? c->doing : "waiting");
    return ERR_OK;
}

static int timed_out(struct comm *c, const struct comm_req *req, struct err *err)
{
    char name[24];
    return err_set(err, ERR_TIMEOUT, "nothing from or to %s on %s within %.0f s (%s)",
                   comm_party_name(c, req->peer, name), comm_channel_name(req->channel),
                   (double)c->deadline_us / 1e6, c->doing != NULL ? c->doing : "waiting");
}

static int failed(struct comm *c, const struct comm_req *req, int rc, struct err *err)
{
    char name[24];
    err_prefix(err, "%s on %s", comm_party_name(c, req->peer, name), comm_channel_name(req->channel));
    return rc;
}

static int wait_one(struct comm *c, struct comm_req *req, int64_t begun, struct err *err)
{
    c->wait_peer = req->peer;
    c->wait_channel = (int)req->channel;
    for (unsigned turn = 1;; turn++) {
        int done = 0;
        int rc = c->table->test(c, req, &done, err);
        if (rc != ERR_OK)
            return failed(c, req, rc, err);
        if (done)
            return ERR_OK;
        if (turn % 16 != 0)
            continue;       /* the clock costs as much as a test */
        if (is_revoked(c))
            return revoked(c, err);
        int64_t now = comm_now_us(c);
        if (silence_us(c, begun, now) > c->deadline_us)
            return timed_out(c, req, err);
        comm_give_way(now - begun);
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
    enum comm_activity before = c->activity;
    c->wait_begun_us = begun;
    c->activity = COMM_WAITING;
    for (int i = 0; i < n && rc == ERR_OK; i++)
        if (reqs[i].handle != NULL)
            rc = wait_one(c, &reqs[i], begun, err);
    if (rc != ERR_OK)
        for (int i = 0; i < n; i++)
            c->table->cancel(c, &reqs[i]);
    c->activity = before;
    c->progress++;
    c->wait_us += comm_now_us(c) - begun;
    return rc;
}

int comm_send(struct comm *c, int peer, enum comm_channel ch, const void *buf, size_t bytes,
              struct err *err)
{
    struct comm_req req = {0};
    int rc = c->table->send_begin(c, peer, ch, buf, bytes, &req, err);
    if (rc == ERR_OK)
        rc = comm_wait(c, &req, err);
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
    return rc;
}
