#include "coordinator/commands/bench.h"

#include <stdio.h>

void benchprint_limits(const struct cluster *c)
{
    for (int i = 0; i < c->n_workers; i++) {
        const Muster__NodeReport *r = c->report[i];
        printf("limits of rank %d (%s, %u threads, %s): memory %.1f GB/s, sgemm %.3f TFLOP/s\n", i,
               r->host, r->threads, r->isa, r->memory_bw * 1e-9, r->sgemm_flops * 1e-12);
    }
}

static void print_ranks(const struct bench_phase *p)
{
    for (int i = 0; i < p->n_ranks; i++) {
        const struct bench_rank *r = &p->rank[i];
        printf("    rank %-3d per step: compute %.0f us, sums %.0f us, wait %.0f us, protobuf %.1f us, "
               "%.0f bytes sent", r->rank, r->compute_us, r->reduce_us, r->wait_us, r->wire_us,
               r->wire_bytes);
        if (r->read_share > 0)
            printf("; reads %.2f of %.1f GB/s", r->read_share, r->read_bw * 1e-9);
        printf("\n");
    }
}

void benchprint_run(const struct bench_run *r)
{
    printf("tp %d x pp %d\n", r->tp, r->pp);
    printf("  prefill %d tokens: %.1f tokens/s (predicted %.1f)\n", r->prompt, r->prefill.tokens_per_s,
           r->prefill.predicted);
    print_ranks(&r->prefill);
    if (r->has_decode) {
        printf("  decode, %d sequence%s: %.1f tokens/s (predicted %.1f), %.0f us a step\n", r->sequences,
               r->sequences > 1 ? "s" : "", r->decode.tokens_per_s, r->decode.predicted,
               r->decode.step_us);
        print_ranks(&r->decode);
    }
    for (int i = 0; i < r->n_sums; i++)
        printf("  sum of %.0f KB: %.1f us, MPI's all-reduce %.1f us (%.2f)\n", r->sum[i].bytes / 1024,
               r->sum[i].ours_us, r->sum[i].mpi_us, r->sum[i].ours_us / r->sum[i].mpi_us);
}

static json_t *phase_json(const struct bench_phase *p)
{
    json_t *ranks = json_array();
    for (int i = 0; i < p->n_ranks; i++) {
        const struct bench_rank *r = &p->rank[i];
        json_array_append_new(ranks, json_pack(
            "{s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:I, s:I, s:I, s:I, s:I}", "rank", r->rank,
            "compute_us", r->compute_us, "reduce_us", r->reduce_us, "wait_us", r->wait_us,
            "wire_us", r->wire_us, "wire_bytes", r->wire_bytes, "read_bytes_per_s", r->read_bw,
            "read_share", r->read_share, "weights_bytes", (json_int_t)r->weights_bytes,
            "read_bytes", (json_int_t)r->read_bytes, "kv_bytes", (json_int_t)r->kv_bytes,
            "scratch_bytes", (json_int_t)r->scratch_bytes, "rss_peak", (json_int_t)r->rss_peak));
    }
    return json_pack("{s:f, s:f, s:f, s:f, s:f, s:o}", "tokens_per_s", p->tokens_per_s,
                     "best_tokens_per_s", p->best_tokens_per_s, "predicted_tokens_per_s", p->predicted,
                     "seconds", p->seconds,
                     "step_us", p->step_us, "ranks", ranks);
}

json_t *benchprint_json(const struct bench_run *r)
{
    json_t *o = json_pack("{s:i, s:i, s:i, s:i, s:i, s:I, s:f}", "tp", r->tp, "pp", r->pp,
                          "sequences", r->sequences, "prompt_tokens", r->prompt, "generated",
                          r->generated, "file_bytes_read", (json_int_t)r->file_bytes_read,
                          "load_seconds", r->load_seconds);
    json_t *sums = json_array();
    for (int i = 0; i < r->n_sums; i++)
        json_array_append_new(sums, json_pack("{s:f, s:f, s:f}", "bytes", r->sum[i].bytes, "us",
                                              r->sum[i].ours_us, "mpi_us", r->sum[i].mpi_us));
    if (r->has_prefill)
        json_object_set_new(o, "prefill", phase_json(&r->prefill));
    if (r->has_decode)
        json_object_set_new(o, "decode", phase_json(&r->decode));
    json_object_set_new(o, "sums", sums);
    return o;
}

json_t *benchprint_limits_json(const struct cluster *c)
{
    json_t *list = json_array();
    for (int i = 0; i < c->n_workers; i++) {
        const Muster__NodeReport *r = c->report[i];
        json_array_append_new(list, json_pack("{s:i, s:s, s:i, s:s, s:f, s:f}", "rank", i, "host",
            r->host, "threads", (int)r->threads, "isa", r->isa, "memory_bytes_per_s", r->memory_bw,
            "sgemm_flops", r->sgemm_flops));
    }
    return list;
}
