/* bench_reduce.c - our tensor-parallel sum against MPI_Allreduce of the same numbers.
 * Usage: mpirun -n 2 --bind-to core build/tests/bench/bench_reduce [--wire f32|bf16|q8_0] [--runs 7]
 *        [--run-us 20000] [--direct FLOATS] [--chunk FLOATS] [--max-kb 4096]
 * How:   for each size, runs of the two alternate; a run is many sums between two barriers, its time the
 *        slowest rank's. Printed: medians over the runs, the median of their ratios, and what of ours is
 *        packing and unpacking (`wire`) and waiting; then the same of the fastest runs, which a busy
 *        machine disturbs less (with --runs 101 --run-us 1000). */
#include "tests/bench/median.h"
#include "workers/parallel/reduce.h"

#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RUNS_MAX = 101, N_MAX = 1 << 20, FIRST_BYTES = 2048 };

struct bench {
    struct comm comm;
    struct mesh mesh;
    struct reduce reduce;
    float *pieces, *out;    /* [n_piece][N_MAX], [N_MAX] */
    int runs;
    enum wire_dtype wire;
    int64_t direct, chunk, run_us, max_kb;
};

static void fail(const struct err *err)
{
    fprintf(stderr, "bench_reduce: %s\n", err->msg);
    MPI_Abort(MPI_COMM_WORLD, 1);
}

static void fill_mesh(struct mesh *m, int self, int tp)
{
    memset(m, 0, sizeof *m);
    m->tp = tp;
    m->tp_index = m->self = self;
    m->leaves = split_leaves(tp);
    for (int i = 0; i < tp; i++) {
        m->peer_segments[i] = split_even(m->leaves, tp, i);
        m->tp_ranks[i] = i;
    }
    m->segments = m->peer_segments[self];
}

static void sum_ours(struct bench *b, int64_t n)
{
    struct err err = {0};
    if (reduce_sum(&b->reduce, b->out, b->pieces, N_MAX, n, 4096, 32, &err) != ERR_OK)
        fail(&err);
}

/* Microseconds of one sum, of the slowest rank. */
static double time_run(struct bench *b, int64_t n, int ours, int repeats)
{
    MPI_Barrier(MPI_COMM_WORLD);
    double begun = MPI_Wtime();
    for (int i = 0; i < repeats; i++) {
        if (ours)
            sum_ours(b, n);
        else
            MPI_Allreduce(b->pieces, b->out, (int)n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
    }
    double us = (MPI_Wtime() - begun) * 1e6 / repeats, slowest;
    MPI_Allreduce(&us, &slowest, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    return slowest;
}

static void bench_size(struct bench *b, int64_t n)
{
    double ours[RUNS_MAX], mpi[RUNS_MAX], ratio[RUNS_MAX];
    double once = time_run(b, n, 0, 20) + time_run(b, n, 1, 20);
    int repeats = (int)(2 * (double)b->run_us / once) + 1, total = 0;
    MPI_Bcast(&repeats, 1, MPI_INT, 0, MPI_COMM_WORLD);
    b->reduce.wire_us = b->reduce.wait_us = 0;
    for (int r = 0; r < b->runs; r++) {
        mpi[r] = time_run(b, n, 0, repeats);
        ours[r] = time_run(b, n, 1, repeats);
        ratio[r] = ours[r] / mpi[r];
        total += repeats;
    }
    double wire = b->reduce.wire_us / total, wait = b->reduce.wait_us / total;
    double o = median(ours, b->runs), m = median(mpi, b->runs), q = median(ratio, b->runs);
    if (b->comm.self == 0)
        printf("%5.0f KB %10.1f us %10.1f us %7.2f %9.2f us %9.2f us %10.1f us %10.1f us %7.2f\n",
               (double)n * 4 / 1024, o, m, q, wire, wait, ours[0], mpi[0], ours[0] / mpi[0]);
}

static int64_t number_after(int argc, char **argv, const char *name, int64_t otherwise)
{
    for (int i = 1; i + 1 < argc; i++)
        if (strcmp(argv[i], name) == 0)
            return atoll(argv[i + 1]);
    return otherwise;
}

static void read_options(struct bench *b, int argc, char **argv)
{
    static const char *const names[] = {"f32", "bf16", "q8_0"};
    int runs = (int)number_after(argc, argv, "--runs", 7);
    b->runs = runs < 1 ? 1 : runs > RUNS_MAX ? RUNS_MAX : runs;
    b->direct = number_after(argc, argv, "--direct", -1);
    b->chunk = number_after(argc, argv, "--chunk", -1);
    b->run_us = number_after(argc, argv, "--run-us", 20000);
    b->max_kb = number_after(argc, argv, "--max-kb", N_MAX / 256);
    for (int i = 1; i + 1 < argc; i++)
        for (int k = 0; k < 3; k++)
            if (strcmp(argv[i], "--wire") == 0 && strcmp(argv[i + 1], names[k]) == 0)
                b->wire = (enum wire_dtype)k;
}

int main(int argc, char **argv)
{
    static struct bench b;
    struct err err = {0};
    int provided;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &provided);
    if (comm_mpi_init(&err) != ERR_OK || comm_mpi_open(&b.comm, comm_mpi_rank(), &err) != ERR_OK)
        fail(&err);
    read_options(&b, argc, argv);
    fill_mesh(&b.mesh, comm_mpi_rank(), comm_mpi_size());
    if (reduce_init(&b.reduce, &b.comm, &b.mesh, b.wire, N_MAX, &err) != ERR_OK)
        fail(&err);
    if (b.direct >= 0)
        b.reduce.direct_max = b.direct;
    if (b.chunk > 0 && b.chunk < b.reduce.chunk)
        b.reduce.chunk = b.chunk / 32 * 32;
    b.pieces = aligned_alloc(64, (size_t)SPLIT_PIECES_MAX * N_MAX * sizeof *b.pieces);
    b.out = aligned_alloc(64, (size_t)N_MAX * sizeof *b.out);
    if (b.pieces == NULL || b.out == NULL)
        return 1;
    for (int64_t i = 0; i < (int64_t)SPLIT_PIECES_MAX * N_MAX; i++)
        b.pieces[i] = (float)(i % 1000) * 0.001f;
    if (b.comm.self == 0)
        printf("%8s %13s %13s %7s %12s %12s %13s %13s %7s\n", "size", "ours", "MPI_Allreduce", "ratio",
               "wire", "wait", "best ours", "best MPI", "ratio");
    for (int64_t n = FIRST_BYTES / 4; n <= N_MAX && n <= b.max_kb * 256; n *= 2)
        bench_size(&b, n);
    free(b.pieces);
    free(b.out);
    reduce_free(&b.reduce);
    comm_close(&b.comm);
    comm_mpi_finish();
    MPI_Finalize();
    return 0;
}
