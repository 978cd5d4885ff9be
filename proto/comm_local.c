/* comm_local.c - the transport inside one process: queues under one lock.
 * Why: unit tests, planning and simulation run the deciding code without MPI, single-threaded or with
 *      one thread a party. Messages are copied, so a send is complete when it returns. */
#include "proto/comm.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct message {
    struct message *next;
    size_t bytes;
    uint8_t data[];
};

struct queue { struct message *first, *last; };

struct hub {
    pthread_mutex_t lock;
    int n_parties, n_open;
    struct queue *queue;        /* [to][channel][from] */
};

static struct queue *queue_of(struct hub *h, int to, enum comm_channel ch, int from)
{
    return &h->queue[((size_t)to * COMM_N_CHANNELS + ch) * (size_t)h->n_parties + from];
}

static int check_peer(const struct comm *c, int peer, struct err *err)
{
    if (peer < 0 || peer > c->n_workers)
        return err_set(err, ERR_INVAL, "no party %d among %d workers", peer, c->n_workers);
    return ERR_OK;
}

static int local_send_begin(struct comm *c, int peer, enum comm_channel ch, const void *buf,
                            size_t bytes, struct comm_req *req, struct err *err)
{
    struct hub *h = c->state;
    TRY(check_peer(c, peer, err));
    struct message *m = malloc(sizeof *m + bytes);
    if (m == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a message of %zu bytes", bytes);
    m->next = NULL;
    m->bytes = bytes;
    if (bytes > 0)
        memcpy(m->data, buf, bytes);
    pthread_mutex_lock(&h->lock);
    struct queue *q = queue_of(h, peer, ch, c->self);
    if (q->last != NULL)
        q->last->next = m;
    else
        q->first = m;
    q->last = m;
    pthread_mutex_unlock(&h->lock);
    c->sent_bytes += bytes;
    *req = (struct comm_req){.peer = peer, .channel = ch};
    return ERR_OK;
}

/* A receive under way: word holds buffer and cap; handle is not NULL. */
static int local_recv_begin(struct comm *c, int peer, enum comm_channel ch, void *buf, size_t cap,
                            struct comm_req *req, struct err *err)
{
    TRY(check_peer(c, peer, err));
    *req = (struct comm_req){.handle = c, .peer = peer, .channel = ch,
                             .word = {(uint64_t)(uintptr_t)buf, cap}};
    return ERR_OK;
}

static struct message *take(struct hub *h, struct queue *q)
{
    pthread_mutex_lock(&h->lock);
    struct message *m = q->first;
    if (m != NULL) {
        q->first = m->next;
        if (q->first == NULL)
            q->last = NULL;
    }
    pthread_mutex_unlock(&h->lock);
    return m;
}

static int local_test(struct comm *c, struct comm_req *req, int *done, struct err *err)
{
    struct hub *h = c->state;
    *done = 1;
    if (req->handle == NULL)
        return ERR_OK;
    struct message *m = take(h, queue_of(h, c->self, req->channel, req->peer));
    if (m == NULL) {
        *done = 0;
        return ERR_OK;
    }
    int rc = ERR_OK;
    if (m->bytes > req->word[1])
        rc = err_set(err, ERR_PEER, "a message of %zu bytes where at most %zu were due", m->bytes,
                     (size_t)req->word[1]);
    else if (m->bytes > 0)
        memcpy((void *)(uintptr_t)req->word[0], m->data, m->bytes);
    req->bytes = m->bytes;
    req->handle = NULL;
    c->received_bytes += m->bytes;
    free(m);
    return rc;
}

static int local_poll(struct comm *c, enum comm_channel ch, int *peer, size_t *bytes, struct err *err)
{
    struct hub *h = c->state;
    (void)err;
    *peer = -1;
    pthread_mutex_lock(&h->lock);
    for (int from = 0; from < h->n_parties && *peer < 0; from++) {
        const struct message *m = queue_of(h, c->self, ch, from)->first;
        if (m != NULL) {
            *peer = from;
            *bytes = m->bytes;
        }
    }
    pthread_mutex_unlock(&h->lock);
    return ERR_OK;
}

static void local_cancel(struct comm *c, struct comm_req *req)
{
    (void)c;
    req->handle = NULL;
}

static int64_t local_now_us(struct comm *c)
{
    struct timespec ts;
    (void)c;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static void local_close(struct comm *c)
{
    struct hub *h = c->state;
    pthread_mutex_lock(&h->lock);
    int left = --h->n_open;
    pthread_mutex_unlock(&h->lock);
    if (left > 0)
        return;
    size_t n = (size_t)h->n_parties * COMM_N_CHANNELS * (size_t)h->n_parties;
    for (size_t i = 0; i < n; i++)
        for (struct message *m; (m = take(h, &h->queue[i])) != NULL;)
            free(m);
    pthread_mutex_destroy(&h->lock);
    free(h->queue);
    free(h);
}

static const struct comm_table local_table = {
    .send_begin = local_send_begin, .recv_begin = local_recv_begin, .test = local_test,
    .poll = local_poll, .cancel = local_cancel, .now_us = local_now_us, .close = local_close,
};

int comm_local_open(struct comm *c, int n_workers, struct err *err)
{
    if (n_workers < 1 || n_workers > 4096)
        return err_set(err, ERR_INVAL, "%d workers in one process: 1 to 4096", n_workers);
    struct hub *h = calloc(1, sizeof *h);
    if (h != NULL)
        h->queue = calloc((size_t)(n_workers + 1) * COMM_N_CHANNELS * (size_t)(n_workers + 1),
                          sizeof *h->queue);
    if (h == NULL || h->queue == NULL) {
        free(h);
        return err_set(err, ERR_NOMEM, "no memory for the queues of %d workers", n_workers);
    }
    pthread_mutex_init(&h->lock, NULL);
    h->n_parties = h->n_open = n_workers + 1;
    for (int i = 0; i <= n_workers; i++)
        c[i] = (struct comm){.table = &local_table, .state = h, .self = i, .n_workers = n_workers,
                             .deadline_us = 30000000};
    return ERR_OK;
}
