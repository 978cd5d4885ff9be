/* safetensors.c - parses safetensors headers: a u64 length, a JSON object {name: {dtype, shape,
 * data_offsets}}, then the data, to which the offsets are relative. */
#include "workers/weights/safetensors.h"

#include "workers/weights/tensortable.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* The format's own limit. */
#define HEADER_MAX ((uint64_t)100000000)

static const struct { const char *name; enum dtype type; } dtypes[] = {
    {"F32", DT_F32}, {"F16", DT_F16}, {"BF16", DT_BF16}, {"F64", DT_F64}, {"I64", DT_I64},
    {"I32", DT_I32}, {"I16", DT_I16}, {"I8", DT_I8}, {"U8", DT_U8}, {"BOOL", DT_BOOL},
    {"F8_E4M3", DT_F8_E4M3}, {"F8_E5M2", DT_F8_E5M2},
};
enum { N_DTYPES = sizeof dtypes / sizeof *dtypes };

int safetensors_dtype(const char *name)
{
    for (int i = 0; i < N_DTYPES; i++)
        if (strcmp(dtypes[i].name, name) == 0)
            return (int)dtypes[i].type;
    return -1;
}

const char *safetensors_dtype_name(enum dtype type)
{
    for (int i = 0; i < N_DTYPES; i++)
        if (dtypes[i].type == type)
            return dtypes[i].name;
    return NULL;
}

/* The header's text, malloc'd, and where the data starts. */
static int read_text(struct tensorfile *t, int file, char **text, uint64_t *n, struct err *err)
{
    const char *name = tensortable_tail(t->path[file]);
    uint64_t size = t->file_bytes[file];
    if (size < 8)
        return err_set(err, ERR_FORMAT, "%s: is neither GGUF nor safetensors (empty or truncated"
                       " download?)", name);
    TRY(tensortable_pread(t, file, 0, n, sizeof *n, err));
    if (*n > HEADER_MAX || *n > size - 8) {
        char is[16];
        return err_set(err, ERR_FORMAT, "%s: is neither GGUF nor safetensors, or cut short: its"
                       " header would have %s", name, tensortable_size(is, *n));
    }
    *text = malloc(*n + 1);
    if (*text == NULL)
        return err_set(err, ERR_NOMEM, "%s: no memory for its header", name);
    int rc = tensortable_pread(t, file, 8, *text, *n, err);
    if (rc != ERR_OK) {
        free(*text);
        return rc;
    }
    tensortable_hash(t, *text, *n);
    return ERR_OK;
}

static int parse_json(const char *name, const char *text, size_t n, json_t **root, struct err *err)
{
    json_error_t e;
    *root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &e);
    if (*root == NULL)
        return err_set(err, ERR_FORMAT, "%s: the JSON header is wrong at byte %d: %.100s", name,
                       e.position, e.text);
    if (!json_is_object(*root)) {
        json_decref(*root);
        return err_set(err, ERR_FORMAT, "%s: the header is not a JSON object", name);
    }
    return ERR_OK;
}

/* {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]} of the tensor e->name. */
static int parse_entry(struct tensorfile *t, const json_t *j, uint64_t data, struct tensor_entry *e,
                       struct err *err)
{
    const char *file = tensortable_tail(t->path[e->file]);
    const char *dtype = json_string_value(json_object_get(j, "dtype"));
    const json_t *shape = json_object_get(j, "shape"), *range = json_object_get(j, "data_offsets");
    if (dtype == NULL || !json_is_array(shape) || !json_is_array(range) || json_array_size(range) != 2)
        return err_set(err, ERR_FORMAT, "%s: tensor %.64s lacks dtype, shape or data_offsets"
                       " (damaged file?)", file, e->name);
    int type = safetensors_dtype(dtype);
    if (type < 0)
        return err_set(err, ERR_FORMAT, "%s: tensor %.64s has dtype %.16s, which this program does"
                       " not know: save the model as BF16 or F32", file, e->name, dtype);
    e->type = (enum dtype)type;
    if (json_array_size(shape) > TENSOR_DIMS_MAX)
        return err_set(err, ERR_FORMAT, "%s: tensor %.64s has more than %d dimensions", file, e->name,
                       TENSOR_DIMS_MAX);
    e->n_dims = (int)json_array_size(shape);
    for (int i = 0; i < e->n_dims; i++) {
        const json_t *dim = json_array_get(shape, (size_t)i);
        e->shape[i] = json_is_integer(dim) ? json_integer_value(dim) : -1;
        if (e->shape[i] < 0)
            return err_set(err, ERR_FORMAT, "%s: tensor %.64s has a shape that is not made of whole"
                           " numbers (damaged file?)", file, e->name);
    }
    const json_t *from = json_array_get(range, 0), *to = json_array_get(range, 1);
    int64_t begin = json_is_integer(from) ? json_integer_value(from) : -1;
    int64_t end = json_is_integer(to) ? json_integer_value(to) : -1;
    if (begin < 0 || end < begin)
        return err_set(err, ERR_FORMAT, "%s: tensor %.64s has no sound data_offsets (damaged file?)",
                       file, e->name);
    e->offset = data + (uint64_t)begin;     /* no overflow: both are below 2^63 */
    e->bytes = (size_t)(end - begin);
    return ERR_OK;
}

static int by_offset(const void *a, const void *b)
{
    const struct tensor_entry *x = a, *y = b;
    return x->offset < y->offset ? -1 : x->offset > y->offset ? 1 : strcmp(x->name, y->name);
}

static int add_all(struct tensorfile *t, struct tensor_entry *list, size_t n, struct err *err)
{
    qsort(list, n, sizeof *list, by_offset);
    for (size_t i = 0; i < n; i++) {
        size_t claimed = list[i].bytes;
        TRY(tensortable_add_tensor(t, &list[i], err));
        if (list[i].bytes != claimed)
            return err_set(err, ERR_FORMAT, "%s: tensor %.64s has %zu bytes of data, its shape wants"
                           " %zu (damaged file?)", tensortable_tail(t->path[list[i].file]),
                           list[i].name, claimed, list[i].bytes);
    }
    return ERR_OK;
}

static int parse_tensors(struct tensorfile *t, int file, json_t *root, uint64_t data,
                         struct err *err)
{
    const char *key;
    json_t *value;
    size_t n = 0;
    struct tensor_entry *list = calloc(json_object_size(root) + 1, sizeof *list);
    if (list == NULL)
        return err_set(err, ERR_NOMEM, "%s: no memory for its tensor table",
                       tensortable_tail(t->path[file]));
    int rc = ERR_OK;
    json_object_foreach(root, key, value) {
        if (strcmp(key, "__metadata__") == 0)
            continue;
        struct tensor_entry *e = &list[n++];
        e->file = file;
        e->name = tensortable_strdup(t, key, strlen(key));
        if (e->name == NULL)
            rc = err_set(err, ERR_NOMEM, "%s: no memory for names", tensortable_tail(t->path[file]));
        else if (e->name[0] == '\0' || strlen(key) > TENSORTABLE_NAME_MAX)
            rc = err_set(err, ERR_FORMAT, "%s: a tensor's name is empty or longer than %d bytes",
                         tensortable_tail(t->path[file]), TENSORTABLE_NAME_MAX);
        else
            rc = parse_entry(t, value, data, e, err);
        if (rc != ERR_OK)
            break;
    }
    if (rc == ERR_OK)
        rc = add_all(t, list, n, err);
    free(list);
    return rc;
}

/* Shards repeat {"format": "pt"}: the first one's keys stand. */
static int parse_metadata(struct tensorfile *t, const json_t *meta, struct err *err)
{
    const char *key;
    json_t *value;
    int before = t->n_meta;
    json_object_foreach((json_t *)meta, key, value) {
        bool known = false;
        for (int i = 0; i < before && !known; i++)
            known = strcmp(t->meta[i].key, key) == 0;
        if (known || !json_is_string(value))
            continue;
        struct meta_value v = {.kind = META_STRING, .len = json_string_length(value)};
        const char *name = tensortable_strdup(t, key, strlen(key));
        v.str = tensortable_strdup(t, json_string_value(value), v.len);
        if (name == NULL || v.str == NULL)
            return err_set(err, ERR_NOMEM, "no memory for the metadata of a model file");
        TRY(tensortable_add_meta(t, name, &v, err));
    }
    return ERR_OK;
}

int safetensors_read_header(struct tensorfile *t, int file, struct err *err)
{
    char *text;
    uint64_t n;
    json_t *root;
    TRY(read_text(t, file, &text, &n, err));
    int rc = parse_json(tensortable_tail(t->path[file]), text, n, &root, err);
    free(text);
    TRY(rc);
    rc = parse_tensors(t, file, root, 8 + n, err);
    if (rc == ERR_OK)
        rc = parse_metadata(t, json_object_get(root, "__metadata__"), err);
    json_decref(root);
    return rc;
}
