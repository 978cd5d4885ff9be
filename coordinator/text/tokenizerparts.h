/* tokenizerparts.h - what a tokenizer is made of; for the files that build one from a format.
 * Why:    every format becomes the same parts: added tokens, a normalizer, a pre-tokenizer, a model,
 *         ids around the text, a detokenizer.
 * Owner:  struct tokenizer owns all parts; bpe, spm, unigram and the normalizer borrow its vocabulary.
 * Ranks:  not collective. */
#ifndef MUSTER_TOKENIZERPARTS_H
#define MUSTER_TOKENIZERPARTS_H

#include "coordinator/text/addedtoken.h"
#include "coordinator/text/bpe.h"
#include "coordinator/text/detokenizer.h"
#include "coordinator/text/normalizer.h"
#include "coordinator/text/pretokenizer.h"
#include "coordinator/text/tokenizer.h"

enum { TOKENIZER_AROUND_MAX = 16, TOKENIZER_TEMPLATES_MAX = 32 };
enum tokenizer_model { TOKENIZER_BPE, TOKENIZER_SPM, TOKENIZER_UNIGRAM };

struct tokenizer {
    struct vocab vocab;
    struct added_set raw;               /* found in the text as it is */
    struct added_set normalized;        /* found in the normalised text */
    struct trie user;                   /* SentencePiece: pieces that stay whole */
    struct normalizer normalizer;
    struct pretokenizer pretokenizer;
    enum tokenizer_model model;
    struct bpe bpe;
    struct spm spm;
    int32_t before[TOKENIZER_AROUND_MAX], after[TOKENIZER_AROUND_MAX];  /* with add_special */
    int n_before, n_after;
    int32_t bos, eos;                   /* -1: none */
    struct detokenizer detokenizer;
    struct { char *name, *text; } template_[TOKENIZER_TEMPLATES_MAX];  /* "" names the default */
    int n_templates;
};

/* Copies; a second text for one name takes the place of the first. */
int tokenizer_add_template(struct tokenizer *t, const char *name, size_t n_name, const char *text,
                           size_t n, struct err *err);
/* An id that is used around texts, checked against the vocabulary. */
int tokenizer_add_around(struct tokenizer *t, bool before, int64_t id, struct err *err);

/* Builders: t is zeroed (bos, eos -1); when one fails, the caller frees t. */
int tokgguf_build(struct tokenizer *t, const uint8_t *bytes, size_t n, struct err *err);

#endif
