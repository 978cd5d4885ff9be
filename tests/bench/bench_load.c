/* bench_load.c - how fast shards come from a file, and what they cost in memory.
 * Usage:  mpirun -n N bench_load MODEL [PP]      (tp = N / PP, 1 stage by default)
 * Prints for each rank: seconds, bytes of the file and GB/s, bytes asked of the kernel over the shard's,
 * peak resident bytes above those after MPI_Init over the packed shard. */
#include "workers/models/decoderweights.h"

#include "tests/unit/meshmaker.h"

#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

/* A number of a /proc file whose line starts with key. */
static double proc_value(const char *path, const char *key)
{
    char line[256];
    double v = 0;
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, key, strlen(key)) == 0)
            v = strtod(line + strlen(key), NULL);
    if (f)
        fclose(f);
    return v;
}

static int run(struct comm *c, const char *path, int pp, struct err *err)
{
    struct tensorfile file;
    struct model_config config;
    struct decoder_weights w;
    double rss0 = proc_value("/proc/self/status", "VmRSS:") * 1024;
    TRY(tensorfile_open(&file, path, err));
    TRY(model_config_read(&config, &file, path, err));
    struct mesh m = mesh_make(c->self, c->n_workers / pp, pp, config.n_layers, NULL);
    double io0 = proc_value("/proc/self/io", "rchar:");
    TRY(decoder_weights_load(&w, &config, &file, &m, c, NULL, NULL, err));
    double asked = proc_value("/proc/self/io", "rchar:") - io0;
    double peak = proc_value("/proc/self/status", "VmHWM:") * 1024;
    printf("rank %d: %.2f s, shard %.1f MB of the file at %.2f GB/s, %.1f MB packed; asked %.3f x "
           "shard; peak %.3f x packed (+%.1f MB), waited %.2f s\n", c->self, w.seconds,
           w.file_bytes / 1e6, w.file_bytes / w.seconds / 1e9, w.bytes / 1e6,
           asked / (double)w.file_bytes, (peak - rss0) / (double)w.bytes,
           (peak - rss0 - (double)w.bytes) / 1e6, c->wait_us / 1e6);
    decoder_weights_free(&w);
    model_config_free(&config);
    tensorfile_close(&file);
    return ERR_OK;
}

int main(int argc, char **argv)
{
    struct err err = {0};
    struct comm c;
    int provided, rc = ERR_INVAL;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &provided);
    int pp = argc > 2 ? atoi(argv[2]) : 1;
    if (argc < 2 || pp < 1)
        fprintf(stderr, "usage: bench_load MODEL [PP]\n");
    else if ((rc = comm_mpi_init(&err)) == ERR_OK &&
             (rc = comm_mpi_open(&c, comm_mpi_rank(), &err)) == ERR_OK)
        rc = run(&c, argv[1], pp, &err);
    if (rc != ERR_OK)
        fprintf(stderr, "bench_load: %s\n", err.msg);
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_Finalize();
    return rc == ERR_OK ? 0 : 1;
}
