/* safewriter.h - writes a .safetensors file: tensors are declared first, their data streams after.
 * Why:    logits, checkpoints and trained models leave in the format that others read.
 * Shapes: row-major, as in the file.
 * Owner:  the writer owns its file and header until close or abandon; names are copied.
 * Ranks:  not collective. */
#ifndef MUSTER_SAFEWRITER_H
#define MUSTER_SAFEWRITER_H

#include "proto/atomicfile.h"

struct safewriter {
    struct atomicfile file;
    char *head;                 /* JSON text, growing */
    size_t n_head, cap_head;
    uint64_t declared, data;    /* bytes of data: promised, written */
    enum { SAFEWRITER_EMPTY, SAFEWRITER_META, SAFEWRITER_TENSORS } stage;   /* of the header's text */
};

int safewriter_open(struct safewriter *w, const char *path, struct err *err);

/* A line of "__metadata__": before the first tensor. */
int safewriter_meta(struct safewriter *w, const char *key, const char *value, struct err *err);

/* Declares a tensor of `bytes` bytes; dtype as the format spells it ("F32"). The data follow in the
 * order of declaration. */
int safewriter_tensor(struct safewriter *w, const char *name, const char *dtype, int n_dims,
                      const int64_t *shape, uint64_t bytes, struct err *err);

/* Ends the declarations and writes the header. */
int safewriter_begin(struct safewriter *w, struct err *err);
/* The next n bytes of data, of one tensor or of many. */
int safewriter_write(struct safewriter *w, const void *bytes, size_t n, struct err *err);

/* The file appears under its name, durable, if all that was declared was written. Frees w. */
int safewriter_close(struct safewriter *w, struct err *err);
/* Nothing appears. Accepts a zeroed writer, leaves it zeroed. */
void safewriter_abandon(struct safewriter *w);

#endif
