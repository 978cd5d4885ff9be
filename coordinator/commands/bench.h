/* bench.h - what the bench measures (bench.c) and how it is shown (benchprint.c). */
#ifndef MUSTER_BENCH_H
#define MUSTER_BENCH_H

#include "coordinator/commands/session.h"

#include <jansson.h>

enum { BENCH_LIST_MAX = 16, BENCH_RANKS_MAX = 256, BENCH_SUMS_MAX = 8 };

/* One rank's part of a measurement, per step. */
struct bench_rank {
    int rank;
    double compute_us, reduce_us, wait_us, wire_us, wire_bytes;
    double read_bw;                 /* of its packed weights, measured between the decodings; the median */
    double read_share;              /* bytes per step x steps per second / read_bw */
    uint64_t weights_bytes, read_bytes, kv_bytes, scratch_bytes, rss_peak;
};

/* One phase (prefill or decode) of one layout and batch. */
struct bench_phase {
    double tokens_per_s, seconds;   /* medians of the repeats */
    double best_tokens_per_s;
    double predicted;               /* tokens per second, by the planner */
    double step_us;
    int n_ranks;
    struct bench_rank rank[BENCH_RANKS_MAX];
};

struct bench_run {
    int tp, pp, sequences, prompt, generated;
    bool has_prefill, has_decode;
    struct bench_phase prefill, decode;
    int n_sums;                     /* sums between the ranks: ours and MPI's all-reduce */
    struct { double bytes, ours_us, mpi_us; } sum[BENCH_SUMS_MAX];
    uint64_t file_bytes_read;
    double load_seconds;
};

void benchprint_limits(const struct cluster *c);
void benchprint_run(const struct bench_run *r);
json_t *benchprint_json(const struct bench_run *r);
json_t *benchprint_limits_json(const struct cluster *c);

#endif
