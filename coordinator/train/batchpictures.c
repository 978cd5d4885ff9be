/* batchpictures.c - folders of pictures as training data.
 * Layout: Hugging Face imagefolder, of PNG: metadata.jsonl beside the pictures ({"file_name", "text"}, a line
 *         each), or a folder for each class, whose name is the caption; either may lie in a folder `train`.
 * Checks: at the start, of all: the list, that each picture is there and has the size that is wanted, how
 *         long captions are. Pixels are decoded when they are first wanted, and kept up to a limit.
 * Order:  every picture once an epoch, shuffled by the seed; the last twentieth is held out. */
#define _GNU_SOURCE     /* asprintf, getline */
#include "coordinator/train/batchrows.h"

#include "coordinator/image/pngfile.h"
#include "proto/wire.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { PICTURES_MAX = 1 << 26, LINE_BYTES_MAX = 1 << 20, PATH_BYTES = 4200 };
static const size_t cache_bytes_max = (size_t)1 << 30;

struct entry { char *file; int32_t *ids; int label; uint8_t *planes; };

struct pictures {
    char folder[PATH_BYTES];
    struct entry *entry;
    int64_t n, cap;
    int n_classes;
    size_t cached;              /* bytes of pixels that are kept */
    uint8_t *scratch;           /* [3, side, side], of one that is not */
};

static const char *tail(const char *path)
{
    enum { TAIL = 80 };
    size_t n = strlen(path);
    return n > TAIL ? path + n - TAIL : path;
}

static bool is_file(const char *folder, const char *name)
{
    char path[PATH_BYTES];
    struct stat st;
    return snprintf(path, sizeof path, "%s/%s", folder, name) < PATH_BYTES && stat(path, &st) == 0 &&
           S_ISREG(st.st_mode);
}

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static bool is_png(const char *name)
{
    size_t n = strlen(name);
    return name[0] != '.' && n > 4 && strcmp(name + n - 4, ".png") == 0;
}

/* DATA itself, or its folder `train`. */
static void find_folder(const char *data, char folder[PATH_BYTES])
{
    if (snprintf(folder, PATH_BYTES, "%s/train", data) >= PATH_BYTES || !is_folder(folder) ||
        is_file(data, "metadata.jsonl"))
        snprintf(folder, PATH_BYTES, "%s", data);
}

static bool takes(const char *data, const struct batch_want *w)
{
    return w->side > 0 && is_folder(data);
}

/* --- the list */

static struct entry *add_entry(struct pictures *p, char *file, struct err *err)
{
    if (file == NULL || p->n == PICTURES_MAX) {
        free(file);
        err_set(err, file == NULL ? ERR_NOMEM : ERR_LIMIT, "%s: too many pictures", tail(p->folder));
        return NULL;
    }
    if (p->n == p->cap) {
        int64_t cap = p->cap == 0 ? 1024 : 2 * p->cap;
        struct entry *grown = realloc(p->entry, (size_t)cap * sizeof *grown);
        if (grown == NULL) {
            free(file);
            err_set(err, ERR_NOMEM, "no memory for a list of pictures");
            return NULL;
        }
        p->entry = grown;
        p->cap = cap;
    }
    p->entry[p->n] = (struct entry){.file = file};
    return &p->entry[p->n++];
}

static uint32_t big_endian(const uint8_t b[4])
{
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

/* A PNG's size stands in its first bytes. where: for messages. */
static int check_picture(const struct pictures *p, const char *file, int side, const char *where,
                         struct err *err)
{
    static const uint8_t begin[16] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n',
                                       0,    0,   0,   13,  'I',  'H',  'D',  'R'};
    char path[2 * PATH_BYTES];
    uint8_t head[24];
    snprintf(path, sizeof path, "%s/%s", p->folder, file);
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        return err_set(err, ERR_IO, "%s%s: %s", where, tail(file), strerror(errno));
    size_t n = fread(head, 1, sizeof head, f);
    fclose(f);
    if (n < sizeof head || memcmp(head, begin, sizeof begin) != 0)
        return err_set(err, ERR_FORMAT, "%s%s: not a PNG file", where, tail(file));
    uint32_t width = big_endian(head + 16), height = big_endian(head + 20);
    if (width != (uint32_t)side || height != (uint32_t)side)
        return err_set(err, ERR_FORMAT, "%s%s: %u x %u pixels, the model wants %d x %d", where,
                       tail(file), width, height, side, side);
    return ERR_OK;
}

/* The ids of a caption, which must fit as a whole. */
static int take_caption(const struct batchsource *s, struct entry *e, const char *text, const char *where,
                        struct err *err)
{
    struct token_list list = {0};
    struct tokenize_options plain = {false, false};
    const struct tokenizer *t = s->want.tokenizer;
    int room = s->want.length - 1 - (tokenizer_bos(t) >= 0);
    e->ids = malloc((size_t)s->want.length * sizeof *e->ids);
    if (e->ids == NULL)
        return err_set(err, ERR_NOMEM, "no memory for captions");
    int rc = tokenizer_encode(t, text, strlen(text), plain, &list, err);
    if (rc == ERR_OK && list.n > room)
        rc = err_set(err, ERR_FORMAT, "%sa caption of %d tokens, the model takes %d (shorten it, or "
                     "train one with a larger --set length)", where, list.n, room);
    token_list_free(&list);
    return rc != ERR_OK ? rc : batchsource_caption(s, text, e->ids, err);
}

static int take_line(const struct batchsource *s, struct pictures *p, const char *line, size_t n,
                     const char *where, struct err *err)
{
    json_error_t why;
    json_t *row = json_loadb(line, n, 0, &why);
    const char *file = json_string_value(json_object_get(row, "file_name"));
    const char *text = json_string_value(json_object_get(row, "text"));
    struct entry *e = NULL;
    int rc = ERR_OK;
    if (row == NULL)
        rc = err_set(err, ERR_FORMAT, "%s%.80s", where, why.text);
    else if (file == NULL || file[0] == '\0' || strlen(file) >= PATH_BYTES)
        rc = err_set(err, ERR_FORMAT, "%sno \"file_name\"", where);
    else if (s->want.length > 0 && text == NULL)
        rc = err_set(err, ERR_FORMAT, "%sno \"text\"", where);
    else
        rc = check_picture(p, file, s->want.side, where, err);
    if (rc == ERR_OK && (e = add_entry(p, strdup(file), err)) == NULL)
        rc = err->code;
    if (rc == ERR_OK && s->want.length > 0)
        rc = take_caption(s, e, text, where, err);
    json_decref(row);
    return rc;
}

static int read_list(const struct batchsource *s, struct pictures *p, struct err *err)
{
    char path[PATH_BYTES + 32], where[120], *line = NULL;
    size_t cap = 0;
    ssize_t n;
    int rc = ERR_OK;
    snprintf(path, sizeof path, "%s/metadata.jsonl", p->folder);
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        return err_set(err, ERR_IO, "%s: %s", tail(path), strerror(errno));
    for (int at = 1; rc == ERR_OK && (errno = 0, n = getline(&line, &cap, f)) >= 0; at++) {
        snprintf(where, sizeof where, "%.90s: line %d: ", tail(path), at);
        if (n > LINE_BYTES_MAX)
            rc = err_set(err, ERR_LIMIT, "%smore than %d MB", where, LINE_BYTES_MAX >> 20);
        else if (strspn(line, " \t\r\n") != (size_t)n)
            rc = take_line(s, p, line, (size_t)n, where, err);
    }
    if (rc == ERR_OK && ferror(f))
        rc = err_set(err, ERR_IO, "%s: %s", tail(path), strerror(errno));
    free(line);
    fclose(f);
    return rc;
}

/* --- a folder for each class */

static int read_class(const struct batchsource *s, struct pictures *p, const char *name, struct err *err)
{
    char path[2 * PATH_BYTES], where[120];
    struct dirent **list;
    snprintf(path, sizeof path, "%s/%s", p->folder, name);
    int n = scandir(path, &list, NULL, alphasort), rc = ERR_OK, label = p->n_classes;
    if (n < 0)
        return err_set(err, ERR_IO, "%s: %s", tail(path), strerror(errno));
    snprintf(where, sizeof where, "%.90s: ", tail(p->folder));
    for (int i = 0; i < n; i++) {
        char *file = NULL;
        struct entry *e = NULL;
        if (rc == ERR_OK && is_png(list[i]->d_name)) {
            if (asprintf(&file, "%s/%s", name, list[i]->d_name) < 0)
                file = NULL;
            rc = file == NULL ? err_set(err, ERR_NOMEM, "no memory for a path")
                              : check_picture(p, file, s->want.side, where, err);
            if (rc != ERR_OK)
                free(file);
            else if ((e = add_entry(p, file, err)) == NULL)
                rc = err->code;
            if (rc == ERR_OK)
                e->label = label;
            if (rc == ERR_OK && s->want.length > 0)
                rc = take_caption(s, e, name, where, err);
            p->n_classes = label + 1;
        }
        free(list[i]);
    }
    free(list);
    return rc;
}

static int read_classes(const struct batchsource *s, struct pictures *p, struct err *err)
{
    struct dirent **list;
    char path[2 * PATH_BYTES];
    int n = scandir(p->folder, &list, NULL, alphasort), rc = ERR_OK;
    if (n < 0)
        return err_set(err, ERR_IO, "%s: %s", tail(p->folder), strerror(errno));
    for (int i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/%s", p->folder, list[i]->d_name);
        if (rc == ERR_OK && list[i]->d_name[0] != '.' && is_folder(path))
            rc = read_class(s, p, list[i]->d_name, err);
        free(list[i]);
    }
    free(list);
    return rc;
}

/* --- life */

static void close_pictures(struct batchsource *s)
{
    struct pictures *p = s->state;
    for (int64_t i = 0; i < p->n; i++) {
        free(p->entry[i].file);
        free(p->entry[i].ids);
        free(p->entry[i].planes);
    }
    free(p->entry);
    free(p->scratch);
    free(p);
}

static int read_folder(const struct batchsource *s, struct pictures *p, const char *data, struct err *err)
{
    const struct batch_want *w = &s->want;
    TRY(is_file(p->folder, "metadata.jsonl") ? read_list(s, p, err) : read_classes(s, p, err));
    if (p->n == 0)
        return err_set(err, ERR_FORMAT, "--data %s: empty data set: no picture is in metadata.jsonl, and "
                       "none in folders of classes", tail(data));
    if (w->classes > 1 && p->n_classes > w->classes)
        return err_set(err, ERR_FORMAT,
                       "--data %s: %d folders of classes, the model has %d (--set classes=%d)", tail(data),
                       p->n_classes, w->classes, p->n_classes);
    return ERR_OK;
}

static int open_pictures(struct batchsource *s, const char *data, const struct batch_want *w,
                         struct err *err)
{
    struct pictures *p = s->state = calloc(1, sizeof *p);
    if (p == NULL || (p->scratch = malloc(3 * (size_t)w->side * (size_t)w->side)) == NULL) {
        free(p);
        return err_set(err, ERR_NOMEM, "no memory for pictures");
    }
    find_folder(data, p->folder);
    int rc = read_folder(s, p, data, err);
    s->n_samples = (uint64_t)p->n;
    if (rc != ERR_OK)
        close_pictures(s);
    return rc;
}

/* --- pixels */

/* [side, side, 3] to [3, side, side]. */
static void to_planes(const uint8_t *rgb, int side, uint8_t *out)
{
    int n = side * side;
    for (int i = 0; i < n; i++)
        for (int c = 0; c < 3; c++)
            out[c * n + i] = rgb[3 * i + c];
}

/* [3, side, side] of a picture, kept while there is room. */
static int pixels_of(struct pictures *p, struct entry *e, int side, const uint8_t **planes, struct err *err)
{
    char path[2 * PATH_BYTES];
    struct picture png = {0};
    size_t bytes = 3 * (size_t)side * (size_t)side;
    *planes = e->planes;
    if (e->planes != NULL)
        return ERR_OK;
    snprintf(path, sizeof path, "%s/%s", p->folder, e->file);
    TRY(pngfile_load(&png, path, err));
    if (png.width != side || png.height != side) {
        pngfile_free(&png);
        return err_set(err, ERR_FORMAT, "%s: changed while it was in use", tail(path));
    }
    uint8_t *to = p->cached + bytes <= cache_bytes_max ? malloc(bytes) : NULL;
    if (to != NULL) {
        e->planes = to;
        p->cached += bytes;
    }
    to_planes(png.rgb, side, to != NULL ? to : p->scratch);
    pngfile_free(&png);
    *planes = to != NULL ? to : p->scratch;
    return ERR_OK;
}

/* Half the side: means of 2 x 2. */
static void halve(const uint8_t *planes, int side, uint8_t *out)
{
    int half = side / 2;
    for (int c = 0; c < 3; c++)
        for (int y = 0; y < half; y++)
            for (int x = 0; x < half; x++) {
                const uint8_t *at = planes + ((int64_t)c * side + 2 * y) * side + 2 * x;
                *out++ = (uint8_t)((at[0] + at[1] + at[side] + at[side + 1] + 2) / 4);
            }
}

/* Another picture with another caption, for sample `number` at `place`. */
static const struct entry *another(const struct batchsource *s, uint64_t number, uint64_t place)
{
    const struct pictures *p = s->state;
    size_t bytes = (size_t)s->want.length * sizeof(int32_t);
    uint64_t at = batchsource_shuffled(s->want.seed + BATCHROWS_WRONG, number, s->n_samples);
    for (uint64_t i = 0; i < s->n_samples; i++, at = (at + 1) % s->n_samples)
        if (memcmp(p->entry[at].ids, p->entry[place].ids, bytes) != 0)
            break;
    return &p->entry[at];
}

struct places { uint8_t *pixels, *small; int32_t *ids, *wrong, *labels; };

static int fill_one(struct batchsource *s, uint64_t number, int i, const struct places *to, struct err *err)
{
    struct pictures *p = s->state;
    const struct batch_want *w = &s->want;
    uint64_t place = batchsource_place(s, number);
    struct entry *e = &p->entry[place];
    const uint8_t *planes;
    size_t bytes = 3 * (size_t)w->side * (size_t)w->side, row = (size_t)w->length * sizeof(int32_t);
    TRY(pixels_of(p, e, w->side, &planes, err));
    memcpy(to->pixels + (size_t)i * bytes, planes, bytes);
    if (to->small != NULL)
        halve(planes, w->side, to->small + (size_t)i * bytes / 4);
    if (to->ids != NULL && batchsource_drops(s, number))
        TRY(batchsource_caption(s, NULL, to->ids + i * w->length, err));
    else if (to->ids != NULL)
        memcpy(to->ids + i * w->length, e->ids, row);
    if (to->wrong != NULL)
        memcpy(to->wrong + i * w->length, another(s, number, place)->ids, row);
    if (to->labels != NULL)
        to->labels[i] = e->label;
    return ERR_OK;
}

static int fill(struct batchsource *s, const uint64_t *number, int n, Muster__TrainBatch *out,
                struct arena *mem, struct err *err)
{
    const struct batch_want *w = &s->want;
    const struct pictures *p = s->state;
    uint64_t count = (uint64_t)n, side = (uint64_t)w->side, length = (uint64_t)w->length;
    bool wrong = w->wrong_caption && w->length > 0, labels = w->classes > 1 && p->n_classes > 0;
    struct places to = {0};
    to.pixels = batchsource_tensor(out, mem, "pixels", WIRE_U8, 4, (uint64_t[]){count, 3, side, side});
    if (w->small)
        to.small = batchsource_tensor(out, mem, "small", WIRE_U8, 4,
                                      (uint64_t[]){count, 3, side / 2, side / 2});
    if (w->length > 0)
        to.ids = batchsource_tensor(out, mem, "ids", WIRE_I32, 2, (uint64_t[]){count, length});
    if (wrong)
        to.wrong = batchsource_tensor(out, mem, "wrong_ids", WIRE_I32, 2, (uint64_t[]){count, length});
    if (labels)
        to.labels = batchsource_tensor(out, mem, "labels", WIRE_I32, 1, &count);
    if (out->n_tensor != (size_t)(1 + w->small + (w->length > 0) + wrong + labels))
        return err_set(err, ERR_NOMEM, "no memory for a batch of %d pictures", n);
    for (int i = 0; i < n; i++)
        TRY(fill_one(s, number[i], i, &to, err));
    return ERR_OK;
}

const struct batchsource_row batchsource_pictures = {
    .takes = takes, .open = open_pictures, .fill = fill, .close = close_pictures};
