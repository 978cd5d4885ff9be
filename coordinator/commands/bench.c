/* bench.c - tokens per second, and where the time goes, next to the limits of the machine.
 * How: the prompt's tokens are arbitrary (arithmetic does not care), the end of a sequence is ignored.
 *      Decoding is timed from the last sequence's first token to the last token; the rate at which the
 *      same threads read the same weights is measured before and after, since clocks wander. */
#include "coordinator/commands/bench.h"

#include "coordinator/commands/cli.h"
#include "coordinator/commands/command.h"
#include "coordinator/commands/commandlist.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { OPT_PREFILL = 0x3000, OPT_DECODE, OPT_SEQUENCES, OPT_LAYOUTS, OPT_REPEAT, OPT_JSON, OPT_SUMS };
enum { REPEAT_MAX = 100, READ_REPEATS = 3 };

struct options {
    struct err *err;
    struct model_args model;
    int prefill, decode, repeat;
    int32_t *sequences; int n_sequences;
    int layouts[BENCH_LIST_MAX][2], n_layouts;
    bool json, sums;
};

static const struct argp_option option_table[] = {
    {NULL, 0, NULL, 0, "What to measure:", 0},
    {"prefill", OPT_PREFILL, "N", 0, "Tokens of the prompt (default 256)", 0},
    {"decode", OPT_DECODE, "N", 0, "Tokens that each sequence generates (default 32; 0: none)", 0},
    {"sequences", OPT_SEQUENCES, "LIST", 0, "Sequences that decode together, like 1,4,16 (default 1)", 0},
    {"layouts", OPT_LAYOUTS, "LIST", 0, "tp x pp, like 1x1,2x1,1x2 (default: the planned one)", 0},
    {"repeat", OPT_REPEAT, "N", 0, "Times to measure; the median counts (default 3)", 0},
    {"sums", OPT_SUMS, NULL, 0, "Also time the sums between ranks against MPI's all-reduce", 0},
    {"json", OPT_JSON, NULL, 0, "Print JSON", 0},
    {0}};

static error_t parse_layouts(struct options *o, const char *arg)
{
    const char *p = arg;
    for (o->n_layouts = 0; o->n_layouts < BENCH_LIST_MAX && *p != '\0'; o->n_layouts++) {
        int tp, pp, used = 0;
        if (sscanf(p, "%dx%d%n", &tp, &pp, &used) != 2 || tp < 1 || pp < 1 || tp > 64 || pp > 256 ||
            (p[used] != ',' && p[used] != '\0'))
            break;
        o->layouts[o->n_layouts][0] = tp;
        o->layouts[o->n_layouts][1] = pp;
        p += used + (p[used] == ',');
    }
    if (o->n_layouts > 0 && *p == '\0')
        return 0;
    err_set(o->err, ERR_INVAL, "--layouts wants a list like 1x1,2x1, not '%s'", arg);
    return EINVAL;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        o->prefill = 256;
        o->decode = 32;
        o->repeat = 3;
        return model_args_begin(&o->model, o->err, state);
    case OPT_PREFILL: return cli_int(o->err, "--prefill", arg, 1, 1 << 20, &o->prefill);
    case OPT_DECODE: return cli_int(o->err, "--decode", arg, 0, 1 << 20, &o->decode);
    case OPT_SEQUENCES:
        free(o->sequences);
        return cli_ids(o->err, "--sequences", arg, &o->sequences, &o->n_sequences);
    case OPT_LAYOUTS: return parse_layouts(o, arg);
    case OPT_REPEAT: return cli_int(o->err, "--repeat", arg, 1, REPEAT_MAX, &o->repeat);
    case OPT_SUMS: o->sums = true; return 0;
    case OPT_JSON: o->json = true; return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp bench_argp = {
    .options = option_table, .parser = parse, .children = model_args_child,
    .doc = "Measures tokens per second, where the time goes on each rank, and the limits of the "
           "machine.\v"
           "Example:\n"
           "  mpirun -n 2 muster bench -m llama.gguf --layouts 2x1,1x2 --sequences 1,16"};

static int check(void *options, struct err *err)
{
    struct options *o = options;
    for (int i = 0; i < o->n_sequences; i++)
        if (o->sequences[i] < 1 || o->sequences[i] > 1024)
            return err_set(err, ERR_INVAL, "--sequences wants numbers from 1 to 1024");
    return ERR_OK;
}

/* --- one measurement */

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Counts the tokens of a run: `late` ones come after every sequence has its first, at all_began. */
struct watch { int sequences, began, late, n_prompt; double all_began; };

static int on_token(void *ctx, const struct lm_event *e, struct err *err)
{
    struct watch *w = ctx;
    (void)err;
    if (e->token == NULL)
        return ERR_OK;
    w->late += w->began == w->sequences;
    if (e->token->position == w->n_prompt && ++w->began == w->sequences)
        w->all_began = now_s();
    return ERR_OK;
}

static const Muster__Sampling greedy = MUSTER__SAMPLING__INIT;

static int submit(struct session *s, const int32_t *prompt, int n_prompt, int n, int sequences,
                  struct err *err)
{
    for (int i = 0; i < sequences; i++) {
        struct schedule_request r = {.sequence = (uint64_t)i + 1, .prompt = prompt,
            .n_prompt = n_prompt, .n_generate = n, .sampling = &greedy};
        TRY(lm_submit(&s->lm, &r, err));
    }
    return ERR_OK;
}

/* Seconds from submission to the token after the prompt. */
static int time_prefill(struct session *s, const int32_t *prompt, int n, double *seconds,
                        struct err *err)
{
    struct watch w = {.sequences = 1, .n_prompt = n};
    TRY(submit(s, prompt, n, 1, 1, err));
    double t0 = now_s();
    TRY(lm_run(&s->lm, on_token, &w, err));
    *seconds = now_s() - t0;
    return ERR_OK;
}

/* Tokens per second while all sequences decode. */
static int time_decode(struct session *s, const int32_t *prompt, int n_prompt, int n, int sequences,
                       double *tps, double *seconds, struct err *err)
{
    struct watch w = {.sequences = sequences, .n_prompt = n_prompt};
    TRY(submit(s, prompt, n_prompt, n + 1, sequences, err));
    TRY(lm_run(&s->lm, on_token, &w, err));
    *seconds = now_s() - w.all_began;
    *tps = w.late > 0 ? w.late / *seconds : 0;
    return ERR_OK;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, compare_doubles);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

/* Adds what the ranks counted since the last call; read != 0 also times their reading. */
static int take_stats(struct session *s, bool read, struct bench_phase *p, bool count,
                      struct err *err)
{
    struct cluster *c = &s->cluster;
    Muster__StatsRequest q = MUSTER__STATS_REQUEST__INIT;
    Muster__Stats *st = calloc((size_t)c->n_workers, sizeof *st);
    if (st == NULL)
        return err_set(err, ERR_NOMEM, "no memory for statistics");
    q.reset = true;
    q.measure_read = read;
    q.read_repeats = READ_REPEATS;
    int rc = cluster_stats(c, &q, st, err);
    p->n_ranks = c->plan.n_shares < BENCH_RANKS_MAX ? c->plan.n_shares : BENCH_RANKS_MAX;
    for (int i = 0; i < p->n_ranks && rc == ERR_OK; i++) {
        struct bench_rank *r = &p->rank[i];
        const Muster__Stats *x = &st[c->plan.share[i].rank];
        double steps = x->steps > 0 ? (double)x->steps : 1;
        r->read_bw = x->read_bw;
        r->rss_peak = x->rss_peak;
        if (!count)
            continue;
        r->rank = c->plan.share[i].rank;
        r->compute_us = x->compute_us / steps;
        r->reduce_us = x->reduce_us / steps;
        r->wait_us = x->wait_us / steps;
        r->wire_us = x->wire_us / steps;
        r->wire_bytes = (double)x->wire_bytes / steps;
        r->read_bytes = c->plan.share[i].read_bytes;
        r->weights_bytes = c->loaded[r->rank]->weights_bytes;
        r->kv_bytes = c->loaded[r->rank]->kv_bytes;
        r->scratch_bytes = c->loaded[r->rank]->scratch_bytes;
    }
    free(st);
    return rc;
}

static int run_prefill(const struct options *o, struct session *s, const int32_t *prompt,
                       struct bench_run *r, struct err *err)
{
    double seconds[REPEAT_MAX];
    TRY(time_prefill(s, prompt, o->prefill, &seconds[0], err));     /* warm: pages, threads */
    TRY(take_stats(s, false, &r->prefill, false, err));
    for (int i = 0; i < o->repeat; i++)
        TRY(time_prefill(s, prompt, o->prefill, &seconds[i], err));
    TRY(take_stats(s, false, &r->prefill, true, err));
    r->has_prefill = true;
    r->prefill.seconds = median(seconds, o->repeat);
    r->prefill.tokens_per_s = o->prefill / r->prefill.seconds;
    r->prefill.best_tokens_per_s = o->prefill / seconds[0];       /* median sorts them */
    r->prefill.step_us = r->prefill.seconds * 1e6;
    r->prefill.predicted = cluster_predict(&s->cluster, 1, 0, o->prefill).prefill_tps;
    return ERR_OK;
}

static int run_decode(const struct options *o, struct session *s, const int32_t *prompt,
                      struct bench_run *r, struct err *err)
{
    double tps[REPEAT_MAX], seconds[REPEAT_MAX], read[BENCH_RANKS_MAX][REPEAT_MAX];
    int n_prompt = o->prefill < 16 ? o->prefill : 16;
    TRY(take_stats(s, true, &r->decode, false, err));
    for (int i = 0; i < o->repeat; i++) {
        TRY(time_decode(s, prompt, n_prompt, o->decode, r->sequences, &tps[i], &seconds[i], err));
        TRY(take_stats(s, true, &r->decode, true, err));
        for (int k = 0; k < r->decode.n_ranks; k++)
            read[k][i] = r->decode.rank[k].read_bw;
    }
    r->has_decode = true;
    r->decode.tokens_per_s = median(tps, o->repeat);
    r->decode.best_tokens_per_s = tps[o->repeat - 1];
    r->decode.predicted =
        cluster_predict(&s->cluster, r->sequences, n_prompt + o->decode / 2, n_prompt).decode_tps;
    r->decode.seconds = median(seconds, o->repeat);
    r->decode.step_us = r->sequences / r->decode.tokens_per_s * 1e6;
    for (int i = 0; i < r->decode.n_ranks; i++) {
        struct bench_rank *x = &r->decode.rank[i];
        x->read_bw = median(read[i], o->repeat);
        if (x->read_bw > 0)
            x->read_share = (double)x->read_bytes / r->decode.step_us * 1e6 / x->read_bw;
    }
    return ERR_OK;
}

static int run_sums(struct session *s, struct bench_run *r, struct err *err)
{
    Muster__JobDone *done;
    TRY(cluster_job(&s->cluster, "sums", NULL, 0, true, &done, err));
    for (size_t i = 0; i < done->n_results && i < BENCH_SUMS_MAX; i++) {
        r->sum[i].bytes = atof(done->results[i]->key);
        if (sscanf(done->results[i]->value, "%lf %lf", &r->sum[i].ours_us, &r->sum[i].mpi_us) == 2)
            r->n_sums++;
    }
    return ERR_OK;
}

/* --- all of them */

/* Loads one layout, for the largest batch. */
static int load_layout(const struct options *o, struct session *s, const int *layout, int sequences,
                       struct bench_run *r, struct err *err)
{
    struct model_args a = o->model;
    struct session_need need = {.sequences = sequences, .longest_prompt = o->prefill,
        .longest = (o->prefill > 16 + o->decode ? o->prefill : 16 + o->decode) + 2};
    if (layout != NULL) {
        a.tp = layout[0];
        a.pp = layout[1];
    }
    if (a.batch == 0)
        a.batch = sequences;
    if (a.chunk == 0)
        a.chunk = o->prefill < 512 ? o->prefill : 512;
    lm_close(&s->lm);
    TRY(session_load(s, &a, &need, err));
    r->tp = s->cluster.plan.tp;
    r->pp = s->cluster.plan.pp;
    for (int i = 0; i < s->cluster.n_workers; i++) {
        const Muster__Loaded *l = s->cluster.loaded[i];
        r->file_bytes_read += l->file_bytes_read;
        r->load_seconds = l->seconds > r->load_seconds ? l->seconds : r->load_seconds;
    }
    return ERR_OK;
}

struct output { json_t *runs; };

static int report(const struct options *o, const struct bench_run *r, struct output *out,
                  struct err *err)
{
    if (o->json)
        return json_array_append_new(out->runs, benchprint_json(r)) == 0
                   ? ERR_OK : err_set(err, ERR_NOMEM, "no memory for the report");
    benchprint_run(r);
    return cli_flush(err);
}

static int run_layout(const struct options *o, struct session *s, const int *layout,
                      const int32_t *prompt, struct output *out, struct err *err)
{
    int most = 1;
    for (int i = 0; i < o->n_sequences; i++)
        most = o->sequences[i] > most ? o->sequences[i] : most;
    struct bench_run *r = calloc(1, sizeof *r);
    if (r == NULL)
        return err_set(err, ERR_NOMEM, "no memory for the report");
    int rc = load_layout(o, s, layout, most, r, err);
    r->prompt = o->prefill;
    if (rc == ERR_OK)
        rc = run_prefill(o, s, prompt, r, err);
    if (rc == ERR_OK && o->sums && r->pp == 1 && r->tp > 1 && r->tp == s->cluster.n_workers)
        rc = run_sums(s, r, err);
    for (int i = 0; i < (o->n_sequences > 0 ? o->n_sequences : 1) && rc == ERR_OK; i++) {
        r->sequences = o->n_sequences > 0 ? o->sequences[i] : 1;
        r->generated = o->decode;
        memset(&r->decode, 0, sizeof r->decode);
        if (o->decode > 0)
            rc = run_decode(o, s, prompt, r, err);
        if (rc == ERR_OK)
            rc = report(o, r, out, err);
    }
    free(r);
    return rc;
}

static int print_all(struct session *s, struct output *out, struct err *err)
{
    const json_t *first = json_array_get(out->runs, 0);
    json_t *root = json_pack("{s:s, s:o, s:O}", "model", s->path, "limits",
                             benchprint_limits_json(&s->cluster), "runs", out->runs);
    if (root == NULL || first == NULL)
        return err_set(err, ERR_NOMEM, "no memory for the report");
    json_object_update_missing(root, (json_t *)first);      /* the first run at the top, for short */
    json_dumpf(root, stdout, JSON_INDENT(1));
    printf("\n");
    json_decref(root);
    return cli_flush(err);
}

static int work(const struct options *o, struct session *s, struct output *out, struct err *err)
{
    int context, vocab = (int)s->cluster.spec->vocab;
    TRY(session_context(s, &o->model, &context, err));
    if (o->prefill >= context || o->decode + 17 > context)
        return err_set(err, ERR_INVAL, "--prefill %d and --decode %d do not fit the context of %d",
                       o->prefill, o->decode, context);
    int32_t *prompt = calloc((size_t)o->prefill, sizeof *prompt);
    if (prompt == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a prompt");
    for (int i = 0; i < o->prefill; i++)
        prompt[i] = (int32_t)((i * 7919ll + 13) % vocab);
    int rc = cluster_measure(&s->cluster, true, err);
    if (rc == ERR_OK && !o->json)
        benchprint_limits(&s->cluster);
    for (int i = 0; i < (o->n_layouts > 0 ? o->n_layouts : 1) && rc == ERR_OK; i++)
        rc = run_layout(o, s, o->n_layouts > 0 ? o->layouts[i] : NULL, prompt, out, err);
    free(prompt);
    return rc == ERR_OK && o->json ? print_all(s, out, err) : rc;
}

static int run(void *options, struct comm *comm, struct err *err)
{
    const struct options *o = options;
    struct session s;
    struct output out = {.runs = json_array()};
    int rc = session_open(&s, comm, &o->model, SESSION_TENSORS, err);
    if (rc == ERR_OK)
        rc = work(o, &s, &out, err);
    json_decref(out.runs);
    return session_close(&s, rc, err);
}

static void free_options(void *options) { free(((struct options *)options)->sequences); }

const struct command command_bench = {
    .name = "bench", .summary = "Tokens per second, and where the time goes",
    .options_bytes = sizeof(struct options), .needs_workers = true, .argp = &bench_argp,
    .check = check, .run = run, .free = free_options};
