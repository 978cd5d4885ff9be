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

/* Numbers [from, from + n) of the file's row-major order. */
static int read_numbers(struct tensorfile *t, const struct tensor_entry *e, int64_t from, int64_t n,
                        uint8_t *raw, float *out, struct err *err)
{
    TRY(tensorfile_read(t, e, dtype_bytes(e->type, from), raw, dtype_bytes(e->type, n), err));
    dtype_info(e->type)->dequantise(out, raw, n);
    return ERR_OK;
}

/* Columns of a matrix: rows are read whole, some at a time. */
static int read_columns(struct tensorfile *t, const struct tensor_entry *e, const struct param_cut *c,
                        float *out, struct err *err)
{
    enum { PIECE = 1 << 18 };
    int64_t k = e->shape[1], some = PIECE / k > 0 ? PIECE / k : 1, width = c->end - c->begin;
    uint8_t *raw = malloc(dtype_bytes(e->type, some * k) + 1);
    float *whole = malloc((size_t)(some * k) * sizeof *whole);
    int rc = ERR_OK;
    if (raw == NULL || whole == NULL)
        rc = err_set(err, ERR_NOMEM, "no memory for tensor %s", e->name);
    for (int64_t r = 0; r < e->shape[0] && rc == ERR_OK; r += some) {
        int64_t n = e->shape[0] - r < some ? e->shape[0] - r : some;
        rc = read_numbers(t, e, r * k, n * k, raw, whole, err);
        for (int64_t i = 0; i < n && rc == ERR_OK; i++)
            memcpy(out + (r + i) * width, whole + i * k + c->begin, (size_t)width * sizeof *out);
    }
    free(raw);
    free(whole);
    return rc;
}

static int read_entry(struct tensorfile *t, const struct tensor_entry *e, const struct param_cut *c,
                      const struct param *p, struct err *err)
{
    int64_t row = e->n_elements / (e->n_dims > 0 && e->shape[0] > 0 ? e->shape[0] : 1);
    int64_t from = c->axis == 0 ? c->begin * row : 0;
    if (c->axis == 1)
        return read_columns(t, e, c, p->data, err);
    uint8_t *raw = malloc(dtype_bytes(e->type, p->n) + 1);
    int rc = raw == NULL ? err_set(err, ERR_NOMEM, "no memory for tensor %s", e->name)
                         : read_numbers(t, e, from, p->n, raw, p->data, err);
    free(raw);
    return rc;
}

static int load_entry(struct params *s, struct tensorfile *t, const struct tensor_entry *e,
                      const struct param_cut *c, struct err *err)
{
    const struct dtype_info *type = dtype_info(e->type);
    int64_t shape[NN_DIMS_MAX];
    if (e->n_dims > NN_DIMS_MAX || type == NULL || type->dequantise == NULL)
        return err_set(err, ERR_FORMAT, "tensor %s has %d dimensions of a type that is no weight here",
                       e->name, e->n_dims);
    memcpy(shape, e->shape, (size_t)e->n_dims * sizeof *shape);
    if (c->axis >= 0)
        shape[c->axis] = c->end - c->begin;
    struct param *p = params_add(s, e->name, e->n_dims, shape);
    if (p == NULL)
        return err_set(err, ERR_NOMEM, "no memory for tensor %s, or it comes twice", e->name);
    return read_entry(t, e, c, p, err);
}

bool params_is_weight(const struct tensor_entry *e) { return e->type != DT_I64 && e->type != DT_I32; }

int params_load_cut(struct params *s, struct tensorfile *t, params_cut *cut, void *ctx, struct err *err)
{
    for (int i = 0; i < t->n_tensors; i++) {
        const struct tensor_entry *e = &t->tensor[i];
        struct param_cut c = {true, -1, 0, 0};
        if (!params_is_weight(e))
            continue;
        if (cut != NULL)
            c = cut(ctx, e->name, e->n_dims, e->shape);
        if (c.keep)
            TRY(load_entry(s, t, e, &c, err));
    }
    return ERR_OK;
}

int params_load(struct params *s, struct tensorfile *t, struct err *err)
{
    return params_load_cut(s, t, NULL, NULL, err);
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
        rc = nn_pack(&p->packed, p->data, (int)p->shape[0], (int)p->shape[1], nn_form(r->nn), r->err);
        if (rc == ERR_OK) {
            free(p->data);
            p->data = NULL;
        }
    }
    if (rc != ERR_OK && r->rc == ERR_OK)
        r->rc = rc;
    return rc == ERR_OK ? &p->packed : NULL;
}
