/* charsmap.h - SentencePiece's compiled table of replacements: a double array over UTF-8 and a blob of
 * NUL-terminated texts.
 * Why:    T5 and its kin normalise by it; it comes from a file, so every index is checked.
 * Owner:  copies the table. Const once open.
 * Ranks:  not collective. */
#ifndef MUSTER_CHARSMAP_H
#define MUSTER_CHARSMAP_H

#include "proto/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct charsmap { uint32_t *unit; size_t n_units; char *text; size_t n_text; };

/* blob [n]: u32 bytes of the array, the array, the texts. n = 0 opens an empty map. */
int charsmap_open(struct charsmap *c, const uint8_t *blob, size_t n, struct err *err);
void charsmap_close(struct charsmap *c);

/* The replacement for a prefix of s [n], the shortest or the longest that has one: its text [*n_to],
 * NULL when none has; *used bytes of s. */
const char *charsmap_find(const struct charsmap *c, const char *s, size_t n, bool longest,
                          size_t *used, size_t *n_to);

#endif
