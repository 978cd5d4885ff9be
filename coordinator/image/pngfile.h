/* pngfile.h - 8-bit RGB pictures as PNG, in files and in memory, with their text chunks.
 * Why:    every picture goes out and comes in here; a PNG is foreign bytes until it is decoded.
 * Shapes: rgb [height, width, 3], 8 bits, row-major.
 * In:     palettes, grey, 16 bits, interlacing and transparency (over white) all become 8-bit RGB;
 *         gamma and colour profiles are not applied.
 * Out:    non-interlaced 8-bit RGB, always the same bytes for the same picture and texts.
 * Owner:  a picture owns its pixels and texts.
 * Ranks:  not collective. */
#ifndef MUSTER_PNGFILE_H
#define MUSTER_PNGFILE_H

#include "proto/err.h"

#include <stddef.h>
#include <stdint.h>

/* Larger pictures are refused before anything is allocated. */
enum { PNGFILE_SIDE_MAX = 32768, PNGFILE_PIXELS_MAX = 1 << 26, PNGFILE_FILE_MAX = 1 << 29 };

/* A text chunk: key is 1 to 79 printable ASCII bytes, value UTF-8. */
struct picture_text { char *key, *value; };

struct picture {
    int width, height;
    uint8_t *rgb;                   /* [height, width, 3] */
    struct picture_text *text;
    int n_text;
};

/* Accepts a zeroed picture, leaves it zeroed. */
void pngfile_free(struct picture *p);

/* name is for messages. Errors are ERR_FORMAT (not a PNG, damaged, cut off), ERR_LIMIT, ERR_NOMEM, each
 * with the name; p is zeroed then. A damaged text chunk is left out. */
int pngfile_decode(struct picture *p, const uint8_t *bytes, size_t n, const char *name, struct err *err);
/* The same from a file; ERR_IO when it cannot be read. */
int pngfile_load(struct picture *p, const char *path, struct err *err);
/* The text with this key, NULL: none. Borrows from p. */
const char *pngfile_text_of(const struct picture *p, const char *key);

/* *bytes malloc'd. text [n_text] may be NULL; ASCII values become tEXt chunks, others iTXt. */
int pngfile_encode(const uint8_t *rgb, int width, int height, const struct picture_text *text, int n_text,
               uint8_t **bytes, size_t *n, struct err *err);
/* The file appears whole or not at all; errors are ERR_OUTPUT with its name. */
int pngfile_save(const char *path, const uint8_t *rgb, int width, int height,
             const struct picture_text *text, int n_text, struct err *err);

#endif
