/* agree.c - one verdict for a group of ranks, point to point.
 * Why: MPI's all-reduce has no deadline, and a group that lost a rank would hang in it. */
#include "proto/comm.h"
#include "proto/wire.h"

#include <stdio.h>
#include <string.h>

enum { VERDICT_MAX = 512 };     /* bytes of a packed Agree: the message is at most 240 */

static int send_verdict(struct comm *c, int peer, int code, int rank, const char *message,
                        struct err *err)
{
    Muster__Envelope e = MUSTER__ENVELOPE__INIT;
    Muster__Agree a = MUSTER__AGREE__INIT;
    a.code = code;
    a.rank = (uint32_t)rank;
    a.message = (char *)message;
    e.body_case = MUSTER__ENVELOPE__BODY_AGREE;
    e.agree = &a;
    return wire_send(c, peer, COMM_LOAD, &e, err);
}

/* Receives a verdict; *code 0 and no message when all is well there. */
static int recv_verdict(struct comm *c, int peer, int *code, int *rank, char message[240],
                        struct err *err)
{
    uint8_t bytes[VERDICT_MAX];
    struct arena mem;
    Muster__Envelope *e = NULL;
    size_t n = 0;
    TRY(comm_recv(c, peer, COMM_LOAD, bytes, sizeof bytes, &n, err));
    if (arena_init(&mem, 4096) != ERR_OK)
        return err_set(err, ERR_NOMEM, "no memory for an agreement");
    int rc = wire_unpack(bytes, n, &mem, &e, err);
    if (rc == ERR_OK && e->body_case != MUSTER__ENVELOPE__BODY_AGREE)
        rc = err_set(err, ERR_PEER, "rank %d sent something else where ranks agree", peer);
    if (rc == ERR_OK) {
        *code = e->agree->code;
        *rank = (int)e->agree->rank;
        snprintf(message, 240, "%s", e->agree->message);
    }
    arena_free(&mem);
    return rc;
}

/* The first of ranks hears all, keeps the worst, tells all. */
static int settle(struct comm *c, const int *ranks, int n, int *code, int *rank, char message[240],
                  struct err *err)
{
    if (c->self != ranks[0]) {
        TRY(send_verdict(c, ranks[0], *code, *rank, message, err));
        return recv_verdict(c, ranks[0], code, rank, message, err);
    }
    for (int i = 1; i < n; i++) {
        int other, from;
        char theirs[240];
        TRY(recv_verdict(c, ranks[i], &other, &from, theirs, err));
        if (other < *code) {
            *code = other;
            *rank = from;
            memcpy(message, theirs, sizeof theirs);
        }
    }
    for (int i = 1; i < n; i++)
        TRY(send_verdict(c, ranks[i], *code, *rank, message, err));
    return ERR_OK;
}

int comm_agree(struct comm *c, const int *ranks, int n, int rc, struct err *err)
{
    struct err broken = {0};
    int code = rc, rank = c->self;
    char message[240] = "";
    if (rc != ERR_OK && err != NULL)
        snprintf(message, sizeof message, "%s", err->msg);
    if (n > 1 && settle(c, ranks, n, &code, &rank, message, &broken) != ERR_OK) {
        if (rc == ERR_OK && err != NULL)
            *err = broken;
        return rc != ERR_OK ? rc : broken.code;
    }
    if (code != ERR_OK && err != NULL) {
        *err = (struct err){.code = code, .rank = rank};
        memcpy(err->msg, message, sizeof err->msg);
    }
    return code;
}
