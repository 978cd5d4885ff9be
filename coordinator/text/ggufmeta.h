/* ggufmeta.h - the key/value part of a GGUF header, as the coordinator gets it.
 * Why:    a vocabulary travels to the coordinator in the container it has on disk; this reads no more
 *         of GGUF than that (the workers' reader knows tensors too).
 * Owner:  entries borrow from the bytes given.
 * Ranks:  not collective. */
#ifndef MUSTER_GGUFMETA_H
#define MUSTER_GGUFMETA_H

#include "proto/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum ggufmeta_type {
    GGUFMETA_U8, GGUFMETA_I8, GGUFMETA_U16, GGUFMETA_I16, GGUFMETA_U32, GGUFMETA_I32, GGUFMETA_F32,
    GGUFMETA_BOOL, GGUFMETA_STRING, GGUFMETA_ARRAY, GGUFMETA_U64, GGUFMETA_I64, GGUFMETA_F64
};

struct ggufmeta_entry {
    const char *key; size_t key_len;    /* not NUL-terminated */
    uint32_t type;                      /* of the elements, if is_array */
    bool is_array;
    uint64_t n;                         /* elements; 1 when no array */
    const uint8_t *data; size_t bytes;  /* as on disk; strings as {u64 length, bytes} */
};

struct ggufmeta { struct ggufmeta_entry *entry; int n; };

/* All counts are checked against the bytes [n] that are there. */
int ggufmeta_open(struct ggufmeta *m, const uint8_t *bytes, size_t n, struct err *err);
void ggufmeta_close(struct ggufmeta *m);

const struct ggufmeta_entry *ggufmeta_find(const struct ggufmeta *m, const char *key);
/* A whole number or bool; fallback when the key is absent; ERR_FORMAT when it is something else. */
int ggufmeta_int(const struct ggufmeta *m, const char *key, int64_t fallback, int64_t *out,
                 struct err *err);
/* *text [*n] borrows; NULL when absent. */
int ggufmeta_string(const struct ggufmeta *m, const char *key, const char **text, size_t *n,
                    struct err *err);
/* An array of the given element type; NULL when absent, ERR_FORMAT when of another type. */
int ggufmeta_array(const struct ggufmeta *m, const char *key, enum ggufmeta_type type,
                   const struct ggufmeta_entry **out, struct err *err);
/* The next string of a string array: *at starts at 0. (ggufmeta_open has checked the lengths.) */
void ggufmeta_next_string(const struct ggufmeta_entry *e, size_t *at, const char **text, size_t *n);

#endif
