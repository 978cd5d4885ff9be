/* filesink.h - the sink of a rank: pictures become PNG files, each whole and durable or not there.
 * Why:    a picture is written where it was made; encoding and syncing happen on a thread of its own, so
 *         that the network need not wait for the disk.
 * Files:  FOLDER/file of the picture, sub-folders made as needed; or tar shards named after rank and run,
 *         FOLDER/shard-RRR-NN-KKKKKK.tar, to which pictures are appended with a .json of their notes.
 * Owner:  a filesink owns its thread, queue and files.
 * Ranks:  one each; not collective. */
#ifndef MUSTER_FILESINK_H
#define MUSTER_FILESINK_H

#include "proto/sink.h"

struct filesink;

/* Fills *sink. If it fails you owe nothing. */
int filesink_new(struct filesink **f, struct sink *sink, struct err *err);
/* Writes what waits, ends shards, ends the thread. Accepts NULL. */
void filesink_destroy(struct filesink *f);

#endif
