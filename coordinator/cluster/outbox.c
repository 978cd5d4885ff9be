#include "coordinator/cluster/outbox.h"

#include "proto/wire.h"

#include <stdlib.h>
#include <string.h>

/* A long prompt on a big model keeps a rank busy for minutes; whether it is alive, heartbeats say. */
enum { OUTBOX_DEADLINES = 20 };

struct outbox_letter {
    struct outbox_letter *next;
    uint8_t *buf; size_t cap;
    struct comm_req *req; int *peer;    /* [room] */
    int room, n;                        /* sends of it; 0: the letter is free */
    int64_t begun_us;
};

void outbox_init(struct outbox *o, struct comm *comm)
{
    o->comm = comm;
    o->letters = NULL;
}

static void letter_free(struct outbox_letter *l)
{
    free(l->buf);
    free(l->req);
    free(l->peer);
    free(l);
}

void outbox_free(struct outbox *o)
{
    for (struct outbox_letter *l = o->letters, *next; l != NULL; l = next) {
        bool lost = false;
        next = l->next;
        for (int i = 0; i < l->n; i++) {
            lost |= l->req[i].handle != NULL;
            o->comm->table->cancel(o->comm, &l->req[i]);
        }
        if (!lost)
            letter_free(l);     /* the transport may still read the buffer of one that never left */
    }
    o->letters = NULL;
}

/* A free letter with room, or a new one. */
static struct outbox_letter *take_letter(struct outbox *o, size_t bytes, int n)
{
    struct outbox_letter *l = o->letters;
    while (l != NULL && l->n > 0)
        l = l->next;
    if (l == NULL) {
        if ((l = calloc(1, sizeof *l)) == NULL)
            return NULL;
        l->next = o->letters;
        o->letters = l;
    }
    if (l->cap < bytes) {
        free(l->buf);
        l->cap = bytes < 4096 ? 4096 : bytes + bytes / 2;
        if ((l->buf = malloc(l->cap)) == NULL)
            l->cap = 0;
    }
    if (l->room < n) {
        free(l->req);
        free(l->peer);
        l->req = calloc((size_t)n, sizeof *l->req);
        l->peer = calloc((size_t)n, sizeof *l->peer);
        l->room = l->req != NULL && l->peer != NULL ? n : 0;
    }
    return l->cap >= bytes && l->room >= n ? l : NULL;
}

int outbox_send(struct outbox *o, const int *peers, int n, Muster__Envelope *m, struct err *err)
{
    if (n == 0)
        return ERR_OK;
    TRY(outbox_tend(o, err));
    m->epoch = o->comm->epoch;
    size_t bytes = wire_packed_size(m);
    struct outbox_letter *l = take_letter(o, bytes, n);
    if (l == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a message of %zu bytes", bytes);
    wire_pack(m, l->buf);
    l->begun_us = comm_now_us(o->comm);
    for (int i = 0; i < n; i++) {
        memset(&l->req[i], 0, sizeof l->req[i]);
        l->peer[i] = peers[i];
        TRY(o->comm->table->send_begin(o->comm, peers[i], COMM_CONTROL, l->buf, bytes, &l->req[i], err));
        l->n = i + 1;
    }
    return ERR_OK;
}

/* Drops the sends of a letter that are done; *stuck is a peer that has not taken it, or -1. */
static int tend_letter(struct outbox *o, struct outbox_letter *l, int *stuck, struct err *err)
{
    int left = 0;
    *stuck = -1;
    for (int i = 0; i < l->n; i++) {
        int done = 1;
        if (l->req[i].handle != NULL)
            TRY(o->comm->table->test(o->comm, &l->req[i], &done, err));
        if (!done) {
            left++;
            *stuck = l->peer[i];
        }
    }
    if (left == 0)
        l->n = 0;
    return ERR_OK;
}

int outbox_tend(struct outbox *o, struct err *err)
{
    for (struct outbox_letter *l = o->letters; l != NULL; l = l->next) {
        int stuck;
        if (l->n == 0)
            continue;
        TRY(tend_letter(o, l, &stuck, err));
        int64_t waited = comm_now_us(o->comm) - l->begun_us;
        if (stuck >= 0 && waited > OUTBOX_DEADLINES * o->comm->deadline_us)
            return err_set(err, ERR_TIMEOUT, "rank %d took no message for %.0f s", stuck,
                           (double)waited / 1e6);
    }
    return ERR_OK;
}

int outbox_flush(struct outbox *o, int64_t patience_us)
{
    int64_t begun = comm_now_us(o->comm), waited = 0;
    for (;;) {
        int left = 0, stuck;
        for (struct outbox_letter *l = o->letters; l != NULL; l = l->next) {
            if (l->n > 0 && tend_letter(o, l, &stuck, NULL) != ERR_OK)
                l->n = 0;
            left += l->n > 0;
        }
        if (left == 0 || waited > patience_us)
            return left;
        comm_give_way(waited);
        waited = comm_now_us(o->comm) - begun;
    }
}
