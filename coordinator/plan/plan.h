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
    int slots;                  /* sequences at a time */
    int context;                /* tokens of one, at most */
    int page_tokens;
    int max_rows;               /* rows of a step */
    int kv_block_bytes;         /* of 32 keys or values: 128, 64, or 34 as Q8_0 */
    uint64_t memory_most;       /* of one rank; 0: what the nodes have free */
    bool even;                  /* shares by count, not by speed */
    const double *shares;       /* [n_ranks] by world rank, asked for; NULL: by speed */
};

/* What one rank holds, in heads, columns, rows and bytes. */
struct plan_share {
    int rank, stage, tp_index;
    int layer_begin, layer_end;
    struct split_range segments, heads, kv_heads, ffn, vocab;
    uint64_t weights_bytes;     /* prepacked */
    uint64_t file_bytes;        /* that they stand for */
    uint64_t kv_bytes, scratch_bytes;
    uint64_t read_bytes;        /* of weights, for one generated token */
};

/* Predicted, for the layout as a whole. */
struct plan_speed {
    double token_us;            /* one sequence, from token to token */
    double decode_tps;          /* all slots busy */
    double prefill_tps;
    uint64_t link_bytes;        /* that the busiest rank sends for one token */
};

struct plan {
    Muster__Plan *message;
    int tp, pp, n_shares;
    struct plan_share *share;   /* [n_shares], stage by stage */
    int kv_pages;               /* of each rank; fewer than slots x context when memory is short */
    struct plan_speed speed;
    char why[160];
};

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
