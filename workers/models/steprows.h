/* steprows.h - a Step as rows: which positions of which sequences this forward computes.
 * Why:    everything that a peer sent is checked here, once, before it is an index anywhere.
 * Order:  runs of prompts first, then runs of generated tokens, each as the step lists them; every
 *         rank of a replica makes the same table from the same step.
 * Owner:  arrays are made once for max_rows rows.
 * Ranks:  not collective. */
#ifndef MUSTER_STEPROWS_H
#define MUSTER_STEPROWS_H

#include "workers/models/ops.h"
#include "workers/models/slots.h"

struct steprow_run {
    struct slot *slot;
    int slot_index, row, n_rows, position;
    bool sample, all_logits;
    bool continues;             /* no tokens came: the one row is the token sampled last */
    int logits_row;             /* its first row among the wanted ones, -1 none */
    int score_at, n_scores;     /* its targets among those of the step */
};

/* A row after which the log probability of a token is wanted. */
struct steprow_score { int row; int32_t target; };

struct steprows {
    int max_rows, vocab;
    uint64_t step;
    int n_runs, n_rows, n_prompt;       /* rows of prompts come first */
    struct steprow_run *run;            /* [max_rows] */
    struct op_run *op_run;              /* [max_rows] the same runs for attention */
    int32_t *token;                     /* [max_rows] ids; -1 where a run continues */
    int *wanted;                        /* [max_rows] rows whose logits are wanted, ascending */
    int n_wanted, n_wanted_prompt;
    struct steprow_score *score;        /* [max_rows] ascending rows */
    int n_scores;
    int n_samples, n_returned;          /* runs that sample (at most a slot each); rows to return */
};

size_t steprows_bytes(int max_rows);
int steprows_init(struct steprows *s, int max_rows, int vocab, struct err *err);
void steprows_free(struct steprows *s);

/* Applies releases, admissions and new pages to `slots` and lists the rows. Slots are left changed
 * when the step is refused: the sender is out of order and the job ends. */
int steprows_build(struct steprows *s, struct slots *slots, const Muster__Step *step, struct err *err);

/* Makes s the rows of `like`'s run's sequence from position `at` on, as they were fed: as many as have
 * one role, end before `end` and fit. Nothing is wanted of them. Returns how many. */
int steprows_again(struct steprows *s, const struct steprow_run *like, uint64_t step, int at, int end);

#endif
