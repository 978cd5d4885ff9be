/* ggufwriter.h - writes a GGUF file: keys and tensors are declared, then the data stream through.
 * Why:    a quantised model of any size leaves in bounded memory, and whole or not at all.
 * Order:  open, keys, tensors, begin, data of each tensor in order of declaration, close.
 * Owner:  the writer owns its file and header until close or abandon; names and values are copied.
 * Ranks:  not collective. */
#ifndef MUSTER_GGUFWRITER_H
#define MUSTER_GGUFWRITER_H

#include "proto/atomicfile.h"
#include "workers/tensor/dtype.h"
#include "workers/weights/tensorfile.h"

#include <stdbool.h>

/* A growing run of bytes; the first lack of memory sticks in `failed`. */
struct ggufbytes { uint8_t *p; size_t n, cap; bool failed; };

struct ggufwriter {
    struct atomicfile file;
    struct ggufbytes keys, infos;       /* the two tables of the header */
    struct ggufbytes sizes;             /* uint64_t bytes of each tensor */
    uint64_t n_keys, n_tensors, data;   /* data: bytes of all declared tensors, padded */
    uint64_t current, left;             /* the tensor being written, its bytes still to come */
};

int ggufwriter_open(struct ggufwriter *w, const char *path, struct err *err);

/* Keys. Lack of memory is told by ggufwriter_begin. */
void ggufwriter_u32(struct ggufwriter *w, const char *key, uint32_t v);
void ggufwriter_f32(struct ggufwriter *w, const char *key, float v);
void ggufwriter_bool(struct ggufwriter *w, const char *key, bool v);
void ggufwriter_string(struct ggufwriter *w, const char *key, const char *s, size_t n);
/* v [n] little-endian numbers of a GGUF type. */
void ggufwriter_array(struct ggufwriter *w, const char *key, int type, const void *v, uint64_t n);
/* Strings are added one by one; exactly n must come. */
void ggufwriter_strings_begin(struct ggufwriter *w, const char *key, uint64_t n);
void ggufwriter_strings_add(struct ggufwriter *w, const char *s, size_t n);
/* A value as it was read from another GGUF file. */
void ggufwriter_copy(struct ggufwriter *w, const char *key, const struct meta_value *v);

/* shape row-major, outermost first, n_dims <= 4. */
void ggufwriter_tensor(struct ggufwriter *w, const char *name, enum dtype type, int n_dims,
                       const int64_t *shape);

/* Writes the header. */
int ggufwriter_begin(struct ggufwriter *w, struct err *err);
/* The next n bytes of the current tensor; padding is put between tensors. */
int ggufwriter_write(struct ggufwriter *w, const void *bytes, size_t n, struct err *err);
/* The file appears under its name, durable. Frees w. */
int ggufwriter_close(struct ggufwriter *w, struct err *err);
/* Nothing appears. Accepts a zeroed writer, leaves it zeroed. */
void ggufwriter_abandon(struct ggufwriter *w);

#endif
