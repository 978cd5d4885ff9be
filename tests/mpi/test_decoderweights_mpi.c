/* Shards over real messages: a model of many exchange rounds, tp = the number of ranks; bytes read as the
 * kernel counts them; a damaged number on one rank stops all. */
#include "workers/models/decoderweights.h"

#include "tests/unit/meshmaker.h"
#include "tests/unit/tinymodel.h"
#include "tests/unit/tinyshard.h"

#include <mpi.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "rank %d: %s:%d: %s (%s)\n", comm_mpi_rank(), __FILE__, __LINE__, #cond, \
                    err.msg);                                                                      \
            MPI_Abort(MPI_COMM_WORLD, 1);                                                          \
        }                                                                                          \
    } while (0)

static const struct tinymodel model = {.layers = 1, .dim = 192, .heads = 6, .kv_heads = 2,
                                       .head_dim = 32, .ffn = 16000, .vocab = 3000, .type = DT_F32,
                                       .tied = true};

/* "rchar" of /proc/self/io: what this process has asked the kernel to read; 0 unknown. */
static uint64_t bytes_asked(void)
{
    unsigned long long n = 0;
    FILE *f = fopen("/proc/self/io", "r");
    if (!f || fscanf(f, "rchar: %llu", &n) != 1)
        n = 0;
    if (f)
        fclose(f);
    return n;
}

static void load(struct comm *c, const char *folder, bool damaged)
{
    struct err err = {0};
    struct tensorfile file;
    struct model_config config;
    struct decoder_weights w;
    CHECK(tensorfile_open(&file, folder, &err) == ERR_OK);
    CHECK(model_config_read(&config, &file, folder, &err) == ERR_OK);
    struct mesh m = mesh_make(c->self, c->n_workers, 1, config.n_layers, NULL);
    uint64_t before = bytes_asked();
    int rc = decoder_weights_load(&w, &config, &file, &m, c, NULL, NULL, &err);
    uint64_t asked = bytes_asked() - before;
    if (damaged) {
        CHECK(rc == ERR_FORMAT && strstr(err.msg, "down_proj.weight holds a NaN") != NULL);
    } else {
        CHECK(rc == ERR_OK);
        CHECK(tinyshard_wrong(&w, &config) == 0);
        /* 64 KB: messages between processes may be read through files too. */
        CHECK(asked <= w.file_bytes + w.file_bytes / 20 + 65536);
    }
    decoder_weights_free(&w);
    model_config_free(&config);
    tensorfile_close(&file);
}

int main(int argc, char **argv)
{
    struct err err = {0};
    struct comm c;
    char folder[64] = "/tmp/muster-test-XXXXXX";
    int provided;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &provided);
    CHECK(comm_mpi_init(&err) == ERR_OK);
    CHECK(comm_mpi_open(&c, comm_mpi_rank(), &err) == ERR_OK);
    for (int damaged = 0; damaged < 2; damaged++) {
        struct tinymodel m = model;
        if (damaged) {
            m.poison = "model.layers.0.mlp.down_proj.weight";
            m.poison_at = 100 * 16000 + 15999;
        }
        if (c.self == 0) {
            CHECK(damaged || mkdtemp(folder) != NULL);
            tinymodel_write(&m, folder);
        }
        MPI_Bcast(folder, sizeof folder, MPI_CHAR, 0, MPI_COMM_WORLD);
        load(&c, folder, damaged);
        MPI_Barrier(MPI_COMM_WORLD);
    }
    if (c.self == 0) {
        char path[128];
        snprintf(path, sizeof path, "%s/model.safetensors", folder);
        unlink(path);
        snprintf(path, sizeof path, "%s/config.json", folder);
        unlink(path);
        rmdir(folder);
        printf("1 passed, 0 failed\n");
    }
    comm_close(&c);
    MPI_Barrier(MPI_COMM_WORLD);
    comm_mpi_finish();
    MPI_Finalize();
    return 0;
}
