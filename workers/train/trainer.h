/* trainer.h - one rank of a training run: its parts of each batch, its share of the optimiser's state.
 * Parts:  the batch is cut in min(8, batch) parts; ranks hold runs of them (split.h). Whatever adds up
 *         over samples adds up in the tree over parts, so one, two or four ranks make the same bits.
 * Update: a rank steps the numbers [lo, hi) of each group's flat row of weights, whose moments and averages
 *         only it holds. The sums of those gradients go to it while the way back goes on, tensor by tensor;
 *         the new weights are gathered.
 * Files:  checkpoints know no layout: any number of ranks goes on from them, with the same bits.
 * Owner:  the trainer owns task, memory and state; borrows comm.
 * Ranks:  everything here is collective on all workers, except where it says otherwise. */
#ifndef MUSTER_TRAINER_H
#define MUSTER_TRAINER_H

#include "workers/parallel/sharesum.h"
#include "workers/train/dpsync.h"
#include "workers/train/task.h"

/* Flat row of a group's trained weights: parameter k is numbers [begin[k], begin[k + 1]). */
struct train_chunk;
struct train_flat {
    struct param **param; int64_t *begin; int n_params;
    const char **prefix;                /* of each parameter's set */
    bool *decays;
    int64_t n, lo, hi;                  /* this rank steps [lo, hi) */
    float *grad;                        /* [hi - lo], summed */
    float *pieces;                      /* [n_piece][n] of this rank; grad itself where it is the only one */
    struct sharesum sum; bool summing;  /* of several ranks; has a sum begun? */
    bool *whole;                        /* is a parameter's gradient on its way? */
    float *m, *v, *ema;                 /* [hi - lo]; ema NULL without one */
    int64_t updates;                    /* steps taken */
    /* Runs inside parameters that a thread takes; parameter k's from chunk_of[k] on, rank i's from share[i]
     * on, which is number border[i] of the row. */
    struct train_chunk *chunk; int n_chunks, *chunk_of, *share;
    int64_t *border;
    double *squares;                    /* [n_chunks] */
};

struct trainer {
    struct nn nn;                       /* parts: this rank's */
    struct team team;
    struct comm *comm;
    struct dpsync sync;
    struct trainconfig config;
    char *config_text;
    struct train_task task;
    struct train_flat flat[TRAIN_GROUPS_MAX];
    float *wire;                        /* [longest flat row]: room for gathering */
    struct params average[TRAIN_SETS_MAX];          /* worker 0: twins of the sets, made when wanted */
    int batch, n_parts, first, n_local; /* samples [first, first + n_local) of each batch are this rank's */
    int64_t step;                       /* done */
    char *last_checkpoint;              /* path, or NULL: for messages */
    struct err *err;                    /* of the call under way: where the sums report */
};

struct trainer_options { enum isa isa; int threads; const char *resume; /* checkpoint.json, or NULL */ };

/* config: JSON text with "task", "batch", "seed" and the task's keys. */
int trainer_open(struct trainer *t, const char *config, const struct trainer_options *o,
                 struct comm *comm, struct err *err);
void trainer_close(struct trainer *t);

int trainer_step(struct trainer *t, const struct train_batch *b, struct train_metrics *out,
                 struct err *err);

/* For tasks. Begins a pass: drops all values and gradients, no weight is bound, recording is on. */
void trainer_pass(struct trainer *t);
/* After nn_backward: sums, clips and steps the group's weights. `loss` must be finite, and so must the
 * gradient: else the run ends, and says at which step. */
int trainer_update(struct trainer *t, int group, double loss, struct train_metrics *out,
                   struct err *err);

/* DIR/checkpoint-STEP.safetensors and DIR/checkpoint.json, which names it and is written last;
 * the one before stays until then. Worker 0 writes. */
int trainer_checkpoint(struct trainer *t, const char *dir, struct err *err);
/* The inference folder of the moving averages (of the weights where a group has none). Worker 0 writes. */
int trainer_export(struct trainer *t, const char *dir, enum dtype type, struct err *err);
/* Previews, on worker 0; out lives until the next pass. */
int trainer_sample(struct trainer *t, const struct train_batch *b, struct train_tensor *out,
                   struct err *err);

#endif
