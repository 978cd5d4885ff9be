/* gguf.h - GGUF headers, version 2 and 3, one file or a split set, into a tensorfile's tables.
 * Ranks: not collective. */
#ifndef MUSTER_GGUF_H
#define MUSTER_GGUF_H

#include "workers/weights/tensorfile.h"

#include <stdbool.h>

/* Type ids of metadata values, as in the file. */
enum gguf_type {
    GGUF_U8 = 0, GGUF_I8, GGUF_U16, GGUF_I16, GGUF_U32, GGUF_I32, GGUF_F32, GGUF_BOOL, GGUF_STRING,
    GGUF_ARRAY, GGUF_U64, GGUF_I64, GGUF_F64, GGUF_TYPE_COUNT
};
enum { GGUF_ALIGNMENT = 32, GGUF_VERSION = 3, GGUF_DIMS_MAX = 4 };

/* Bytes of a fixed-size value; 0 for strings, arrays and unknown types. */
int gguf_type_bytes(int type);

/* Whether file number `file` (an added one) starts with GGUF's magic. */
bool gguf_is(const struct tensorfile *t, int file);

/* Parses the header of file 0 and of the other parts of its set, which are opened here. The caller
 * closes t on failure and calls tensortable_finish on success. */
int gguf_read_headers(struct tensorfile *t, struct err *err);

#endif
