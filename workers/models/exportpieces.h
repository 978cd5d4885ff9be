/* exportpieces.h - the tokens of a folder's vocabulary, each with score and kind; for exportvocab.
 * Owner:  the table owns its array; texts are borrowed from the JSON and the bytes it was made of.
 * Ranks:  not collective. */
#ifndef MUSTER_EXPORTPIECES_H
#define MUSTER_EXPORTPIECES_H

#include "proto/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* As GGUF and SentencePiece number them. */
enum piece_kind { PIECE_NORMAL = 1, PIECE_UNKNOWN, PIECE_CONTROL, PIECE_USER_DEFINED, PIECE_UNUSED,
                  PIECE_BYTE };

struct piece { const char *text; size_t n; float score; int32_t kind; };   /* text NULL: no such token */

struct pieces {
    struct piece *piece;        /* [n] by id */
    int n;
    bool spm;                   /* scores count, spaces are U+2581: GGUF's "llama"; else "gpt2" */
    bool space_prefix;          /* spm: a blank goes before the text */
};

/* Room for `vocab` tokens; those with larger ids have no row in the model and are left out. */
int exportpieces_init(struct pieces *p, int vocab, struct err *err);
void exportpieces_free(struct pieces *p);

/* From tokenizer.json's root: BPE in bytes or with byte fallback. Of the latter the scores are made of
 * the merge ranks: the earlier a merge, the higher its result's score. */
int exportpieces_json(struct pieces *p, const json_t *root, const char *where, struct err *err);
/* From a SentencePiece model (tokenizer.model). */
int exportpieces_spm(struct pieces *p, const uint8_t *bytes, size_t n, const char *where,
                     struct err *err);
/* Added tokens: tokenizer.json's list, tokenizer_config.json's table (either may be NULL). */
void exportpieces_added(struct pieces *p, const json_t *list, const json_t *table);

/* The id of a text, -1 if there is none. */
int exportpieces_find(const struct pieces *p, const char *text);

/* GGUF's name for how this tokenizer cuts text into words; NULL: it has none. */
const char *exportpieces_pre(const json_t *root);

#endif
