/* textfile.h - the small files beside a model's weights, read whole.
 * Owner:  the caller frees the text.
 * Ranks:  not collective. */
#ifndef MUSTER_TEXTFILE_H
#define MUSTER_TEXTFILE_H

#include "proto/err.h"

#include <stddef.h>

/* The file at folder/name, NUL-terminated, at most max bytes (longer: ERR_LIMIT). *text is NULL and
 * *n 0 when there is no such file and `required` is 0. */
int textfile_read(const char *folder, const char *name, size_t max, int required, char **text,
                  size_t *n, struct err *err);

/* The folder that holds a model: path itself when it is one, else the part before its last '/'. */
int textfile_folder(const char *path, char *buf, size_t cap, struct err *err);

#endif
