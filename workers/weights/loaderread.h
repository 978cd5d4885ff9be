/* loaderread.h - rows of a source, as both halves of the loader read them; private to loader*.c.
 * Ranks:  not collective. */
#ifndef MUSTER_LOADERREAD_H
#define MUSTER_LOADERREAD_H

#include "workers/weights/loader.h"

enum { LOADER_CHUNK = 4 << 20 };        /* bytes of one read: large for a parallel file system */

/* Makes every thread's scratch at least `bytes`, and the message buffer `message_bytes`. */
int loaderread_room(struct loader *ld, size_t bytes, size_t message_bytes, struct err *err);

/* Scratch that n rows of s need. */
size_t loaderread_bytes(const struct load_source *s, int64_t n);

/* Rows [row, row + n) of the tensor into dst, in the matrix's type; dst has loaderread_bytes(s, n). */
int loaderread_rows(struct loader *ld, const struct load_source *s, int64_t row, int64_t n,
                    uint8_t *dst, struct err *err);

/* linear_pack, naming the tensor and the row it stops at. tensor_row: of src's first row; step: of
 * tensor rows from one packed row to the next. */
int loaderread_pack(const struct loader *ld, const struct load_source *s, struct linear *l, int row,
                    int n, const uint8_t *src, size_t stride, int64_t tensor_row, int step,
                    struct err *err);

/* Reports progress by n more bytes of the file. */
void loaderread_progress(struct loader *ld, uint64_t n);

#endif
