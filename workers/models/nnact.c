/* Activations: y = f(x) through the kernels' exp, tanh, erf (no libm); the way back recomputes what it
 * needs from x. */
#include "workers/models/nn.h"

#include "proto/err.h"
#include "workers/models/nnrows.h"

#include <math.h>

enum { BLOCK = 1024 };

struct act_job { struct nn *nn; struct nn_tensor *x, *up, *y; enum nn_act act; float slope; bool fresh; };

static const float ROOT_HALF = 0.70710678118654752f, GELU_C = 0.79788456080286536f,
                   GELU_A = 0.044715f, QUICK = 1.702f, INV_ROOT_2PI = 0.39894228040143268f;

/* t [n] = the transcendental part of the activation at x. */
NN_WIDE static void inner(const struct kernels *k, enum nn_act act, float *t, const float *x, int n)
{
    switch (act) {
    case NN_SILU:
    case NN_SIGMOID:
    case NN_SOFTPLUS: k->sigmoid(t, x, n); break;
    case NN_TANH: k->tanh(t, x, n); break;
    case NN_QUICK_GELU:
        for (int i = 0; i < n; i++)
            t[i] = QUICK * x[i];
        k->sigmoid(t, t, n);
        break;
    case NN_GELU_TANH:
        for (int i = 0; i < n; i++)
            t[i] = GELU_C * (x[i] + GELU_A * x[i] * x[i] * x[i]);
        k->tanh(t, t, n);
        break;
    case NN_GELU_ERF:
        for (int i = 0; i < n; i++)
            t[i] = x[i] * ROOT_HALF;
        k->erf(t, t, n);
        break;
    case NN_RELU:
    case NN_LEAKY_RELU: break;
    }
}

/* ln(1 + e^x) = max(x, 0) + ln(1 + e^-|x|), y [n]. */
static void softplus(const struct kernels *k, float *y, const float *x, int n)
{
    for (int i = 0; i < n; i++)
        y[i] = -fabsf(x[i]);
    k->exp(y, y, n);
    for (int i = 0; i < n; i++)
        y[i] += 1;
    k->log(y, y, n);
    for (int i = 0; i < n; i++)
        y[i] += x[i] > 0 ? x[i] : 0;
}

NN_WIDE static void values(const struct act_job *j, float *y, const float *x, int n)
{
    float t[BLOCK];
    inner(j->nn->kernels, j->act, t, x, n);
    switch (j->act) {
    case NN_SILU:
    case NN_QUICK_GELU:
        for (int i = 0; i < n; i++)
            y[i] = x[i] * t[i];
        break;
    case NN_SIGMOID:
    case NN_TANH:
        for (int i = 0; i < n; i++)
            y[i] = t[i];
        break;
    case NN_GELU_TANH:
    case NN_GELU_ERF:
        for (int i = 0; i < n; i++)
            y[i] = 0.5f * x[i] * (1 + t[i]);
        break;
    case NN_RELU:
        for (int i = 0; i < n; i++)
            y[i] = x[i] > 0 ? x[i] : 0;
        break;
    case NN_LEAKY_RELU:
        for (int i = 0; i < n; i++)
            y[i] = x[i] > 0 ? x[i] : j->slope * x[i];
        break;
    case NN_SOFTPLUS: softplus(j->nn->kernels, y, x, n); break;
    }
}

/* d [n] = f'(x). */
NN_WIDE static void slopes(const struct act_job *j, float *d, const float *x, int n)
{
    float t[BLOCK], e[BLOCK];
    inner(j->nn->kernels, j->act, t, x, n);
    switch (j->act) {
    case NN_SILU:
        for (int i = 0; i < n; i++)
            d[i] = t[i] * (1 + x[i] * (1 - t[i]));
        break;
    case NN_QUICK_GELU:
        for (int i = 0; i < n; i++)
            d[i] = t[i] * (1 + QUICK * x[i] * (1 - t[i]));
        break;
    case NN_SIGMOID:
        for (int i = 0; i < n; i++)
            d[i] = t[i] * (1 - t[i]);
        break;
    case NN_TANH:
        for (int i = 0; i < n; i++)
            d[i] = 1 - t[i] * t[i];
        break;
    case NN_GELU_TANH:
        for (int i = 0; i < n; i++)
            d[i] = 0.5f * (1 + t[i]) +
                   0.5f * x[i] * (1 - t[i] * t[i]) * GELU_C * (1 + 3 * GELU_A * x[i] * x[i]);
        break;
    case NN_GELU_ERF:
        for (int i = 0; i < n; i++)
            e[i] = -0.5f * x[i] * x[i];
        j->nn->kernels->exp(e, e, n);
        for (int i = 0; i < n; i++)
            d[i] = 0.5f * (1 + t[i]) + x[i] * e[i] * INV_ROOT_2PI;
        break;
    case NN_RELU:
        for (int i = 0; i < n; i++)
            d[i] = x[i] > 0 ? 1 : 0;
        break;
    case NN_LEAKY_RELU:
        for (int i = 0; i < n; i++)
            d[i] = x[i] > 0 ? 1 : j->slope;
        break;
    case NN_SOFTPLUS:
        for (int i = 0; i < n; i++)
            d[i] = t[i];
        break;
    }
}

static struct nn_range elements(const struct nn *nn, const struct nn_tensor *t, int p)
{
    struct nn_range r = nn_part(nn, t, p);
    int64_t each = nn_row(t);
    return (struct nn_range){r.begin * each, r.end * each};
}

static void act_forward(void *ctx, int p)
{
    const struct act_job *j = ctx;
    struct nn_range r = elements(j->nn, j->x, p);
    for (int64_t at = r.begin; at < r.end; at += BLOCK) {
        int n = r.end - at < BLOCK ? (int)(r.end - at) : BLOCK;
        values(j, j->y->data + at, j->x->data + at, n);
        for (int i = 0; j->up != NULL && i < n; i++)
            j->y->data[at + i] *= j->up->data[at + i];
    }
}

static void act_back_part(void *ctx, int p)
{
    const struct act_job *j = ctx;
    struct nn_range r = elements(j->nn, j->x, p);
    for (int64_t at = r.begin; at < r.end; at += BLOCK) {
        float d[BLOCK];
        int n = r.end - at < BLOCK ? (int)(r.end - at) : BLOCK;
        const float *g = j->y->grad + at;
        if (j->up != NULL && j->up->grad != NULL) {
            values(j, d, j->x->data + at, n);
            for (int i = 0; i < n; i++)
                j->up->grad[at + i] += g[i] * d[i];
        }
        if (j->x->grad == NULL)
            continue;
        slopes(j, d, j->x->data + at, n);
        if (j->up != NULL)
            nnrows_product(d, d, j->up->data + at, n, true);
        nnrows_product(j->x->grad + at, g, d, n, j->fresh);
    }
}

static void act_backward(struct nn *nn, const struct nn_node *node)
{
    struct act_job j = {nn, node->in[0], node->in[1], node->out, (enum nn_act)node->i[0],
                        (float)node->f[0], false};
    j.fresh = nn_grad_fresh(nn, j.x);
    nn_grad(nn, j.up);
    nn_parts(nn, act_back_part, &j);
}

static struct nn_tensor *activate(struct nn *nn, struct nn_tensor *x, struct nn_tensor *up,
                                  enum nn_act act, double slope)
{
    struct act_job j = {nn, x, up, nn_new(nn, x->n_dims, x->shape), act, (float)slope, false};
    nn_parts(nn, act_forward, &j);
    struct nn_node *node = nn_record(nn, j.y, act_backward, x, up, NULL);
    if (node != NULL) {
        node->i[0] = act;
        node->f[0] = slope;
    }
    return j.y;
}

struct nn_tensor *nn_activation(struct nn *nn, struct nn_tensor *x, enum nn_act act, double slope)
{
    return activate(nn, x, NULL, act, slope);
}

struct nn_tensor *nn_swiglu(struct nn *nn, struct nn_tensor *gate, struct nn_tensor *up)
{
    ASSERT(gate->n == up->n);
    return activate(nn, gate, up, NN_SILU, 0);
}

/* --- dropout with a given mask */

struct drop_job { struct nn *nn; struct nn_tensor *x, *y; const float *keep; float factor; bool back; };

static void drop_part(void *ctx, int p)
{
    const struct drop_job *j = ctx;
    struct nn_range r = elements(j->nn, j->x, p);
    for (int64_t i = r.begin; i < r.end; i++) {
        if (j->back)
            j->x->grad[i] += j->y->grad[i] * j->keep[i] * j->factor;
        else
            j->y->data[i] = j->x->data[i] * j->keep[i] * j->factor;
    }
}

static void drop_backward(struct nn *nn, const struct nn_node *node)
{
    struct drop_job j = {nn, node->in[0], node->out, node->saved[0], (float)node->f[0], true};
    nn_grad(nn, j.x);
    nn_parts(nn, drop_part, &j);
}

struct nn_tensor *nn_dropout(struct nn *nn, struct nn_tensor *x, const float *keep, double p)
{
    struct drop_job j = {nn, x, nn_new(nn, x->n_dims, x->shape), keep, (float)(1 / (1 - p)), false};
    nn_parts(nn, drop_part, &j);
    struct nn_node *node = nn_record(nn, j.y, drop_backward, x, NULL, NULL);
    if (node != NULL) {
        node->saved[0] = (void *)(uintptr_t)keep;
        node->f[0] = 1 / (1 - p);
    }
    return j.y;
}
