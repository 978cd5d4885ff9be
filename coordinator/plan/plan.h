/* plan.h - who holds what: from node reports and a model's sizes to a layout.
 * Why:    people should not have to know what tp and pp are, and should learn before anything is read
 *         that a model does not fit, and what would.
 * Does:   shares the layers over stages and each layer's segments (proto/split.h) over the ranks of a
 *         stage, in proportion to their speed where nodes really differ (planweight.h); counts every
 *         rank's bytes; predicts speed; takes the fastest layout that fits.
 * Pure:   no I/O, no clock; what it allocates lives in the caller's arena.
 * Ranks:  not collective. */
#ifndef MUSTER_PLAN_H
#define MUSTER_PLAN_H

#include "muster.pb-c.h"
#include "proto/arena.h"
#include "proto/err.h"
#include "proto/split.h"

#include <stdbool.h>

struct plan_request {
    int n_ranks;
    Muster__NodeReport *const *reports;     /* [n_ranks], by world rank */
    const Muster__ModelSpec *spec;          /* with its tensors */
    int tp, pp;                 /* 0: chosen */
    int dp;                     /* replicas beside each other; 0 is 1 */
    int slots;                  /* sequences at a time, of each replica */
    int context;                /* tokens of one, at most */
    int page_tokens;
    int max_rows;               /* rows of a step */
    int kv_block_bytes;         /* of 32 keys or values: 128, 64, or 34 as Q8_0 */
    double far_us, far_bytes_per_s;     /* between hosts, where no link was measured; 0: constants */
    uint64_t memory_most;       /* of one rank; 0: what the nodes have free */
    int prompt;                 /* tokens of the prompt that a prediction is for; 0: one step's */
    int depth;                  /* keys that a generated token sees; 0: half the context */
    bool even;                  /* shares by count, not by speed */
    const double *shares;       /* [n_ranks] by world rank, asked for; NULL: by speed */
};

/* Matrices of one type that a rank reads in a step. */
struct plan_part {
    uint32_t type;              /* GGUF's id */
    bool expert, head;          /* read for the chosen experts only; for the rows that are sampled */
    int columns;                /* of the rows that they are multiplied with */
    int segment;                /* columns that are summed apart; 0: none (proto/split.h) */
    uint64_t bytes;             /* prepacked */
    double weights;             /* how many */
};
enum { PLAN_PARTS_MAX = 16 };

/* What one rank holds, in heads, columns, rows and bytes. */
struct plan_share {
    int rank, replica, stage, tp_index;
    int layer_begin, layer_end;
    struct split_range segments, heads, kv_heads, ffn, vocab;
    uint64_t weights_bytes;     /* prepacked */
    uint64_t file_bytes;        /* that they stand for */
    uint64_t kv_bytes, scratch_bytes;
    uint64_t read_bytes;        /* of weights, for one generated token */
    struct plan_part part[PLAN_PARTS_MAX]; int n_parts;
};

/* Predicted, for the layout as a whole. */
struct plan_speed {
    double token_us;            /* one sequence, from token to token */
    double decode_tps;          /* all slots busy */
    double prefill_tps;
    double prefill_us;          /* one prompt, alone */
    uint64_t sum_bytes;         /* that a rank sends to its stage's others for one token */
    uint64_t hop_bytes;         /* that a stage sends to the next for one token */
    uint64_t link_bytes;        /* both */
    double sum_share;           /* of token_us: waiting for sums and hops */
};

struct plan {
    Muster__Plan *message;
    int tp, pp, dp, n_shares;
    struct plan_share *share;   /* [n_shares], replica by replica, stage by stage */
    int kv_pages;               /* of each rank; fewer than slots x context when memory is short */
    struct plan_speed speed;
    char why[160];
};

/* A layout that was looked at. */
struct plan_candidate { int tp, pp; bool fits; struct plan_speed speed; };

/* Every layout that is wanted, fastest (all slots busy) first, those that do not fit last; `fewer`:
 * also those that leave ranks idle. Returns how many were put into out [cap]. A failure to fit is no
 * error; `first` (may be NULL) gets the first one's words. */
int plan_list(struct plan_candidate *out, int cap, const struct plan_request *q, bool fewer,
              struct arena *mem, struct err *first);

/* The fastest layout that fits; ERR_INVAL when tp or pp cannot be (more ranks than there are heads,
 * layers or processes), ERR_LIMIT when nothing fits, saying what would. */
int plan_choose(struct plan *p, const struct plan_request *q, struct arena *mem, struct err *err);

/* A layout that someone else made (a file): checked, and counted. */
int plan_adopt(struct plan *p, const struct plan_request *q, Muster__Plan *message,
               struct arena *mem, struct err *err);

/* One layout of tp x pp, shares by speed unless q->even. */
int plan_layout(struct plan *p, const struct plan_request *q, int tp, int pp, struct arena *mem,
                struct err *err);

#endif
