/* bpe.h - byte pair encoding of one piece of text: by ranked merges, or by SentencePiece's scores.
 * Why:    both are the same loop; the tables differ.
 * Owner:  the structs own their tables and borrow the vocabulary. Const after init: may be shared.
 * Ranks:  not collective. */
#ifndef MUSTER_BPE_H
#define MUSTER_BPE_H

#include "coordinator/text/mergeloop.h"
#include "coordinator/text/tokenizer.h"
#include "coordinator/text/vocab.h"

int token_list_add(struct token_list *l, int32_t id, struct err *err);

struct bpe {
    const struct vocab *vocab;
    struct bpe_merge { int32_t left, right; uint32_t rank; int32_t merged; } *merge; /* hash table */
    uint32_t merge_mask, n_merges;
    int32_t char_id[0x200];     /* tokens of the first characters, -1: none */
    bool ignore_merges;         /* a piece that is a token is that token */
    bool byte_fallback;         /* an unknown character becomes its <0xNN> tokens */
    bool fuse_unknown;
    bool bytes_required;        /* a character without token, bytes and unknown is an error (GGUF), not
                                   left out (tokenizer.json) */
    bool cut_at_meta;           /* no merge crosses the front of a U+2581 that follows another character */
    int32_t unknown;            /* -1: none */
    char prefix[32], suffix[32];        /* of a word's later / last symbol */
};

/* n_merges is how many bpe_add_merge will follow at most. */
int bpe_init(struct bpe *b, const struct vocab *vocab, size_t n_merges, struct err *err);
void bpe_free(struct bpe *b);
/* The next merge in order of rank: texts of the two sides, which must be tokens, as their join must. */
int bpe_add_merge(struct bpe *b, const char *left, size_t n_left, const char *right, size_t n_right,
                  struct err *err);
/* After the last merge and the flags. */
void bpe_finish(struct bpe *b);
int bpe_encode(const struct bpe *b, const char *piece, size_t n, struct merge_scratch *scratch,
               struct token_list *out, struct err *err);

/* SentencePiece BPE: any two neighbours whose join is a token may merge, best score first. */
struct spm {
    const struct vocab *vocab;
    uint32_t *rank;             /* [vocab] place in the order of scores; MERGE_NONE: never made */
    int32_t unknown;
    bool cut_at_meta;
};
/* score [vocab->n]. */
int spm_init(struct spm *s, const struct vocab *vocab, const float *score, int32_t unknown,
             struct err *err);
void spm_free(struct spm *s);
int spm_encode(const struct spm *s, const char *piece, size_t n, struct merge_scratch *scratch,
               struct token_list *out, struct err *err);

#endif
