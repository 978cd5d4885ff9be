#include "workers/weights/tensortable.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* An open-addressed index: slot -> number of the entry + 1, 0 free. */
struct name_index { uint32_t *slot; size_t n_slots; };

struct kept { struct kept *next; void *map; size_t bytes; };

struct tables {
    struct name_index tensors, metas;
    struct kept *kept;          /* blocks of tensortable_alloc follow their struct; maps are apart */
    int tensors_cap, metas_cap, files_cap;
    uint64_t hash;
};

const char *tensortable_tail(const char *path)
{
    enum { TAIL = 90 };
    size_t n = strlen(path);
    return n > TAIL ? path + n - TAIL : path;
}

const char *tensortable_size(char buf[16], uint64_t n)
{
    static const char *const unit[] = {"KB", "MB", "GB", "TB", "PB", "EB"};
    if (n < 1000) {
        snprintf(buf, 16, "%" PRIu64 " bytes", n);
        return buf;
    }
    double v = (double)n / 1000;
    int u = 0;
    for (; v >= 1000 && u < 5; u++)
        v /= 1000;
    snprintf(buf, 16, "%.1f %s", v, unit[u]);
    return buf;
}

static int no_memory(struct err *err)
{
    return err_set(err, ERR_NOMEM, "no memory for the tables of a model file");
}

int tensortable_init(struct tensorfile *t, struct err *err)
{
    memset(t, 0, sizeof *t);
    t->priv = calloc(1, sizeof(struct tables));
    return t->priv != NULL ? ERR_OK : no_memory(err);
}

/* Room for one more element: *items [n of cap], each of `size` bytes. */
static int grow(void *items, int n, int *cap, size_t size, struct err *err)
{
    if (n < *cap)
        return ERR_OK;
    if (n > INT32_MAX / 2)
        return err_set(err, ERR_LIMIT, "more than %d entries in a model file", n);
    int more = *cap > 0 ? 2 * *cap : 16;
    void *old, *p;
    memcpy(&old, items, sizeof old);
    p = realloc(old, (size_t)more * size);
    if (p == NULL)
        return no_memory(err);
    memcpy(items, &p, sizeof p);
    *cap = more;
    return ERR_OK;
}

/* Three arrays that grow together. */
static int grow_files(struct tensorfile *t, struct err *err)
{
    struct tables *s = t->priv;
    int cap[3] = {s->files_cap, s->files_cap, s->files_cap};
    if (t->n_files >= TENSORTABLE_FILES_MAX)
        return err_set(err, ERR_LIMIT, "%s: more than %d files in a set",
                       tensortable_tail(t->path[0]), TENSORTABLE_FILES_MAX);
    TRY(grow(&t->fd, t->n_files, &cap[0], sizeof *t->fd, err));
    TRY(grow(&t->path, t->n_files, &cap[1], sizeof *t->path, err));
    TRY(grow(&t->file_bytes, t->n_files, &cap[2], sizeof *t->file_bytes, err));
    s->files_cap = cap[2];
    return ERR_OK;
}

int tensortable_add_file(struct tensorfile *t, const char *path, int *index, struct err *err)
{
    TRY(grow_files(t, err));
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_set(err, ERR_IO, "%s: %s (check the path given with -m)",
                       tensortable_tail(path), strerror(errno));
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return err_set(err, ERR_IO, "%s: is not a regular file", tensortable_tail(path));
    }
    char *copy = strdup(path);
    if (copy == NULL) {
        close(fd);
        return no_memory(err);
    }
    *index = t->n_files++;
    t->fd[*index] = fd;
    t->path[*index] = copy;
    t->file_bytes[*index] = (uint64_t)st.st_size;
    return ERR_OK;
}

int tensortable_pread(const struct tensorfile *t, int file, uint64_t offset, void *buf, size_t n,
                      struct err *err)
{
    enum { PIECE = 1 << 30 };   /* Linux reads at most 2 GiB - 4 KiB at once */
    uint8_t *p = buf;
    while (n > 0) {
        ssize_t got = pread(t->fd[file], p, n < PIECE ? n : PIECE, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_set(err, ERR_IO, "%s: reading at byte %" PRIu64 ": %s",
                           tensortable_tail(t->path[file]), offset, strerror(errno));
        if (got == 0)
            return err_set(err, ERR_FORMAT,
                           "%s: ends at byte %" PRIu64 ", more was expected (truncated download?)",
                           tensortable_tail(t->path[file]), offset);
        p += got;
        offset += (uint64_t)got;
        n -= (size_t)got;
    }
    return ERR_OK;
}

/* n_elements and bytes from type and shape. */
static int measure(const struct tensorfile *t, struct tensor_entry *e, struct err *err)
{
    const char *file = tensortable_tail(t->path[e->file]);
    const struct dtype_info *type = dtype_info((int)e->type);
    e->n_elements = 1;
    for (int i = 0; i < e->n_dims; i++) {
        if (e->shape[i] < 0 || __builtin_mul_overflow(e->n_elements, e->shape[i], &e->n_elements))
            return err_set(err, ERR_FORMAT, "%s: tensor %.64s has a shape of more than 2^63 elements"
                           " (damaged file?)", file, e->name);
    }
    int64_t row = e->n_dims > 0 ? e->shape[e->n_dims - 1] : 1;
    if (row % type->block != 0)
        return err_set(err, ERR_FORMAT, "%s: tensor %.64s has rows of %" PRId64 ", which is no"
                       " multiple of %s's block of %d", file, e->name, row, type->name, type->block);
    if (__builtin_mul_overflow((size_t)(e->n_elements / type->block), (size_t)type->bytes, &e->bytes))
        return err_set(err, ERR_FORMAT, "%s: tensor %.64s wants more than 2^64 bytes"
                       " (damaged file?)", file, e->name);
    return ERR_OK;
}

int tensortable_add_tensor(struct tensorfile *t, struct tensor_entry *e, struct err *err)
{
    struct tables *s = t->priv;
    TRY(measure(t, e, err));
    uint64_t size = t->file_bytes[e->file], room = e->offset < size ? size - e->offset : 0;
    if (e->bytes > room) {
        char past[16];
        return err_set(err, ERR_FORMAT, "%s: tensor %.64s wants %s past the end of the file"
                       " (truncated download?)", tensortable_tail(t->path[e->file]), e->name,
                       tensortable_size(past, e->bytes - room));
    }
    TRY(grow(&t->tensor, t->n_tensors, &s->tensors_cap, sizeof *t->tensor, err));
    t->tensor[t->n_tensors++] = *e;
    return ERR_OK;
}

int tensortable_add_meta(struct tensorfile *t, const char *key, const struct meta_value *value,
                         struct err *err)
{
    struct tables *s = t->priv;
    TRY(grow(&t->meta, t->n_meta, &s->metas_cap, sizeof *t->meta, err));
    t->meta[t->n_meta++] = (struct meta_entry){key, *value};
    return ERR_OK;
}

void *tensortable_alloc(struct tensorfile *t, size_t bytes)
{
    struct tables *s = t->priv;
    if (bytes > SIZE_MAX / 2)
        return NULL;
    struct kept *k = calloc(1, sizeof *k + bytes);
    if (k == NULL)
        return NULL;
    k->next = s->kept;
    s->kept = k;
    return k + 1;
}

char *tensortable_strdup(struct tensorfile *t, const char *s, size_t n)
{
    char *copy = tensortable_alloc(t, n + 1);
    if (copy != NULL)
        memcpy(copy, s, n);
    return copy;
}

int tensortable_keep_map(struct tensorfile *t, void *map, size_t bytes, struct err *err)
{
    struct tables *s = t->priv;
    if (tensortable_alloc(t, 0) == NULL) {
        munmap(map, bytes);
        return no_memory(err);
    }
    s->kept->map = map;         /* the newest block is the one just made */
    s->kept->bytes = bytes;
    return ERR_OK;
}

/* FNV-1a over words of 8 bytes, with a shift that lets high bits reach low ones. */
void tensortable_hash(struct tensorfile *t, const void *bytes, size_t n)
{
    struct tables *s = t->priv;
    const uint8_t *p = bytes;
    uint64_t h = s->hash ^ (0xcbf29ce484222325u + n);
    for (; n > 0; p += n < 8 ? n : 8, n -= n < 8 ? n : 8) {
        uint64_t w = 0;
        memcpy(&w, p, n < 8 ? n : 8);
        h = (h ^ w) * 0x100000001b3u;
        h ^= h >> 29;
    }
    s->hash = h;
}

/* --- the index by name */

static uint64_t name_hash(const char *name)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (; *name != '\0'; name++)
        h = (h ^ (uint8_t)*name) * 0x100000001b3u;
    return h ^ h >> 32;
}

static const char *tensor_name(const struct tensorfile *t, size_t i) { return t->tensor[i].name; }
static const char *meta_key(const struct tensorfile *t, size_t i) { return t->meta[i].key; }
typedef const char *(*name_of)(const struct tensorfile *t, size_t i);

/* The slot that holds name, or the free one where it belongs; n_slots > 0. */
static size_t find_slot(const struct tensorfile *t, const struct name_index *x, name_of of,
                        const char *name)
{
    size_t i = name_hash(name) & (x->n_slots - 1);
    while (x->slot[i] != 0 && strcmp(of(t, x->slot[i] - 1), name) != 0)
        i = (i + 1) & (x->n_slots - 1);
    return i;
}

/* *twice: number of the first entry whose name was there before, or n. */
static int build_index(const struct tensorfile *t, struct name_index *x, name_of of, int n,
                       int *twice, struct err *err)
{
    for (x->n_slots = 16; x->n_slots < 2 * (size_t)n; x->n_slots *= 2)
        ;
    x->slot = calloc(x->n_slots, sizeof *x->slot);
    if (x->slot == NULL)
        return no_memory(err);
    for (*twice = 0; *twice < n; (*twice)++) {
        size_t i = find_slot(t, x, of, of(t, (size_t)*twice));
        if (x->slot[i] != 0)
            break;
        x->slot[i] = (uint32_t)*twice + 1;
    }
    return ERR_OK;
}

static int by_place(const void *a, const void *b)
{
    const struct tensor_entry *x = *(const struct tensor_entry *const *)a;
    const struct tensor_entry *y = *(const struct tensor_entry *const *)b;
    if (x->file != y->file)
        return x->file < y->file ? -1 : 1;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* Two names for the same bytes would be a file made to deceive, or a damaged one. */
static int check_overlaps(const struct tensorfile *t, struct err *err)
{
    const struct tensor_entry **order = malloc(((size_t)t->n_tensors + 1) * sizeof *order);
    if (order == NULL)
        return no_memory(err);
    int n = 0, rc = ERR_OK;
    for (int i = 0; i < t->n_tensors; i++)
        if (t->tensor[i].bytes > 0)
            order[n++] = &t->tensor[i];
    qsort(order, (size_t)n, sizeof *order, by_place);
    for (int i = 1; i < n && rc == ERR_OK; i++)
        if (order[i]->file == order[i - 1]->file
            && order[i]->offset - order[i - 1]->offset < order[i - 1]->bytes)
            rc = err_set(err, ERR_FORMAT, "%s: tensors %.48s and %.48s overlap (damaged file?)",
                         tensortable_tail(t->path[order[i]->file]), order[i - 1]->name,
                         order[i]->name);
    free(order);
    return rc;
}

int tensortable_finish(struct tensorfile *t, struct err *err)
{
    struct tables *s = t->priv;
    int twice;
    TRY(build_index(t, &s->tensors, tensor_name, t->n_tensors, &twice, err));
    if (twice < t->n_tensors)
        return err_set(err, ERR_FORMAT, "%s: tensor %.64s is there twice (damaged file?)",
                       tensortable_tail(t->path[t->tensor[twice].file]), t->tensor[twice].name);
    TRY(build_index(t, &s->metas, meta_key, t->n_meta, &twice, err));
    if (twice < t->n_meta)
        return err_set(err, ERR_FORMAT, "%s: key %.64s is there twice (damaged file?)",
                       tensortable_tail(t->path[0]), t->meta[twice].key);
    return check_overlaps(t, err);
}

/* --- the public half that needs the private tables */

const struct tensor_entry *tensorfile_find(const struct tensorfile *t, const char *name)
{
    const struct tables *s = t->priv;
    if (s == NULL || s->tensors.n_slots == 0)
        return NULL;
    uint32_t i = s->tensors.slot[find_slot(t, &s->tensors, tensor_name, name)];
    return i != 0 ? &t->tensor[i - 1] : NULL;
}

const struct meta_value *tensorfile_meta(const struct tensorfile *t, const char *key)
{
    const struct tables *s = t->priv;
    if (s == NULL || s->metas.n_slots == 0)
        return NULL;
    uint32_t i = s->metas.slot[find_slot(t, &s->metas, meta_key, key)];
    return i != 0 ? &t->meta[i - 1].value : NULL;
}

void tensorfile_digest(const struct tensorfile *t, uint64_t *size, uint64_t *hash)
{
    const struct tables *s = t->priv;
    *size = 0;
    for (int i = 0; i < t->n_files; i++)
        *size += t->file_bytes[i];
    *hash = s != NULL ? s->hash : 0;
}

void tensorfile_close(struct tensorfile *t)
{
    struct tables *s = t->priv;
    for (int i = 0; i < t->n_files; i++) {
        close(t->fd[i]);
        free(t->path[i]);
    }
    free(t->fd);
    free(t->path);
    free(t->file_bytes);
    free(t->tensor);
    free(t->meta);
    if (s != NULL) {
        free(s->tensors.slot);
        free(s->metas.slot);
        for (struct kept *k = s->kept, *next; k != NULL; k = next) {
            next = k->next;
            if (k->map != NULL)
                munmap(k->map, k->bytes);
            free(k);
        }
        free(s);
    }
    memset(t, 0, sizeof *t);
}
