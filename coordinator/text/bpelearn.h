/* bpelearn.h - which pairs of symbols to merge, learnt from words and their counts.
 * Rule:   again and again the pair of neighbours that occurs most often becomes one symbol; of equally
 *         frequent pairs the one whose left symbol has the smaller number, then the right one. A merge
 *         whose text exists already makes no new symbol. (Sennrich, Haddow, Birch 2016)
 * Owner:  the list of merges belongs to the caller.
 * Ranks:  not collective. */
#ifndef MUSTER_BPELEARN_H
#define MUSTER_BPELEARN_H

#include "coordinator/text/bpewords.h"

struct bpemerge { int32_t left, right, made; };
struct bpemerges { struct bpemerge *merge; int32_t n, cap; };

/* Words as runs of symbols: word i is symbol[begin[i] .. begin[i + 1]), and occurs count[i] times. */
struct bpetext { int32_t *symbol; size_t *begin; int64_t *count; int32_t n; };

/* Learns until there are `vocab` symbols or no pair occurs `least` times. symbols: the texts of the
 * symbols so far, extended by the new ones. The text's symbols are merged in place. merges is zeroed
 * before; merges->merge is malloc'd, also when it fails. */
int bpelearn(struct bpetext *text, struct bpewords *symbols, int32_t vocab, int64_t least,
             struct bpemerges *merges, struct err *err);

#endif
