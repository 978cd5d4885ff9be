/* vocab.h - the tokens of a tokenizer: id <-> text.
 * Why:    ids come from peers and files; here is the one place that checks them.
 * Owner:  the struct owns copies of all texts.
 * Ranks:  not collective; const after vocab_index. */
#ifndef MUSTER_VOCAB_H
#define MUSTER_VOCAB_H

#include "coordinator/text/textbuf.h"

/* 4 M ids; a token's text may have 64 KiB. */
enum { VOCAB_MAX = 1 << 22, VOCAB_TEXT_MAX = 1 << 16 };

/* Numbered as in GGUF; VOCAB_NONE is a gap between ids. */
enum vocab_type {
    VOCAB_NONE = 0, VOCAB_NORMAL = 1, VOCAB_UNKNOWN = 2, VOCAB_CONTROL = 3, VOCAB_USER = 4,
    VOCAB_UNUSED = 5, VOCAB_BYTE = 6
};

struct vocab_token { uint32_t begin; uint16_t len; uint8_t type; uint8_t byte; };

struct vocab {
    struct vocab_token *token; int n, cap;
    struct textbuf text;                /* all texts, each with a NUL behind it */
    int32_t *slot; uint32_t slot_mask;  /* hash table of ids, -1: empty */
    int32_t byte_id[256];               /* tokens <0x00> .. <0xFF>, -1: none */
    int longest;                        /* bytes of the longest text */
};

void vocab_free(struct vocab *v);
/* Gives id a text; ids may come in any order; one that has another text is an error. */
int vocab_set(struct vocab *v, int64_t id, const char *text, size_t n, enum vocab_type type,
              struct err *err);
/* Builds the way back from text to id, again if tokens were set since. With `bytes`, tokens <0xNN> are
 * found for byte fallback. Of two ids with one text the later wins, as in other readers of GGUF. */
int vocab_index(struct vocab *v, bool bytes, struct err *err);
/* The id of a text, -1: none. */
int32_t vocab_find(const struct vocab *v, const char *text, size_t n);

static inline bool vocab_has(const struct vocab *v, int64_t id)
{
    return id >= 0 && id < v->n && v->token[id].type != VOCAB_NONE;
}
static inline const char *vocab_text(const struct vocab *v, int32_t id)
{
    return v->text.p + v->token[id].begin;
}

#endif
