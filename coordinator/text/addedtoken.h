/* addedtoken.h - tokens that are found in the text itself, before any model sees it.
 * Why:    control tokens and user-defined ones are cut out whole; which of them count, and what blanks
 *         they swallow, is theirs to say.
 * Owner:  owns its tables. Const once built.
 * Ranks:  not collective. */
#ifndef MUSTER_ADDEDTOKEN_H
#define MUSTER_ADDEDTOKEN_H

#include "coordinator/text/trie.h"

#include <stdbool.h>

struct added_token { int32_t id; bool special, lstrip, rstrip, single_word; };

struct added_set { struct trie trie; struct added_token *token; int n, cap; };

/* A part of a text: [begin, end) is ordinary text (id -1) or one added token. */
struct added_part { size_t begin, end; int32_t id; };

void added_free(struct added_set *s);
int added_add(struct added_set *s, const char *text, size_t n, struct added_token token,
              struct err *err);
/* The first part of text [n] at or after *at, which moves on; false at the end. Special tokens are
 * ordinary text unless `special`. *pending keeps a token whose turn comes after the text before it:
 * its id is -1 to begin with. */
bool added_next(const struct added_set *s, const char *text, size_t n, bool special, size_t *at,
                struct added_part *pending, struct added_part *part);

#endif
