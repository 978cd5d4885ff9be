/* samplingargs.h - how a sequence is continued: from options, and from a line of a JSONL file.
 * Why:    every command that generates has the same knobs under the same names.
 * Owner:  arrays are malloc'd; sampling_args_free. Strings of a copy are copies.
 * Ranks:  parsed on every rank. */
#ifndef MUSTER_SAMPLINGARGS_H
#define MUSTER_SAMPLINGARGS_H

#include "muster.pb-c.h"
#include "proto/err.h"

#include <argp.h>
#include <jansson.h>
#include <stdbool.h>

enum { SAMPLING_STOPS_MAX = 16, SAMPLING_BIAS_MAX = 1024, SAMPLING_N_DEFAULT = 128 };

struct sampling_args {
    struct err *err;            /* while parsing */
    int n;                      /* most new tokens; 0 in a zeroed struct: not given */
    float temperature, top_p, min_p, typical_p, repeat_penalty, presence_penalty, frequency_penalty;
    int top_k, no_repeat_ngram;
    uint64_t seed;
    bool seed_given, ignore_eos;
    char *stop[SAMPLING_STOPS_MAX]; int n_stop;
    uint32_t *bias_token; float *bias_value; int n_bias;
};

/* Input: a struct after sampling_args_init, with err set. */
extern const struct argp sampling_argp;
/* For a command with the options of a model and these, as modelargs.h says. */
struct model_args;
extern const struct argp_child sampling_args_children[];
error_t sampling_args_begin(struct sampling_args *a, struct model_args *model, struct err *err,
                            struct argp_state *state);

void sampling_args_init(struct sampling_args *a);   /* temperature 0.8, no filters */
void sampling_args_free(struct sampling_args *a);
/* to (not initialised) = from, with its own arrays. */
int sampling_args_copy(struct sampling_args *to, const struct sampling_args *from, struct err *err);
/* Overrides from the keys of a JSON object: n, seed, temperature, top_k, top_p, min_p, typical_p,
 * repeat_penalty, presence_penalty, frequency_penalty, stop (text or array), logit_bias ({"id": x}),
 * ignore_eos. `where` names the line in errors. */
int sampling_args_json(struct sampling_args *a, const json_t *line, const char *where,
                       struct err *err);

/* The message for the workers. m's bias points into a and into `bias` [n_bias], `list` [n_bias]. */
void sampling_args_message(const struct sampling_args *a, Muster__Sampling *m, Muster__Bias *bias,
                           Muster__Bias **list);

/* A seed from the system, for those who gave none. */
uint64_t sampling_args_random_seed(void);

#endif
