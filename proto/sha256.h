/* sha256.h - SHA-256 of bytes that come in pieces.
 * Why:    a picture's and a model's name in records; none of our libraries brings one.
 * Source: FIPS 180-4.
 * Ranks:  not collective. */
#ifndef MUSTER_SHA256_H
#define MUSTER_SHA256_H

#include <stddef.h>
#include <stdint.h>

enum { SHA256_BYTES = 32, SHA256_HEX = 65 };

struct sha256 { uint32_t state[8]; uint64_t n; uint8_t block[64]; };

void sha256_begin(struct sha256 *s);
void sha256_add(struct sha256 *s, const void *bytes, size_t n);
void sha256_end(struct sha256 *s, uint8_t out[SHA256_BYTES]);

/* Lower-case hexadecimal digits and a NUL. */
void sha256_hex(const uint8_t digest[SHA256_BYTES], char out[SHA256_HEX]);

#endif
