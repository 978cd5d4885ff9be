/* linereader.h - lines of stdin for a command that has ranks to look after while it waits.
 * Why:    a blocking read would not notice that a rank is lost.
 * Ranks:  the coordinator's thread only. */
#ifndef MUSTER_LINEREADER_H
#define MUSTER_LINEREADER_H

#include "proto/err.h"

#include <stddef.h>

/* Zeroed to begin with; linereader_free. */
struct linereader { int fd; char *buf; size_t n, cap, taken; int ended; };

/* Called about ten times a second while nothing comes. A code other than ERR_OK ends the wait with it. */
typedef int linereader_idle(void *ctx, struct err *err);

/* *line borrows until the next call, NUL-terminated, without its newline; NULL at the end of input. */
int linereader_next(struct linereader *r, linereader_idle *idle, void *ctx, char **line, size_t *n,
                    struct err *err);
void linereader_free(struct linereader *r);

#endif
