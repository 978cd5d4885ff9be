/* Control threads over MPI: everybody is vouched for; then the last rank falls silent, and the waits of
 * all others end with its name. */
#include "proto/control.h"

#include <mpi.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "rank %d: %s:%d: %s (%s)\n", comm_mpi_rank(), __FILE__, __LINE__, #cond, \
                    err.msg);                                                                      \
            MPI_Abort(MPI_COMM_WORLD, 1);                                                          \
        }                                                                                          \
    } while (0)

struct party { struct comm comm, beat; struct control control; };

/* A later epoch does not hear the goodbyes of the one before. */
static void open_party(struct party *p, int number, uint32_t epoch)
{
    static const struct control_options options = {.beat_us = 20000, .first_us = 1500000,
                                                   .silent_us = 1500000};
    struct err err = {0};
    CHECK(comm_mpi_open(&p->comm, number, &err) == ERR_OK);
    CHECK(comm_mpi_open(&p->beat, number, &err) == ERR_OK);
    p->comm.activity = COMM_IDLE;
    p->beat.epoch = epoch;
    CHECK(control_start(&p->control, &p->beat, &p->comm, &options, &err) == ERR_OK);
}

static void close_party(struct party *p)
{
    control_stop(&p->control);
    comm_close(&p->comm);
    comm_close(&p->beat);
}

static void sleep_ms(int ms) { nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000L}, NULL); }

static int all_well(struct party *coordinator, struct party *worker)
{
    struct err err = {0};
    int64_t begun = comm_now_us(&worker->comm);
    sleep_ms(1000);
    CHECK(*worker->comm.revoked == 0);
    CHECK(*worker->comm.vouched_us > begun);
    if (coordinator != NULL)
        CHECK(*coordinator->comm.revoked == 0 && *coordinator->comm.vouched_us > begun);
    return 1;
}

int main(int argc, char **argv)
{
    struct party coordinator = {0}, worker = {0};
    struct err err = {0};
    uint8_t byte;
    size_t n;
    int provided;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &provided);
    CHECK(provided == MPI_THREAD_MULTIPLE && comm_mpi_init(&err) == ERR_OK);
    int rank = comm_mpi_rank(), last = comm_mpi_size() - 1;
    open_party(&worker, rank, 1);
    if (rank == 0)
        open_party(&coordinator, comm_mpi_size(), 1);
    all_well(rank == 0 ? &coordinator : NULL, &worker);
    MPI_Barrier(MPI_COMM_WORLD);
    close_party(&worker);
    if (rank == 0)
        close_party(&coordinator);
    MPI_Barrier(MPI_COMM_WORLD);
    /* Again, without the last rank: it never beats. */
    if (last > 0 && rank < last) {
        open_party(&worker, rank, 2);
        if (rank == 0)
            open_party(&coordinator, comm_mpi_size(), 2);
        CHECK(comm_recv(&worker.comm, last, COMM_TP, &byte, 1, &n, &err) == ERR_PEER);
        char name[32];
        snprintf(name, sizeof name, "rank %d is dead", last);
        CHECK(strstr(err.msg, name) != NULL);
        close_party(&worker);
        if (rank == 0)
            close_party(&coordinator);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    comm_mpi_finish();
    if (rank == 0)
        printf("1 passed, 0 failed\n");
    MPI_Finalize();
    return 0;
}
