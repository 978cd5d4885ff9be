/* trainargs.h - the options of `muster train diffusion`, `gan` and `llm`, which differ only in their keys.
 * Keys:   what a task knows beside the shared options is set by name (--set width=192), checked by the
 *         workers; --config reads a JSON object of them.
 * Owner:  strings point into argv; the configuration is built by trainargs_config, and the caller's.
 * Ranks:  parsed on every rank; files are read by the coordinator. */
#ifndef MUSTER_TRAINARGS_H
#define MUSTER_TRAINARGS_H

#include "coordinator/train/trainrun.h"

#include <argp.h>

enum { TRAINARGS_SETS_MAX = 64 };

struct train_args {
    struct err *err;                    /* while parsing */
    struct trainrun_options run;
    const char *data, *config_file, *from;
    const char *set[TRAINARGS_SETS_MAX]; int n_sets;
    int steps, batch, warmup;           /* 0, 0, -1: not given */
    bool warmup_given, seed_given, lr_given, dropout_given;
    uint64_t seed;
    float lr, dropout;
    int compute;                        /* -1 not given, 0 f32, 1 bf16 */
};

/* Input: a zeroed struct train_args with err set. The doc is the kind's own. */
error_t trainargs_parse(int key, char *arg, struct argp_state *state);
extern const struct argp_option trainargs_options[];
/* --out is there. */
int trainargs_check(void *options, struct err *err);
/* Configuration: --config, options, --set; later ones win. */
int trainargs_config(const struct train_args *a, json_t **config, struct err *err);
/* All of it. */
int trainargs_run(const struct train_args *a, const struct train_kind *kind, const char *defaults,
                  struct comm *comm, struct err *err);

#endif
