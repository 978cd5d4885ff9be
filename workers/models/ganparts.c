#include "workers/models/ganparts.h"

#include <stdio.h>
#include <string.h>

struct gan_run ganparts_run(const struct gan_net *net, struct err *err)
{
    return (struct gan_run){net->nn, net->w, net->file, net->training, err, ERR_OK};
}

struct param *ganparts_find(const struct gan_run *r, const char *prefix, const char *what)
{
    char name[160];
    snprintf(name, sizeof name, "%s%s", prefix, what);
    return params_find(r->w, name);
}

struct nn_tensor *ganparts_get(struct gan_run *r, const char *prefix, const char *what)
{
    return params_maybe(r->w, r->nn, "%s%s", prefix, what);
}

void ganparts_wants(struct gan_run *r, const char *prefix, const char *what)
{
    if (r->rc == ERR_OK)
        r->rc = err_set(r->err, ERR_FORMAT, "%s: tensor %s%s is missing or of the wrong shape", r->file,
                        prefix, what);
}

struct nn_tensor *ganparts_vector(struct gan_run *r, const char *prefix, const char *what, int64_t n)
{
    const struct param *p = ganparts_find(r, prefix, what);
    if (p != NULL && p->n == n)
        return ganparts_get(r, prefix, what);
    ganparts_wants(r, prefix, what);
    return NULL;
}

float *ganparts_buffer(struct gan_run *r, const char *prefix, const char *what, int64_t n)
{
    const struct param *p = ganparts_find(r, prefix, what);
    if (p != NULL && p->n == n)
        return p->data;
    ganparts_wants(r, prefix, what);
    return NULL;
}

struct nn_tensor *ganparts_optional_bias(struct gan_run *r, const char *prefix, int64_t n)
{
    return ganparts_find(r, prefix, "bias") != NULL ? ganparts_vector(r, prefix, "bias", n) : NULL;
}

struct nn_tensor *ganparts_batch_norm(struct gan_run *r, const char *prefix, struct nn_tensor *x,
                                      double eps, bool affine)
{
    int64_t c = x->shape[1];
    float *mean = ganparts_buffer(r, prefix, "running_mean", c);
    float *var = ganparts_buffer(r, prefix, "running_var", c);
    struct nn_tensor *w = affine ? ganparts_vector(r, prefix, "weight", c) : NULL;
    struct nn_tensor *b = affine ? ganparts_vector(r, prefix, "bias", c) : NULL;
    if (r->rc != ERR_OK)
        return x;
    return nn_batch_norm(r->nn, x, w, b, mean, var, r->training, 0.1, eps);
}

void gan_freeze_buffers(struct params *w)
{
    static const char *const ends[] = {"running_mean", "running_var", ".u", ".v", "weight_u", "weight_v"};
    for (int i = 0; i < w->n; i++)
        for (size_t k = 0; k < sizeof ends / sizeof *ends; k++) {
            size_t n = strlen(w->p[i].name), m = strlen(ends[k]);
            if (n >= m && strcmp(w->p[i].name + n - m, ends[k]) == 0)
                w->p[i].frozen = true;
        }
}
