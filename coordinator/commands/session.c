#include "coordinator/commands/session.h"

#include "coordinator/plan/planfile.h"
#include "proto/atomicfile.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SLOTS_DEFAULT = 16, CHUNK_DEFAULT = 512 };

void session_progress(const struct session *s, const char *fmt, ...)
{
    if (!s->tty)
        return;
    char line[160];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    fprintf(stderr, "\r\033[K%s", line);
    fflush(stderr);
}

static void show_progress(void *ctx, const char *what, double share)
{
    const struct session *s = ctx;
    if (share < 1)
        session_progress(s, "%s %.0f%%", what, share * 100);
    else
        session_progress(s, "%s", "");
}

/* The model's own list; where it has none, the tokenizer's. */
static int take_stop_ids(struct session *s, struct err *err)
{
    const Muster__ModelSpec *m = s->cluster.spec;
    s->stop_ids = malloc((m->n_eos + 1) * sizeof *s->stop_ids);
    if (s->stop_ids == NULL)
        return err_set(err, ERR_NOMEM, "no memory for the stop ids");
    for (size_t i = 0; i < m->n_eos; i++)
        s->stop_ids[s->n_stop_ids++] = (int)m->eos[i];
    if (s->n_stop_ids == 0 && s->tokenizer != NULL && tokenizer_eos(s->tokenizer) >= 0)
        s->stop_ids[s->n_stop_ids++] = tokenizer_eos(s->tokenizer);
    return ERR_OK;
}

static int begin(struct session *s, struct comm *comm, struct err *err)
{
    memset(s, 0, sizeof *s);
    s->tty = isatty(2);
    TRY(cluster_open(&s->cluster, comm, err));
    s->cluster.progress = show_progress;
    s->cluster.progress_ctx = s;
    return ERR_OK;
}

int session_run(struct comm *comm, session_work *work, const void *options, struct err *err)
{
    struct session s;
    int rc = begin(&s, comm, err);
    if (rc == ERR_OK)
        rc = work(options, &s, err);
    return session_close(&s, rc, err);
}

int session_job(struct session *s, const char *name, char **args, int n, Muster__JobDone **done,
                struct err *err)
{
    int rc = cluster_job(&s->cluster, name, args, n, false, done, err);
    session_progress(s, "%s", "");
    return rc;
}

const char *session_result(const Muster__JobDone *done, const char *key)
{
    for (size_t i = 0; i < done->n_results; i++)
        if (strcmp(done->results[i]->key, key) == 0)
            return done->results[i]->value;
    return "0";
}

int session_open(struct session *s, struct comm *comm, const struct model_args *a, int want,
                 struct err *err)
{
    TRY(begin(s, comm, err));
    TRY(model_args_path(a, s->path, err));
    TRY(cluster_describe(&s->cluster, s->path, want & SESSION_TOKENIZER, want & SESSION_TENSORS, err));
    if (want & SESSION_TOKENIZER) {
        const struct cluster *c = &s->cluster;
        if (tokenizer_open(&s->tokenizer, c->tokenizer, c->tokenizer_bytes, err) != ERR_OK)
            return err_prefix(err, "%s", s->path);
    }
    return take_stop_ids(s, err);
}

int session_context(const struct session *s, const struct model_args *a, int *context,
                    struct err *err)
{
    int most = (int)s->cluster.spec->context;
    if (a->context > most && most > 0)
        return err_set(err, ERR_INVAL, "--ctx %d: the model was made for %d tokens", a->context, most);
    *context = a->context > 0 ? a->context : most;
    return ERR_OK;
}

static int smaller(int a, int b) { return a < b ? a : b; }

/* Sizes of a step and of the cache, as small as the requests allow. */
static int choose_sizes(struct session *s, const struct model_args *a,
                        const struct session_need *need, struct err *err)
{
    struct cluster_load *l = &s->load;
    int most = 0;
    TRY(session_context(s, a, &most, err));
    *l = (struct cluster_load){.plan_file = a->plan_file, .tp = a->tp,
        .pp = a->pp, .dp = a->dp, .threads = a->threads, .f32 = a->compute == MODEL_COMPUTE_F32,
        .wire = a->wire, .memory_most = a->memory, .shares = a->n_shares > 0 ? a->shares : NULL,
        .n_shares = a->n_shares};
    l->kv_dtype = model_args_kv(a);
    int dp = a->dp > 0 ? a->dp : 1;
    l->slots = a->batch > 0 ? a->batch : smaller((need->sequences + dp - 1) / dp, SLOTS_DEFAULT);
    l->context = a->context > 0 ? most : smaller(need->longest, most);
    int prompt = need->longest_prompt > 0 ? need->longest_prompt : 1;
    l->chunk = a->chunk > 0 ? a->chunk : smaller(CHUNK_DEFAULT, prompt * l->slots);
    l->max_rows = l->chunk + l->slots;
    return ERR_OK;
}

static int save_plan(const struct session *s, const char *path, struct err *err)
{
    struct atomicfile f;
    char *text = planfile_text(s->cluster.plan.message);
    int rc = text == NULL ? err_set(err, ERR_NOMEM, "%s: no memory", path)
                          : atomicfile_open(&f, path, err);
    if (rc == ERR_OK) {
        rc = atomicfile_write(&f, text, strlen(text), err);
        if (rc == ERR_OK)
            rc = atomicfile_commit(&f, err);
        atomicfile_abandon(&f);
    }
    free(text);
    return rc;
}

int session_plan(struct session *s, const struct model_args *a, const struct session_need *need,
                 struct err *err)
{
    TRY(choose_sizes(s, a, need, err));
    TRY(cluster_plan(&s->cluster, &s->load, err));
    return a->save_plan != NULL ? save_plan(s, a->save_plan, err) : ERR_OK;
}

static double gib(uint64_t bytes) { return (double)bytes / (1024.0 * 1024 * 1024); }

/* One line for the run. Lines that begin with "muster:" are errors; this is none. */
static void say_loaded(const struct session *s)
{
    const struct cluster *c = &s->cluster;
    const struct plan *p = &c->plan;
    uint64_t weights = 0, kv = 0, scratch = 0, read = 0;
    double seconds = 0;
    for (int w = 0; w < c->n_workers; w++) {
        const Muster__Loaded *l = c->loaded[w];
        weights = l->weights_bytes > weights ? l->weights_bytes : weights;
        kv = l->kv_bytes > kv ? l->kv_bytes : kv;
        scratch = l->scratch_bytes > scratch ? l->scratch_bytes : scratch;
        read += l->file_bytes_read;
        seconds = l->seconds > seconds ? l->seconds : seconds;
    }
    char beside[32] = "";
    if (p->dp > 1)
        snprintf(beside, sizeof beside, " x dp %d", p->dp);
    fprintf(stderr, "%s: tp %d x pp %d%s on %d rank%s (%s); a rank holds at most weights %.3f GiB, "
            "kv %.3f, scratch %.3f; read %.3f GiB in %.2f s\n", s->path, p->tp, p->pp, beside, c->n_workers,
            c->n_workers > 1 ? "s" : "", p->why, gib(weights), gib(kv), gib(scratch), gib(read),
            seconds);
}

int session_load(struct session *s, const struct model_args *a, const struct session_need *need,
                 struct err *err)
{
    TRY(session_plan(s, a, need, err));
    session_progress(s, "loading");
    TRY(cluster_load(&s->cluster, &s->load, err));
    session_progress(s, "%s", "");
    say_loaded(s);
    return lm_open(&s->lm, &s->cluster, &s->load, err);
}

int session_close(struct session *s, int rc, const struct err *err)
{
    session_progress(s, "%s", "");
    lm_close(&s->lm);
    tokenizer_close(s->tokenizer);
    free(s->stop_ids);
    cluster_close(&s->cluster, rc, err);
    return rc;
}
