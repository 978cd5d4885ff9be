/* bytelevel.h - GPT-2's alphabet: a printable character for each byte.
 * Why:    byte-level vocabularies are written in it, so that no token holds a blank or a control byte.
 * Ranks:  not collective. */
#ifndef MUSTER_BYTELEVEL_H
#define MUSTER_BYTELEVEL_H

#include "coordinator/text/textbuf.h"

/* The character of a byte: itself where it prints in Latin-1, else U+0100 and up in order. */
int32_t bytelevel_cp(uint8_t byte);
/* The byte of a character, -1: not in the alphabet. */
int bytelevel_byte(int32_t cp);
/* Appends the characters of s [n]. */
int bytelevel_add(struct textbuf *out, const char *s, size_t n, struct err *err);
/* Appends the bytes that the text s [n] (checked UTF-8) stands for; a text with a character outside
 * the alphabet stands for itself. */
int bytelevel_add_bytes(struct textbuf *out, const char *s, size_t n, struct err *err);

#endif
