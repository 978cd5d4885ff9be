/* filehash.h - the SHA-256 of a model's files, one after the other, in hex: its name in records.
 * Ranks:  not collective; reads the files whole. */
#ifndef MUSTER_FILEHASH_H
#define MUSTER_FILEHASH_H

#include "proto/sha256.h"

struct err;

int filehash_hex(char *const *paths, int n, char hex[SHA256_HEX], struct err *err);

#endif
