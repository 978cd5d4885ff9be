#include "workers/train/trainer.h"

#include "workers/train/trainflat.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- start and end */

static int make_task(struct trainer *t, struct err *err)
{
    const char *name = trainconfig_text(&t->config, "task", "");
    const struct train_task_row *row = train_task_find(name);
    if (row == NULL)
        return err_set(err, ERR_INVAL, "there is no training task '%.60s'", name);
    t->task.row = row;
    TRY(row->create(&t->task, &t->config, err));
    return trainconfig_finish(&t->config, err);
}

static int choose_compute(struct trainer *t, struct err *err)
{
    static const char *const words[] = {"f32", "bf16", NULL};
    t->nn.half = trainconfig_choice(&t->config, "compute", 0, words) == 1;
    return t->nn.half ? isa_want_bf16(err) : ERR_OK;
}

static int prepare(struct trainer *t, struct err *err)
{
    TRY(choose_compute(t, err));
    TRY(make_task(t, err));
    TRY(trainflat_make(t, err));
    return dpsync_init(&t->sync, t->comm, t->batch, trainflat_longest(t), err);
}

int trainer_open(struct trainer *t, const char *config, const struct trainer_options *o,
                 struct comm *comm, struct err *err)
{
    memset(t, 0, sizeof *t);
    t->comm = comm;
    TRY(trainconfig_open(&t->config, config, err));
    t->batch = t->config.batch;
    t->config_text = strdup(config);
    omp_set_num_threads(o->threads);
    team_init(&t->team, o->threads);
    nn_init(&t->nn, kernels_get(o->isa), &t->team);
    int rc = t->config_text == NULL ? err_set(err, ERR_NOMEM, "no memory for a configuration")
                                    : prepare(t, err);
    if (rc == ERR_OK) {
        dpsync_attach(&t->sync, &t->nn, t->batch);
        dpsync_samples(&t->sync, t->batch, &t->first, &t->n_local);
        rc = trainflat_share(t, o->resume, err);
    }
    if (rc != ERR_OK)
        trainer_close(t);
    return rc;
}

void trainer_close(struct trainer *t)
{
    if (t->task.row != NULL)
        t->task.row->destroy(&t->task);
    for (int i = 0; i < t->task.n_sets; i++) {
        params_free(&t->task.set[i].params);
        params_free(&t->average[i]);
    }
    trainflat_free(t);
    dpsync_free(&t->sync);
    if (t->nn.kernels != NULL)
        nn_free(&t->nn);
    trainconfig_close(&t->config);
    free(t->config_text);
    free(t->last_checkpoint);
    memset(t, 0, sizeof *t);
}

/* --- steps */

void trainer_pass(struct trainer *t)
{
    nn_reset(&t->nn);
    t->nn.recording = t->nn.folding = true;
    for (int i = 0; i < t->task.n_sets; i++)
        params_begin(&t->task.set[i].params);
}

struct step_call {
    struct trainer *t;
    const struct train_batch *b;
    struct train_metrics *out;
    struct err *err;
    int rc;
};

static void run_step(void *arg)
{
    struct step_call *c = arg;
    trainer_pass(c->t);
    c->t->nn.recording = !c->b->evaluate;
    c->rc = c->t->task.row->step(&c->t->task, c->t, c->b, c->out, c->err);
}

static int check_batch(const struct trainer *t, const struct train_batch *b, struct err *err)
{
    if (b->n != t->n_local || (!b->evaluate && b->step != t->step + 1))
        return err_set(err, ERR_PEER, "step %lld with %d samples came where step %lld with %d was due",
                       (long long)b->step, b->n, (long long)t->step + 1, t->n_local);
    return ERR_OK;
}

int trainer_step(struct trainer *t, const struct train_batch *b, struct train_metrics *out,
                 struct err *err)
{
    struct step_call c = {t, b, out, err, ERR_OK};
    out->n = 0;
    TRY(check_batch(t, b, err));
    t->sync.err = err;
    for (int i = 0; i < t->task.n_sets; i++)
        t->task.set[i].params.train = !b->evaluate;
    team_enter(&t->team, run_step, &c);
    if (c.rc == ERR_OK && t->nn.failed)
        c.rc = err_set(err, ERR_PEER, "a sum over the ranks failed");
    if (c.rc == ERR_OK && !b->evaluate)
        t->step++;
    return c.rc;
}

static int not_finite(struct trainer *t, const char *what, struct err *err)
{
    return err_set(err, ERR_FORMAT, "%s is not a number at step %lld; %s%s: a lower learning rate, or "
                   "other data", what, (long long)t->step + 1,
                   t->last_checkpoint != NULL ? "the last good checkpoint is " : "there is no checkpoint",
                   t->last_checkpoint != NULL ? t->last_checkpoint : "");
}

int trainer_update(struct trainer *t, int group, double loss, struct train_metrics *out,
                   struct err *err)
{
    struct train_flat *f = &t->flat[group];
    const struct train_group *g = &t->task.group[group];
    if (!isfinite(loss))
        return not_finite(t, "the loss", err);
    TRY(trainflat_sum(t, group, err));
    double norm;
    TRY(trainflat_squares(t, group, &norm, err));
    norm = sqrt(norm);
    if (!isfinite(norm))
        return not_finite(t, "the gradient", err);
    struct adam_config adam = g->adam;
    adam.lr = optimizer_rate(g->adam.lr, g->floor, f->updates + 1, g->warmup, g->total);
    trainflat_adam(t, group, &adam, optimizer_clip(norm, g->clip));
    f->updates++;
    TRY(trainflat_gather(t, group, err));
    char name[24];
    snprintf(name, sizeof name, "%s%sgrad_norm", t->task.n_groups > 1 ? g->name : "",
             t->task.n_groups > 1 ? "_" : "");
    train_metric(out, name, norm);
    if (group == 0)
        train_metric(out, "lr", adam.lr);
    return ERR_OK;
}

/* --- previews */

struct sample_call {
    struct trainer *t;
    const struct train_weights *w;
    const struct train_batch *b;
    struct train_tensor *out;
    struct err *err;
    int rc;
};

static void run_sample(void *arg)
{
    struct sample_call *c = arg;
    c->rc = c->t->task.row->sample(&c->t->task, c->t, c->w, c->b, c->out, c->err);
}

int trainer_sample(struct trainer *t, const struct train_batch *b, struct train_tensor *out,
                   struct err *err)
{
    struct train_weights w;
    struct sample_call c = {t, &w, b, out, err, ERR_OK};
    int64_t begin[NN_PARTS_MAX + 1];
    t->sync.err = err;
    TRY(trainflat_average(t, &w, err));
    if (t->comm->self != 0)
        return ERR_OK;
    if (t->task.row->sample == NULL || b->n < 1 || b->n > NN_PARTS_MAX)
        return err_set(err, ERR_INVAL, "no previews of %d samples: 1 to %d", b->n, NN_PARTS_MAX);
    for (int i = 0; i <= b->n; i++)
        begin[i] = i;
    nn_reset(&t->nn);
    t->nn.recording = false;
    t->nn.sync = NULL;
    nn_set_parts(&t->nn, b->n, begin);
    team_enter(&t->team, run_sample, &c);
    dpsync_attach(&t->sync, &t->nn, t->batch);
    return c.rc;
}
