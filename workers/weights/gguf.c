/* gguf.c - parses GGUF headers.
 * Memory: the header is read piecewise into one anonymous mapping of at most TENSORTABLE_HEADER_MAX,
 *         of which only the pages read are real. Strings stay there: each is moved over its own
 *         length field to make room for a NUL, arrays are moved to a multiple of 8. Nothing else is
 *         copied, so that a vocabulary costs its bytes and two words per string.
 * Trust:  none. A count is compared with the bytes that are left before anything is allocated. */
#include "workers/weights/gguf.h"

#include "workers/weights/tensortable.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { TENSORS_MAX = 1 << 20, KEY_MAX = 65535, ALIGNMENT_MAX = 1 << 20 };

/* A header being read; [0, have) of the file is in base, [0, at) is parsed. */
struct header {
    struct tensorfile *t;
    int file;
    const char *name;           /* for messages */
    uint8_t *base;
    size_t cap, have, at;
    struct err *err;
};

/* What the keys of one part say about the set. */
struct part {
    uint64_t n_tensors, n_kv;
    int64_t alignment;
    int64_t split_no, split_count, split_tensors;   /* -1: absent */
};

int gguf_type_bytes(int type)
{
    static const int bytes[GGUF_TYPE_COUNT] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return type >= 0 && type < GGUF_TYPE_COUNT ? bytes[type] : 0;
}

bool gguf_is(const struct tensorfile *t, int file)
{
    char magic[4];
    return t->file_bytes[file] >= sizeof magic
           && tensortable_pread(t, file, 0, magic, sizeof magic, NULL) == ERR_OK
           && memcmp(magic, "GGUF", 4) == 0;
}

/* *p: the next n bytes, consumed. */
static int take(struct header *h, uint64_t n, uint8_t **p)
{
    uint64_t left = h->t->file_bytes[h->file] - h->at;
    if (n > left)
        return err_set(h->err, ERR_FORMAT, "%s: the header goes on past the end of the file"
                       " (truncated download?)", h->name);
    if (n > h->cap - h->at)
        return err_set(h->err, ERR_LIMIT, "%s: the header is larger than %d MB (damaged file?)",
                       h->name, (int)(TENSORTABLE_HEADER_MAX >> 20));
    if (h->at + n > h->have) {
        /* Small steps at first: the header of a small model is all that should be read. */
        size_t want = h->at + n - h->have, step = h->have / 4 > 16384 ? h->have / 4 : 16384;
        size_t more = want > step ? want : step;
        more = more < h->cap - h->have ? more : h->cap - h->have;
        TRY(tensortable_pread(h->t, h->file, h->have, h->base + h->have, more, h->err));
        tensortable_hash(h->t, h->base + h->have, more);
        h->have += more;
    }
    *p = h->base + h->at;
    h->at += n;
    return ERR_OK;
}

static int take_u32(struct header *h, uint32_t *v)
{
    uint8_t *p;
    TRY(take(h, sizeof *v, &p));
    memcpy(v, p, sizeof *v);
    return ERR_OK;
}

static int take_u64(struct header *h, uint64_t *v)
{
    uint8_t *p;
    TRY(take(h, sizeof *v, &p));
    memcpy(v, p, sizeof *v);
    return ERR_OK;
}

/* A string, NUL-terminated in place. */
static int take_string(struct header *h, const char **s, uint64_t *n)
{
    uint8_t *p;
    TRY(take_u64(h, n));
    TRY(take(h, *n, &p));
    char *text = (char *)p - 8;
    memmove(text, p, *n);
    text[*n] = '\0';
    *s = text;
    return ERR_OK;
}

/* A string that names something: not empty, no NUL inside, at most `most` bytes. */
static int take_name(struct header *h, const char *what, uint64_t most, const char **s)
{
    uint64_t n;
    size_t at = h->at;
    TRY(take_string(h, s, &n));
    if (n == 0 || n > most || strlen(*s) != n)
        return err_set(h->err, ERR_FORMAT, "%s: the %s at byte %zu is empty, too long or not text"
                       " (damaged file?)", h->name, what, at);
    return ERR_OK;
}

static void scalar(struct meta_value *v, int type, const uint8_t *p)
{
    union { int8_t i8; int16_t i16; int32_t i32; int64_t i64; float f32; double f64; } u = {.i64 = 0};
    memcpy(&u, p, (size_t)gguf_type_bytes(type));
    v->kind = META_INT;
    switch (type) {
    case GGUF_I8: v->i = u.i8; break;
    case GGUF_I16: v->i = u.i16; break;
    case GGUF_I32: v->i = u.i32; break;
    case GGUF_F32: v->kind = META_FLOAT; v->f = u.f32; return;
    case GGUF_F64: v->kind = META_FLOAT; v->f = u.f64; return;
    case GGUF_BOOL: v->kind = META_BOOL; v->i = u.i8 != 0; break;
    case GGUF_U64: v->i = u.i64 >= 0 ? u.i64 : INT64_MAX; break;    /* held: nothing is that large */
    default: v->i = u.i64; break;   /* unsigned and smaller: the upper bytes are zero */
    }
    v->f = (double)v->i;
}

static int array_of_strings(struct header *h, const char *key, struct meta_value *v)
{
    const char **s = tensortable_alloc(h->t, v->len * sizeof *s);
    uint64_t *n = tensortable_alloc(h->t, v->len * sizeof *n);
    if (s == NULL || n == NULL)
        return err_set(h->err, ERR_NOMEM, "%s: no memory for the %" PRIu64 " strings of %.64s",
                       h->name, v->len, key);
    for (uint64_t i = 0; i < v->len; i++)
        TRY(take_string(h, &s[i], &n[i]));
    v->strings = s;
    v->string_lens = n;
    return ERR_OK;
}

static int array(struct header *h, const char *key, struct meta_value *v)
{
    uint32_t type;
    TRY(take_u32(h, &type));
    TRY(take_u64(h, &v->len));
    v->kind = META_ARRAY;
    v->elem_type = (int)type;
    uint64_t size = type == GGUF_STRING ? 8 : (uint64_t)gguf_type_bytes((int)type);
    if (type >= GGUF_TYPE_COUNT || size == 0)
        return err_set(h->err, ERR_FORMAT, "%s: key %.64s is an array of type %" PRIu32
                       ", which GGUF does not have (damaged file?)", h->name, key, type);
    if (v->len > (h->t->file_bytes[h->file] - h->at) / size)
        return err_set(h->err, ERR_FORMAT, "%s: key %.64s claims %" PRIu64 " elements, more than the"
                       " file holds (damaged or truncated?)", h->name, key, v->len);
    if (type == GGUF_STRING)
        return array_of_strings(h, key, v);
    uint8_t *p;
    TRY(take(h, v->len * size, &p));
    uint8_t *to = p - ((uintptr_t)p & 7);   /* type and count lie before it: room for 12 bytes */
    memmove(to, p, v->len * size);
    v->array = to;
    return ERR_OK;
}

static int value(struct header *h, const char *key, struct meta_value *v)
{
    uint32_t type;
    TRY(take_u32(h, &type));
    memset(v, 0, sizeof *v);
    if (type == GGUF_ARRAY)
        return array(h, key, v);
    v->elem_type = (int)type;
    if (type == GGUF_STRING) {
        v->kind = META_STRING;
        return take_string(h, &v->str, &v->len);
    }
    uint8_t *p;
    int size = gguf_type_bytes((int)type);
    if (size == 0)
        return err_set(h->err, ERR_FORMAT, "%s: key %.64s has type %" PRIu32 ", which GGUF does not"
                       " have (damaged file?)", h->name, key, type);
    TRY(take(h, (uint64_t)size, &p));
    scalar(v, (int)type, p);
    return ERR_OK;
}

static int start(struct header *h, struct part *part)
{
    uint32_t magic, version;
    uint64_t size = h->t->file_bytes[h->file];
    TRY(take_u32(h, &magic));
    TRY(take_u32(h, &version));
    if (magic != 0x46554747u)
        return err_set(h->err, ERR_FORMAT, "%s: is not a GGUF file", h->name);
    if (version != 0 && (version & 0xffff) == 0)
        return err_set(h->err, ERR_FORMAT, "%s: is a big-endian GGUF file; convert it to"
                       " little-endian", h->name);
    if (version != 2 && version != 3)
        return err_set(h->err, ERR_FORMAT, "%s: is GGUF version %" PRIu32 "; versions 2 and 3 can be"
                       " read: convert the model again", h->name, version);
    TRY(take_u64(h, &part->n_tensors));
    TRY(take_u64(h, &part->n_kv));
    /* The smallest tensor entry has 24 bytes, the smallest key 14. */
    if (part->n_tensors > TENSORS_MAX || part->n_tensors > size / 24)
        return err_set(h->err, ERR_FORMAT, "%s: the header claims %" PRIu64 " tensors, more than the"
                       " file can hold (damaged or truncated?)", h->name, part->n_tensors);
    if (part->n_kv > size / 14)
        return err_set(h->err, ERR_FORMAT, "%s: the header claims %" PRIu64 " keys, more than the"
                       " file can hold (damaged or truncated?)", h->name, part->n_kv);
    return ERR_OK;
}

static void note_key(struct part *part, const char *key, const struct meta_value *v)
{
    if (v->kind != META_INT)
        return;
    if (strcmp(key, "general.alignment") == 0)
        part->alignment = v->i;
    else if (strcmp(key, "split.no") == 0)
        part->split_no = v->i;
    else if (strcmp(key, "split.count") == 0)
        part->split_count = v->i;
    else if (strcmp(key, "split.tensors.count") == 0)
        part->split_tensors = v->i;
}

/* The keys; only the first part's are kept, the others repeat at most split.*. */
static int keys(struct header *h, struct part *part)
{
    part->alignment = GGUF_ALIGNMENT;
    part->split_no = part->split_count = part->split_tensors = -1;
    for (uint64_t i = 0; i < part->n_kv; i++) {
        const char *key;
        struct meta_value v;
        TRY(take_name(h, "key", KEY_MAX, &key));
        TRY(value(h, key, &v));
        note_key(part, key, &v);
        if (h->file == 0)
            TRY(tensortable_add_meta(h->t, key, &v, h->err));
    }
    if (part->alignment <= 0 || part->alignment > ALIGNMENT_MAX
        || (part->alignment & (part->alignment - 1)) != 0)
        return err_set(h->err, ERR_FORMAT, "%s: general.alignment is %" PRId64 ", not a power of two"
                       " up to 2^20 (damaged file?)", h->name, part->alignment);
    return ERR_OK;
}

/* One line of the tensor table; e->offset counts from the data section, whose place is not known yet. */
static int tensor_info(struct header *h, const struct part *part, struct tensor_entry *e)
{
    uint32_t n_dims, type;
    TRY(take_name(h, "tensor name", TENSORTABLE_NAME_MAX, &e->name));
    TRY(take_u32(h, &n_dims));
    if (n_dims > GGUF_DIMS_MAX)
        return err_set(h->err, ERR_FORMAT, "%s: tensor %.64s has %" PRIu32 " dimensions, at most %d"
                       " are allowed (damaged file?)", h->name, e->name, n_dims, GGUF_DIMS_MAX);
    e->n_dims = (int)n_dims;
    for (uint32_t i = 0; i < n_dims; i++) {
        uint64_t ne;
        TRY(take_u64(h, &ne));
        if (ne == 0 || ne > INT64_MAX)
            return err_set(h->err, ERR_FORMAT, "%s: tensor %.64s has a dimension of %" PRIu64
                           " (damaged file?)", h->name, e->name, ne);
        e->shape[n_dims - 1 - i] = (int64_t)ne;
    }
    TRY(take_u32(h, &type));
    TRY(take_u64(h, &e->offset));
    if (type >= DT_U8 || dtype_info((int)type) == NULL)
        return err_set(h->err, ERR_FORMAT, "%s: tensor %.64s has type %" PRIu32 ", which this program"
                       " does not know: convert the model to another type", h->name, e->name, type);
    e->type = (enum dtype)type;
    if (e->offset % (uint64_t)part->alignment != 0)
        return err_set(h->err, ERR_FORMAT, "%s: tensor %.64s starts at %" PRIu64 ", no multiple of"
                       " the alignment %" PRId64 " (damaged file?)", h->name, e->name, e->offset,
                       part->alignment);
    e->file = h->file;
    return ERR_OK;
}

static int tensors(struct header *h, const struct part *part)
{
    struct tensor_entry *list = calloc(part->n_tensors + 1, sizeof *list);
    if (list == NULL)
        return err_set(h->err, ERR_NOMEM, "%s: no memory for %" PRIu64 " tensor entries", h->name,
                       part->n_tensors);
    int rc = ERR_OK;
    for (uint64_t i = 0; i < part->n_tensors && rc == ERR_OK; i++)
        rc = tensor_info(h, part, &list[i]);
    uint64_t a = (uint64_t)part->alignment, data = (h->at + a - 1) / a * a;
    for (uint64_t i = 0; i < part->n_tensors && rc == ERR_OK; i++) {
        if (__builtin_add_overflow(list[i].offset, data, &list[i].offset))
            list[i].offset = UINT64_MAX;        /* past the end of any file: refused below */
        rc = tensortable_add_tensor(h->t, &list[i], h->err);
    }
    free(list);
    return rc;
}

static int map_header(struct header *h)
{
    uint64_t size = h->t->file_bytes[h->file];
    h->cap = size < TENSORTABLE_HEADER_MAX ? size : TENSORTABLE_HEADER_MAX;
    /* One byte more, so that even an empty file gives a mapping. */
    h->base = mmap(NULL, h->cap + 1, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (h->base == MAP_FAILED)
        return err_set(h->err, ERR_NOMEM, "%s: no address space for the header", h->name);
    return tensortable_keep_map(h->t, h->base, h->cap + 1, h->err);
}

static int read_part(struct tensorfile *t, int file, struct part *part, struct err *err)
{
    struct header h = {.t = t, .file = file, .name = tensortable_tail(t->path[file]), .err = err};
    TRY(map_header(&h));
    TRY(start(&h, part));
    TRY(keys(&h, part));
    return tensors(&h, part);
}

/* Name of part `no` of a set, from part 0's "PREFIX-00001-of-000NN.gguf". */
static int part_path(const char *first, int64_t no, int64_t count, char **path, struct err *err)
{
    char end[64], next[64];
    snprintf(end, sizeof end, "-%05d-of-%05" PRId64 ".gguf", 1, count);
    snprintf(next, sizeof next, "-%05" PRId64 "-of-%05" PRId64 ".gguf", no + 1, count);
    size_t n = strlen(first), n_end = strlen(end);
    if (n < n_end || strcmp(first + n - n_end, end) != 0)
        return err_set(err, ERR_FORMAT, "%s: is the first of %" PRId64 " parts, so its name must end"
                       " in %s: rename it back", tensortable_tail(first), count, end);
    n -= n_end;
    *path = malloc(n + sizeof next);
    if (*path == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a path");
    memcpy(*path, first, n);
    strcpy(*path + n, next);
    return ERR_OK;
}

static int read_other_part(struct tensorfile *t, int64_t no, int64_t count, struct err *err)
{
    char *path;
    int index = -1;
    struct part part;
    TRY(part_path(t->path[0], no, count, &path, err));
    int rc = tensortable_add_file(t, path, &index, err);
    free(path);
    TRY(rc);
    TRY(read_part(t, index, &part, err));
    if (part.split_no != no || part.split_count != count)
        return err_set(err, ERR_FORMAT, "%s: says it is part %" PRId64 " of %" PRId64 ", not %" PRId64
                       " of %" PRId64 " (files of different models mixed?)",
                       tensortable_tail(t->path[index]), part.split_no + 1, part.split_count, no + 1,
                       count);
    return ERR_OK;
}

int gguf_read_headers(struct tensorfile *t, struct err *err)
{
    struct part first;
    TRY(read_part(t, 0, &first, err));
    if (first.split_count <= 1)
        return ERR_OK;
    if (first.split_count > TENSORTABLE_FILES_MAX)
        return err_set(err, ERR_LIMIT, "%s: claims to be one of %" PRId64 " parts (damaged file?)",
                       tensortable_tail(t->path[0]), first.split_count);
    if (first.split_no != 0)
        return err_set(err, ERR_INVAL, "%s: is part %" PRId64 " of %" PRId64 ": give the first part"
                       " (...-00001-of-%05" PRId64 ".gguf)", tensortable_tail(t->path[0]),
                       first.split_no + 1, first.split_count, first.split_count);
    for (int64_t no = 1; no < first.split_count; no++)
        TRY(read_other_part(t, no, first.split_count, err));
    if (first.split_tensors >= 0 && first.split_tensors != t->n_tensors)
        return err_set(err, ERR_FORMAT, "%s: the %" PRId64 " parts hold %d tensors, %" PRId64 " were"
                       " promised (files of different models mixed?)", tensortable_tail(t->path[0]),
                       first.split_count, t->n_tensors, first.split_tensors);
    return ERR_OK;
}
