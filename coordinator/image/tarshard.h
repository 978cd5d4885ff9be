/* tarshard.h - a tar file that grows by whole members: the shards that WebDataset reads.
 * Why:    a million small files is more than many file systems like.
 * Crash:  members are appended and synced before they are reported; what a kill left behind them is cut
 *         off by tarshard_trim at the next start.
 * Source: POSIX ustar.
 * Ranks:  not collective. */
#ifndef MUSTER_TARSHARD_H
#define MUSTER_TARSHARD_H

#include "proto/err.h"

#include <stddef.h>
#include <stdint.h>

struct tarshard { int fd; uint64_t size; char path[4096]; };

/* A new file; ERR_OUTPUT when it is there already. */
int tarshard_open(struct tarshard *t, const char *path, struct err *err);
/* Appends a member; *offset: where its bytes begin. name: at most 100 bytes. Not synced. */
int tarshard_add(struct tarshard *t, const char *name, const void *bytes, size_t n, uint64_t *offset,
                 struct err *err);
int tarshard_sync(struct tarshard *t, struct err *err);
/* Writes the two empty blocks that end an archive; closes. Accepts a zeroed shard. */
int tarshard_close(struct tarshard *t, struct err *err);

/* Cuts the file off after `end` (rounded up to a block) and ends it properly. */
int tarshard_trim(const char *path, uint64_t end, struct err *err);

#endif
