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
#include "coordinator/text/unigram.h"

#include <jansson.h>

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
    struct unigram unigram;
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

/* A file of the container (tokenizer.h); bytes NULL when it is not there. */
struct tokenizer_container { const uint8_t *p; size_t n; };
struct tokenizer_file { const char *name; size_t name_len; const uint8_t *bytes; size_t n; };
int tokenizer_find_file(const struct tokenizer_container *c, const char *name,
                        struct tokenizer_file *file, struct err *err);

/* Builders: t is zeroed (bos, eos -1); when one fails, the caller frees t. */
int tokgguf_build(struct tokenizer *t, const uint8_t *bytes, size_t n, struct err *err);
/* From the files of a Hugging Face folder: tokenizer.json, spiece.model, or vocab.json and merges.txt. */
int tokfolder_build(struct tokenizer *t, const struct tokenizer_container *c, struct err *err);
/* The normalizer and pre_tokenizer that a tokenizer_class means, as in tokenizer.json; a new tree. */
json_t *tokfolder_rules(const char *class, bool prefix_space);
/* From SentencePiece's own file. */
int tokspiece_build(struct tokenizer *t, const uint8_t *bytes, size_t n, struct err *err);
/* From the tree of a tokenizer.json. */
int tokjson_build(struct tokenizer *t, const json_t *root, struct err *err);
/* Parts of that tree; what is not known is an error that names it. */
int tokjson_normalizer(struct tokenizer *t, const json_t *node, struct err *err);
int tokjson_pretokenizer(struct tokenizer *t, const json_t *node, struct err *err);
int tokjson_decoder(struct tokenizer *t, const json_t *node, struct err *err);
int tokjson_postprocessor(struct tokenizer *t, const json_t *node, struct err *err);

#endif
