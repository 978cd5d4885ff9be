/* normalizer.h - rewrites a text before it is cut: normal forms, case, blanks, replacements.
 * Why:    a vocabulary was trained on text rewritten so; the same ids need the same rewriting.
 * Owner:  owns its steps; the trie of user-defined pieces is borrowed. Const once built.
 * Ranks:  not collective. */
#ifndef MUSTER_NORMALIZER_H
#define MUSTER_NORMALIZER_H

#include "coordinator/text/charsmap.h"
#include "coordinator/text/pattern.h"
#include "coordinator/text/textbuf.h"
#include "coordinator/text/trie.h"

enum normalize_kind {
    NORMALIZE_NFC, NORMALIZE_NFD, NORMALIZE_NFKC, NORMALIZE_NFKD, NORMALIZE_LOWERCASE,
    NORMALIZE_STRIP,            /* White_Space at the left, the right */
    NORMALIZE_STRIP_ACCENTS,    /* non-spacing marks */
    NORMALIZE_PREPEND,          /* text, unless the text is empty */
    NORMALIZE_REPLACE,          /* matches of a pattern by text */
    NORMALIZE_NMT,              /* control characters out, odd blanks to a blank */
    NORMALIZE_BYTES,            /* GPT-2's alphabet */
    NORMALIZE_CHARSMAP,         /* as tokenizers: grapheme by grapheme, else character by character */
    NORMALIZE_SENTENCEPIECE     /* as SentencePiece: charsmap, extra blanks out, one in front, U+2581 */
};

enum { NORMALIZER_STEPS_MAX = 32 };

struct normalize_step {
    enum normalize_kind kind;
    struct pattern *pattern;
    struct textbuf text;
    struct charsmap map;
    bool left, right;                   /* strip */
    bool prefix, squeeze;               /* sentencepiece: a blank in front, extra blanks out */
    const struct trie *user;            /* sentencepiece: pieces that stay as they are; may be NULL */
};

struct normalizer { struct normalize_step step[NORMALIZER_STEPS_MAX]; int n; };

void normalizer_free(struct normalizer *n);
/* Takes what the step owns, also when it fails. */
int normalizer_add(struct normalizer *n, struct normalize_step step, struct err *err);
/* Rewrites t in place; spare is scratch. */
int normalizer_run(const struct normalizer *n, struct textbuf *t, struct textbuf *spare,
                   struct pattern_scratch *scratch, struct err *err);

#endif
