/* tensortable.h - how the readers of containers fill a tensorfile; private to workers/weights.
 * Why:    GGUF and safetensors parse differently but end in the same tables, with the same checks.
 * Owner:  everything added or kept belongs to the tensorfile and dies at tensorfile_close.
 * Ranks:  not collective. */
#ifndef MUSTER_TENSORTABLE_H
#define MUSTER_TENSORTABLE_H

#include "workers/weights/tensorfile.h"

#include <stdbool.h>

/* More than any real header (hundreds of MB of vocabulary are possible), less than a node's memory. */
#define TENSORTABLE_HEADER_MAX ((uint64_t)1 << 30)
enum { TENSORTABLE_NAME_MAX = 512, TENSORTABLE_FILES_MAX = 4096 };

/* The end of a path that fits a one-line message. */
const char *tensortable_tail(const char *path);

/* n bytes as people write them ("1.2 GB"), into buf, which is returned. */
const char *tensortable_size(char buf[16], uint64_t n);

/* Zeroes t and gives it its private part. ERR_NOMEM leaves nothing to free. */
int tensortable_init(struct tensorfile *t, struct err *err);

/* Opens path, appends it; *index is its number. */
int tensortable_add_file(struct tensorfile *t, const char *path, int *index, struct err *err);

/* bytes [offset, offset + n) of file number i; ERR_FORMAT when the file ends before. */
int tensortable_pread(const struct tensorfile *t, int file, uint64_t offset, void *buf, size_t n,
                      struct err *err);

/* Appends a copy of e; e->name is borrowed for the tensorfile's life. Checks the range against the file:
 * type, shape, file and offset are set, n_elements and bytes are computed here. */
int tensortable_add_tensor(struct tensorfile *t, struct tensor_entry *e, struct err *err);

/* Appends; the value's pointers are borrowed for the tensorfile's life. */
int tensortable_add_meta(struct tensorfile *t, const char *key, const struct meta_value *value,
                         struct err *err);

/* Zeroed memory that lives as long as the tensorfile; NULL when there is none. */
void *tensortable_alloc(struct tensorfile *t, size_t bytes);
char *tensortable_strdup(struct tensorfile *t, const char *s, size_t n);
/* Gives an anonymous mapping to the tensorfile. */
int tensortable_keep_map(struct tensorfile *t, void *map, size_t bytes, struct err *err);

/* Stirs bytes into the digest's hash. */
void tensortable_hash(struct tensorfile *t, const void *bytes, size_t n);

/* Builds the indices; refuses a name or key that occurs twice, and ranges that overlap. */
int tensortable_finish(struct tensorfile *t, struct err *err);

#endif
