/* unigram.h - the likeliest way to cut a piece into tokens (Viterbi).
 * Why:    T5's kind of vocabulary has a log-probability for each token and no merges.
 * Owner:  owns its tables and borrows the vocabulary. Const after init; scratch belongs to one thread.
 * Ranks:  not collective. */
#ifndef MUSTER_UNIGRAM_H
#define MUSTER_UNIGRAM_H

#include "coordinator/text/tokenizer.h"
#include "coordinator/text/trie.h"
#include "coordinator/text/vocab.h"

struct unigram {
    const struct vocab *vocab;
    struct trie trie;
    double *score;              /* [vocab] */
    double unknown_score, longest_score;
    int32_t unknown;            /* -1: none */
    bool byte_fallback;
    bool sentencepiece;         /* float sums, only normal and user-defined tokens, these before all */
};

struct unigram_scratch {
    struct unigram_node {
        double score;           /* of the best way to end here */
        size_t begin, end;      /* where its last token begins; where the token from here on ends */
        int32_t id;             /* its last token */
    } *node;
    size_t cap;
};

/* score [vocab->n]. */
int unigram_init(struct unigram *u, const struct vocab *vocab, const double *score, int32_t unknown,
                 bool sentencepiece, struct err *err);
void unigram_free(struct unigram *u);
void unigram_scratch_free(struct unigram_scratch *s);
int unigram_encode(const struct unigram *u, const char *piece, size_t n,
                   struct unigram_scratch *scratch, struct token_list *out, struct err *err);

#endif
