/* unicode.h - the little that tokenizers need to know about UTF-8 and characters.
 * Why:    prompts come from outside: text is checked once, and then walked without checks.
 * Ranks:  not collective. */
#ifndef MUSTER_UNICODE_H
#define MUSTER_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* U+2581, which SentencePiece writes for a blank. */
#define UNICODE_META "\xe2\x96\x81"
enum { UNICODE_META_BYTES = 3, UNICODE_REPLACEMENT = 0xfffd };

/* Reads the character at s [n] into *cp and returns its bytes, 0 when it is not valid UTF-8
 * (overlong, surrogate, above U+10FFFF, cut off, n = 0). */
int unicode_decode(const char *s, size_t n, int32_t *cp);
/* Offset of the first byte of s [n] that is not valid UTF-8; n when all is well. */
size_t unicode_check(const char *s, size_t n);
/* Writes cp to out and returns the bytes, 1 to 4. */
int unicode_encode(int32_t cp, char out[4]);
/* Bytes of the character that starts with this byte, in checked text. */
static inline int unicode_bytes(char first)
{
    uint8_t b = (uint8_t)first;
    return b < 0x80 ? 1 : b < 0xe0 ? 2 : b < 0xf0 ? 3 : 4;
}
/* How many bytes at the end of s [n] begin a character that is not whole yet (0 to 3). */
size_t unicode_partial(const char *s, size_t n);

bool unicode_is_space(int32_t cp);      /* White_Space */
bool unicode_is_word(int32_t cp);       /* \w of Rust: Alphabetic, M, Nd, Pc, Join_Control */
bool unicode_is_number(int32_t cp);     /* N */
bool unicode_is_punctuation(int32_t cp);        /* P, and ASCII's symbols */

#endif
