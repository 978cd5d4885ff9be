/* atomicfile.h - a result file that appears whole or not at all.
 * Why:    a full disk, a crash or an interrupt must never leave half a file under its final name.
 * How:    bytes go to "PATH.tmp-XXXXXX" beside it; commit makes them durable and renames. A path that
 *         exists and is no regular file (a pipe, a terminal) is written directly. Of a symbolic link the
 *         file that it leads to is replaced, never the link: /dev/stdout is one.
 * Owner:  the struct owns the descriptor, the buffer and the names.
 * Ranks:  not collective. */
#ifndef MUSTER_ATOMICFILE_H
#define MUSTER_ATOMICFILE_H

#include "proto/err.h"

#include <stddef.h>
#include <stdint.h>

struct atomicfile {
    int fd;
    char *path, *tmp;           /* tmp NULL: written directly */
    uint8_t *buf;
    size_t n_buf;
    uint64_t written;           /* bytes so far, those in buf included */
};

/* path "-" is the standard output, whatever that is. All errors are ERR_OUTPUT with the file's name (and
 * ERR_NOMEM). A failed open owes nothing. */
int atomicfile_open(struct atomicfile *f, const char *path, struct err *err);
int atomicfile_write(struct atomicfile *f, const void *bytes, size_t n, struct err *err);

/* Flushes, syncs, renames, closes. On failure the temporary file is gone. Either way f is zeroed. */
int atomicfile_commit(struct atomicfile *f, struct err *err);

/* Removes the temporary file. Accepts a zeroed struct, leaves it zeroed. */
void atomicfile_abandon(struct atomicfile *f);

#endif
