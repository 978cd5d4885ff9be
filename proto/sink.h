/* sink.h - where finished pictures go: the seam between what computes and what writes files.
 * Why:    a picture is encoded and written on the rank that made it, by code of the coordinator's side,
 *         which workers may not know; so a worker gets this table from the main.
 * Owner:  put copies; a done report is the caller's.
 * Threads: one caller; files are written beside it.
 * Ranks:  not collective: each rank has its own. */
#ifndef MUSTER_SINK_H
#define MUSTER_SINK_H

#include "muster.pb-c.h"
#include "proto/err.h"

#include <stdbool.h>

enum { SINK_FILE_MAX = 512 };

struct sink_done {
    uint64_t task, offset, bytes;
    int code;                       /* ERR_OK: the file is durable */
    char file[SINK_FILE_MAX], message[240];
    uint8_t sha256[32];
};

struct sink {
    void *ctx;
    /* Where pictures go from now on; waits for those that are on their way to the folder before. */
    int (*open)(void *ctx, const Muster__SinkOpen *how, int rank, struct err *err);
    /* Blocks while too many pictures wait to be written. */
    int (*put)(void *ctx, const Muster__Picture *picture, struct err *err);
    /* The next report, if any. */
    bool (*take)(void *ctx, struct sink_done *done);
};

#endif
