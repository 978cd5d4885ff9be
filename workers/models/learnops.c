#include "workers/models/learnops.h"

#include "proto/err.h"

#include <math.h>
#include <string.h>

static struct learnops *of_tape(struct ops_tape *t) { return (struct learnops *)t; }

struct nn_tensor *learnops_value(const struct learnops *l, const float *name)
{
    for (int i = 0; i < l->n_names; i++)
        if (l->named[i].name == name)
            return l->named[i].value;
    ASSERT(!"a layer reads a buffer that nothing was written to");
    return NULL;
}

static void name_value(struct learnops *l, const float *name, struct nn_tensor *value)
{
    int i = 0;
    while (i < l->n_names && l->named[i].name != name)
        i++;
    ASSERT(i < LEARNOPS_NAMES_MAX);
    l->named[i].name = name;
    l->named[i].value = value;
    l->n_names = i < l->n_names ? l->n_names : i + 1;
}

/* The parameter whose numbers are at w; NULL for NULL. */
static struct nn_tensor *weight(const struct learnops *l, const void *w)
{
    if (w == NULL)
        return NULL;
    for (int i = 0; i < l->params->n; i++)
        if ((const void *)l->params->p[i].data == w)
            return params_tensor(l->params, l->nn, &l->params->p[i]);
    ASSERT(!"a layer's weight is no parameter");
    return NULL;
}

static void rmsnorm(struct ops_tape *t, struct tensor out, struct tensor x, const float *w, float eps)
{
    struct learnops *l = of_tape(t);
    name_value(l, out.data, nn_rms_norm(l->nn, learnops_value(l, x.data), weight(l, w), eps));
}

static void head_rmsnorm(struct ops_tape *t, struct tensor x, int head_dim, const float *w, float eps)
{
    struct learnops *l = of_tape(t);
    const int64_t heads[3] = {x.rows, x.cols / head_dim, head_dim}, flat[2] = {x.rows, x.cols};
    struct nn_tensor *v = nn_reshape(l->nn, learnops_value(l, x.data), 3, heads);
    v = nn_rms_norm(l->nn, v, weight(l, w), eps);
    name_value(l, x.data, nn_reshape(l->nn, v, 2, flat));
}

static void add(struct ops_tape *t, struct tensor out, struct tensor a, struct tensor b)
{
    struct learnops *l = of_tape(t);
    name_value(l, out.data, nn_add(l->nn, learnops_value(l, a.data), learnops_value(l, b.data)));
}

static void add_row(struct ops_tape *t, struct tensor x, const float *row)
{
    struct learnops *l = of_tape(t);
    name_value(l, x.data, nn_add(l->nn, learnops_value(l, x.data), weight(l, row)));
}

static void softcap(struct ops_tape *t, struct tensor x, float cap)
{
    struct learnops *l = of_tape(t);
    struct nn_tensor *v = nn_scale(l->nn, learnops_value(l, x.data), 1.0 / cap);
    name_value(l, x.data, nn_scale(l->nn, nn_activation(l->nn, v, NN_TANH, 0), cap));
}

static void gate(struct ops_tape *t, struct tensor out, struct tensor g, struct tensor up,
                 enum ffn_act act, float limit)
{
    struct learnops *l = of_tape(t);
    struct nn_tensor *a = learnops_value(l, g.data), *b = learnops_value(l, up.data);
    name_value(l, out.data, act == ACT_SILU
                                ? nn_swiglu(l->nn, a, b)
                                : nn_mul(l->nn, nn_activation(l->nn, a, NN_GELU_TANH, 0), b));
}

/* Every sequence begins at position 0, so the angles of the first serve them all. */
static void rope(struct ops_tape *t, struct tensor x, int head_dim, int n_rot, enum rope_kind kind,
                 const float *cosine, const float *sine)
{
    struct learnops *l = of_tape(t);
    struct nn_rotation r = {.cosine = cosine, .sine = sine, .positions = l->n_rows_each, .head_dim = head_dim,
                            .n_rot = n_rot, .half = kind == ROPE_NEOX};
    name_value(l, x.data, nn_rotate(l->nn, learnops_value(l, x.data), &r));
}

static void linear(struct ops_tape *t, const struct op_linear *op)
{
    struct learnops *l = of_tape(t);
    struct nn_tensor *x = learnops_value(l, op->x.data);
    for (int i = 0; i < op->n_products; i++) {
        const struct op_product *p = &op->product[i];
        name_value(l, p->out.data, nn_linear(l->nn, x, weight(l, p->w->packed), weight(l, p->bias)));
    }
}

/* There is one piece: a layer that learns is not cut. */
static int reduce(struct ops_tape *t, struct tensor out, const struct op_reduce *r, struct err *err)
{
    struct learnops *l = of_tape(t);
    name_value(l, out.data, learnops_value(l, r->pieces));
    return ERR_OK;
}

static int embed(struct ops_tape *t, struct tensor out, const struct op_embed *e, struct err *err)
{
    struct learnops *l = of_tape(t);
    const int64_t shape[1] = {out.rows};
    size_t bytes = (size_t)out.rows * sizeof *e->ids;
    const int32_t *ids = memcpy(nn_take(l->nn, bytes), e->ids, bytes);      /* as long as the tape */
    struct nn_tensor *x = nn_embedding(l->nn, ids, 1, shape, weight(l, e->embed->packed));
    name_value(l, out.data, e->scale != 1.0f ? nn_scale(l->nn, x, e->scale) : x);
    return ERR_OK;
}

/* [rows, heads d] as [sequences, heads, rows of each, d]. */
static struct nn_tensor *heads_of(struct learnops *l, struct tensor x, int head_dim)
{
    const int64_t shape[3] = {x.rows / l->n_rows_each, l->n_rows_each, x.cols};
    struct nn_tensor *v = nn_reshape(l->nn, learnops_value(l, x.data), 3, shape);
    return nn_split_heads(l->nn, v, x.cols / head_dim);
}

static void attention(struct ops_tape *t, struct tensor out, const struct op_attention *a)
{
    struct learnops *l = of_tape(t);
    int head_dim = a->q.cols / a->heads_local, value_dim = out.cols / a->heads_local;
    struct nn_tensor *q = heads_of(l, a->q, head_dim);
    double scale = a->scale * sqrt((double)head_dim);       /* of what nn_attention does by itself */
    if (fabs(scale - 1) > 1e-6)
        q = nn_scale(l->nn, q, scale);
    struct nn_tensor *k = heads_of(l, a->k, head_dim), *v = heads_of(l, a->v, value_dim);
    struct nn_tensor *y = l->first != NULL ? nn_attention_since(l->nn, q, k, v, l->first)
                                           : nn_attention(l->nn, q, k, v, true, NULL);
    const int64_t flat[2] = {out.rows, out.cols};
    name_value(l, out.data, nn_reshape(l->nn, nn_join_heads(l->nn, y), 2, flat));
}

/* A loss looks at every row. */
static void pick(struct ops_tape *t, struct tensor out, struct tensor x, const int *rows)
{
    struct learnops *l = of_tape(t);
    ASSERT(out.rows == x.rows && rows[0] == 0 && rows[out.rows - 1] == out.rows - 1);
    name_value(l, out.data, learnops_value(l, x.data));
}

void learnops_begin(struct learnops *l, struct nn *nn, struct params *params, int n_rows_each,
                    const int32_t *first)
{
    *l = (struct learnops){
        .tape = {rmsnorm, head_rmsnorm, add, add_row, softcap, gate, rope, linear, reduce, embed,
                 attention, pick},
        .nn = nn, .params = params, .n_rows_each = n_rows_each, .first = first};
}
