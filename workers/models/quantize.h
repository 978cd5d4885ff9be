/* quantize.h - a model file of another number type: GGUF or Hugging Face folder in, GGUF out.
 * Why:    people have folders and large types; ranks want small ones.
 * Memory: a few megabytes and the header, whatever the model's size (one expert's matrix where the folder
 *         stores experts turned).
 * Ranks:  not collective; one rank does it, with its OpenMP team. */
#ifndef MUSTER_QUANTIZE_H
#define MUSTER_QUANTIZE_H

#include "proto/err.h"

#include <stdint.h>

struct quantize_report {
    int n_tensors, n_fallback;          /* n_fallback: matrices whose rows do not fit the type */
    uint64_t bytes_in, bytes_out;       /* of tensor data and of the whole file */
};

/* Called after each piece written: the tensor, its place in the list, bytes of data done and all. */
struct quantize_progress { const char *tensor; int i, n; uint64_t done, all; };

/* type: "q4_k", "q8_0", ... (any case). out appears whole or not at all and may not be one of the input's
 * files. progress may be NULL; report too. */
int quantize_file(const char *in, const char *out, const char *type,
                  void (*progress)(void *ctx, const struct quantize_progress *p), void *ctx,
                  struct quantize_report *report, struct err *err);

#endif
