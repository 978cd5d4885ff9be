/* trainset.h - a set of weights in training, for tests: optimiser state beside it, and the measures of
 * fixtures/train (gradients by max/max, updates by their L2 norm). */
#ifndef MUSTER_TRAINSET_H
#define MUSTER_TRAINSET_H

#include "tests/fixturetensor.h"
#include "workers/models/params.h"
#include "workers/train/optimizer.h"

#include <jansson.h>
#include <string.h>

static int failures, checks;

static inline void expect(bool ok, const char *what, double is, double limit)
{
    checks++;
    if (!ok) {
        printf("%s: %.3g, limit %.3g\n", what, is, limit);
        failures++;
    }
}

/* name "" : the folder (or file) itself. */
static inline struct tensorfile open_file(const char *folder, const char *name)
{
    char path[2800];
    struct tensorfile t;
    struct err err = {0};
    snprintf(path, sizeof path, "%s%s%s", folder, name[0] != '\0' ? "/" : "", name);
    if (tensorfile_open(&t, path, &err) != ERR_OK) {
        printf("%s\n", err.msg);
        exit(1);
    }
    return t;
}

static inline json_t *open_json(const char *folder, const char *name)
{
    char path[2800];
    json_error_t e;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return json_load_file(path, 0, &e);
}

static inline int32_t *ids_of(struct tensorfile *t, const char *name, const struct tensor_entry **e)
{
    double *v = fixture_values(t, name, e);
    int32_t *ids = malloc((size_t)(*e)->n_elements * sizeof *ids + 1);
    for (int64_t i = 0; i < (*e)->n_elements; i++)
        ids[i] = (int32_t)v[i];
    free(v);
    return ids;
}

/* Member `key` of j, or its element at when that is not negative. */
static inline double number(const json_t *j, const char *key, int at)
{
    const json_t *v = json_object_get(j, key);
    return json_number_value(at < 0 ? v : json_array_get(v, (size_t)at));
}

/* By parameter: state beside w. */
struct trainset { struct params w; float **start, **m, **v, **ema, **grad; };

static inline float *copy_of(const float *x, int64_t n)
{
    return memcpy(malloc((size_t)n * 4 + 4), x, (size_t)n * 4);
}

/* After the weights were loaded. */
static inline void trainset_begin(struct trainset *s)
{
    float ***all[5] = {&s->start, &s->m, &s->v, &s->ema, &s->grad};
    for (int i = 0; i < 5; i++)
        *all[i] = malloc((size_t)s->w.n * sizeof(float *));
    for (int i = 0; i < s->w.n; i++) {
        const struct param *p = &s->w.p[i];
        s->start[i] = copy_of(p->data, p->n);
        s->ema[i] = copy_of(p->data, p->n);
        s->m[i] = calloc((size_t)p->n, 4);
        s->v[i] = calloc((size_t)p->n, 4);
        s->grad[i] = calloc((size_t)p->n, 4);
    }
}

static inline void trainset_free(struct trainset *s)
{
    float **all[5] = {s->start, s->m, s->v, s->ema, s->grad};
    for (int a = 0; a < 5; a++) {
        for (int i = 0; i < s->w.n; i++)
            free(all[a][i]);
        free(all[a]);
    }
    params_free(&s->w);
}

/* Gradients of all parts, summed. */
static inline void trainset_fold(struct trainset *s, struct nn *nn)
{
    for (int i = 0; i < s->w.n; i++) {
        const struct param *p = &s->w.p[i];
        if (p->bound != NULL && p->bound->grad != NULL)
            nn_fold(nn, s->grad[i], p->bound->grad, p->n);
        else
            memset(s->grad[i], 0, (size_t)p->n * sizeof(float));
    }
}

static inline double trainset_norm(const struct trainset *s)
{
    double squares = 0;
    for (int i = 0; i < s->w.n; i++)
        if (!s->w.p[i].frozen)
            squares += optimizer_squares(s->grad[i], s->w.p[i].n);
    return sqrt(squares);
}

/* decay: of parameters with two or more dimensions; ema 0: none. */
static inline void trainset_step(struct trainset *s, struct adam_config a, int64_t step, double clip,
                                 double ema)
{
    double decay = a.decay;
    for (int i = 0; i < s->w.n; i++) {
        struct param *p = &s->w.p[i];
        a.decay = p->n_dims >= 2 ? decay : 0;
        if (!p->frozen)
            adam_step(&a, step, clip, p->data, s->grad[i], s->m[i], s->v[i], p->n);
        if (p->frozen)
            memcpy(s->ema[i], p->data, (size_t)p->n * sizeof(float));
        else if (ema > 0)
            optimizer_ema(s->ema[i], p->data, ema, p->n);
    }
}

/* Worst tensor's max |got - want| / max |want| over the tensors PREFIX NAME of t; got(i) is [n]. */
static inline double worst_gradient(const struct trainset *s, struct tensorfile *t, const char *prefix,
                                    int part)
{
    double worst = 0;
    for (int i = 0; i < s->w.n; i++) {
        const struct param *p = &s->w.p[i];
        const struct tensor_entry *e;
        char name[300];
        double top;
        snprintf(name, sizeof name, "%s%s", prefix, p->name);
        double *want = fixture_values(t, name, &e);
        if (want == NULL)
            continue;
        const float *got = part < 0 ? s->grad[i] : p->bound->grad + part * p->n;
        double off = fixture_distance(got, want, e->n_elements, &top);
        worst = fmax(worst, off / top);
        checks++;
        free(want);
    }
    return worst;
}

/* Worst tensor's |(p - p0) - (q - q0)| / |q - q0| of trained weights (or their averages); of buffers
 * max |p - q| / max |q|, into *buffers. */
static inline double worst_update(const struct trainset *s, struct tensorfile *t, const char *prefix,
                                  bool ema, double *buffers)
{
    double worst = 0;
    *buffers = 0;
    for (int i = 0; i < s->w.n; i++) {
        const struct param *p = &s->w.p[i];
        const struct tensor_entry *e;
        char name[300];
        double top, off = 0, norm = 0;
        snprintf(name, sizeof name, "%s%s", prefix, p->name);
        double *want = fixture_values(t, name, &e);
        const float *got = ema ? s->ema[i] : p->data;
        for (int64_t j = 0; want != NULL && j < e->n_elements; j++) {
            double step = want[j] - s->start[i][j], ours = (double)got[j] - s->start[i][j];
            off += (ours - step) * (ours - step);
            norm += step * step;
        }
        if (want != NULL && p->frozen)
            *buffers = fmax(*buffers, fixture_distance(got, want, e->n_elements, &top) / top);
        else if (want != NULL)
            worst = fmax(worst, sqrt(off / norm));
        checks += want != NULL;
        free(want);
    }
    return worst;
}

static inline void trainset_parts(struct nn *nn, int64_t b, int n_parts)
{
    int64_t begin[NN_PARTS_MAX + 1];
    for (int p = 0; p <= n_parts; p++)
        begin[p] = b * p / n_parts;
    nn_set_parts(nn, n_parts, begin);
}

#endif
