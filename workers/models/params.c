#include "workers/models/params.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void params_free(struct params *s)
{
    for (int i = 0; i < s->n; i++) {
        free(s->p[i].name);
        free(s->p[i].data);
        nn_packed_free(&s->p[i].packed);
    }
    free(s->p);
    memset(s, 0, sizeof *s);
}

/* Index of the first entry that is not before name. */
static int place_of(const struct params *s, const char *name)
{
    int low = 0, high = s->n;
    while (low < high) {
        int mid = (low + high) / 2;
        if (strcmp(s->p[mid].name, name) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

struct param *params_find(const struct params *s, const char *name)
{
    int i = place_of(s, name);
    return i < s->n && strcmp(s->p[i].name, name) == 0 ? &s->p[i] : NULL;
}

static bool grow(struct params *s)
{
    if (s->n < s->cap)
        return true;
    int cap = s->cap > 0 ? 2 * s->cap : 64;
    struct param *p = realloc(s->p, (size_t)cap * sizeof *p);
    if (p == NULL)
        return false;
    s->p = p;
    s->cap = cap;
    return true;
}

static struct param *add(struct params *s, const char *name, int n_dims, const int64_t *shape, bool numbers)
{
    struct param made = {.n_dims = n_dims, .n = 1};
    int at = place_of(s, name);
    if ((at < s->n && strcmp(s->p[at].name, name) == 0) || n_dims > NN_DIMS_MAX || !grow(s))
        return NULL;
    for (int i = 0; i < n_dims; i++)
        made.n *= made.shape[i] = shape[i];
    made.name = strdup(name);
    made.data = numbers ? calloc((size_t)(made.n > 0 ? made.n : 1), sizeof *made.data) : NULL;
    if (made.name == NULL || (numbers && made.data == NULL)) {
        free(made.name);
        free(made.data);
        return NULL;
    }
    memmove(&s->p[at + 1], &s->p[at], (size_t)(s->n - at) * sizeof *s->p);
    s->p[at] = made;
    s->n++;
    return &s->p[at];
}

struct param *params_add(struct params *s, const char *name, int n_dims, const int64_t *shape)
{
    return add(s, name, n_dims, shape, true);
}

static int load_entry(struct params *s, struct tensorfile *t, const struct tensor_entry *e,
                      struct err *err)
{
    const struct dtype_info *type = dtype_info(e->type);
    if (e->n_dims > NN_DIMS_MAX || type == NULL || type->dequantise == NULL)
        return err_set(err, ERR_FORMAT, "tensor %s has %d dimensions of a type that is no weight here",
                       e->name, e->n_dims);
    struct param *p = params_add(s, e->name, e->n_dims, e->shape);
    uint8_t *raw = malloc(e->bytes > 0 ? e->bytes : 1);
    int rc = p == NULL || raw == NULL
                 ? err_set(err, ERR_NOMEM, "no memory for tensor %s, or it comes twice", e->name)
                 : tensorfile_read(t, e, 0, raw, e->bytes, err);
    if (rc == ERR_OK)
        type->dequantise(p->data, raw, e->n_elements);
    free(raw);
    return rc;
}

bool params_is_weight(const struct tensor_entry *e) { return e->type != DT_I64 && e->type != DT_I32; }

int params_load(struct params *s, struct tensorfile *t, struct err *err)
{
    for (int i = 0; i < t->n_tensors; i++)
        if (params_is_weight(&t->tensor[i]))
            TRY(load_entry(s, t, &t->tensor[i], err));
    return ERR_OK;
}

int params_outline(struct params *s, const struct tensorfile *t, struct err *err)
{
    for (int i = 0; i < t->n_tensors; i++) {
        const struct tensor_entry *e = &t->tensor[i];
        if (!params_is_weight(e))
            continue;
        if (e->n_dims > NN_DIMS_MAX)
            return err_set(err, ERR_FORMAT, "tensor %s has %d dimensions, at most %d are known here",
                           e->name, e->n_dims, NN_DIMS_MAX);
        if (add(s, e->name, e->n_dims, e->shape, false) == NULL)
            return err_set(err, ERR_NOMEM, "no memory for tensor %s, or it comes twice", e->name);
    }
    return ERR_OK;
}

int params_expect(const struct params *s, const char *name, const char *file, struct err *err,
                  int n_dims, ...)
{
    const struct param *p = params_find(s, name);
    char want[96] = "", have[96] = "";
    bool same = p != NULL && p->n_dims == n_dims;
    va_list ap;
    va_start(ap, n_dims);
    for (int i = 0, at = 0; i < n_dims; i++) {
        int size = va_arg(ap, int);
        same = same && p->shape[i] == size;
        at += snprintf(want + at, sizeof want - (size_t)at, "%s%d", i > 0 ? ", " : "", size);
    }
    va_end(ap);
    if (same)
        return ERR_OK;
    if (p == NULL)
        return err_set(err, ERR_FORMAT, "%s: tensor %s is missing", file, name);
    for (int i = 0, at = 0; i < p->n_dims; i++)
        at += snprintf(have + at, sizeof have - (size_t)at, "%s%lld", i > 0 ? ", " : "",
                       (long long)p->shape[i]);
    return err_set(err, ERR_FORMAT, "%s: tensor %s is [%s], the configuration says [%s]", file, name, have,
                   want);
}

void params_begin(struct params *s)
{
    for (int i = 0; i < s->n; i++)
        s->p[i].bound = s->p[i].derived = NULL;
}

struct nn_tensor *params_tensor(struct params *s, struct nn *nn, struct param *p)
{
    if (p->bound == NULL) {
        p->bound = nn_param(nn, p->data, p->n_dims, p->shape);
        p->bound->wants_grad = s->train && !p->frozen;
        p->bound->fold_to = p->fold_to;
        p->bound->fold_stride = p->fold_stride;
    }
    return p->bound;
}

static struct nn_tensor *bind(struct params *s, struct nn *nn, const char *name)
{
    struct param *p = params_find(s, name);
    return p != NULL ? params_tensor(s, nn, p) : NULL;
}

struct nn_tensor *params_maybe(struct params *s, struct nn *nn, const char *fmt, ...)
{
    char name[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    return bind(s, nn, name);
}

struct nn_tensor *params_get(struct params_reader *r, const char *fmt, ...)
{
    static float nothing[1];
    char name[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    struct nn_tensor *t = bind(r->set, r->nn, name);
    if (t != NULL)
        return t;
    if (r->rc == ERR_OK)
        r->rc = err_set(r->err, ERR_FORMAT, "%s: tensor %s is missing", r->file, name);
    return nn_input(r->nn, nothing, 1, (const int64_t[]){1});
}

const struct nn_packed *params_packed(struct params_reader *r, const char *name)
{
    struct param *p = params_find(r->set, name);
    int rc = ERR_OK;
    if (p == NULL || p->n_dims != 2)
        rc = err_set(r->err, ERR_FORMAT, "%s: tensor %s is missing", r->file, name);
    if (rc == ERR_OK && p->packed.data == NULL) {
        rc = nn_pack(&p->packed, p->data, (int)p->shape[0], (int)p->shape[1], r->err);
        if (rc == ERR_OK) {
            free(p->data);
            p->data = NULL;
        }
    }
    if (rc != ERR_OK && r->rc == ERR_OK)
        r->rc = rc;
    return rc == ERR_OK ? &p->packed : NULL;
}
