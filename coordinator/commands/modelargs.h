/* modelargs.h - the options that every command with a model shares: which model, which layout.
 * Owner:  strings point into argv; nothing to free.
 * Ranks:  parsed on every rank; the path is resolved by the coordinator alone. */
#ifndef MUSTER_MODELARGS_H
#define MUSTER_MODELARGS_H

#include "proto/err.h"

#include <argp.h>
#include <stddef.h>
#include <stdint.h>

enum { MODEL_PATH_MAX = 4096, MODEL_SHARES_MAX = 256 };

enum model_compute { MODEL_COMPUTE_DEFAULT, MODEL_COMPUTE_F32 };
enum model_kv { MODEL_KV_AUTO, MODEL_KV_F32, MODEL_KV_F16, MODEL_KV_Q8_0 };

struct model_args {
    struct err *err;            /* while parsing */
    const char *model;          /* as given; NULL: the default model */
    const char *plan_file;      /* replay; NULL: none */
    const char *save_plan;
    int tp, pp, dp;             /* 0: planned; dp: 1 */
    double shares[MODEL_SHARES_MAX]; int n_shares;  /* by world rank; 0: planned */
    int threads;                /* 0: from the binding */
    int compute, wire, kv;      /* enum model_compute, wire_dtype, model_kv */
    int context, batch, chunk;  /* 0: chosen by the command */
    uint64_t memory;            /* bytes that a rank may take; 0: what is free */
};

/* Input: a zeroed struct model_args with err set. */
extern const struct argp model_argp;
/* For a command whose options are its own and these: its argp's children, and what its parser does at
 * ARGP_KEY_INIT. */
extern const struct argp_child model_args_child[];
error_t model_args_begin(struct model_args *a, struct err *err, struct argp_state *state);

/* What -m names: a file or folder as it is, else NAME or NAME.gguf in the user's cache, else a model
 * that ships with the program. out [MODEL_PATH_MAX]. ERR_IO says where it looked. */
int model_args_path(const struct model_args *a, char *out, struct err *err);
/* The same with another default, of which `what` says the form, for the error. */
int model_args_path_of(const struct model_args *a, const char *otherwise, const char *what, char *out,
                       struct err *err);
/* What keys and values are kept in: GGUF's id of F32, F16 or Q8_0. */
int model_args_kv(const struct model_args *a);
/* The folder with the models that ship: $MUSTER_MODELS, or near the binary; "" when there is none. */
void model_args_shipped(char *out, size_t cap);

#endif
