/* bpewords.h - a table of distinct texts, numbered in the order in which they came, each with a count.
 * Why:    a vocabulary is learnt from words and how often each occurs, not from running text; its own
 *         tokens need the same way from text to number.
 * Owner:  the struct owns its memory; a zeroed one is empty and may be freed.
 * Ranks:  not collective. */
#ifndef MUSTER_BPEWORDS_H
#define MUSTER_BPEWORDS_H

#include "coordinator/text/textbuf.h"

struct bpeword { size_t begin; uint32_t n, hash; int64_t count; };

struct bpewords {
    struct textbuf text;        /* all texts, one behind the other */
    struct bpeword *word;       /* [n] */
    int32_t n, cap;
    int32_t *slot;              /* hash table of numbers, -1: empty */
    uint32_t mask;
};

void bpewords_free(struct bpewords *w);
/* Adds `times` to the count of text [n], which may be new; *number (may be NULL) is its number. */
int bpewords_add(struct bpewords *w, const char *text, size_t n, int64_t times, int32_t *number,
                 struct err *err);
/* -1: not there. */
int32_t bpewords_find(const struct bpewords *w, const char *text, size_t n);

static inline const char *bpewords_text(const struct bpewords *w, int32_t i)
{
    return w->text.p + w->word[i].begin;
}

#endif
