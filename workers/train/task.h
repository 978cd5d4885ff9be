/* task.h - what can be trained: a row of a table for each kind of model.
 * Why:    the trainer knows parts, ranks, sums, optimisers and checkpoints; a task knows its networks,
 *         its loss and the folder that others open. A new kind of model is one file and one row.
 * Step:   the trainer hands a task this rank's samples of the batch; the task runs forward and backward
 *         on trainer->nn (whose parts are this rank's) and says trainer_update for each group of
 *         weights that has its gradients. A GAN does so twice a step, with trainer_pass between.
 * Random: whatever a task draws is keyed by a sample's number (train_batch.sample) or by the step,
 *         never by a stream: any number of ranks draws the same.
 * Owner:  a task owns its sets of weights; names and rows are static.
 * Ranks:  create, step, update are collective on all workers; sample and save run on one of them. */
#ifndef MUSTER_TASK_H
#define MUSTER_TASK_H

#include "proto/wire.h"
#include "workers/models/params.h"
#include "workers/train/optimizer.h"
#include "workers/train/trainconfig.h"

enum { TRAIN_SETS_MAX = 4, TRAIN_GROUPS_MAX = 2, TRAIN_METRICS_MAX = 16 };

/* One named tensor of a batch, as the coordinator sent it: shape[0] counts this rank's samples. */
struct train_tensor {
    const char *name;
    enum wire_dtype dtype;              /* WIRE_I32: ids; WIRE_U8: pixels [n, 3, side, side]; WIRE_F32 */
    int n_dims;
    int64_t shape[WIRE_DIMS_MAX];
    const void *data;                   /* checked: as many bytes as shape and dtype say */
};
struct train_batch {
    int64_t step;                       /* from 1 */
    int n;                              /* this rank's samples, in the order of its parts */
    const uint64_t *sample;             /* [n]: their numbers in the whole run */
    const struct train_tensor *tensor; int n_tensors;
    bool evaluate;                      /* held-out samples: metrics only, nothing is learnt */
};
/* NULL when there is none of that name, or ERR_PEER in err when its dtype or dimensions differ. */
const struct train_tensor *train_batch_find(const struct train_batch *b, const char *name,
                                            enum wire_dtype dtype, int n_dims, struct err *err);

struct train_metrics { int n; struct { char name[24]; double value; } m[TRAIN_METRICS_MAX]; };
void train_metric(struct train_metrics *m, const char *name, double value);

/* Weights of one network. Names in checkpoints are prefix + name. */
struct train_set { const char *prefix; struct params params; int group; };

/* What one optimiser moves: all sets of that group, clipped together. */
struct train_group {
    const char *name;
    struct adam_config adam;            /* lr: the highest */
    double clip;                        /* of the norm over the group; 0: none */
    double ema;                         /* 0: no moving average */
    double floor;                       /* the rate falls to it at step `total`; total 0: constant */
    int64_t warmup, total;
    /* Does decay apply? NULL: to names that end in "weight" and have two or more dimensions. */
    bool (*decays)(const struct param *p);
};

struct trainer;
struct train_task_row;
struct train_task {
    const struct train_task_row *row;
    struct train_set set[TRAIN_SETS_MAX]; int n_sets;
    struct train_group group[TRAIN_GROUPS_MAX]; int n_groups;
    void *state;                        /* the row's own */
};

/* Sets of weights in the order of the task's: its own, or their moving averages. */
struct train_weights { struct params *set[TRAIN_SETS_MAX]; };

struct train_task_row {
    const char *name;
    /* Reads what it knows from c (trainconfig_*), makes the sets with their first weights (drawn by
     * c->seed and tensor, or read from c->from, an inference folder to go on from) and fills set, group. */
    int (*create)(struct train_task *t, struct trainconfig *c, struct err *err);
    int (*step)(struct train_task *t, struct trainer *tr, const struct train_batch *b,
                struct train_metrics *out, struct err *err);
    /* Previews for what is in b: pictures u8 [n, 3, side, side] in out (memory of trainer->nn), or text
     * as ids i32. May be NULL. */
    int (*sample)(struct train_task *t, struct trainer *tr, const struct train_weights *w,
                  const struct train_batch *b, struct train_tensor *out, struct err *err);
    /* Writes the inference folder: configurations and weights as `type` (DT_F32, DT_BF16). dir exists. */
    int (*save)(struct train_task *t, const struct train_weights *w, const char *dir, enum dtype type,
                struct err *err);
    void (*destroy)(struct train_task *t);      /* frees state; the sets are the trainer's to free */
};

extern const struct train_task_row train_task_diffusion, train_task_llm, train_task_gan;
/* By name; NULL: no such task. */
const struct train_task_row *train_task_find(const char *name);

/* group.* from the keys that all tasks know: lr, beta1, beta2, eps, decay, clip, ema, warmup, steps,
 * lr_floor; the numbers in g are the defaults. `prefix` goes before the keys ("d_" for d_lr), NULL none. */
void train_group_read(struct train_group *g, struct trainconfig *c, const char *prefix);

#endif
