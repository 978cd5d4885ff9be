/* schedule.h - which sequences run in the next step: a pure state machine.
 * Why:    events in, messages out, time as an argument, no I/O: a test plays a hundred thousand random
 *         histories in seconds.
 * Does:   admits sequences into slots, owns the KV block tables, cuts prompts into chunks, issues
 *         Steps up to two ahead (at least pp micro-batches in flight), drops surplus tokens after a
 *         stop, frees slots and pages (continuous batching).
 * Ranks:  not collective. */
#ifndef MUSTER_SCHEDULE_H
#define MUSTER_SCHEDULE_H

#include "muster.pb-c.h"
#include "proto/arena.h"
#include "proto/err.h"

#include <stdbool.h>

struct schedule_limits {
    int max_slots, max_rows, max_context, page_tokens, kv_pages;
    int chunk_rows;             /* prompt rows of one step at most */
    int n_stages;               /* micro-batches to keep in flight: at least this many */
    int steps_ahead;            /* steps of one sequence in flight: 2 */
    int logits_rows;            /* rows of a run that returns logits of all; 0: chunk_rows */
    int replica;
    int longrope_original;      /* prompts over and under it have other keys; 0: all are alike */
};

struct schedule_request {
    uint64_t sequence;          /* the caller's name for it */
    const int32_t *prompt; int n_prompt;    /* borrowed until it finishes */
    int n_generate;             /* most new tokens */
    bool as_generated;          /* feed the prompt one by one through the decode family */
    bool all_logits;
    bool keep;                  /* what was computed of the prompt stays, at its end, for the next request
                                   that begins alike; one sequence at a time, and only while nobody
                                   else needs the room */
    const int32_t *targets; int n_targets;  /* borrowed: tokens whose log probability is wanted, each
                                               after one of the prompt's last n_targets rows */
    const Muster__Sampling *sampling;       /* borrowed; NULL: no sampling (logits only) */
    const int *stop_ids; int n_stop_ids;    /* borrowed: end of sequence */
};

enum finish { FINISH_NONE, FINISH_STOP, FINISH_LENGTH, FINISH_CANCELLED };
/* index: of the token in the Tokens message, -1 when there is none. */
struct schedule_token { uint64_t sequence; int id, position, index; float logprob;
                        enum finish finish; };

struct schedule;
int schedule_new(struct schedule **s, const struct schedule_limits *limits, struct err *err);
void schedule_destroy(struct schedule *s);

/* Event: a request. ERR_LIMIT when prompt + n_generate can never fit the context or the pages. */
int schedule_submit(struct schedule *s, const struct schedule_request *r, struct err *err);
/* Event: the caller wants no more of a sequence (stop string, client gone). What the request borrowed
 * is free at once. */
void schedule_cancel(struct schedule *s, uint64_t sequence);
/* Event: a step is done (one Tokens message for each step, in order, even without tokens). out [cap]
 * gets the tokens that count, at most max_slots; surplus ones are dropped. A sequence that only wants
 * logits ends with id -1 and FINISH_LENGTH. */
int schedule_tokens(struct schedule *s, const Muster__Tokens *t, struct schedule_token *out, int cap,
                    int *n_out, struct err *err);
/* The next step to send, built in mem; *step NULL when nothing can run now. */
int schedule_next(struct schedule *s, struct arena *mem, Muster__Step **step, struct err *err);
/* Whose logits or log probabilities are these? Valid until the step's Tokens; false: of a sequence that
 * has ended. */
bool schedule_who(const struct schedule *s, uint64_t step, int slot, uint64_t *sequence);
/* Nothing waiting, running or in flight. */
bool schedule_idle(const struct schedule *s);

/* For logs, tests and the server's status. */
struct schedule_counts { int waiting, running, in_flight, free_pages; uint64_t steps, preempted, kept_rows; };
struct schedule_counts schedule_counts(const struct schedule *s);

#endif
