/* exportrows.h - rows out of a source, in another type, in bounded memory.
 * Owner:  scratch belongs to the struct.
 * Ranks:  not collective; rows are shared out over the OpenMP team. */
#ifndef MUSTER_EXPORTROWS_H
#define MUSTER_EXPORTROWS_H

#include "workers/models/exporttensors.h"

struct export_rows {
    struct tensorfile *file;
    uint8_t *raw, *done;        /* a chunk as read, and as it will be written */
    size_t raw_bytes, done_bytes;
    float *row;                 /* [threads, row_n] */
    int64_t row_n;
};

/* Calls sink with the whole tensor's bytes, in order, in pieces of a few megabytes. A number that is not
 * finite is ERR_FORMAT naming the tensor. */
int exportrows_tensor(struct export_rows *r, const struct export_tensor *t,
                      int (*sink)(void *ctx, const void *bytes, size_t n, struct err *err), void *ctx,
                      struct err *err);
void exportrows_free(struct export_rows *r);

#endif
