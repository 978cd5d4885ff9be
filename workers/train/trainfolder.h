/* trainfolder.h - trained weights and configurations as the files that others open.
 * Why:    what is trained here loads in the libraries whose names and shapes it has.
 * Owner:  files appear whole or not at all (atomicfile.h).
 * Ranks:  not collective. */
#ifndef MUSTER_TRAINFOLDER_H
#define MUSTER_TRAINFOLDER_H

#include "workers/models/params.h"

#include <jansson.h>

/* dir/name, as a folder; there already is no error. */
int trainfolder_make(const char *dir, const char *name, struct err *err);
int trainfolder_json(const char *dir, const char *name, const json_t *json, struct err *err);
/* All tensors of the set, as DT_F32 or DT_BF16; `rename` gives the name in the file (into out [256]),
 * NULL: as they are. */
int trainfolder_weights(const char *dir, const char *name, const struct params *s, enum dtype type,
                        void (*rename)(const char *from, char out[256]), struct err *err);

/* Reads dir/name as JSON; the caller owns *json. */
int trainfolder_read_json(const char *dir, const char *name, json_t **json, struct err *err);
/* Reads the weights at dir/name into an empty set. */
int trainfolder_read_weights(const char *dir, const char *name, struct params *s, struct err *err);

/* Removes a folder and what is in it; no error when there is none. */
void trainfolder_remove(const char *path);
/* fresh takes the name `path`; what stood there is removed. */
int trainfolder_replace(const char *fresh, const char *path, struct err *err);

#endif
