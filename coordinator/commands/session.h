/* session.h - what every command with a model does first and last: find the file, hear the nodes,
 * describe, make the tokenizer, plan, load; and in the end tell all ranks how it went.
 * Owner:  a session owns its cluster, tokenizer and lm.
 * Ranks:  the coordinator's thread only. */
#ifndef MUSTER_SESSION_H
#define MUSTER_SESSION_H

#include "coordinator/cluster/lm.h"
#include "coordinator/commands/modelargs.h"
#include "coordinator/text/tokenizer.h"

struct session {
    struct cluster cluster;
    struct cluster_load load;
    struct lm lm;
    struct tokenizer *tokenizer;        /* NULL when not asked for */
    char path[MODEL_PATH_MAX];
    int *stop_ids; int n_stop_ids;      /* that end a sequence: the model's */
    bool tty;                           /* stderr is a terminal: show progress */
};

/* What the requests of a command need. */
struct session_need {
    int sequences;          /* that there are */
    int longest;            /* tokens of the longest, prompt and new ones */
    int longest_prompt;
};

enum session_want { SESSION_TOKENIZER = 1, SESSION_TENSORS = 2 };

/* Opens the conversation and describes the model. After a failure session_close is still due. */
int session_open(struct session *s, struct comm *comm, const struct model_args *a, int want,
                 struct err *err);
/* Tokens of context that a sequence may have: --ctx, else the model's. */
int session_context(const struct session *s, const struct model_args *a, int *context,
                    struct err *err);
/* Plans only (s->cluster.plan, s->load). */
int session_plan(struct session *s, const struct model_args *a, const struct session_need *need,
                 struct err *err);
/* Plans, loads, and says what each rank holds. */
int session_load(struct session *s, const struct model_args *a, const struct session_need *need,
                 struct err *err);
/* Ends all ranks with the exit code of rc, after saying what err holds (cluster_close). Returns rc. */
int session_close(struct session *s, int rc, const struct err *err);

/* A command without a model on all ranks, whose work is a job of worker 0: opens the conversation, works, and
 * ends all ranks. */
typedef int session_work(const void *options, struct session *s, struct err *err);
int session_run(struct comm *comm, session_work *work, const void *options, struct err *err);
int session_job(struct session *s, const char *name, char **args, int n, Muster__JobDone **done,
                struct err *err);
/* Of a job; "0" where it says nothing. */
const char *session_result(const Muster__JobDone *done, const char *key);

/* On a terminal, a line that the next one overwrites; "" wipes it. */
void session_progress(const struct session *s, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

#endif
