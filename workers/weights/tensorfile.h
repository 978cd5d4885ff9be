/* tensorfile.h - a set of named tensors on disk, whichever container holds them.
 * Why:    the model code asks for names, shapes and byte ranges; GGUF (split or not) and safetensors
 *         (with or without index) answer alike.
 * Owner:  the tensorfile owns its file descriptors and tables; names die with it. No data is read at
 *         open, only headers.
 * Ranks:  not collective: every rank opens the files itself and reads only what it needs. */
#ifndef MUSTER_TENSORFILE_H
#define MUSTER_TENSORFILE_H

#include "proto/err.h"
#include "workers/tensor/dtype.h"

enum { TENSOR_DIMS_MAX = 8 };

struct tensor_entry {
    const char *name;
    enum dtype type;
    int n_dims;
    int64_t shape[TENSOR_DIMS_MAX];     /* row-major, outermost first (GGUF's ne reversed) */
    int64_t n_elements;
    size_t bytes;
    int file;                           /* index of the part that holds it */
    uint64_t offset;                    /* from the start of that file */
};

/* A metadata value. Strings and arrays point into the file's table. */
enum meta_kind { META_INT, META_FLOAT, META_BOOL, META_STRING, META_ARRAY };
struct meta_value {
    enum meta_kind kind;
    int64_t i;
    double f;
    const char *str;            /* NUL-terminated copy; may hold NULs inside: use len */
    uint64_t len;               /* bytes of str, or elements of the array */
    int elem_type;              /* GGUF type id of the value, or of the array's elements */
    const void *array;          /* raw little-endian elements on a multiple of 8; NULL for strings */
    const char *const *strings; /* for arrays of strings */
    const uint64_t *string_lens;
};
struct meta_entry { const char *key; struct meta_value value; };

struct tensorfile {
    int n_files, n_tensors, n_meta;
    int *fd;
    char **path;
    uint64_t *file_bytes;
    struct tensor_entry *tensor;        /* in file order */
    struct meta_entry *meta;            /* GGUF only */
    void *priv;
    uint64_t bytes_read;                /* by tensorfile_read */
};

/* path: a .gguf (the first of a split set; the others are found), a .safetensors, or a folder with
 * *.safetensors [+ model.safetensors.index.json]. Every count, length and offset is checked against
 * the file's size. Errors name the file and the field. */
int tensorfile_open(struct tensorfile *t, const char *path, struct err *err);
void tensorfile_close(struct tensorfile *t);

const struct tensor_entry *tensorfile_find(const struct tensorfile *t, const char *name);
const struct meta_value *tensorfile_meta(const struct tensorfile *t, const char *key);

/* bytes [offset, offset + n) of the tensor's data into buf. */
int tensorfile_read(struct tensorfile *t, const struct tensor_entry *e, uint64_t offset, void *buf,
                    size_t n, struct err *err);

/* Size of all parts, and a hash of the headers: equal on ranks that see the same files. */
void tensorfile_digest(const struct tensorfile *t, uint64_t *size, uint64_t *hash);

#endif
