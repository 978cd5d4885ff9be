/* slots.h - what a worker remembers of each sequence: its pages, how far it is, how it is sampled.
 * Why:    a Step names slots; everything else about a sequence came when it was admitted.
 * Owner:  slots own their tables, made once; a sequence's logit biases live from admission to release.
 * Ranks:  not collective; every rank of a replica keeps the same table. */
#ifndef MUSTER_SLOTS_H
#define MUSTER_SLOTS_H

#include "workers/models/sampler.h"

struct slot {
    bool used, samples;
    bool is_long;               /* longrope: by the length at admission, until it is outgrown */
    uint64_t sequence;
    int n_prompt;
    int length;                 /* positions that have keys and values */
    int n_pages;
    int32_t *pages;             /* [pages_max] */
    int32_t *history;           /* [context_max] token ids by position, as far as this rank knows */
    uint8_t *generated;         /* [context_max] role by position */
    struct sampler_params params;
    uint32_t *bias_token;       /* owned */
    float *bias_value;
    /* The token sampled last, which a run without tokens continues with. */
    bool has_sampled;           /* some step of this sequence sampled */
    bool waits;                 /* and its token has not come to this rank yet */
    uint64_t sampled_step;
    int32_t sampled;
};

struct slots {
    int n, pages_max, context_max, page_tokens, n_pages, vocab;
    int longrope_original;      /* 0: none */
    struct slot *slot;
    int32_t *tables;            /* pages and histories of all slots */
    uint8_t *roles;             /* of all slots */
};

size_t slots_bytes(int n, int context_max, int page_tokens);
int slots_init(struct slots *s, int n, int context_max, int page_tokens, int n_pages, int vocab,
               int longrope_original, struct err *err);
void slots_free(struct slots *s);

/* The slot that a message names: in range and in use, or ERR_PEER. */
int slots_find(struct slots *s, uint32_t index, struct slot **slot, struct err *err);
int slots_release(struct slots *s, uint32_t index, struct err *err);
/* A sequence that keeps rows goes on in the slot of the one before, whose prompt began with them. */
int slots_admit(struct slots *s, const Muster__Admit *a, struct err *err);
/* Appends pages to a slot's table. */
int slots_grow(struct slots *s, struct slot *slot, const uint32_t *pages, size_t n, struct err *err);

#endif
