#include "coordinator/schedule/imagequeue.h"

#include <stdlib.h>
#include <string.h>

enum { WAITS, OUT, MADE };
static const double CHUNK_S = 1.0;

int imagequeue_init(struct imagequeue *q, int64_t n, int n_replicas, int slots, int64_t now_us,
                    struct err *err)
{
    memset(q, 0, sizeof *q);
    q->n = n;
    q->n_replicas = n_replicas;
    q->slots = slots < IMAGEQUEUE_CHUNK_MAX ? slots : IMAGEQUEUE_CHUNK_MAX;
    q->begun_us = now_us;
    q->state = calloc((size_t)n + 1, 1);
    q->replica = calloc((size_t)n_replicas + 1, sizeof *q->replica);
    if (q->state != NULL && q->replica != NULL)
        return ERR_OK;
    imagequeue_free(q);
    return err_set(err, ERR_NOMEM, "no memory for a queue of %lld pictures", (long long)n);
}

void imagequeue_free(struct imagequeue *q)
{
    free(q->state);
    free(q->replica);
    memset(q, 0, sizeof *q);
}

void imagequeue_made(struct imagequeue *q, int64_t task)
{
    if (task < 0 || task >= q->n || q->state[task] != WAITS)
        return;
    q->state[task] = MADE;
    q->n_done++;
    q->n_before++;
}

static int64_t waiting(const struct imagequeue *q) { return q->n - q->n_done - q->n_out; }

static int alive(const struct imagequeue *q)
{
    int n = 0;
    for (int i = 0; i < q->n_replicas; i++)
        n += !q->replica[i].gone;
    return n;
}

/* Pictures of a chunk for r: a second's work, or its share of the rest in two chunks. */
static int chunk_size(const struct imagequeue *q, const struct imagequeue_replica *r, int64_t now_us)
{
    double seconds = (double)(now_us - r->begun_us) / 1e6;
    int64_t size = q->slots;
    if (r->n_done > 0 && seconds > 0 && (double)r->n_done / seconds * CHUNK_S > (double)size)
        size = (int64_t)((double)r->n_done / seconds * CHUNK_S);
    int64_t parts = (int64_t)IMAGEQUEUE_CHUNKS * alive(q), share = (waiting(q) + parts - 1) / parts;
    size = size < share ? size : share;
    return (int)(size < IMAGEQUEUE_CHUNK_MAX ? size : IMAGEQUEUE_CHUNK_MAX);
}

int imagequeue_chunk(struct imagequeue *q, int replica, int64_t now_us, int64_t *task)
{
    struct imagequeue_replica *r = &q->replica[replica];
    struct imagequeue_chunk *c = NULL;
    for (int i = 0; i < IMAGEQUEUE_CHUNKS && c == NULL; i++)
        c = r->chunk[i].n == 0 ? &r->chunk[i] : NULL;
    if (c == NULL || r->gone || q->stopping || waiting(q) == 0)
        return 0;
    if (r->begun_us == 0)
        r->begun_us = now_us;
    int want = chunk_size(q, r, now_us);
    while (c->n < want && q->next < q->n) {
        if (q->state[q->next] == WAITS) {
            q->state[q->next] = OUT;
            task[c->n] = c->task[c->n] = q->next;
            c->n++;
        }
        q->next++;
    }
    c->left = c->n;
    q->n_out += c->n;
    return c->n;
}

/* Takes the task out of the replica's chunks. */
static bool take_back(struct imagequeue *q, int replica, int64_t task)
{
    if (replica < 0 || replica >= q->n_replicas || task < 0 || task >= q->n || q->state[task] != OUT)
        return false;
    for (int k = 0; k < IMAGEQUEUE_CHUNKS; k++) {
        struct imagequeue_chunk *c = &q->replica[replica].chunk[k];
        for (int i = 0; i < c->n; i++) {
            if (c->task[i] != task)
                continue;
            c->task[i] = -1;
            if (--c->left == 0)
                c->n = 0;
            q->n_out--;
            return true;
        }
    }
    return false;
}

static void wait_again(struct imagequeue *q, int64_t task)
{
    q->state[task] = WAITS;
    q->next = task < q->next ? task : q->next;
}

bool imagequeue_done(struct imagequeue *q, int replica, int64_t task)
{
    if (!take_back(q, replica, task))
        return false;
    q->state[task] = MADE;
    q->n_done++;
    q->replica[replica].n_done++;
    return true;
}

bool imagequeue_returned(struct imagequeue *q, int replica, int64_t task)
{
    if (!take_back(q, replica, task))
        return false;
    wait_again(q, task);
    return true;
}

void imagequeue_lost(struct imagequeue *q, int replica)
{
    struct imagequeue_replica *r = &q->replica[replica];
    r->gone = true;
    for (int k = 0; k < IMAGEQUEUE_CHUNKS; k++) {
        struct imagequeue_chunk *c = &r->chunk[k];
        for (int i = 0; i < c->n; i++)
            if (c->task[i] >= 0) {
                wait_again(q, c->task[i]);
                q->n_out--;
            }
        c->n = c->left = 0;
    }
}

void imagequeue_stop(struct imagequeue *q) { q->stopping = true; }

bool imagequeue_idle(const struct imagequeue *q)
{
    return q->n_out == 0 && (waiting(q) == 0 || q->stopping || alive(q) == 0);
}

double imagequeue_eta(const struct imagequeue *q, int64_t now_us)
{
    int64_t made = q->n_done - q->n_before;
    if (made == 0)
        return q->n_done == q->n ? 0 : -1;
    return (double)(q->n - q->n_done) * ((double)(now_us - q->begun_us) / 1e6 / (double)made);
}
