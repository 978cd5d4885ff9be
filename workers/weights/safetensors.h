/* safetensors.h - safetensors headers into a tensorfile's tables.
 * Ranks: not collective. */
#ifndef MUSTER_SAFETENSORS_H
#define MUSTER_SAFETENSORS_H

#include "workers/weights/tensorfile.h"

/* Parses the header of file number `file` (an added one). Tensors come in the order of their data. Of
 * "__metadata__" the keys that no earlier file had become META_STRING entries. The caller closes t on
 * failure and calls tensortable_finish on success. */
int safetensors_read_header(struct tensorfile *t, int file, struct err *err);

/* The safetensors files of folder `dir`: those that its index names, else model.safetensors or
 * diffusion_pytorch_model.safetensors, else all. Opens and parses them. */
int safetensors_read_folder(struct tensorfile *t, const char *dir, struct err *err);

/* The id for a dtype as written in the header ("BF16"), -1 unknown; and back, NULL for what the format
 * cannot say. */
int safetensors_dtype(const char *name);
const char *safetensors_dtype_name(enum dtype type);

#endif
