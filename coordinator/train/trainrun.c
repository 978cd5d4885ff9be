#include "coordinator/train/trainrun.h"

#include "coordinator/cluster/cluster.h"
#include "coordinator/cluster/interrupt.h"
#include "coordinator/train/captiontokens.h"
#include "coordinator/train/trainlog.h"
#include "coordinator/train/trainpreview.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { PATH_BYTES = 4200, AHEAD = 2, EVALUATIONS = 4, BATCH_ARENA = 1 << 30, LEARNT_VOCAB = 1024 };

struct run {
    struct cluster cluster;
    const struct train_kind *kind;
    const struct trainrun_options *o;
    json_t *config;
    char tokenizer_path[PATH_BYTES], checkpoint[PATH_BYTES];
    struct tokenizer *tokenizer;
    struct batchsource source, held;
    struct trainlog log;
    struct arena mem;           /* of the batch being sent; mapped, not touched */
    int *first, *samples;       /* of each worker, in a batch */
    uint64_t *number;           /* [batch] */
    uint64_t parameters;
    int64_t steps, batch, done; /* of the run; steps answered */
    int pending;                /* answers of worker 0 that are due */
    struct { char name[TRAINLOG_NAME_MAX]; double sum; } eval[TRAINLOG_COLUMNS_MAX];
    int n_eval, evaluations;
};

/* --- the folder and what is in it already */

static int make_folder(const char *path, struct err *err)
{
    if (mkdir(path, 0777) == 0 || errno == EEXIST)
        return ERR_OK;
    return err_set(err, ERR_OUTPUT, "--out %.150s: %s", path, strerror(errno));
}

/* Keys of the run that wrote the checkpoint, where the command line says nothing. */
static int merge_config(struct run *r, struct err *err)
{
    json_error_t why;
    json_t *all = json_load_file(r->checkpoint, 0, &why);
    json_t *config = json_object_get(all, "config");
    const char *task = json_string_value(json_object_get(config, "task"));
    int rc = ERR_OK;
    if (!json_is_object(config))
        rc = err_set(err, ERR_FORMAT, "%.150s: no checkpoint of this program, or damaged", r->checkpoint);
    else if (task != NULL && strcmp(task, r->kind->task) != 0)
        rc = err_set(err, ERR_FORMAT, "--out %.150s holds a run of train %.40s, not of train %s",
                     r->o->out, task, r->kind->task);
    else if (json_object_update_missing(r->config, config) != 0)
        rc = err_set(err, ERR_NOMEM, "no memory for a configuration");
    json_decref(all);
    return rc;
}

static int open_folder(struct run *r, struct err *err)
{
    struct stat st;
    TRY(make_folder(r->o->out, err));
    snprintf(r->checkpoint, sizeof r->checkpoint, "%s/checkpoint.json", r->o->out);
    bool there = stat(r->checkpoint, &st) == 0;
    if (there && !r->o->resume)
        return err_set(err, ERR_INVAL, "--out %.150s holds a run already: --resume goes on with it, or "
                       "choose another folder", r->o->out);
    if (there)
        return merge_config(r, err);
    r->checkpoint[0] = '\0';
    json_t *defaults = json_loads(r->o->defaults, 0, NULL);
    int failed = json_object_update_missing(r->config, defaults);
    json_decref(defaults);
    return failed ? err_set(err, ERR_NOMEM, "no memory for a configuration") : ERR_OK;
}

static int64_t config_int(const struct run *r, const char *key, int64_t otherwise)
{
    const json_t *v = json_object_get(r->config, key);
    return json_is_integer(v) ? json_integer_value(v) : otherwise;
}

static const char *config_text(const struct run *r, const char *key)
{
    return json_string_value(json_object_get(r->config, key));
}

/* --- tokenizer and data */

static bool has_vocabulary(const char *folder)
{
    char path[PATH_BYTES];
    struct stat st;
    static const char *const names[] = {"vocab.json", "tokenizer.json"};
    for (int i = 0; i < 2; i++)
        if (snprintf(path, sizeof path, "%s/%s", folder, names[i]) < PATH_BYTES && stat(path, &st) == 0)
            return true;
    return false;
}

static int learn_tokenizer(struct run *r, const char *folder, struct err *err)
{
    const struct train_kind *k = r->kind;
    int64_t vocab = config_int(r, "vocab", LEARNT_VOCAB);
    int64_t length = config_int(r, k->learns_length, k->otherwise);
    int64_t least = k->learns == BPETRAIN_CLIP ? BPETRAIN_CLIP_MIN : BPETRAIN_BYTES_MIN;
    if (vocab < least || vocab > BPETRAIN_VOCAB_MAX || length < 1 || length > 1 << 30)
        return err_set(err, ERR_INVAL,
                       "vocab=%lld, %s=%lld: a tokenizer has %lld to %d entries, and texts tokens",
                       (long long)vocab, k->learns_length, (long long)length, (long long)least,
                       BPETRAIN_VOCAB_MAX);
    return captiontokens_learn(folder, k->learns, 1, (int)vocab, (int)length, err);
}

/* The one given, else the run's own, else that of the model to go on from, else one learnt; in OUT/tokenizer
 * from then on. */
static int find_tokenizer(struct run *r, struct err *err)
{
    char own[PATH_BYTES], other[PATH_BYTES], implied[PATH_BYTES];
    const char *from = config_text(r, "from"), *given = r->o->tokenizer, *place = r->kind->tokenizer_place;
    snprintf(own, sizeof own, "%s/tokenizer", r->o->out);
    snprintf(other, sizeof other, "%s%s%s", from != NULL ? from : "", place[0] != '\0' ? "/" : "", place);
    const char *beside = r->kind->tokenizer_beside != NULL
                             ? r->kind->tokenizer_beside(r->config, implied) : NULL;
    if (given != NULL)
        TRY(captiontokens_copy(given, own, err));
    else if (!has_vocabulary(own) && beside != NULL && has_vocabulary(beside))
        TRY(captiontokens_copy(beside, own, err));
    else if (!has_vocabulary(own) && from != NULL && has_vocabulary(other))
        TRY(captiontokens_copy(other, own, err));
    else if (!has_vocabulary(own) && r->kind->learns_tokenizer &&
             strcmp(config_text(r, "data"), "scenes") == 0)
        TRY(learn_tokenizer(r, own, err));
    if (!has_vocabulary(own) && given == NULL && r->kind->no_tokenizer)
        return ERR_OK;
    if (!has_vocabulary(own))
        return given != NULL ? captiontokens_open(&r->tokenizer, given, err)
                             : err_set(err, ERR_INVAL, "--tokenizer FOLDER is wanted (muster train tokenizer "
                                       "makes one)");
    snprintf(r->tokenizer_path, sizeof r->tokenizer_path, "%s", own);
    json_object_set_new(r->config, "tokenizer", json_string(own));
    return captiontokens_open(&r->tokenizer, own, err);
}

static int open_data(struct run *r, struct err *err)
{
    struct batch_want w = {.seed = (uint64_t)config_int(r, "seed", 0), .tokenizer = r->tokenizer};
    w.caption_dropout = json_number_value(json_object_get(r->config, "caption_dropout"));
    TRY(r->kind->want(r->config, &w, err));
    TRY(batchsource_open(&r->source, config_text(r, "data"), &w, err));
    w.held_out = true;
    w.caption_dropout = 0;
    return batchsource_open(&r->held, config_text(r, "data"), &w, err);
}

/* --- setup */

static int take_ready(struct run *r, struct err *err)
{
    struct cluster *c = &r->cluster;
    int64_t all = 0;
    for (int n = 0; n < c->n_workers; n++) {
        Muster__Envelope *m;
        int peer;
        TRY(cluster_wait(c, "waiting for the trainers", &peer, &m, err));
        if (m->body_case != MUSTER__ENVELOPE__BODY_TRAIN_READY || peer >= c->n_workers)
            return err_set(err, ERR_PEER, "rank %d sent message %d while setting up", peer,
                           (int)m->body_case);
        const Muster__TrainReady *ready = m->train_ready;
        if (ready->first + (int64_t)ready->samples > r->batch)
            return err_set(err, ERR_PEER, "rank %d wants samples beyond the batch", peer);
        r->first[peer] = (int)ready->first;
        r->samples[peer] = (int)ready->samples;
        r->parameters = ready->parameters;
        r->done = (int64_t)ready->step;
        all += ready->samples;
    }
    if (all != r->batch)
        return err_set(err, ERR_PEER, "the ranks share %lld samples of a batch of %lld", (long long)all,
                       (long long)r->batch);
    return ERR_OK;
}

static int send_setup(struct run *r, struct err *err)
{
    Muster__Envelope m = MUSTER__ENVELOPE__INIT;
    Muster__TrainSetup s = MUSTER__TRAIN_SETUP__INIT;
    json_object_set_new(r->config, "task", json_string(r->kind->task));
    s.config = json_dumps(r->config, JSON_COMPACT | JSON_SORT_KEYS);
    s.threads = (uint32_t)r->o->threads;
    s.resume = r->checkpoint;
    m.body_case = MUSTER__ENVELOPE__BODY_TRAIN_SETUP;
    m.train_setup = &s;
    int rc = s.config == NULL ? err_set(err, ERR_NOMEM, "no memory for a configuration")
                              : cluster_train_setup(&r->cluster, &s, err);
    if (rc == ERR_OK)
        rc = cluster_send_all(&r->cluster, true, &m, err);
    free(s.config);
    return rc != ERR_OK ? rc : take_ready(r, err);
}

static int prepare(struct run *r, struct err *err)
{
    size_t n = (size_t)r->cluster.n_workers;
    TRY(open_folder(r, err));
    r->steps = config_int(r, "steps", 0);
    r->batch = config_int(r, "batch", 16);
    if (r->steps < 1 || r->batch < 1 || config_text(r, "data") == NULL)
        return err_set(err, ERR_INVAL, "train %s wants --data, --steps and a batch", r->kind->task);
    r->first = calloc(n, sizeof *r->first);
    r->samples = calloc(n, sizeof *r->samples);
    r->number = calloc((size_t)r->batch, sizeof *r->number);
    if (r->first == NULL || r->samples == NULL || r->number == NULL ||
        arena_init(&r->mem, BATCH_ARENA) != ERR_OK)
        return err_set(err, ERR_NOMEM, "no memory for batches of %lld", (long long)r->batch);
    TRY(find_tokenizer(r, err));
    TRY(open_data(r, err));
    TRY(send_setup(r, err));
    if (r->done >= r->steps)
        return err_set(err, ERR_INVAL, "--steps %lld: the run in %.150s has done %lld", (long long)r->steps,
                       r->o->out, (long long)r->done);
    return trainlog_open(&r->log, r->o->out, r->steps, r->done, r->batch,
                         r->o->log_every > 0 ? r->o->log_every : 1, err);
}

/* --- messages out */

/* Samples [begin, begin + n) of a source as a message's batch. */
static int fill(struct run *r, struct batchsource *s, uint64_t begin, int n, Muster__TrainBatch *out,
                struct err *err)
{
    for (int i = 0; i < n; i++)
        r->number[i] = begin + (uint64_t)i;
    out->sample = r->number;
    out->n_sample = (size_t)n;
    return batchsource_fill(s, r->number, n, out, &r->mem, err);
}

/* A batch, each worker's samples to that worker. begin: the first sample's number. */
static int send_batch(struct run *r, int64_t step, struct batchsource *s, uint64_t begin, bool evaluate,
                      struct err *err)
{
    for (int w = 0; w < r->cluster.n_workers; w++) {
        Muster__Envelope m = MUSTER__ENVELOPE__INIT;
        Muster__TrainBatch b = MUSTER__TRAIN_BATCH__INIT;
        arena_reset(&r->mem);
        TRY(fill(r, s, begin + (uint64_t)r->first[w], r->samples[w], &b, err));
        b.step = (uint64_t)step;
        b.evaluate = evaluate;
        m.body_case = MUSTER__ENVELOPE__BODY_TRAIN_BATCH;
        m.train_batch = &b;
        TRY(cluster_send(&r->cluster, w, &m, err));
    }
    r->pending++;
    return ERR_OK;
}

static int send_save(struct run *r, int64_t step, bool folder, struct err *err)
{
    Muster__Envelope m = MUSTER__ENVELOPE__INIT;
    Muster__TrainSave s = MUSTER__TRAIN_SAVE__INIT;
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s%s", r->o->out, folder ? "/model" : "");
    s.step = (uint64_t)step;
    s.kind = !folder ? MUSTER__TRAIN_SAVE_KIND__TRAIN_CHECKPOINT
             : r->o->f32_folder ? MUSTER__TRAIN_SAVE_KIND__TRAIN_FOLDER_F32
                                : MUSTER__TRAIN_SAVE_KIND__TRAIN_FOLDER_BF16;
    s.path = path;
    m.body_case = MUSTER__ENVELOPE__BODY_TRAIN_SAVE;
    m.train_save = &s;
    r->pending++;
    return cluster_send_all(&r->cluster, true, &m, err);
}

static int send_preview(struct run *r, int64_t step, struct err *err)
{
    Muster__Envelope m = MUSTER__ENVELOPE__INIT;
    Muster__TrainSample s = MUSTER__TRAIN_SAMPLE__INIT;
    Muster__TrainBatch b = MUSTER__TRAIN_BATCH__INIT;
    uint64_t number[TRAINPREVIEW_MAX];
    for (int i = 0; i < r->o->n_previews; i++)
        number[i] = (uint64_t)i;
    arena_reset(&r->mem);
    b.sample = number;
    b.n_sample = (size_t)r->o->n_previews;
    TRY(batchsource_fill(&r->held, number, r->o->n_previews, &b, &r->mem, err));
    b.step = (uint64_t)step;
    s.batch = &b;
    m.body_case = MUSTER__ENVELOPE__BODY_TRAIN_SAMPLE;
    m.train_sample = &s;
    r->pending++;
    return cluster_send_all(&r->cluster, true, &m, err);
}

/* --- messages in */

static void add_evaluation(struct run *r, const Muster__TrainProgress *p)
{
    for (size_t i = 0; i < p->n_metric && i < TRAINLOG_COLUMNS_MAX; i++) {
        snprintf(r->eval[i].name, sizeof r->eval[i].name, "%s", p->metric[i]->name);
        r->eval[i].sum += p->metric[i]->value;
        r->n_eval = (int)i + 1;
    }
}

static int take_progress(struct run *r, const Muster__TrainProgress *p, struct err *err)
{
    if (!p->evaluate) {
        r->done = (int64_t)p->step;
        return trainlog_step(&r->log, p, err);
    }
    add_evaluation(r, p);
    if (++r->evaluations < EVALUATIONS)
        return ERR_OK;
    for (int i = 0; i < r->n_eval; i++) {
        TRY(trainlog_evaluation(&r->log, (int64_t)p->step, r->eval[i].name, r->eval[i].sum / EVALUATIONS,
                                err));
        r->eval[i].sum = 0;
    }
    r->evaluations = 0;
    return ERR_OK;
}

static int take_answer(struct run *r, const Muster__Envelope *m, int peer, struct err *err)
{
    char path[PATH_BYTES];
    r->pending--;
    switch (m->body_case) {
    case MUSTER__ENVELOPE__BODY_TRAIN_PROGRESS: return take_progress(r, m->train_progress, err);
    case MUSTER__ENVELOPE__BODY_TRAIN_PREVIEW:
        return trainpreview_take(m->train_preview, r->o->out, r->tokenizer, &r->log.events, err);
    case MUSTER__ENVELOPE__BODY_TRAIN_SAVED:
        if (m->train_saved->kind == MUSTER__TRAIN_SAVE_KIND__TRAIN_CHECKPOINT || r->tokenizer == NULL)
            return ERR_OK;
        snprintf(path, sizeof path, "%s/model/%s", r->o->out, r->kind->tokenizer_place);
        return captiontokens_copy(r->tokenizer_path, path, err);
    default:
        return err_set(err, ERR_PEER, "rank %d sent message %d while training", peer, (int)m->body_case);
    }
}

/* Waits until at most `most` answers are due. */
static int settle(struct run *r, int most, struct err *err)
{
    while (r->pending > most) {
        Muster__Envelope *m;
        int peer;
        TRY(cluster_wait(&r->cluster, "training", &peer, &m, err));
        TRY(take_answer(r, m, peer, err));
    }
    return ERR_OK;
}

/* --- the run */

static bool due(int64_t step, int64_t every) { return every > 0 && step % every == 0; }

/* What comes after the batch of a step: each is one message, in its place between batches. stop: it is the
 * last of this process. */
static int send_rest(struct run *r, int64_t step, bool stop, struct err *err)
{
    bool last = step == r->steps;
    if (stop && !last)
        return send_save(r, step, false, err);
    for (int i = 0; i < EVALUATIONS && due(step, r->o->evaluate_every); i++) {
        TRY(send_batch(r, step, &r->held, (uint64_t)(i * r->batch), true, err));
        TRY(settle(r, AHEAD, err));
    }
    if (r->o->n_previews > 0 && (due(step, r->o->preview_every) || last))
        TRY(send_preview(r, step, err));
    if (due(step, r->o->checkpoint_every) || last)
        TRY(send_save(r, step, false, err));
    return last ? send_save(r, step, true, err) : ERR_OK;
}

static int train(struct run *r, struct err *err)
{
    bool stop = false;
    for (int64_t step = r->done + 1; step <= r->steps && !stop; step++) {
        stop = interrupt_gentle();
        TRY(send_batch(r, step, &r->source, (uint64_t)((step - 1) * r->batch), false, err));
        TRY(send_rest(r, step, stop, err));
        TRY(settle(r, AHEAD, err));
    }
    TRY(settle(r, 0, err));
    trainlog_wipe(&r->log);
    if (r->done < r->steps)
        return err_set(err, ERR_CANCELLED, "interrupted: %lld of %lld steps are done and saved; to go on: "
                       "muster train %s --resume --out %.120s", (long long)r->done, (long long)r->steps,
                       r->kind->task, r->o->out);
    printf("%s/model: %s, %llu parameters, %lld steps of %lld, loss %.4f, %.1f samples/s\n", r->o->out,
           r->kind->task, (unsigned long long)r->parameters, (long long)r->done, (long long)r->batch,
           r->log.last_loss, r->log.samples_per_s);
    return fflush(stdout) == 0 ? ERR_OK : err_set(err, ERR_OUTPUT, "stdout: %s", strerror(errno));
}

int trainrun(struct comm *comm, const struct train_kind *kind, json_t *config,
             const struct trainrun_options *o, struct err *err)
{
    struct run *r = calloc(1, sizeof *r);
    if (r == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a run");
    r->kind = kind;
    r->o = o;
    r->config = config;
    int rc = cluster_open(&r->cluster, comm, err);
    if (rc == ERR_OK)
        rc = prepare(r, err);
    interrupt_gently(rc == ERR_OK);
    if (rc == ERR_OK)
        rc = train(r, err);
    interrupt_gently(false);
    if (rc != ERR_OK && r->log.csv != NULL)
        trainlog_wipe(&r->log);
    trainlog_close(&r->log);
    batchsource_close(&r->source);
    batchsource_close(&r->held);
    tokenizer_close(r->tokenizer);
    free(r->first);
    free(r->samples);
    free(r->number);
    arena_free(&r->mem);
    cluster_close(&r->cluster, rc, err);
    free(r);
    return rc;
}
