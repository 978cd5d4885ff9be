/* textbuf.h - a growing run of bytes, and a text cut into pieces.
 * Why:    every step of a tokenizer or a template makes new text of unknown length.
 * Owner:  the struct owns its memory; a zeroed one is empty and may be freed.
 * Ranks:  not collective. */
#ifndef MUSTER_TEXTBUF_H
#define MUSTER_TEXTBUF_H

#include "proto/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct textbuf { char *p; size_t n, cap; };

void textbuf_free(struct textbuf *b);
/* Room for `more` bytes behind the n that are there. */
int textbuf_reserve(struct textbuf *b, size_t more, struct err *err);
int textbuf_add(struct textbuf *b, const char *p, size_t n, struct err *err);
int textbuf_add_cp(struct textbuf *b, int32_t cp, struct err *err);
static inline void textbuf_clear(struct textbuf *b) { b->n = 0; }
/* Appends s [n] with what is not UTF-8 replaced by U+FFFD: one for each maximal part of a character
 * (as Rust's from_utf8_lossy), or one for each byte (as SentencePiece). */
int textbuf_add_lossy(struct textbuf *b, const char *s, size_t n, bool each_byte, struct err *err);
/* Takes the bytes away from b, with a NUL behind them. */
int textbuf_take(struct textbuf *b, char **text, size_t *n, struct err *err);

/* A text and its pieces: byte ranges, in order, not overlapping. */
struct piece { size_t begin, end; bool first; };    /* first: starts where the whole text starts */
struct pieces { struct textbuf text; struct piece *at; size_t n, cap; };

void pieces_free(struct pieces *p);
/* Appends [begin, end) of the text; an empty range is left out. */
int pieces_add(struct pieces *p, size_t begin, size_t end, bool first, struct err *err);

#endif
