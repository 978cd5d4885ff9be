/* loader.h - from tensors in files to packed matrices: this rank's rows and columns, and no others.
 * Why:    every rank reads only the bytes of its own shard, in large pieces, and packs them at once,
 *         so that a rank's peak memory is its shard and a few megabytes.
 * How:    a row cut is a byte range. A column cut would be small strided reads, so the ranks of the
 *         group share out whole rows in proportion to the columns they hold and exchange the column
 *         pieces as Activation messages on COMM_LOAD.
 * Shapes: a source is n_mats stacked matrices [rows, cols] (the experts of a layer; mostly 1).
 * Owner:  the loader owns its scratch; sources and linears are the caller's.
 * Ranks:  loader_columns is collective on the group, the others are not. */
#ifndef MUSTER_LOADER_H
#define MUSTER_LOADER_H

#include "proto/comm.h"
#include "workers/kernels/linear.h"
#include "workers/weights/tensorfile.h"

enum { LOADER_RANKS_MAX = 64 };

enum load_form {
    LOAD_ROWS,          /* rows of the tensor are rows of the matrix */
    LOAD_MXFP4_SPLIT,   /* codes (adjacent pairs) and scales in two tensors */
    LOAD_TRANSPOSED     /* [n_mats, cols, lanes * rows]: rows of the tensor are columns */
};

struct load_source {
    const struct tensor_entry *data, *scales;   /* scales: LOAD_MXFP4_SPLIT */
    enum load_form form;
    enum dtype type;            /* of the matrix */
    int n_mats, rows, cols;
    int64_t row0;               /* the tensor's row that is row 0 of matrix 0 */
    int64_t mat_rows;           /* rows of the tensor from one matrix to the next */
    int lanes;                  /* 2: rows of two matrices alternate */
};

/* Where matrix m of a lane is packed: (struct linear *)((char *)l + m * stride). */
struct load_target { struct linear *l; size_t stride; };

/* The ranks that share a stage. */
struct load_group {
    struct comm *comm;
    const int *ranks;           /* [n] world ranks */
    int n, index;
    uint32_t network;
};

struct loader {
    struct tensorfile *file;
    struct load_group group;
    int n_threads;
    uint8_t **scratch;          /* [n_threads] of scratch_bytes */
    size_t scratch_bytes;
    uint8_t *messages;          /* of an exchange */
    size_t message_bytes;
    uint64_t step;              /* of the next exchange round */
    void (*progress)(void *ctx, uint64_t done, uint64_t all);
    void *progress_ctx;
    uint64_t done, all;         /* bytes of the file, for progress */
};

/* Borrows file and group's arrays. */
int loader_init(struct loader *ld, struct tensorfile *file, const struct load_group *group,
                struct err *err);
void loader_free(struct loader *ld);

/* Is this a type whose rows can be packed? */
bool loader_can_pack(enum dtype type);

/* Bytes of a row of the matrix as the file's type stores it. */
size_t loader_row_bytes(enum dtype type, int cols);

/* Rows [rows.begin, rows.end) of every matrix into to[lane], each n_out = that many rows and k = cols.
 * Not for LOAD_TRANSPOSED. A NaN or infinity is ERR_FORMAT naming tensor and row. Not collective. */
int loader_rows(struct loader *ld, const struct load_source *s, struct split_range rows,
                const struct load_target to[2], struct err *err);

/* Columns cols[group.index] of all rows of every matrix into `to`; cols [group.n] says what each rank
 * holds, together everything. Errors are kept until the exchange is over, so that no peer waits in
 * vain: agree afterwards. Collective on the group. */
int loader_columns(struct loader *ld, const struct load_source *s, const struct split_range *cols,
                   struct load_target to, struct err *err);

/* The same two for LOAD_TRANSPOSED: rows are columns of the tensor and are exchanged; columns are its
 * rows and are read. loader_transposed_rows is collective on the group. */
int loader_transposed_rows(struct loader *ld, const struct load_source *s,
                           const struct split_range *rows, const struct load_target to[2],
                           struct err *err);
int loader_transposed_columns(struct loader *ld, const struct load_source *s,
                              struct split_range cols, struct load_target to, struct err *err);

/* out [n] f32 = numbers [first, first + n step) of e, every step-th, plus `add`; any weight type whose
 * blocks the range respects. Not collective. */
int loader_vector(struct loader *ld, const struct tensor_entry *e, int64_t first, int n, int step,
                  float add, float *out, struct err *err);

#endif
