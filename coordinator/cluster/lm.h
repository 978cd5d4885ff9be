/* lm.h - a language model on a cluster: requests in, tokens out.
 * Why:    generate, logits, bench, perplexity and the server drive the same loop: steps two ahead,
 *         answers handed on as they come. With replicas beside each other a request goes to the one that
 *         has a slot first; what comes out does not depend on which.
 * Owner:  borrows the cluster; what a request borrows (schedule.h) must live until its last event.
 * Ranks:  the coordinator's thread only. */
#ifndef MUSTER_LM_H
#define MUSTER_LM_H

#include "coordinator/cluster/cluster.h"
#include "coordinator/schedule/schedule.h"

/* What came back. Exactly one of token, logits and logprobs is set. */
struct lm_event {
    uint64_t sequence;
    const struct schedule_token *token;
    const Muster__Token *message;       /* of the token, with its top tokens; NULL when id is -1 */
    const float *logits;                /* [rows, vocab] */
    const float *logprobs;              /* [rows] of the request's targets */
    int position, rows, vocab;          /* of the logits or log probabilities */
};
/* May submit and cancel. A code other than ERR_OK ends the turn with it. */
typedef int lm_on_event(void *ctx, const struct lm_event *e, struct err *err);

/* One replica of the plan: its schedule, and the ranks that get its steps. */
struct lm_replica { struct schedule *schedule; int *ranks, n_ranks; };

struct lm {
    struct cluster *cluster;
    struct lm_replica *replica; int n_replicas;
    struct schedule_request *pending;   /* not given to a replica yet, oldest at pending_at */
    int pending_at, n_pending, cap_pending;
    struct arena step_mem;
    struct schedule_token *out;         /* [max_slots] */
    int max_slots, vocab;
    uint64_t prompt_rows, generated_rows;   /* issued so far */
};

/* For a cluster that has loaded `load`. If it fails you owe nothing. */
int lm_open(struct lm *l, struct cluster *c, const struct cluster_load *load, struct err *err);
void lm_close(struct lm *l);

int lm_submit(struct lm *l, const struct schedule_request *r, struct err *err);
void lm_cancel(struct lm *l, uint64_t sequence);

/* Sends every step that can go, then waits up to wait_us for one answer. */
int lm_turn(struct lm *l, int64_t wait_us, lm_on_event *on, void *ctx, struct err *err);
/* Nothing waiting, running or in flight on any replica. */
bool lm_idle(const struct lm *l);
/* Turns until nothing is left to do. */
int lm_run(struct lm *l, lm_on_event *on, void *ctx, struct err *err);

#endif
