#include "workers/models/imagecases.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Does `name` end in `end`, alone or after a dot? Then what stands before it, dot included, is the stem. */
static bool stem_of(const char *name, const char *end, char stem[IMAGE_NAME])
{
    size_t n = strlen(name), k = strlen(end);
    if (n < k || strcmp(name + n - k, end) != 0 || (n > k && name[n - k - 1] != '.') || n - k >= IMAGE_NAME)
        return false;
    memcpy(stem, name, n - k);
    stem[n - k] = '\0';
    return true;
}

/* A stem of another family's calls is none of ours. */
static bool stem_fits(const struct imagefamily *f, const char *stem)
{
    size_t n = f->prefix != NULL ? strlen(f->prefix) : 0;
    return stem[0] == '\0' || (n > 0 && strncmp(stem, f->prefix, n) == 0 && stem[n] == '.');
}

static bool is_case(const struct imagefamily *f, const char *name, struct imagecase *c)
{
    for (int i = 0; i < FAMILY_INPUTS_MAX && f->input[i].name != NULL; i++) {
        c->first = &f->input[i];
        if (!c->first->first)
            continue;
        if (c->first->shared != NULL && strcmp(name, c->first->shared) == 0) {
            snprintf(c->stem, sizeof c->stem, "%s.", f->prefix);    /* one call: its outputs are named so */
            return true;
        }
        if (stem_of(name, c->first->name, c->stem) && stem_fits(f, c->stem))
            return true;
    }
    return false;
}

int imagecases_list(const struct imagepart *p, const struct tensorfile *t, struct imagecase *out)
{
    int n = 0;
    for (int i = 0; i < t->n_tensors && n < IMAGECASES_MAX && p->family != NULL; i++)
        n += is_case(p->family, t->tensor[i].name, &out[n]);
    return n;
}

/* --- numbers */

/* Whole numbers of a file as f32, which holds ids and labels exactly. */
static bool widen(float *out, const void *raw, enum dtype type, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        switch (type) {
        case DT_I64: out[i] = (float)((const int64_t *)raw)[i]; break;
        case DT_I32: out[i] = (float)((const int32_t *)raw)[i]; break;
        case DT_I16: out[i] = (float)((const int16_t *)raw)[i]; break;
        case DT_I8: out[i] = (float)((const int8_t *)raw)[i]; break;
        case DT_U8:
        case DT_BOOL: out[i] = (float)((const uint8_t *)raw)[i]; break;
        case DT_F64: out[i] = (float)((const double *)raw)[i]; break;
        default: return false;
        }
    }
    return true;
}

static int read_numbers(struct tensorfile *t, const struct tensor_entry *e, float *out, struct err *err)
{
    const struct dtype_info *type = dtype_info(e->type);
    void *raw = malloc(e->bytes > 0 ? e->bytes : 1);
    int rc = raw == NULL ? err_set(err, ERR_NOMEM, "no memory for tensor %s", e->name)
                         : tensorfile_read(t, e, 0, raw, e->bytes, err);
    if (rc == ERR_OK && !widen(out, raw, e->type, e->n_elements)) {
        if (type != NULL && type->dequantise != NULL)
            type->dequantise(out, raw, e->n_elements);
        else
            rc = err_set(err, ERR_FORMAT, "tensor %s is of a type that is no input here", e->name);
    }
    free(raw);
    return rc;
}

/* e as the input `name`; rows > 0: only so many of its first ones. */
static int put_entry(struct tensorfile *t, const struct tensor_entry *e, const char *name, int64_t rows,
                     struct imagetensors *in, struct err *err)
{
    int64_t shape[NN_DIMS_MAX] = {0};
    if (e->n_dims > NN_DIMS_MAX)
        return err_set(err, ERR_FORMAT, "tensor %s has %d dimensions, at most %d are known here", e->name,
                       e->n_dims, NN_DIMS_MAX);
    float *data = malloc((size_t)(e->n_elements > 0 ? e->n_elements : 1) * sizeof *data);
    if (data == NULL)
        return err_set(err, ERR_NOMEM, "no memory for tensor %s", e->name);
    int rc = read_numbers(t, e, data, err);
    memcpy(shape, e->shape, (size_t)e->n_dims * sizeof *shape);
    if (rows > 0 && e->n_dims > 0 && shape[0] > rows)
        shape[0] = rows;
    if (rc == ERR_OK && imagetensors_put(in, name, data, e->n_dims, shape) == NULL)
        rc = err_set(err, ERR_LIMIT, "too many inputs");
    if (rc != ERR_OK)
        free(data);
    return rc;
}

/* --- a call */

/* "mmdit.t37.5." says 37.5. */
static bool time_of_stem(const char *stem, const char *prefix, float *time)
{
    size_t n = prefix != NULL ? strlen(prefix) : 0, all = strlen(stem);
    char digits[IMAGE_NAME], *end;
    if (n == 0 || strncmp(stem, prefix, n) != 0 || stem[n] != '.' || stem[n + 1] != 't')
        return false;
    snprintf(digits, sizeof digits, "%.*s", (int)(all - n - 3), stem + n + 2);     /* without the last dot */
    *time = strtof(digits, &end);
    return end > digits && *end == '\0' && isfinite(*time);
}

static int put_time(const struct imagecase *c, const char *prefix, struct imagetensors *in, struct err *err)
{
    float time, *data;
    if (!time_of_stem(c->stem, prefix, &time))
        return ERR_OK;
    if ((data = malloc(sizeof *data)) == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a time");
    *data = time;
    if (imagetensors_put(in, "t", data, 1, (const int64_t[]){1}) != NULL)
        return ERR_OK;
    free(data);
    return err_set(err, ERR_LIMIT, "too many inputs");
}

int imagecases_read(const struct imagepart *p, struct tensorfile *t, const struct imagecase *c,
                    struct imagetensors *in, struct err *err)
{
    const struct imagefamily *f = p->family;
    char name[2 * IMAGE_NAME];
    int64_t rows = 0;
    in->n = 0;
    for (int i = 0; i < FAMILY_INPUTS_MAX && f->input[i].name != NULL; i++) {
        const struct imageinput *input = &f->input[i];
        if (input->first && input != c->first)
            continue;
        snprintf(name, sizeof name, "%s%s", c->stem, input->name);
        const struct tensor_entry *e = tensorfile_find(t, name);
        bool own = e != NULL;
        if (!own && input->shared != NULL)
            e = tensorfile_find(t, input->shared);
        if (e != NULL)
            TRY(put_entry(t, e, input->name, own ? 0 : rows, in, err));
        else if (strcmp(input->name, "t") == 0)
            TRY(put_time(c, f->prefix, in, err));
        if (input == c->first && in->n > 0)
            rows = in->t[0].shape[0];
    }
    return ERR_OK;
}

void imagecases_free(struct imagetensors *in)
{
    for (int i = 0; i < in->n; i++)
        free(in->t[i].data);
    in->n = 0;
}
