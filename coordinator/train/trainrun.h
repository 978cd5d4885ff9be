/* trainrun.h - a training run from the coordinator's side: samples out, metrics in, files when due.
 * Why:    every kind of model is trained by one conversation; a kind says only what a sample is.
 * Flow:   the batch after the one that the workers compute is already on its way to them.
 * End:    ctrl-C, SIGTERM and SIGUSR1 end a run behind a step, with a checkpoint; ERR_CANCELLED.
 * Files:  in the folder OUT: checkpoint.json and what it names, tokenizer/, model/ (what others open),
 *         metrics.csv, an event file.
 * Ranks:  the coordinator's thread only. */
#ifndef MUSTER_TRAINRUN_H
#define MUSTER_TRAINRUN_H

#include "coordinator/text/bpetrain.h"
#include "coordinator/train/batchsource.h"
#include "proto/comm.h"

#include <jansson.h>

/* What the coordinator must know of a kind of model. */
struct train_kind {
    const char *task;               /* the row of the workers' table */
    const char *tokenizer_place;    /* of the model folder, for the tokenizer's files: "tokenizer", "" */
    bool learns_tokenizer;          /* from the built-in world, when none is given */
    enum bpetrain_kind learns;      /* of this kind, for texts of config's `learns_length` tokens */
    const char *learns_length; int otherwise;
    bool no_tokenizer;              /* it may do without one */
    /* Where a tokenizer may lie that the configuration implies, in path [4200]; NULL: nowhere. */
    const char *(*tokenizer_beside)(const json_t *config, char *path);
    /* From the configuration: which tensors a sample has (w's sizes). May add keys that follow from the
     * tokenizer (vocab, eos, ..) to config; w->tokenizer is set, where there is one. */
    int (*want)(json_t *config, struct batch_want *w, struct err *err);
};

struct trainrun_options {
    const char *out;                /* the folder */
    bool resume;
    int64_t checkpoint_every, preview_every, evaluate_every, log_every;     /* steps; 0: at the end, never */
    int n_previews;
    bool f32_folder;                /* weights of the model folder; else bf16 */
    int threads;
    const char *defaults;           /* JSON text: keys of a run that begins, where config has none */
    const char *tokenizer;          /* a folder; NULL: the run's own, `from`'s, or learnt */
};

/* config: task keys, with "data", "steps", "batch", "seed"; borrowed, and changed. When the run goes on
 * from a checkpoint its keys count where config has none. Ends the conversation in any case. */
int trainrun(struct comm *comm, const struct train_kind *kind, json_t *config,
             const struct trainrun_options *o, struct err *err);

#endif
