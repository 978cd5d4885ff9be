#include "workers/worker.h"

#include "proto/log.h"
#include "proto/wire.h"
#include "workers/imagehalf.h"
#include "workers/imageworker.h"
#include "workers/kernels/membw.h"
#include "workers/node.h"
#include "workers/noderates.h"
#include "workers/upscaleworker.h"
#include "workers/workerjobs.h"
#include "workers/workermodel.h"
#include "workers/workertrain.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MESSAGE_ARENA = 64 << 20,    /* mapped, not touched: a big Step or a plan of many ranks */
       CHUNK_BYTES = 1 << 20,       /* of tokenizer bytes in a message */
       TOKENIZER_MAX = 64 << 20 };
static const double QUOTA_AMPLE = 0.75;     /* of a core for each thread: waits may spin */
static const int64_t STOP_PATIENCE_US = 5 * 1000 * 1000;    /* for a Stop after a revoke */
static const int64_t ALONE_PATIENCE_US = 300 * 1000;        /* the rank that speaks must have noticed */

struct worker {
    struct comm *comm;
    const struct worker_options *options;
    struct arena mem;               /* of the message being served */
    struct node_facts facts;
    struct workermodel model;
    struct upscaleworker upscale;
    struct imageworker *pictures;   /* from the first ImageDescribe on */
    struct workertrain train;
    bool failed;                    /* a Failure was sent: only Stop matters now */
    bool stopped; int exit_code;
    int64_t revoked_at;             /* 0: not revoked */
};

static int send(struct worker *w, Muster__Envelope *m, struct err *err)
{
    return wire_send(w->comm, comm_coordinator(w->comm), COMM_CONTROL, m, err);
}

/* Messages are UTF-8; a file name need not be. */
static void make_text(char *s)
{
    for (; *s != '\0'; s++)
        if ((unsigned char)*s >= 0x80)
            *s = '?';
}

static void send_failure(struct worker *w, const struct err *e)
{
    Muster__Envelope m = MUSTER__ENVELOPE__INIT;
    Muster__Failure f = MUSTER__FAILURE__INIT;
    char text[sizeof e->msg];
    struct err lost = {0};
    w->failed = true;
    if (w->comm->revoked != NULL && *w->comm->revoked)
        return;     /* the coordinator knows why, or is gone */
    snprintf(text, sizeof text, "%s", e->msg);
    make_text(text);
    f.rank = (uint32_t)(e->rank >= 0 ? e->rank : w->comm->self);
    f.code = e->code;
    f.message = text;
    m.body_case = MUSTER__ENVELOPE__BODY_FAILURE;
    m.failure = &f;
    if (send(w, &m, &lost) != ERR_OK)
        log_line(LOG_ERROR, "worker", "cannot tell the coordinator: %s (%s)", text, lost.msg);
}

/* --- the node */

static int report(struct worker *w, struct err *err)
{
    Muster__Envelope m = MUSTER__ENVELOPE__INIT;
    Muster__NodeReport r;
    node_report(&w->facts, w->comm->self, &r);
    m.body_case = MUSTER__ENVELOPE__BODY_NODE_REPORT;
    m.node_report = &r;
    return send(w, &m, err);
}

static int measure(struct worker *w, const Muster__Describe *d, struct err *err)
{
    TRY(node_measure(&w->facts, err));
    TRY(noderates_measure(&w->facts, d->measure_types, d->n_measure_types, w->comm, err));
    TRY(node_links(&w->facts, w->comm, err));
    return report(w, err);
}

/* --- the model */

static int send_tokenizer(struct worker *w, const uint8_t *bytes, size_t n, struct err *err)
{
    for (size_t at = 0; at < n; at += CHUNK_BYTES) {
        Muster__Envelope m = MUSTER__ENVELOPE__INIT;
        Muster__TokenizerChunk k = MUSTER__TOKENIZER_CHUNK__INIT;
        k.offset = at;
        k.total = n;
        k.data.data = (uint8_t *)bytes + at;
        k.data.len = n - at < CHUNK_BYTES ? n - at : CHUNK_BYTES;
        m.body_case = MUSTER__ENVELOPE__BODY_TOKENIZER_CHUNK;
        m.tokenizer_chunk = &k;
        TRY(send(w, &m, err));
    }
    return ERR_OK;
}

static int send_digest(struct worker *w, struct err *err)
{
    Muster__Envelope m = MUSTER__ENVELOPE__INIT;
    Muster__FileDigest d = MUSTER__FILE_DIGEST__INIT;
    tensorfile_digest(&w->model.file, &d.size, &d.hash);
    d.rank = (uint32_t)w->comm->self;
    m.body_case = MUSTER__ENVELOPE__BODY_FILE_DIGEST;
    m.file_digest = &d;
    return send(w, &m, err);
}

/* Worker 0's part: sizes and words, no weights. */
static int send_spec(struct worker *w, const Muster__Describe *d, struct err *err)
{
    Muster__Envelope m = MUSTER__ENVELOPE__INIT;
    Muster__ModelSpec none = MUSTER__MODEL_SPEC__INIT, *spec = &none;
    uint8_t *bytes = NULL;
    size_t n = 0;
    if (d->want_tensors)
        TRY(workermodel_describe(&w->model, &w->mem, &spec, err));
    if (d->want_tokenizer)
        TRY(model_tokenizer_bytes(&w->model.file, d->path, &bytes, &n, err));
    int rc = n > TOKENIZER_MAX
                 ? err_set(err, ERR_LIMIT, "%s: a tokenizer of %zu bytes", d->path, n) : ERR_OK;
    if (rc == ERR_OK) {
        spec->tokenizer_bytes = n;
        m.body_case = MUSTER__ENVELOPE__BODY_MODEL_SPEC;
        m.model_spec = spec;
        rc = send(w, &m, err);
    }
    if (rc == ERR_OK)
        rc = send_tokenizer(w, bytes, n, err);
    free(bytes);
    return rc;
}

static int describe(struct worker *w, const Muster__Describe *d, struct err *err)
{
    if (d->measure)
        TRY(measure(w, d, err));
    if (d->path[0] == '\0')
        return ERR_OK;
    TRY(workermodel_open(&w->model, d->path, err));
    if (w->comm->self == 0)
        TRY(send_spec(w, d, err));
    return send_digest(w, err);
}

static int load(struct worker *w, const Muster__Load *l, struct err *err)
{
    Muster__Envelope m = MUSTER__ENVELOPE__INIT;
    Muster__Loaded done = MUSTER__LOADED__INIT;
    int threads = l->threads > 0 ? (int)l->threads : w->facts.threads;
    TRY(workermodel_load(&w->model, l, w->comm, threads, &done, err));
    done.rank = (uint32_t)w->comm->self;
    done.rss_peak = node_rss_peak();
    m.body_case = MUSTER__ENVELOPE__BODY_LOADED;
    m.loaded = &done;
    return send(w, &m, err);
}

/* --- steps */

static int send_logits(struct worker *w, uint64_t step, const struct decoder_logits *g, int vocab,
                       struct err *err)
{
    Muster__Envelope m = MUSTER__ENVELOPE__INIT;
    Muster__Logits l = MUSTER__LOGITS__INIT;
    l.step = step;
    l.slot = (uint32_t)g->slot;
    l.position = (uint32_t)g->position;
    l.rows = (uint32_t)g->rows;
    l.vocab = (uint32_t)vocab;
    l.data.data = (uint8_t *)(uintptr_t)g->data;
    l.data.len = (size_t)g->rows * (size_t)vocab * sizeof *g->data;
    m.body_case = MUSTER__ENVELOPE__BODY_LOGITS;
    m.logits = &l;
    return send(w, &m, err);
}

static int send_scores(struct worker *w, uint64_t step, const struct decoder_scores *g, struct err *err)
{
    Muster__Envelope m = MUSTER__ENVELOPE__INIT;
    Muster__Scores s = MUSTER__SCORES__INIT;
    s.step = step;
    s.slot = (uint32_t)g->slot;
    s.position = (uint32_t)g->position;
    s.n_logprob = (size_t)g->n;
    s.logprob = (float *)(uintptr_t)g->logprob;
    m.body_case = MUSTER__ENVELOPE__BODY_SCORES;
    m.scores = &s;
    return send(w, &m, err);
}

/* One Tokens message ends every step, also one that sampled nothing. */
static int send_tokens(struct worker *w, const Muster__Step *s, const struct decoder_result *r,
                       struct err *err)
{
    size_t n = (size_t)r->n_tokens;
    Muster__Token *t = arena_take(&w->mem, (n + 1) * sizeof *t);
    Muster__Token **list = arena_take(&w->mem, (n + 1) * sizeof *list);
    if (t == NULL || list == NULL)
        return err_set(err, ERR_NOMEM, "no memory for %zu tokens", n);
    for (size_t i = 0; i < n; i++) {
        const struct decoder_token *d = &r->token[i];
        muster__token__init(list[i] = &t[i]);
        t[i].slot = (uint32_t)d->slot;
        t[i].sequence = d->sequence;
        t[i].position = (uint32_t)d->position;
        t[i].id = (uint32_t)d->id;
        t[i].logprob = d->logprob;
        t[i].n_top_ids = t[i].n_top_logprobs = (size_t)d->n_top;
        t[i].top_ids = (uint32_t *)(uintptr_t)d->top_ids;
        t[i].top_logprobs = (float *)(uintptr_t)d->top_logprobs;
    }
    Muster__Envelope m = MUSTER__ENVELOPE__INIT;
    Muster__Tokens out = MUSTER__TOKENS__INIT;
    out.step = s->id;
    out.replica = s->replica;
    out.n_tokens = n;
    out.tokens = list;
    m.body_case = MUSTER__ENVELOPE__BODY_TOKENS;
    m.tokens = &out;
    return send(w, &m, err);
}

static int step(struct worker *w, const Muster__Step *s, struct err *err)
{
    struct decoder_result r = {0};
    if (w->model.decoder == NULL)
        return err_set(err, ERR_PEER, "a step came before a model was loaded");
    if (w->options->fails_at_step > 0 && s->id >= (uint64_t)w->options->fails_at_step)
        return err_set(err, ERR_NOMEM, "a test let step %d fail", w->options->fails_at_step);
    TRY(decoder_step(w->model.decoder, s, &r, err));
    if (!workermodel_samples(&w->model))
        return ERR_OK;
    for (int i = 0; i < r.n_logits; i++)
        TRY(send_logits(w, s->id, &r.logits[i], w->model.config.vocab, err));
    for (int i = 0; i < r.n_scores; i++)
        TRY(send_scores(w, s->id, &r.scores[i], err));
    return send_tokens(w, s, &r, err);
}

/* --- pictures */

static int describe_pictures(struct worker *w, const Muster__ImageDescribe *d, struct err *err)
{
    Muster__Envelope m = MUSTER__ENVELOPE__INIT;
    Muster__FileDigest digest = MUSTER__FILE_DIGEST__INIT;
    Muster__ImageSpec *spec = NULL;
    if (w->pictures == NULL)
        TRY(imageworker_new(&w->pictures, w->comm, w->options->sink, err));
    TRY(imageworker_describe(w->pictures, d->path, &w->mem, &spec, &digest, err));
    if (spec != NULL) {
        m.body_case = MUSTER__ENVELOPE__BODY_IMAGE_SPEC;
        m.image_spec = spec;
        TRY(send(w, &m, err));
    }
    m.body_case = MUSTER__ENVELOPE__BODY_FILE_DIGEST;
    m.file_digest = &digest;
    return send(w, &m, err);
}

static int load_pictures(struct worker *w, const Muster__ImageLoad *l, struct err *err)
{
    Muster__Envelope m = MUSTER__ENVELOPE__INIT;
    Muster__Loaded done = MUSTER__LOADED__INIT;
    if (w->pictures == NULL)
        return err_set(err, ERR_PEER, "a model is loaded that was not described");
    TRY(imageworker_load(w->pictures, l, l->threads > 0 ? (int)l->threads : w->facts.threads, &done, err));
    done.rank = (uint32_t)w->comm->self;
    done.rss_peak = node_rss_peak();
    m.body_case = MUSTER__ENVELOPE__BODY_LOADED;
    m.loaded = &done;
    return send(w, &m, err);
}

static int upscale_load(struct worker *w, const Muster__UpscaleLoad *l, struct err *err)
{
    Muster__Envelope m = MUSTER__ENVELOPE__INIT;
    Muster__UpscaleLoaded done = MUSTER__UPSCALE_LOADED__INIT;
    char hash[65];
    done.hash = hash;
    TRY(upscaleworker_load(&w->upscale, l, l->threads > 0 ? (int)l->threads : w->facts.threads,
                           &done, err));
    m.body_case = MUSTER__ENVELOPE__BODY_UPSCALE_LOADED;
    m.upscale_loaded = &done;
    return send(w, &m, err);
}

static int upscale_tile(struct worker *w, const Muster__UpscaleTile *t, struct err *err)
{
    Muster__Envelope m = MUSTER__ENVELOPE__INIT;
    Muster__UpscaleTile out = MUSTER__UPSCALE_TILE__INIT;
    TRY(upscaleworker_run(&w->upscale, t, &out, err));
    m.body_case = MUSTER__ENVELOPE__BODY_UPSCALE_TILE;
    m.upscale_tile = &out;
    return send(w, &m, err);
}

static int serve_pictures(struct worker *w, const Muster__Envelope *m, int peer, struct err *err)
{
    if (w->pictures == NULL)
        return err_set(err, ERR_PEER, "pictures came before a model was loaded");
    if (m->body_case == MUSTER__ENVELOPE__BODY_IMAGE_HALF)
        return imagehalf_serve(w->pictures, m->image_half, peer, err);
    if (m->body_case == MUSTER__ENVELOPE__BODY_IMAGE_STEP)
        return imageworker_step(w->pictures, m->image_step, peer, err);
    if (m->body_case == MUSTER__ENVELOPE__BODY_IMAGE_DROP)
        return imageworker_drop(w->pictures, err);
    return imageworker_chunk(w->pictures, m->image_chunk, err);
}

static int stats(struct worker *w, const Muster__StatsRequest *q, struct err *err)
{
    Muster__Envelope m = MUSTER__ENVELOPE__INIT;
    Muster__Stats s = MUSTER__STATS__INIT;
    struct decoder_stats d = {0};
    const struct workermodel *model = &w->model;
    if (model->decoder != NULL)
        decoder_stats(model->decoder, &d, q->reset);
    s.rank = (uint32_t)w->comm->self;
    s.compute_us = d.compute_us;
    s.reduce_us = d.reduce_us;
    s.wait_us = d.wait_us;
    s.wire_us = d.wire_us;
    s.wire_bytes = d.wire_bytes;
    s.steps = d.steps;
    s.rss_peak = node_rss_peak();
    s.sgemm_flops = w->facts.sgemm_flops;
    if (q->measure_read && model->weights.bytes > 0) {
        int rounds = q->read_repeats > 0 && q->read_repeats < 1000 ? (int)q->read_repeats : 3;
        double seconds = 0;
        for (int i = 0; i < rounds; i++)
            seconds += membw_read_seconds(model->weights.base, model->weights.bytes, model->threads);
        s.read_bw = (double)model->weights.bytes * rounds / seconds;
    }
    m.body_case = MUSTER__ENVELOPE__BODY_STATS;
    m.stats = &s;
    return send(w, &m, err);
}

/* --- the loop */

static const char *name_of(const Muster__Envelope *m)
{
    switch (m->body_case) {
    case MUSTER__ENVELOPE__BODY_DESCRIBE: return "describing";
    case MUSTER__ENVELOPE__BODY_LOAD: return "loading the model";
    case MUSTER__ENVELOPE__BODY_STEP: return "computing a step";
    case MUSTER__ENVELOPE__BODY_JOB: return "doing a job";
    case MUSTER__ENVELOPE__BODY_IMAGE_LOAD: return "loading the model";
    case MUSTER__ENVELOPE__BODY_UPSCALE_TILE:
    case MUSTER__ENVELOPE__BODY_IMAGE_STEP:
    case MUSTER__ENVELOPE__BODY_IMAGE_HALF: return "computing pictures";
    case MUSTER__ENVELOPE__BODY_TRAIN_BATCH: return "training";
    case MUSTER__ENVELOPE__BODY_TRAIN_SAVE: return "saving";
    default: return NULL;
    }
}

/* Says it back: the coordinator takes messages until then. */
static int stop(struct worker *w, const Muster__Stop *s)
{
    Muster__Envelope m = MUSTER__ENVELOPE__INIT;
    Muster__Stop bye = MUSTER__STOP__INIT;
    w->stopped = true;
    w->exit_code = s->code;
    bye.code = s->code;
    m.body_case = MUSTER__ENVELOPE__BODY_STOP;
    m.stop = &bye;
    send(w, &m, NULL);      /* nobody left to hear it: no matter */
    return ERR_OK;
}

static int serve(struct worker *w, const Muster__Envelope *m, int peer, struct err *err)
{
    w->comm->doing = name_of(m);
    switch (m->body_case) {
    case MUSTER__ENVELOPE__BODY_STOP: return stop(w, m->stop);
    case MUSTER__ENVELOPE__BODY_DESCRIBE: return describe(w, m->describe, err);
    case MUSTER__ENVELOPE__BODY_LOAD: return load(w, m->load, err);
    case MUSTER__ENVELOPE__BODY_STEP: return step(w, m->step, err);
    case MUSTER__ENVELOPE__BODY_STATS_REQUEST: return stats(w, m->stats_request, err);
    case MUSTER__ENVELOPE__BODY_IMAGE_DESCRIBE: return describe_pictures(w, m->image_describe, err);
    case MUSTER__ENVELOPE__BODY_IMAGE_LOAD: return load_pictures(w, m->image_load, err);
    case MUSTER__ENVELOPE__BODY_UPSCALE_LOAD: return upscale_load(w, m->upscale_load, err);
    case MUSTER__ENVELOPE__BODY_UPSCALE_TILE: return upscale_tile(w, m->upscale_tile, err);
    case MUSTER__ENVELOPE__BODY_IMAGE_CHUNK:
    case MUSTER__ENVELOPE__BODY_IMAGE_DROP:
    case MUSTER__ENVELOPE__BODY_IMAGE_STEP:
    case MUSTER__ENVELOPE__BODY_IMAGE_HALF: return serve_pictures(w, m, peer, err);
    case MUSTER__ENVELOPE__BODY_JOB: {
        struct workerjob job = {.comm = w->comm, .model = &w->model, .message = m->job,
                                .threads = w->facts.threads, .allreduce = w->options->allreduce};
        return workerjobs_run(&job, err);
    }
    default:
        if (workertrain_takes(m))
            return workertrain_serve(&w->train, m, w->comm, w->facts.threads, err);
        return err_set(err, ERR_PEER, "the coordinator sent message %d", (int)m->body_case);
    }
}

/* After a revoke a Stop should come soon; without one the coordinator is gone too. */
static bool given_up(struct worker *w, const volatile int *revoked)
{
    if (revoked == NULL || !*revoked)
        return false;
    int64_t now = comm_now_us(w->comm);
    if (w->revoked_at == 0)
        w->revoked_at = now;
    return now - w->revoked_at > (*revoked == COMM_ALONE ? ALONE_PATIENCE_US : STOP_PATIENCE_US);
}

/* Between messages: a step of the pictures in the slots. Their queue is looked at before each. */
static bool paint(struct worker *w)
{
    struct err err = {0};
    bool busy = false;
    if (w->pictures == NULL || w->failed || (w->comm->revoked != NULL && *w->comm->revoked))
        return false;
    w->comm->doing = "computing pictures";
    w->comm->activity = COMM_WORKING;
    if (imageworker_turn(w->pictures, &busy, &err) != ERR_OK)
        send_failure(w, &err);
    if (busy && w->options->progress != NULL)
        ++*w->options->progress;
    return busy;
}

static void loop(struct worker *w)
{
    const volatile int *revoked = w->comm->revoked;
    int64_t idle_since = comm_now_us(w->comm);
    while (!w->stopped) {
        struct err err = {0};
        Muster__Envelope *m;
        int peer;
        arena_reset(&w->mem);
        w->comm->doing = "waiting for the coordinator";
        int rc = wire_poll(w->comm, COMM_CONTROL, &w->mem, &peer, &m, &err);
        if (rc == ERR_OK && m == NULL) {
            if (given_up(w, revoked)) {
                w->exit_code = EXIT_PEER;
                return;
            }
            if (paint(w))
                idle_since = comm_now_us(w->comm);
            else
                comm_give_way(comm_now_us(w->comm) - idle_since);
            continue;
        }
        if (rc == ERR_OK && (!w->failed || m->body_case == MUSTER__ENVELOPE__BODY_STOP))
            rc = serve(w, m, peer, &err);
        if (rc != ERR_OK && !w->failed)
            send_failure(w, &err);
        if (w->options->progress != NULL)
            ++*w->options->progress;
        idle_since = comm_now_us(w->comm);
    }
}

int worker_run(struct comm *comm, const struct worker_options *options)
{
    struct worker w = {.comm = comm, .options = options, .exit_code = EXIT_PEER};
    struct err err = {0};
    if (arena_init(&w.mem, MESSAGE_ARENA) != ERR_OK) {
        log_line(LOG_ERROR, "worker", "no memory for messages");
        return EXIT_NOFIT;
    }
    int rc = node_facts_init(&w.facts, options->version, options->local_ranks, options->rss_start, &err);
    if (w.facts.cpu_quota > 0 && w.facts.cpu_quota < QUOTA_AMPLE * w.facts.threads)
        comm_spare_time();
    if (rc == ERR_OK)
        rc = report(&w, &err);
    if (rc != ERR_OK)
        send_failure(&w, &err);
    loop(&w);
    workermodel_free(&w.model);
    imageworker_destroy(w.pictures);
    upscaleworker_free(&w.upscale);
    workertrain_free(&w.train);
    node_facts_free(&w.facts);
    arena_free(&w.mem);
    return w.exit_code;
}
