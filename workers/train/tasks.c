/* tasks.c - the table of tasks, and what all of them share. */
#include "workers/train/task.h"

#include <stdio.h>
#include <string.h>

static const struct train_task_row *const rows[] = {&train_task_diffusion, &train_task_llm, &train_task_gan,
                                                    NULL};

const struct train_task_row *train_task_find(const char *name)
{
    for (int i = 0; rows[i] != NULL; i++)
        if (strcmp(rows[i]->name, name) == 0)
            return rows[i];
    return NULL;
}

const struct train_tensor *train_batch_find(const struct train_batch *b, const char *name,
                                            enum wire_dtype dtype, int n_dims, struct err *err)
{
    for (int i = 0; i < b->n_tensors; i++) {
        const struct train_tensor *t = &b->tensor[i];
        if (strcmp(t->name, name) != 0)
            continue;
        if (t->dtype == dtype && t->n_dims == n_dims && t->shape[0] == b->n)
            return t;
        err_set(err, ERR_PEER, "a batch has %s as %d dimensions of type %d for %lld samples: expected "
                "%d of type %d for %d", name, t->n_dims, (int)t->dtype, (long long)t->shape[0], n_dims,
                (int)dtype, b->n);
        return NULL;
    }
    return NULL;
}

void train_metric(struct train_metrics *m, const char *name, double value)
{
    if (m->n == TRAIN_METRICS_MAX)
        return;
    snprintf(m->m[m->n].name, sizeof m->m[m->n].name, "%s", name);
    m->m[m->n++].value = value;
}

/* One of the shared keys behind a prefix; the names must outlive the config, so they are listed. */
enum group_key { KEY_LR, KEY_BETA1, KEY_BETA2, KEY_EPS, KEY_DECAY, KEY_CLIP, KEY_EMA, KEY_FLOOR,
                 KEY_WARMUP, KEY_STEPS, N_GROUP_KEYS };
static const char *const plain_keys[N_GROUP_KEYS] = {"lr", "beta1", "beta2", "eps", "decay", "clip", "ema",
                                                     "lr_floor", "warmup", "steps"};
static const char *const d_keys[N_GROUP_KEYS] = {"d_lr", "d_beta1", "d_beta2", "d_eps", "d_decay",
                                                 "d_clip", "d_ema", "d_lr_floor", "d_warmup", "steps"};

void train_group_read(struct train_group *g, struct trainconfig *c, const char *prefix)
{
    const char *const *key = prefix != NULL && strcmp(prefix, "d_") == 0 ? d_keys : plain_keys;
    g->adam.lr = trainconfig_real(c, key[KEY_LR], g->adam.lr, 0, 100);
    g->adam.beta1 = trainconfig_real(c, key[KEY_BETA1], g->adam.beta1, 0, 0.99999);
    g->adam.beta2 = trainconfig_real(c, key[KEY_BETA2], g->adam.beta2, 0, 0.9999999);
    g->adam.eps = trainconfig_real(c, key[KEY_EPS], g->adam.eps, 1e-30, 1);
    g->adam.decay = trainconfig_real(c, key[KEY_DECAY], g->adam.decay, 0, 10);
    g->clip = trainconfig_real(c, key[KEY_CLIP], g->clip, 0, 1e9);
    g->ema = trainconfig_real(c, key[KEY_EMA], g->ema, 0, 0.9999999);
    g->floor = trainconfig_real(c, key[KEY_FLOOR], g->floor, 0, 100);
    g->warmup = trainconfig_int(c, key[KEY_WARMUP], g->warmup, 0, INT64_C(1) << 40);
    g->total = trainconfig_int(c, key[KEY_STEPS], g->total, 0, INT64_C(1) << 40);
}
