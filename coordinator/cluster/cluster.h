/* cluster.h - the coordinator's end of the conversation with all workers.
 * Why:    every command goes the same way: hear the nodes, describe the model, plan, load, run.
 * Owner:  the cluster owns reports, specification, tokenizer bytes and plan, until cluster_close.
 * Errors: a worker's Failure becomes the caller's err, with the rank's name where it helps. After any
 *         error the cluster is only good for cluster_close.
 * Ranks:  the coordinator's thread only. */
#ifndef MUSTER_CLUSTER_H
#define MUSTER_CLUSTER_H

#include "coordinator/cluster/outbox.h"
#include "coordinator/plan/plan.h"
#include "muster.pb-c.h"
#include "proto/arena.h"
#include "proto/comm.h"

#include <stdbool.h>

/* Tokens of a KV page: what attention walks at a time, so that pages and blocks have one border. */
enum { CLUSTER_PAGE_TOKENS = 64 };
enum { CLUSTER_KV_F32 = 0, CLUSTER_KV_F16 = 1, CLUSTER_KV_Q8_0 = 8 };     /* GGUF's ids */

struct cluster {
    struct comm *comm;
    int n_workers;
    int64_t heard_us;                   /* when the last message came: naps grow from there */
    struct outbox outbox;
    int *all, *used; int n_used;        /* worker ranks: every one, those of the plan */
    struct arena mem;                   /* of the message being looked at */
    struct arena keep;                  /* reports, specification, plan, loaded */
    Muster__NodeReport **report;        /* [n_workers] */
    Muster__Loaded **loaded;            /* [n_workers], NULL where the plan gives nothing */
    Muster__ModelSpec *spec;
    uint8_t *tokenizer; size_t tokenizer_bytes;
    char *path;                         /* of the model described */
    struct plan plan;
    struct plan_request request;        /* that it answers */
    void (*progress)(void *ctx, const char *what, double share);    /* may be NULL */
    void *progress_ctx;
};

/* Waits for a NodeReport of every worker; ERR_PEER when versions differ. */
int cluster_open(struct cluster *c, struct comm *comm, struct err *err);
/* Ends the conversation: every worker will exit with the exit code of rc. Unless rc is ERR_OK, first writes
 * what err holds to stderr, one line: when one rank has exited the launcher may end the others at once.
 * Accepts a zeroed cluster. */
void cluster_close(struct cluster *c, int rc, const struct err *err);

/* Measures memory bandwidth, products and links on all nodes: new reports. rates: also what
 * the described model's types of weights and a layer cost, for predictions; some 0.3 s a type. */
int cluster_measure(struct cluster *c, bool rates, struct err *err);

/* All workers open the model; worker 0 describes it. ERR_PEER when they see different files. */
int cluster_describe(struct cluster *c, const char *path, bool want_tokenizer, bool want_tensors,
                     struct err *err);

/* What a command wants loaded; from model_args and from what its requests need. */
struct cluster_load {
    const char *plan_file;              /* or NULL */
    int tp, pp, dp, threads;            /* 0: chosen; dp: 1 */
    const double *shares; int n_shares; /* weights by world rank, asked for; NULL */
    bool f32;
    int kv_dtype;                       /* GGUF's id of F32, F16 or Q8_0 */
    int wire;                           /* enum wire_dtype */
    int slots, context, chunk, max_rows;    /* of each replica */
    uint64_t memory_most;               /* of a rank; 0: what is free */
};
/* Bytes of 32 keys or values of a cluster_load's kv_dtype. */
int cluster_kv_block_bytes(int kv_dtype);
/* Plans (measuring first where it matters) into c->plan. */
int cluster_plan(struct cluster *c, const struct cluster_load *l, struct err *err);
/* What the kernels of all ranks in use agree on. Lives as long as the cluster. */
struct cluster_kernels { const char *isa; char *refused; bool blas_tiles; };
int cluster_kernels(struct cluster *c, struct cluster_kernels *k, struct err *err);
/* How fast the plan should be with so many sequences of each replica, `depth` keys before a generated token,
 * and a prompt of so many tokens. Needs cluster_plan; good as the last measurement. */
struct plan_speed cluster_predict(const struct cluster *c, int sequences, int depth, int prompt);
/* Loads the plan; every rank's sizes are in c->loaded afterwards. */
int cluster_load(struct cluster *c, const struct cluster_load *l, struct err *err);

/* Every worker is in use (training has no plan); fills in s what all of them can run. */
int cluster_train_setup(struct cluster *c, Muster__TrainSetup *s, struct err *err);

/* The next message of any worker, within wait_us; *m NULL when none came. A Failure, a dead peer and
 * ctrl-C are errors. The message lives until the next call. */
int cluster_next(struct cluster *c, int64_t wait_us, int *peer, Muster__Envelope **m,
                 struct err *err);
/* As cluster_next, without end but for the liveness of the workers; `doing` is for errors. */
int cluster_wait(struct cluster *c, const char *doing, int *peer, Muster__Envelope **m,
                 struct err *err);

int cluster_send(struct cluster *c, int peer, Muster__Envelope *m, struct err *err);
/* To every worker that the plan uses, or (all) to every one. */
int cluster_send_all(struct cluster *c, bool all, Muster__Envelope *m, struct err *err);
/* To the workers in ranks [n]. */
int cluster_send_some(struct cluster *c, const int *ranks, int n, Muster__Envelope *m, struct err *err);
bool cluster_uses(const struct cluster *c, int rank);

/* Stats of every worker in use since the last call into out [n_workers] (zeroed where not in use). */
int cluster_stats(struct cluster *c, const Muster__StatsRequest *request, Muster__Stats *out,
                  struct err *err);
/* Runs a job on worker 0 (everywhere: on all that the plan uses); *done, of worker 0 (of the plan's first),
 * lives until the next message. */
int cluster_job(struct cluster *c, const char *name, char **args, int n_args, bool everywhere,
                Muster__JobDone **done, struct err *err);

#endif
