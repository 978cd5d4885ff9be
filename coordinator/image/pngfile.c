#include "coordinator/image/pngfile.h"

#include "proto/atomicfile.h"

#include <errno.h>
#include <limits.h>
#include <png.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* A text chunk inflated, and the number of chunks kept: beyond it a file is hostile. */
enum { CHUNK_BYTES_MAX = 1 << 23, CHUNKS_MAX = 256 };

void pngfile_free(struct picture *p)
{
    for (int i = 0; i < p->n_text; i++) {
        free(p->text[i].key);
        free(p->text[i].value);
    }
    free(p->text);
    free(p->rgb);
    memset(p, 0, sizeof *p);
}

const char *pngfile_text_of(const struct picture *p, const char *key)
{
    for (int i = 0; i < p->n_text; i++)
        if (strcmp(p->text[i].key, key) == 0)
            return p->text[i].value;
    return NULL;
}

/* The end of a name says more than its start. */
static const char *tail(const char *name)
{
    enum { TAIL = 120 };
    size_t n = strlen(name);
    return n > TAIL ? name + n - TAIL : name;
}

/* --- what libpng says. It calls back and never returns from an error: longjmp to where setjmp was. */

struct talk { const char *name; struct err *err; };

static void on_error(png_structp png, png_const_charp why)
{
    struct talk *t = png_get_error_ptr(png);
    err_set(t->err, ERR_FORMAT, "%s: damaged PNG: %.80s", tail(t->name), why);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp why)
{
    (void)png;
    (void)why;      /* oddities that libpng reads over */
}

/* --- in */

struct source { const uint8_t *p; size_t n; };

static void pull(png_structp png, png_bytep out, size_t n)
{
    struct source *s = png_get_io_ptr(png);
    if (n > s->n)
        png_error(png, "the file ends too early");
    memcpy(out, s->p, n);
    s->p += n;
    s->n -= n;
}

/* Everything that a jump must leave in a known state lives here, not in locals. */
struct decoder {
    png_structp png;
    png_infop info;
    struct source source;
    struct talk talk;
    uint8_t *rgba;          /* [height, width, 4] */
    png_bytep *row;         /* [height], into rgba */
    struct picture *out;
};

/* Any PNG to 8-bit RGBA, as libpng's transformations do it. */
static void ask_for_rgba(struct decoder *d)
{
    png_set_expand(d->png);             /* palettes, 1 2 4 bits, tRNS to alpha */
    png_set_scale_16(d->png);
    png_set_gray_to_rgb(d->png);
    png_set_add_alpha(d->png, 255, PNG_FILLER_AFTER);
    png_set_interlace_handling(d->png);
    png_read_update_info(d->png, d->info);
}

/* Between setjmp and its jump: only fields of d change. */
static int read_pixels(struct decoder *d)
{
    if (setjmp(png_jmpbuf(d->png)) != 0)
        return d->talk.err->code;
    png_read_info(d->png, d->info);
    uint32_t width = png_get_image_width(d->png, d->info), height = png_get_image_height(d->png, d->info);
    if ((uint64_t)width * height > PNGFILE_PIXELS_MAX)
        return err_set(d->talk.err, ERR_LIMIT, "%s: %u x %u pixels: at most %d million are read",
                       tail(d->talk.name), width, height, PNGFILE_PIXELS_MAX >> 20);
    ask_for_rgba(d);
    size_t stride = (size_t)width * 4;
    if (png_get_rowbytes(d->png, d->info) != stride)
        return err_set(d->talk.err, ERR_FORMAT, "%s: damaged PNG: its rows do not add up",
                       tail(d->talk.name));
    d->rgba = malloc(stride * height);
    d->row = malloc(height * sizeof *d->row);
    if (d->rgba == NULL || d->row == NULL)
        return err_set(d->talk.err, ERR_NOMEM, "%s: no memory for %u x %u pixels", tail(d->talk.name),
                       width, height);
    for (uint32_t i = 0; i < height; i++)
        d->row[i] = d->rgba + stride * i;
    png_read_image(d->png, d->row);
    png_read_end(d->png, d->info);
    d->out->width = (int)width;
    d->out->height = (int)height;
    return ERR_OK;
}

/* RGBA over white, packed to RGB in place; the block becomes the picture's. */
static void flatten(struct decoder *d)
{
    size_t n = (size_t)d->out->width * (size_t)d->out->height;
    uint8_t *to = d->rgba;
    for (const uint8_t *from = d->rgba; from < d->rgba + n * 4; from += 4)
        for (int i = 0; i < 3; i++)
            *to++ = (uint8_t)((from[i] * from[3] + 255 * (255 - from[3]) + 127) / 255);
    uint8_t *fit = realloc(d->rgba, n * 3);
    d->out->rgb = fit != NULL ? fit : d->rgba;
    d->rgba = NULL;
}

/* A copy as UTF-8: as it is where it is valid, else each byte a Latin-1 character. */
static char *to_utf8(const char *s, bool latin1)
{
    size_t n = strlen(s), at = 0;
    bool valid = !latin1;
    while (valid && at < n) {
        utf8proc_int32_t cp;
        utf8proc_ssize_t k = utf8proc_iterate((const uint8_t *)s + at, (utf8proc_ssize_t)(n - at), &cp);
        valid = k > 0;
        at += valid ? (size_t)k : 0;
    }
    char *out = malloc(2 * n + 1), *to = out;
    if (out == NULL)
        return NULL;
    for (at = 0; at < n; at++) {
        uint8_t c = (uint8_t)s[at];
        if (valid || c < 0x80) {
            *to++ = (char)c;
        } else {
            *to++ = (char)(0xC0 | c >> 6);
            *to++ = (char)(0x80 | (c & 0x3F));
        }
    }
    *to = '\0';
    return out;
}

static int take_texts(struct decoder *d)
{
    png_textp text;
    int n = 0;
    png_get_text(d->png, d->info, &text, &n);
    if (n == 0)
        return ERR_OK;
    struct picture *p = d->out;
    p->text = calloc((size_t)n, sizeof *p->text);
    bool ok = p->text != NULL;
    for (int i = 0; i < n && ok; i++) {
        bool latin1 = text[i].compression == PNG_TEXT_COMPRESSION_NONE ||
                      text[i].compression == PNG_TEXT_COMPRESSION_zTXt;
        struct picture_text *t = &p->text[p->n_text++];
        t->key = to_utf8(text[i].key, true);
        t->value = to_utf8(text[i].text != NULL ? text[i].text : "", latin1);
        ok = t->key != NULL && t->value != NULL;
    }
    return ok ? ERR_OK : err_set(d->talk.err, ERR_NOMEM, "%s: no memory for its texts", tail(d->talk.name));
}

int pngfile_decode(struct picture *p, const uint8_t *bytes, size_t n, const char *name, struct err *err)
{
    struct err mine = {0};      /* the jump needs a place even when the caller wants no message */
    struct decoder d = {.source = {bytes, n}, .talk = {name, &mine}, .out = p};
    memset(p, 0, sizeof *p);
    if (n < 8 || png_sig_cmp(bytes, 0, 8) != 0)
        return err_set(err, ERR_FORMAT, "%s: is no PNG", tail(name));
    d.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &d.talk, on_error, on_warning);
    d.info = d.png != NULL ? png_create_info_struct(d.png) : NULL;
    int rc = ERR_OK;
    if (d.info == NULL) {
        rc = err_set(&mine, ERR_NOMEM, "%s: no memory for libpng", tail(name));
    } else {
        png_set_read_fn(d.png, &d.source, pull);
        png_set_user_limits(d.png, PNGFILE_SIDE_MAX, PNGFILE_SIDE_MAX);
        png_set_chunk_malloc_max(d.png, CHUNK_BYTES_MAX);
        png_set_chunk_cache_max(d.png, CHUNKS_MAX);
        rc = read_pixels(&d);
    }
    if (rc == ERR_OK) {
        flatten(&d);
        rc = take_texts(&d);
    }
    png_destroy_read_struct(&d.png, &d.info, NULL);
    free(d.rgba);
    free(d.row);
    if (rc != ERR_OK)
        pngfile_free(p);
    return rc == ERR_OK ? ERR_OK : err_set(err, rc, "%s", mine.msg);
}

static int read_file(const char *path, uint8_t **bytes, size_t *n, struct err *err)
{
    FILE *f = fopen(path, "rb");
    *bytes = NULL;
    *n = 0;
    if (f == NULL)
        return err_set(err, ERR_IO, "%s: %s", tail(path), strerror(errno));
    int rc = ERR_OK;
    for (size_t cap = 0; rc == ERR_OK && !feof(f);) {
        cap = cap == 0 ? 1 << 14 : cap * 2;
        uint8_t *grown = realloc(*bytes, cap);
        if (grown == NULL) {
            rc = err_set(err, ERR_NOMEM, "%s: no memory to read it", tail(path));
            break;
        }
        *bytes = grown;
        *n += fread(grown + *n, 1, cap - *n, f);
        if (ferror(f))
            rc = err_set(err, ERR_IO, "%s: %s", tail(path), strerror(errno));
        else if (*n > PNGFILE_FILE_MAX)
            rc = err_set(err, ERR_LIMIT, "%s: more than %d MB: too large a picture", tail(path),
                         PNGFILE_FILE_MAX >> 20);
    }
    fclose(f);
    return rc;
}

int pngfile_load(struct picture *p, const char *path, struct err *err)
{
    uint8_t *bytes;
    size_t n;
    memset(p, 0, sizeof *p);
    int rc = read_file(path, &bytes, &n, err);
    if (rc == ERR_OK)
        rc = pngfile_decode(p, bytes, n, path, err);
    free(bytes);
    return rc;
}

/* --- out */

struct sink { uint8_t *p; size_t n, cap; bool full; };

static void push(png_structp png, png_bytep bytes, size_t n)
{
    struct sink *s = png_get_io_ptr(png);
    if (n > s->cap - s->n) {
        size_t cap = (s->cap + n) * 2;
        uint8_t *grown = realloc(s->p, cap);
        if (grown == NULL) {
            s->full = true;
            png_error(png, "no memory");
        }
        s->p = grown;
        s->cap = cap;
    }
    memcpy(s->p + s->n, bytes, n);
    s->n += n;
}

static void push_flush(png_structp png) { (void)png; }

static bool is_ascii(const char *s)
{
    for (; *s != '\0'; s++)
        if ((uint8_t)*s >= 0x80)
            return false;
    return true;
}

/* As the format wants keys (and ASCII): what prints, no blank at either end, no two in a row. */
static bool sound_key(const char *key)
{
    size_t n = strlen(key);
    if (n == 0 || n > 79 || key[0] == ' ' || key[n - 1] == ' ')
        return false;
    for (size_t i = 0; i < n; i++)
        if ((uint8_t)key[i] < 32 || (uint8_t)key[i] >= 127 || (key[i] == ' ' && key[i + 1] == ' '))
            return false;
    return true;
}

struct encoder {
    png_structp png;
    png_infop info;
    struct sink sink;
    struct talk talk;
    png_textp text;         /* [n_text], borrowing the caller's strings */
};

static int list_texts(struct encoder *e, const struct picture_text *text, int n_text)
{
    static char no_language[] = "";
    e->text = calloc((size_t)n_text + 1, sizeof *e->text);
    if (e->text == NULL)
        return err_set(e->talk.err, ERR_NOMEM, "no memory for a picture's texts");
    for (int i = 0; i < n_text; i++) {
        if (!sound_key(text[i].key))
            return err_set(e->talk.err, ERR_INVAL, "\"%.80s\" cannot name a text in a PNG", text[i].key);
        bool plain = is_ascii(text[i].value);
        e->text[i].compression = plain ? PNG_TEXT_COMPRESSION_NONE : PNG_ITXT_COMPRESSION_NONE;
        e->text[i].key = text[i].key;
        e->text[i].text = text[i].value;
        e->text[i].text_length = plain ? strlen(text[i].value) : 0;
        e->text[i].itxt_length = plain ? 0 : strlen(text[i].value);
        e->text[i].lang = no_language;
        e->text[i].lang_key = no_language;
    }
    return ERR_OK;
}

static int write_picture(struct encoder *e, const uint8_t *rgb, int width, int height, int n_text)
{
    if (setjmp(png_jmpbuf(e->png)) != 0)
        return e->talk.err->code;
    png_set_write_fn(e->png, &e->sink, push, push_flush);
    /* fixed, so that the bytes do not follow libpng's defaults */
    png_set_compression_level(e->png, 6);
    png_set_filter(e->png, PNG_FILTER_TYPE_BASE, PNG_FILTER_NONE | PNG_FILTER_SUB | PNG_FILTER_UP |
                   PNG_FILTER_AVG | PNG_FILTER_PAETH);
    png_set_user_limits(e->png, PNGFILE_SIDE_MAX, PNGFILE_SIDE_MAX);
    png_set_IHDR(e->png, e->info, (uint32_t)width, (uint32_t)height, 8, PNG_COLOR_TYPE_RGB,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    if (n_text > 0)
        png_set_text(e->png, e->info, e->text, n_text);
    png_write_info(e->png, e->info);
    for (int y = 0; y < height; y++)
        png_write_row(e->png, rgb + (size_t)y * (size_t)width * 3);
    png_write_end(e->png, NULL);
    return ERR_OK;
}

int pngfile_encode(const uint8_t *rgb, int width, int height, const struct picture_text *text, int n_text,
               uint8_t **bytes, size_t *n, struct err *err)
{
    struct err mine = {0};
    struct encoder e = {.talk = {"picture", &mine}};
    *bytes = NULL;
    *n = 0;
    if (width < 1 || height < 1 || width > PNGFILE_SIDE_MAX || height > PNGFILE_SIDE_MAX)
        return err_set(err, ERR_INVAL, "a PNG of %d x %d pixels: sides are 1 to %d", width, height,
                       PNGFILE_SIDE_MAX);
    int rc = list_texts(&e, text, n_text);
    if (rc == ERR_OK) {
        e.png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &e.talk, on_error, on_warning);
        e.info = e.png != NULL ? png_create_info_struct(e.png) : NULL;
        rc = e.info == NULL ? err_set(&mine, ERR_NOMEM, "no memory for libpng")
                            : write_picture(&e, rgb, width, height, n_text);
    }
    png_destroy_write_struct(&e.png, &e.info);
    free(e.text);
    if (rc != ERR_OK) {
        free(e.sink.p);
        return e.sink.full ? err_set(err, ERR_NOMEM, "no memory for a PNG of %d x %d", width, height)
                           : err_set(err, rc, "%s", mine.msg);
    }
    *bytes = e.sink.p;
    *n = e.sink.n;
    return ERR_OK;
}

int pngfile_save(const char *path, const uint8_t *rgb, int width, int height,
             const struct picture_text *text, int n_text, struct err *err)
{
    struct atomicfile f;
    uint8_t *bytes;
    size_t n;
    TRY(pngfile_encode(rgb, width, height, text, n_text, &bytes, &n, err));
    int rc = atomicfile_open(&f, path, err);
    if (rc == ERR_OK)
        rc = atomicfile_write(&f, bytes, n, err);
    if (rc == ERR_OK)
        rc = atomicfile_commit(&f, err);
    else
        atomicfile_abandon(&f);
    free(bytes);
    return rc;
}
