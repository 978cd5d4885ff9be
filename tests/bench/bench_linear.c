/* bench_linear - products against the limits of the machine.
 *   bench_linear [--threads N] [--types q8_0,q4_k] [--isa NAME] [--k K] [--rounds N]
 *                [--mib N] [--compute-f32]
 * generated, 1 row: bytes of weights per second, next to the rate at which the same threads read
 * the same buffer, in turns. Many rows: TFLOP/s next to single-threaded cblas_sgemm calls side by
 * side. */
#include "tests/bench/median.h"
#include "tests/linear_blocks.h"
#include "workers/kernels/membw.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

struct options {
    int threads, k, rounds, mib;
    enum isa isa;
    enum compute compute;
    const char *types;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *aligned(size_t bytes)
{
    enum { HUGE_PAGE = 2 << 20 };       /* as the weights of a model lie */
    size_t whole = (bytes + HUGE_PAGE - 1) & ~(size_t)(HUGE_PAGE - 1);
    void *p = aligned_alloc(HUGE_PAGE, whole);
    if (!p) {
        fprintf(stderr, "bench_linear: no memory for %zu bytes\n", bytes);
        exit(4);
    }
    madvise(p, whole, MADV_HUGEPAGE);
    return p;
}

/* One random panel, copied over `bytes`. */
static struct linear make_linear(enum dtype type, int k, size_t bytes)
{
    struct linear one = {.type = type, .n_out = LINEAR_PANEL, .k = k};
    size_t panel = linear_packed_bytes(type, LINEAR_PANEL, k, 0), row = dtype_bytes(type, k);
    size_t n = (bytes + panel - 1) / panel;
    uint8_t *src = malloc(row * LINEAR_PANEL), *packed = aligned(panel * n);
    uint64_t seed = 1;
    struct err err = {0};
    blocks_fill(type, src, (int64_t)k * LINEAR_PANEL, &seed);
    one.packed = packed;
    if (linear_pack(&one, 0, LINEAR_PANEL, src, row, &err)) {
        fprintf(stderr, "bench_linear: %s\n", err.msg);
        exit(1);
    }
#pragma omp parallel for
    for (size_t i = 1; i < n; i++)
        memcpy(packed + i * panel, packed, panel);
    free(src);
    one.n_out = (int)(n * LINEAR_PANEL);
    return one;
}

/* Seconds of one product of n_rows rows, preparation of x included. */
static double product_seconds(const struct linear *l, const struct options *o, enum role role,
                              int n_rows, const float *x, void *xq, float *out, uint8_t *scratch,
                              size_t scratch_bytes)
{
    struct split_program prog = split_whole(l->k);
    double t0 = now();
#pragma omp parallel num_threads(o->threads)
    {
        int n = omp_get_num_threads(), i = omp_get_thread_num(), panels = l->n_out / LINEAR_PANEL;
        linear_x_prepare(l, o->isa, o->compute, role, xq, x, l->k, n_rows, l->k, n_rows * i / n,
                         n_rows * (i + 1) / n);
#pragma omp barrier
        linear_run(l, o->isa, o->compute, role, &prog, out, l->n_out, 0, xq, n_rows,
                   (int)((int64_t)panels * i / n), (int)((int64_t)panels * (i + 1) / n),
                   scratch + (size_t)i * scratch_bytes);
    }
    return now() - t0;
}

static void bench(const struct linear *l, const struct options *o, enum role role, int n_rows,
                  double sgemm)
{
    size_t scratch_bytes = (linear_scratch_bytes(o->isa, o->compute, role, n_rows, l->k) + 4095) &
                           ~(size_t)4095;
    size_t bytes = linear_packed_bytes(l->type, l->n_out, l->k, 0);
    float *x = aligned((size_t)n_rows * (size_t)l->k * 4);
    float *out = aligned((size_t)n_rows * (size_t)l->n_out * 4);
    void *xq = aligned(linear_x_bytes(l, o->isa, o->compute, role, n_rows, l->k));
    uint8_t *scratch = aligned(scratch_bytes * (size_t)o->threads);
    uint64_t seed = 2;
    for (int64_t i = 0; i < (int64_t)n_rows * l->k; i++)
        x[i] = blocks_normal(&seed);
    double *reads = aligned(sizeof(double) * (size_t)o->rounds);
    double *products = aligned(sizeof(double) * (size_t)o->rounds);
    for (int i = 0; i < o->rounds; i++) {
        reads[i] = membw_read_seconds(l->packed, bytes, o->threads);
        products[i] = product_seconds(l, o, role, n_rows, x, xq, out, scratch, scratch_bytes);
    }
    double read = median(reads, o->rounds), seconds = median(products, o->rounds);
    double flop = 2.0 * n_rows * l->n_out * l->k;
    printf("%-8s %-9s %4d rows %6.1f GB/s, read %6.1f, ratio %.2f | %6.3f TFLOP/s, sgemm %.3f\n",
           dtype_info((int)l->type)->name, role == ROLE_KIND_PROMPT ? "prompt" : "generated",
           n_rows, (double)bytes / seconds * 1e-9, (double)bytes / read * 1e-9,
           read / seconds, flop / seconds * 1e-12, sgemm * 1e-12);
    fflush(stdout);
    free(reads);
    free(products);
    free(x);
    free(out);
    free(xq);
    free(scratch);
}

static void bench_type(enum dtype type, const struct options *o, double sgemm)
{
    struct linear big = make_linear(type, o->k, (size_t)o->mib << 20);
    bench(&big, o, ROLE_KIND_GENERATED, 1, sgemm);
    bench(&big, o, ROLE_KIND_GENERATED, 4, sgemm);
    bench(&big, o, ROLE_KIND_GENERATED, 16, sgemm);
    struct linear part = big;
    part.n_out = big.n_out < 4096 ? big.n_out : 4096;
    static const int rows[] = {16, 32, 64, 128, 256};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        bench(&part, o, ROLE_KIND_PROMPT, rows[i], sgemm);
    free(big.packed);
}

int main(int argc, char **argv)
{
    struct options o = {.threads = omp_get_max_threads(), .k = 2048, .rounds = 15, .mib = 640,
                        .types = "q8_0,q4_0,q4_1,q4_k,q6_k,f16,bf16,f32"};
    struct err err = {0};
    if (isa_choose(&o.isa, &err)) {
        fprintf(stderr, "bench_linear: %s\n", err.msg);
        return 2;
    }
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "0";
        if (!strcmp(argv[i], "--threads"))
            o.threads = atoi(value), i++;
        else if (!strcmp(argv[i], "--k"))
            o.k = atoi(value), i++;
        else if (!strcmp(argv[i], "--rounds"))
            o.rounds = atoi(value), i++;
        else if (!strcmp(argv[i], "--mib"))
            o.mib = atoi(value), i++;
        else if (!strcmp(argv[i], "--types"))
            o.types = value, i++;
        else if (!strcmp(argv[i], "--isa"))
            o.isa = (enum isa)isa_named(value), i++;
        else if (!strcmp(argv[i], "--compute-f32"))
            o.compute = COMPUTE_F32;
    }
    char refused[256];
    linear_self_check(o.isa, refused, sizeof refused);
    float *work = aligned((size_t)o.threads * 3 * MEMBW_SGEMM_DIM * MEMBW_SGEMM_DIM * 4);
    memset(work, 0, (size_t)o.threads * 3 * MEMBW_SGEMM_DIM * MEMBW_SGEMM_DIM * 4);
    double sgemm = membw_sgemm(work, o.threads, 30);
    printf("%s, %d threads, k %d, refused: %s\n", isa_name(o.isa), o.threads, o.k,
           *refused ? refused : "none");
    char list[256];
    snprintf(list, sizeof list, "%s", o.types);
    for (char *name = strtok(list, ","); name; name = strtok(NULL, ",")) {
        const struct dtype_info *info = dtype_named(name);
        if (info)
            bench_type(info->id, &o, sgemm);
    }
    free(work);
    return 0;
}
