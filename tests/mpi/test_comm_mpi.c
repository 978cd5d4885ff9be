/* The transport over MPI: workers and a coordinator thread, all pairs, self included. */
#include "proto/comm.h"
#include "proto/wire.h"

#include <mpi.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "rank %d: %s:%d: %s (%s)\n", comm_mpi_rank(), __FILE__, __LINE__, #cond, \
                    err.msg);                                                                      \
            MPI_Abort(MPI_COMM_WORLD, 1);                                                          \
        }                                                                                          \
    } while (0)

enum { ROUNDS = 200 };

/* Echoes every worker's message back until each has sent ROUNDS. */
static void *coordinate(void *arg)
{
    struct comm c;
    struct err err = {0};
    struct arena mem;
    (void)arg;
    CHECK(comm_mpi_open(&c, comm_mpi_size(), &err) == ERR_OK);
    CHECK(arena_init(&mem, 1 << 16) == ERR_OK);
    for (int left = ROUNDS * comm_mpi_size(); left > 0; left--) {
        Muster__Envelope *m;
        int peer;
        arena_reset(&mem);
        CHECK(wire_recv(&c, COMM_CONTROL, &mem, &peer, &m, &err) == ERR_OK);
        CHECK(m->body_case == MUSTER__ENVELOPE__BODY_HEARTBEAT && (int)m->heartbeat->rank == peer);
        CHECK(wire_send(&c, peer, COMM_CONTROL, m, &err) == ERR_OK);
    }
    arena_free(&mem);
    comm_close(&c);
    return NULL;
}

static void talk_to_coordinator(struct comm *c)
{
    struct err err = {0};
    struct arena mem;
    CHECK(arena_init(&mem, 1 << 16) == ERR_OK);
    for (int i = 0; i < ROUNDS; i++) {
        Muster__Envelope e = MUSTER__ENVELOPE__INIT, *m;
        Muster__Heartbeat h = MUSTER__HEARTBEAT__INIT;
        int peer;
        e.body_case = MUSTER__ENVELOPE__BODY_HEARTBEAT;
        e.heartbeat = &h;
        h.rank = (uint32_t)c->self;
        h.progress = (uint64_t)i;
        CHECK(wire_send(c, comm_coordinator(c), COMM_CONTROL, &e, &err) == ERR_OK);
        arena_reset(&mem);
        CHECK(wire_recv(c, COMM_CONTROL, &mem, &peer, &m, &err) == ERR_OK);
        CHECK(peer == comm_coordinator(c) && m->heartbeat->progress == (uint64_t)i);
    }
    arena_free(&mem);
}

static void exchange(struct comm *c, uint8_t *in, uint8_t *out, size_t bytes, int distance)
{
    struct err err = {0};
    struct comm_req r[2] = {{0}};
    int n = comm_mpi_size(), to = (c->self + distance) % n, from = (c->self - distance + n) % n;
    memset(out, c->self + 1, bytes);
    CHECK(c->table->recv_begin(c, from, COMM_TP, in, bytes, &r[0], &err) == ERR_OK);
    CHECK(c->table->send_begin(c, to, COMM_TP, out, bytes, &r[1], &err) == ERR_OK);
    CHECK(comm_wait_all(c, r, 2, &err) == ERR_OK);
    CHECK(r[0].bytes == bytes && in[0] == from + 1 && in[bytes - 1] == from + 1);
}

static void talk_to_peers(struct comm *c)
{
    static uint8_t in[1 << 20], out[1 << 20];
    struct err err = {0}, verdict = {0};
    int n = comm_mpi_size(), ranks[64];
    for (size_t bytes = 1; bytes <= sizeof out; bytes *= 32)
        for (int d = 0; d < n; d++)
            exchange(c, in, out, bytes, d);
    for (int i = 0; i < n; i++)
        ranks[i] = i;
    int mine = c->self == n - 1 ? ERR_FORMAT : ERR_OK;
    if (mine != ERR_OK)
        err_set(&verdict, mine, "the file is damaged");
    CHECK(comm_agree(c, ranks, n, mine, &verdict) == ERR_FORMAT);
    CHECK(verdict.rank == n - 1 && strstr(verdict.msg, "damaged") != NULL);
    CHECK(comm_agree(c, ranks, n, ERR_OK, &err) == ERR_OK);
    c->deadline_us = 50000;
    size_t got;
    CHECK(comm_recv(c, c->self, COMM_DP, in, sizeof in, &got, &verdict) == ERR_TIMEOUT);
}

int main(int argc, char **argv)
{
    struct err err = {0};
    struct comm c;
    pthread_t coordinator;
    int provided;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &provided);
    CHECK(provided == MPI_THREAD_MULTIPLE);
    CHECK(comm_mpi_init(&err) == ERR_OK);
    CHECK(comm_mpi_open(&c, comm_mpi_rank(), &err) == ERR_OK);
    if (comm_mpi_rank() == 0)
        CHECK(pthread_create(&coordinator, NULL, coordinate, NULL) == 0);
    talk_to_coordinator(&c);
    talk_to_peers(&c);
    if (comm_mpi_rank() == 0)
        pthread_join(coordinator, NULL);
    comm_close(&c);
    MPI_Barrier(MPI_COMM_WORLD);
    comm_mpi_finish();
    if (comm_mpi_rank() == 0)
        printf("1 passed, 0 failed\n");
    MPI_Finalize();
    return 0;
}
