#include "coordinator/cluster/cluster.h"

#include "coordinator/cluster/interrupt.h"
#include "coordinator/plan/plancost.h"
#include "coordinator/plan/planfile.h"
#include "proto/wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The coordinator shares a core with a worker that computes, and on a virtual machine each waking costs
 * that worker far more than its own time: 1,000 naps of 100 us took a quarter of the decode rate of a
 * 1.1B model. So naps grow with the wait. Steps are two ahead: nobody waits for this. */
static const int64_t NAP_LEAST_US = 50, NAP_MOST_US = 2000, NAP_PART = 4;
static const int64_t STOP_PATIENCE_US = 1300 * 1000;   /* for the workers' word that they stop */
static const int64_t CALL_OFF_US = 300 * 1000;         /* then those that wait for a failed one are freed */
enum { TOKENIZER_MAX = 64 << 20,            /* bytes; the same limit as the senders' */
       MESSAGE_ARENA = 256 << 20 };         /* mapped, not touched */

/* --- messages */

static void nap(int64_t us)
{
    struct timespec t = {us / 1000000, us % 1000000 * 1000};
    nanosleep(&t, NULL);
}

/* A quarter of what has been waited already. */
static void nap_after(int64_t waited_us)
{
    int64_t us = waited_us / NAP_PART;
    nap(us < NAP_LEAST_US ? NAP_LEAST_US : us > NAP_MOST_US ? NAP_MOST_US : us);
}

/* A worker's failure in the coordinator's words. */
static int take_failure(struct cluster *c, const Muster__Failure *f, struct err *err)
{
    int code = f->code < 0 ? f->code : ERR_PEER;
    if (c->n_workers == 1)
        err_set(err, code, "%s", f->message);
    else
        err_set(err, code, "rank %u: %s", f->rank, f->message);
    if (err != NULL)
        err->rank = (int)f->rank;
    return code;
}

static int look(struct cluster *c, struct arena *mem, int *peer, Muster__Envelope **m,
                struct err *err)
{
    TRY(wire_poll(c->comm, COMM_CONTROL, mem, peer, m, err));
    if (*m != NULL && (*m)->body_case == MUSTER__ENVELOPE__BODY_FAILURE)
        return take_failure(c, (*m)->failure, err);
    return ERR_OK;
}

static bool is_revoked(const struct cluster *c)
{
    return c->comm != NULL && c->comm->revoked != NULL && *c->comm->revoked != 0;
}

/* A revoke says only that somebody is gone; a failure that is already on its way says why. */
static int revoked(struct cluster *c, struct err *err)
{
    for (int i = 0; i < 50; i++) {
        Muster__Envelope *m;
        int peer, rc;
        arena_reset(&c->mem);
        rc = look(c, &c->mem, &peer, &m, err);
        if (rc != ERR_OK)
            return rc;
        if (m == NULL)
            nap(1000);
    }
    return err_set(err, ERR_PEER, "%s", c->comm->revoked_why);
}

/* Polls into mem until a message comes or wait_us have passed. */
static int poll_into(struct cluster *c, struct arena *mem, int64_t wait_us, int *peer,
                     Muster__Envelope **m, struct err *err)
{
    int64_t end = comm_now_us(c->comm) + wait_us;
    for (;;) {
        TRY(outbox_tend(&c->outbox, err));
        TRY(look(c, mem, peer, m, err));
        if (*m != NULL) {
            c->heard_us = comm_now_us(c->comm);
            return ERR_OK;
        }
        if (interrupt_pending())
            return err_set(err, ERR_CANCELLED, "interrupted");
        if (is_revoked(c))
            return revoked(c, err);
        int64_t now = comm_now_us(c->comm);
        if (now >= end)
            return ERR_OK;
        nap_after(now - c->heard_us);
    }
}

int cluster_next(struct cluster *c, int64_t wait_us, int *peer, Muster__Envelope **m,
                 struct err *err)
{
    arena_reset(&c->mem);
    return poll_into(c, &c->mem, wait_us, peer, m, err);
}

/* Workers that are alive may take minutes (a load); those that are not are revoked by the control
 * threads, so this wait ends. */
static int wait_into(struct cluster *c, struct arena *mem, int *peer, Muster__Envelope **m,
                     struct err *err)
{
    do
        TRY(poll_into(c, mem, 1000000, peer, m, err));
    while (*m == NULL);
    return ERR_OK;
}

int cluster_wait(struct cluster *c, const char *doing, int *peer, Muster__Envelope **m,
                 struct err *err)
{
    c->comm->doing = doing;
    arena_reset(&c->mem);
    return wait_into(c, &c->mem, peer, m, err);
}

int cluster_send(struct cluster *c, int peer, Muster__Envelope *m, struct err *err)
{
    return outbox_send(&c->outbox, &peer, 1, m, err);
}

bool cluster_uses(const struct cluster *c, int rank)
{
    for (int i = 0; i < c->n_used; i++)
        if (c->used[i] == rank)
            return true;
    return false;
}

int cluster_send_all(struct cluster *c, bool all, Muster__Envelope *m, struct err *err)
{
    return all ? outbox_send(&c->outbox, c->all, c->n_workers, m, err)
               : outbox_send(&c->outbox, c->used, c->n_used, m, err);
}

int cluster_send_some(struct cluster *c, const int *ranks, int n, Muster__Envelope *m, struct err *err)
{
    return outbox_send(&c->outbox, ranks, n, m, err);
}

static int unexpected(const Muster__Envelope *m, int peer, const char *doing, struct err *err)
{
    return err_set(err, ERR_PEER, "rank %d sent message %d while %s", peer, (int)m->body_case, doing);
}

/* --- start and end */

/* Takes a report of every worker into keep. */
static int take_reports(struct cluster *c, const char *doing, struct err *err)
{
    memset(c->report, 0, (size_t)c->n_workers * sizeof *c->report);
    for (int n = 0; n < c->n_workers; n++) {
        Muster__Envelope *m;
        int peer;
        c->comm->doing = doing;
        TRY(wait_into(c, &c->keep, &peer, &m, err));
        if (m->body_case != MUSTER__ENVELOPE__BODY_NODE_REPORT || peer >= c->n_workers ||
            c->report[peer] != NULL)
            return unexpected(m, peer, doing, err);
        c->report[peer] = m->node_report;
    }
    return ERR_OK;
}

static int check_versions(const struct cluster *c, struct err *err)
{
    for (int i = 1; i < c->n_workers; i++)
        if (strcmp(c->report[i]->version, c->report[0]->version) != 0)
            return err_set(err, ERR_PEER,
                           "rank %d on %s runs muster %s, rank 0 on %s runs %s: install one version",
                           i, c->report[i]->host, c->report[i]->version, c->report[0]->host,
                           c->report[0]->version);
    return ERR_OK;
}

int cluster_open(struct cluster *c, struct comm *comm, struct err *err)
{
    memset(c, 0, sizeof *c);
    c->comm = comm;
    c->n_workers = comm->n_workers;
    /* mapped, not touched: what is not needed costs nothing */
    size_t keep = ((size_t)64 << 20) + (size_t)c->n_workers * 65536;
    size_t n = (size_t)c->n_workers;
    outbox_init(&c->outbox, comm);
    c->report = calloc(n, sizeof *c->report);
    c->loaded = calloc(n, sizeof *c->loaded);
    c->all = calloc(n, sizeof *c->all);
    c->used = calloc(n, sizeof *c->used);
    if (c->report == NULL || c->loaded == NULL || c->all == NULL || c->used == NULL ||
        arena_init(&c->keep, keep) != ERR_OK || arena_init(&c->mem, MESSAGE_ARENA) != ERR_OK)
        return err_set(err, ERR_NOMEM, "no memory for the coordinator");
    for (int i = 0; i < c->n_workers; i++)
        c->all[i] = i;
    TRY(take_reports(c, "waiting for node reports", err));
    return check_versions(c, err);
}

/* Workers say Stop back when they stop; until then one of them may be waiting for us to take a message
 * that no longer matters, or (failed) for one of a rank that will send nothing more. */
static void drain(struct cluster *c, bool failed)
{
    int64_t begun = comm_now_us(c->comm), waited = 0;
    for (int left = c->n_workers; left > 0 && waited < STOP_PATIENCE_US;) {
        Muster__Envelope *m;
        int peer;
        struct err ignored = {0};
        if (failed && waited >= CALL_OFF_US)
            c->comm->called_off = 1;        /* the control thread looks */
        arena_reset(&c->mem);
        outbox_flush(&c->outbox, 0);
        if (wire_poll(c->comm, COMM_CONTROL, &c->mem, &peer, &m, &ignored) == ERR_OK && m != NULL)
            left -= m->body_case == MUSTER__ENVELOPE__BODY_STOP;
        else
            nap_after(waited);
        waited = comm_now_us(c->comm) - begun;
    }
}

void cluster_close(struct cluster *c, int rc, const struct err *err)
{
    Muster__Envelope m = MUSTER__ENVELOPE__INIT;
    Muster__Stop stop = MUSTER__STOP__INIT;
    stop.code = err_exit_code(rc);
    m.body_case = MUSTER__ENVELOPE__BODY_STOP;
    m.stop = &stop;
    if (rc != ERR_OK && !is_revoked(c))     /* of a revoke the control thread has spoken */
        fprintf(stderr, "muster: %s\n", err->msg);
    if (c->comm != NULL && c->all != NULL) {
        outbox_send(&c->outbox, c->all, c->n_workers, &m, NULL);
        drain(c, rc != ERR_OK);
        outbox_free(&c->outbox);
    }
    free(c->all);
    free(c->used);
    free(c->tokenizer);
    free(c->path);
    free(c->report);
    free(c->loaded);
    arena_free(&c->mem);
    arena_free(&c->keep);
    memset(c, 0, sizeof *c);
}

/* --- the model */

enum { TYPES_MAX = 3 };

/* The types of the model's matrices, those of the most bytes; each takes a third of a second to measure. */
static int matrix_types(const struct cluster *c, uint32_t *type)
{
    enum { ALL_MAX = 32 };
    uint32_t all[ALL_MAX];
    uint64_t bytes[ALL_MAX] = {0};
    int n = 0, chosen = 0;
    for (size_t i = 0; c->spec != NULL && i < c->spec->n_tensor; i++) {
        const Muster__TensorSpec *t = c->spec->tensor[i];
        int k = 0;
        while (k < n && all[k] != t->type)
            k++;
        if (t->n_shape < 2 || k == ALL_MAX)
            continue;
        all[k] = t->type;
        n += k == n;
        bytes[k] += t->file_bytes;
    }
    for (; chosen < TYPES_MAX && chosen < n; chosen++) {
        int most = 0;
        for (int k = 1; k < n; k++)
            most = bytes[k] > bytes[most] ? k : most;
        type[chosen] = all[most];
        bytes[most] = 0;
    }
    return chosen;
}

enum measure { MEASURE_NOTHING, MEASURE_NODE, MEASURE_RATES };

static int send_describe(struct cluster *c, const char *path, bool tokenizer, bool tensors,
                         enum measure measure, struct err *err)
{
    Muster__Envelope m = MUSTER__ENVELOPE__INIT;
    Muster__Describe d = MUSTER__DESCRIBE__INIT;
    uint32_t types[TYPES_MAX];
    m.body_case = MUSTER__ENVELOPE__BODY_DESCRIBE;
    m.describe = &d;
    d.path = (char *)path;
    d.want_tokenizer = tokenizer;
    d.want_tensors = tensors;
    d.measure = measure != MEASURE_NOTHING;
    d.n_measure_types = measure == MEASURE_RATES ? (size_t)matrix_types(c, types) : 0;
    d.measure_types = types;
    return cluster_send_all(c, true, &m, err);
}

int cluster_measure(struct cluster *c, bool rates, struct err *err)
{
    TRY(send_describe(c, "", false, false, rates ? MEASURE_RATES : MEASURE_NODE, err));
    return take_reports(c, "measuring the nodes", err);
}

static int take_chunk(struct cluster *c, const Muster__TokenizerChunk *k, size_t *got,
                      struct err *err)
{
    if (k->total > TOKENIZER_MAX || k->offset != *got || k->data.len > k->total - *got ||
        (*got > 0 && k->total != c->tokenizer_bytes))
        return err_set(err, ERR_PEER, "the tokenizer's pieces do not fit together");
    if (*got == 0) {
        c->tokenizer_bytes = k->total;
        if ((c->tokenizer = malloc(k->total + 1)) == NULL)
            return err_set(err, ERR_NOMEM, "no memory for the tokenizer");
    }
    memcpy(c->tokenizer + *got, k->data.data, k->data.len);
    *got += k->data.len;
    return ERR_OK;
}

/* Every worker has opened the same model, or the odd one out is named. */
static int check_digests(const struct cluster *c, const Muster__FileDigest *digest, struct err *err)
{
    for (int i = 1; i < c->n_workers; i++)
        if (digest[i].size != digest[0].size || digest[i].hash != digest[0].hash)
            return err_set(err, ERR_FORMAT,
                           "rank %d on %s sees another %s than rank 0 on %s: %llu and %llu bytes, headers %s",
                           i, c->report[i]->host, c->path, c->report[0]->host,
                           (unsigned long long)digest[i].size, (unsigned long long)digest[0].size,
                           digest[i].hash == digest[0].hash ? "alike" : "differ");
    return ERR_OK;
}

/* Takes one answer to Describe; *left counts what is still to come. */
static int take_description(struct cluster *c, bool want_tokenizer, Muster__FileDigest *digest,
                            bool *have, size_t *got, struct err *err)
{
    Muster__Envelope *m;
    int peer;
    size_t mark = arena_mark(&c->keep);
    c->comm->doing = "waiting for the model's description";
    TRY(wait_into(c, &c->keep, &peer, &m, err));
    if (m->body_case == MUSTER__ENVELOPE__BODY_FILE_DIGEST && peer < c->n_workers) {
        have[peer] = true;
        digest[peer].size = m->file_digest->size;
        digest[peer].hash = m->file_digest->hash;
        arena_release(&c->keep, mark);
    } else if (m->body_case == MUSTER__ENVELOPE__BODY_MODEL_SPEC && peer == 0) {
        c->spec = m->model_spec;
        c->tokenizer_bytes = want_tokenizer ? c->spec->tokenizer_bytes : 0;
    } else if (m->body_case == MUSTER__ENVELOPE__BODY_TOKENIZER_CHUNK && peer == 0 && want_tokenizer) {
        TRY(take_chunk(c, m->tokenizer_chunk, got, err));
        arena_release(&c->keep, mark);
    } else {
        return unexpected(m, peer, "describing the model", err);
    }
    return ERR_OK;
}

static bool described(const struct cluster *c, const bool *have, size_t got)
{
    for (int i = 0; i < c->n_workers; i++)
        if (!have[i])
            return false;
    return c->spec != NULL && got == c->tokenizer_bytes;
}

int cluster_describe(struct cluster *c, const char *path, bool want_tokenizer, bool want_tensors,
                     struct err *err)
{
    free(c->path);
    free(c->tokenizer);
    c->tokenizer = NULL;
    c->tokenizer_bytes = 0;
    c->spec = NULL;
    if ((c->path = strdup(path)) == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a path");
    TRY(send_describe(c, path, want_tokenizer, want_tensors, MEASURE_NOTHING, err));
    size_t got = 0;
    Muster__FileDigest *digest = arena_take_zeroed(&c->keep, (size_t)c->n_workers * sizeof *digest);
    bool *have = arena_take_zeroed(&c->keep, (size_t)c->n_workers * sizeof *have);
    if (digest == NULL || have == NULL)
        return err_set(err, ERR_NOMEM, "no memory for the coordinator");
    while (!described(c, have, got))
        TRY(take_description(c, want_tokenizer, digest, have, &got, err));
    return check_digests(c, digest, err);
}

/* --- layout and weights */

static bool on_one_host(const struct cluster *c)
{
    for (int i = 1; i < c->n_workers; i++)
        if (strcmp(c->report[i]->host, c->report[0]->host) != 0)
            return false;
    return true;
}

/* Speeds choose the layout, and the shares where hosts may differ. */
static bool worth_measuring(const struct cluster *c, const struct cluster_load *l)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < c->spec->n_tensor; i++)
        bytes += c->spec->tensor[i]->file_bytes;
    bool open = l->tp == 0 || l->pp == 0 || (l->shares == NULL && !on_one_host(c));
    return c->n_workers > 1 && l->plan_file == NULL && open && bytes > (uint64_t)64 << 20;
}

int cluster_kv_block_bytes(int kv_dtype)
{
    return kv_dtype == CLUSTER_KV_F32 ? 128 : kv_dtype == CLUSTER_KV_Q8_0 ? 34 : 64;
}

int cluster_plan(struct cluster *c, const struct cluster_load *l, struct err *err)
{
    if (l->shares != NULL && l->n_shares != c->n_workers)
        return err_set(err, ERR_INVAL, "--shares has %d numbers for %d ranks", l->n_shares,
                       c->n_workers);
    if (worth_measuring(c, l))
        TRY(cluster_measure(c, false, err));
    struct plan_request q = {.n_ranks = c->n_workers, .reports = c->report, .spec = c->spec,
        .tp = l->tp, .pp = l->pp, .dp = l->dp, .slots = l->slots, .context = l->context,
        .page_tokens = CLUSTER_PAGE_TOKENS, .max_rows = l->max_rows,
        .kv_block_bytes = cluster_kv_block_bytes(l->kv_dtype), .memory_most = l->memory_most,
        .shares = l->shares};
    if (l->plan_file != NULL) {
        Muster__Plan *message;
        TRY(planfile_read(l->plan_file, &message, &c->keep, err));
        TRY(plan_adopt(&c->plan, &q, message, &c->keep, err));
    } else {
        TRY(plan_choose(&c->plan, &q, &c->keep, err));
    }
    c->request = q;
    c->n_used = 0;
    for (int i = 0; i < c->plan.n_shares; i++)
        c->used[c->n_used++] = c->plan.share[i].rank;
    return ERR_OK;
}

struct plan_speed cluster_predict(const struct cluster *c, int sequences, int depth, int prompt)
{
    struct plan_request q = c->request;
    q.reports = c->report;
    q.slots = sequences;
    q.depth = depth;
    q.prompt = prompt;
    return plancost_speed(&c->plan, &q);
}

/* The best instruction set that all ranks in use have. */
static const char *common_isa(const struct cluster *c)
{
    static const char *const order[] = {"scalar", "avx2", "avx512", "amx"};
    int best = 3;
    for (int w = 0; w < c->n_workers; w++)
        for (int i = 0; i < best && cluster_uses(c, w); i++)
            if (strcmp(order[i], c->report[w]->isa) == 0)
                best = i;
    return order[best];
}

/* Kernels that any rank in use refused, as one list. */
static char *refused_anywhere(struct cluster *c)
{
    size_t bytes = 1;
    for (int i = 0; i < c->n_used; i++)
        for (size_t k = 0; k < c->report[c->used[i]]->n_refused; k++)
            bytes += strlen(c->report[c->used[i]]->refused[k]) + 1;
    char *list = arena_take_zeroed(&c->keep, bytes);
    for (int i = 0; i < c->n_used && list != NULL; i++)
        for (size_t k = 0; k < c->report[c->used[i]]->n_refused; k++) {
            if (list[0] != '\0')
                strcat(list, ",");
            strcat(list, c->report[c->used[i]]->refused[k]);
        }
    return list;
}

static bool blas_everywhere(const struct cluster *c)
{
    for (int w = 0; w < c->n_workers; w++)
        if (cluster_uses(c, w) && !c->report[w]->blas_invariant)
            return false;
    return true;
}

int cluster_kernels(struct cluster *c, struct cluster_kernels *k, struct err *err)
{
    k->isa = common_isa(c);
    k->blas_tiles = blas_everywhere(c);
    k->refused = refused_anywhere(c);
    return k->refused != NULL ? ERR_OK : err_set(err, ERR_NOMEM, "no memory for the coordinator");
}

int cluster_load(struct cluster *c, const struct cluster_load *l, struct err *err)
{
    Muster__Envelope m = MUSTER__ENVELOPE__INIT, *answer;
    Muster__Load load = MUSTER__LOAD__INIT;
    m.body_case = MUSTER__ENVELOPE__BODY_LOAD;
    m.load = &load;
    load.path = c->path;
    load.plan = c->plan.message;
    load.compute = (char *)(l->f32 ? "f32" : "default");
    struct cluster_kernels kernels;
    TRY(cluster_kernels(c, &kernels, err));
    load.isa = (char *)kernels.isa;
    load.blas_tiles = kernels.blas_tiles;
    load.refused = kernels.refused;
    load.kv_dtype = (uint32_t)l->kv_dtype;
    load.kv_pages = (uint32_t)c->plan.kv_pages;
    load.page_tokens = CLUSTER_PAGE_TOKENS;
    load.max_rows = (uint32_t)l->max_rows;
    load.max_slots = (uint32_t)l->slots;
    load.max_context = (uint32_t)l->context;
    load.wire_dtype = (uint32_t)l->wire;
    load.threads = (uint32_t)l->threads;
    memset(c->loaded, 0, (size_t)c->n_workers * sizeof *c->loaded);
    TRY(cluster_send_all(c, true, &m, err));
    for (int n = 0; n < c->n_workers;) {
        int peer;
        c->comm->doing = "loading the model";
        TRY(wait_into(c, &c->keep, &peer, &answer, err));
        if (answer->body_case != MUSTER__ENVELOPE__BODY_LOADED || peer >= c->n_workers ||
            c->loaded[peer] != NULL)
            return unexpected(answer, peer, "loading", err);
        c->loaded[peer] = answer->loaded;
        n++;
        if (c->progress != NULL)
            c->progress(c->progress_ctx, "loading", (double)n / c->n_workers);
    }
    return ERR_OK;
}

int cluster_train_setup(struct cluster *c, Muster__TrainSetup *s, struct err *err)
{
    c->n_used = c->n_workers;
    memcpy(c->used, c->all, (size_t)c->n_workers * sizeof *c->used);
    s->isa = (char *)common_isa(c);
    s->blas_tiles = blas_everywhere(c);
    s->refused = refused_anywhere(c);
    return s->refused != NULL ? ERR_OK : err_set(err, ERR_NOMEM, "no memory for the coordinator");
}

/* --- numbers and jobs */

int cluster_stats(struct cluster *c, const Muster__StatsRequest *request, Muster__Stats *out,
                  struct err *err)
{
    Muster__Envelope m = MUSTER__ENVELOPE__INIT, *answer;
    m.body_case = MUSTER__ENVELOPE__BODY_STATS_REQUEST;
    m.stats_request = (Muster__StatsRequest *)request;
    TRY(cluster_send_all(c, false, &m, err));
    int expect = 0;
    for (int w = 0; w < c->n_workers; w++) {
        muster__stats__init(&out[w]);
        expect += cluster_uses(c, w);
    }
    for (int n = 0; n < expect; n++) {
        int peer;
        TRY(cluster_wait(c, "waiting for statistics", &peer, &answer, err));
        if (answer->body_case != MUSTER__ENVELOPE__BODY_STATS || peer >= c->n_workers)
            return unexpected(answer, peer, "waiting for statistics", err);
        out[peer] = *answer->stats;         /* numbers only: nothing points into the message */
    }
    return ERR_OK;
}

int cluster_job(struct cluster *c, const char *name, char **args, int n_args, bool everywhere,
                Muster__JobDone **done, struct err *err)
{
    Muster__Envelope m = MUSTER__ENVELOPE__INIT, *answer;
    Muster__Job job = MUSTER__JOB__INIT;
    int peer, first = everywhere ? c->used[0] : 0, n = everywhere ? c->n_used : 1;
    m.body_case = MUSTER__ENVELOPE__BODY_JOB;
    m.job = &job;
    job.name = (char *)name;
    job.args = args;
    job.n_args = (size_t)n_args;
    TRY(everywhere ? cluster_send_all(c, false, &m, err) : cluster_send(c, 0, &m, err));
    arena_reset(&c->mem);
    c->comm->doing = name;
    for (*done = NULL; n > 0;) {
        size_t mark = arena_mark(&c->mem);
        TRY(wait_into(c, &c->mem, &peer, &answer, err));
        if (answer->body_case != MUSTER__ENVELOPE__BODY_JOB_DONE)
            return unexpected(answer, peer, name, err);
        if (answer->job_done->more) {
            if (c->progress != NULL)
                c->progress(c->progress_ctx, name, answer->job_done->share);
            arena_release(&c->mem, mark);
            continue;
        }
        n--;
        if (answer->job_done->code != ERR_OK)
            return err_set(err, answer->job_done->code, "%s", answer->job_done->message);
        if (peer == first)
            *done = answer->job_done;
    }
    return *done != NULL ? ERR_OK : err_set(err, ERR_PEER, "rank %d did not answer", first);
}
