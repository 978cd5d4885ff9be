#include "workers/workerjobs.h"

#include "proto/wire.h"
#include "workers/models/logitsfile.h"
#include "workers/models/quantize.h"
#include "workers/probe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RESULTS_MAX = 64, RESULT_TEXT = 64 };

/* What a job answers: pairs of text. */
struct results {
    Muster__MetaEntry entry[RESULTS_MAX], *list[RESULTS_MAX];
    char key[RESULTS_MAX][RESULT_TEXT], value[RESULTS_MAX][RESULT_TEXT];
    int n;
};

struct job_row {
    const char *name;
    int (*run)(struct workerjob *job, struct results *out, struct err *err);
};

static void add_result(struct results *out, const char *key, const char *value)
{
    if (out->n == RESULTS_MAX)
        return;
    int i = out->n++;
    muster__meta_entry__init(&out->entry[i]);
    snprintf(out->key[i], RESULT_TEXT, "%s", key);
    snprintf(out->value[i], RESULT_TEXT, "%s", value);
    out->entry[i].key = out->key[i];
    out->entry[i].value = out->value[i];
    out->list[i] = &out->entry[i];
}

/* --- sums between ranks, ours and MPI's, in turns */

enum { SUM_ROUNDS = 7, SUM_REPEATS = 20, SUM_UNIT = 32 };
static const int64_t sum_bytes[] = {2048, 16384, 65536, 262144, 524288};
enum { SUM_SIZES = sizeof sum_bytes / sizeof *sum_bytes };

struct sums { struct reduce reduce; float *pieces, *out; int n_piece, n_total; int64_t n_max; };

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Microseconds of one sum of n floats, ours or MPI's, over a few repeats. */
static int time_sums(struct workerjob *job, struct sums *s, int64_t n, bool ours, double *us,
                     struct err *err)
{
    int64_t begun = 0;
    for (int i = -2; i < SUM_REPEATS; i++) {        /* two to come together */
        if (i == 0)
            begun = comm_now_us(job->comm);
        if (ours)
            TRY(reduce_sum(&s->reduce, s->out, s->pieces, s->n_max, n, s->n_total, SUM_UNIT, err));
        else if (job->allreduce(s->out, n) != ERR_OK)
            return err_set(err, ERR_PEER, "the all-reduce of MPI failed");
    }
    *us = (double)(comm_now_us(job->comm) - begun) / SUM_REPEATS;
    return ERR_OK;
}

static int compare_sums(struct workerjob *job, struct sums *s, int64_t bytes, struct results *out,
                        struct err *err)
{
    double ours[SUM_ROUNDS], mpis[SUM_ROUNDS];
    char key[32], value[64];
    for (int r = 0; r < SUM_ROUNDS; r++) {
        TRY(time_sums(job, s, bytes / 4, true, &ours[r], err));
        TRY(time_sums(job, s, bytes / 4, false, &mpis[r], err));
    }
    qsort(ours, SUM_ROUNDS, sizeof *ours, compare_doubles);
    qsort(mpis, SUM_ROUNDS, sizeof *mpis, compare_doubles);
    snprintf(key, sizeof key, "%lld", (long long)bytes);
    snprintf(value, sizeof value, "%.3f %.3f", ours[SUM_ROUNDS / 2], mpis[SUM_ROUNDS / 2]);
    add_result(out, key, value);
    return ERR_OK;
}

/* Job "sums": bytes -> "ours mpi", medians in microseconds. On all ranks, which are one group. */
static int job_sums(struct workerjob *job, struct results *out, struct err *err)
{
    const struct mesh *mesh = &job->model->mesh;
    if (!job->model->held || mesh->tp != job->comm->n_workers || job->allreduce == NULL)
        return err_set(err, ERR_INVAL, "sums are timed where all ranks are one tensor-parallel group");
    struct sums s = {.n_total = mesh->leaves * SUM_UNIT, .n_max = sum_bytes[SUM_SIZES - 1] / 4};
    struct split_program p = split_program_for(s.n_total, SUM_UNIT, mesh->leaves, mesh->segments);
    s.n_piece = p.n_piece > 0 ? p.n_piece : 1;
    s.pieces = calloc((size_t)s.n_piece * (size_t)s.n_max, sizeof *s.pieces);
    s.out = calloc((size_t)s.n_max, sizeof *s.out);
    int rc = s.pieces == NULL || s.out == NULL ? err_set(err, ERR_NOMEM, "no memory for sums")
                                               : ERR_OK;
    if (rc == ERR_OK)
        rc = reduce_init(&s.reduce, job->comm, mesh, WIRE_F32, s.n_max, err);
    if (rc == ERR_OK) {
        for (int i = 0; i < SUM_SIZES && rc == ERR_OK; i++)
            rc = compare_sums(job, &s, sum_bytes[i], out, err);
        reduce_free(&s.reduce);
    }
    free(s.pieces);
    free(s.out);
    return rc;
}

/* --- a file of another type */

enum { PROGRESS_US = 100000 };

struct telling { struct workerjob *job; int64_t told_us; };

/* Ten times a second is enough for a terminal. */
static void tell_share(void *ctx, double share)
{
    struct telling *t = ctx;
    struct comm *c = t->job->comm;
    Muster__Envelope m = MUSTER__ENVELOPE__INIT;
    Muster__JobDone part = MUSTER__JOB_DONE__INIT;
    int64_t now = comm_now_us(c);
    if (now - t->told_us < PROGRESS_US)
        return;
    t->told_us = now;
    part.rank = (uint32_t)c->self;
    part.more = true;
    part.share = share;
    m.body_case = MUSTER__ENVELOPE__BODY_JOB_DONE;
    m.job_done = &part;
    wire_send(c, comm_coordinator(c), COMM_CONTROL, &m, NULL);
}

static void tell_quantized(void *ctx, const struct quantize_progress *p)
{
    if (p->all > 0)
        tell_share(ctx, (double)p->done / (double)p->all);
}

/* Job "quantize" in out type: tensors, fallbacks and bytes. */
static int job_quantize(struct workerjob *job, struct results *out, struct err *err)
{
    char text[32];
    struct quantize_report r;
    struct telling t = {.job = job};
    if (job->message->n_args != 3)
        return err_set(err, ERR_INVAL, "quantize wants a model, an output and a type");
    TRY(quantize_file(job->message->args[0], job->message->args[1], job->message->args[2], tell_quantized,
                      &t, &r,
                      err));
    snprintf(text, sizeof text, "%d", r.n_tensors);
    add_result(out, "tensors", text);
    snprintf(text, sizeof text, "%d", r.n_fallback);
    add_result(out, "fallback", text);
    snprintf(text, sizeof text, "%llu", (unsigned long long)r.bytes_in);
    add_result(out, "bytes_in", text);
    snprintf(text, sizeof text, "%llu", (unsigned long long)r.bytes_out);
    add_result(out, "bytes_out", text);
    return ERR_OK;
}

/* --- two files of logits */

static void add_number(struct results *out, const char *key, double value)
{
    char text[32];
    snprintf(text, sizeof text, "%.17g", value);
    add_result(out, key, text);
}

/* Job "kl" base other. */
static int job_kl(struct workerjob *job, struct results *out, struct err *err)
{
    struct logits_divergence d;
    struct telling t = {.job = job};
    if (job->message->n_args != 2)
        return err_set(err, ERR_INVAL, "kl wants two files of logits");
    TRY(logitsfile_compare(job->message->args[0], job->message->args[1], tell_share, &t, &d, err));
    add_number(out, "rows", (double)d.rows);
    add_number(out, "vocabulary", (double)d.vocab);
    add_number(out, "mean", d.mean);
    add_number(out, "error", d.error);
    add_number(out, "max", d.max);
    add_number(out, "max_row", (double)d.max_row);
    add_number(out, "same", d.same);
    add_number(out, "same_error", d.same_error);
    return ERR_OK;
}

/* --- a network run once */

/* Job "probe" model part in out isa refused blas-tiles threads tp pp; the last four are numbers. For each
 * part run: its name -> its kind, then "" -> outputs of calls, calls left out, parameters, seconds, ranks. */
static int job_probe(struct workerjob *job, struct results *out, struct err *err)
{
    char *const *a = job->message->args;
    struct probe_report r;
    if (job->message->n_args != 10)
        return err_set(err, ERR_INVAL, "probe wants a model, a part, two files and the kernels to use");
    int threads = atoi(a[7]), tp = atoi(a[8]), pp = atoi(a[9]);
    if (tp < 1 || tp > MESH_TP_MAX || pp < 1 || pp > MESH_PP_MAX || tp * pp > job->comm->n_workers)
        return err_set(err, ERR_INVAL, "a probe by %s x %s of %d ranks", a[8], a[9],
                       job->comm->n_workers);
    struct probe_request q = {.model = a[0], .part = a[1], .in = a[2], .out = a[3], .isa = a[4],
                              .refused = a[5], .blas_tiles = atoi(a[6]) != 0,
                              .threads = threads > 0 ? threads : job->threads,
                              .comm = job->comm, .tp = tp, .pp = pp};
    TRY(probe_run(&q, &r, err));
    for (int i = 0; i < r.n; i++) {
        const struct probe_part *p = &r.part[i];
        char text[RESULT_TEXT];
        snprintf(text, sizeof text, "%d of %d, %d, %llu, %.3f, %d", p->outputs, p->calls,
                 p->left_out, (unsigned long long)p->parameters, p->seconds, p->ranks);
        add_result(out, p->name, p->kind);
        add_result(out, "", text);
    }
    return ERR_OK;
}

static const struct job_row rows[] = {
    {"sums", job_sums},
    {"quantize", job_quantize},
    {"kl", job_kl},
    {"probe", job_probe},
    {NULL, NULL},
};

static int run(struct workerjob *job, struct results *out, struct err *err)
{
    for (int i = 0; rows[i].name != NULL; i++)
        if (strcmp(rows[i].name, job->message->name) == 0)
            return rows[i].run(job, out, err);
    return err_set(err, ERR_INVAL, "no job named %s", job->message->name);
}

int workerjobs_run(struct workerjob *job, struct err *err)
{
    struct results out = {.n = 0};
    struct err failed = {0};
    Muster__Envelope m = MUSTER__ENVELOPE__INIT;
    Muster__JobDone done = MUSTER__JOB_DONE__INIT;
    done.code = run(job, &out, &failed);
    done.rank = (uint32_t)job->comm->self;
    done.message = failed.msg;
    for (char *s = failed.msg; *s != '\0'; s++)
        if ((unsigned char)*s >= 0x80)      /* messages are UTF-8; a file name need not be */
            *s = '?';
    done.n_results = (size_t)out.n;
    done.results = out.list;
    m.body_case = MUSTER__ENVELOPE__BODY_JOB_DONE;
    m.job_done = &done;
    return wire_send(job->comm, comm_coordinator(job->comm), COMM_CONTROL, &m, err);
}
