/* Linear layers and embeddings: one product a part, by calls whose shapes are the part's. */
#include "workers/models/nn.h"

#include "proto/err.h"

#include <cblas.h>
#include <string.h>

struct linear_job { struct nn *nn; struct nn_tensor *x, *w, *b, *y; };

/* Rows of the flattened [rows, last] matrix that part p of t has. */
static struct nn_range flat_rows(const struct nn *nn, const struct nn_tensor *t, int p)
{
    struct nn_range r = nn_part(nn, t, p);
    int64_t each = nn_row(t) / (t->n_dims > 1 ? t->shape[t->n_dims - 1] : 1);
    if (t->n_dims == 1)
        return (struct nn_range){0, 1};
    return (struct nn_range){r.begin * each, r.end * each};
}

static void linear_forward(void *ctx, int p)
{
    const struct linear_job *j = ctx;
    int64_t in = j->w->shape[1], out = j->w->shape[0];
    struct nn_range r = flat_rows(j->nn, j->x, p);
    float *y = j->y->data + r.begin * out;
    for (int64_t i = 0; i < r.end - r.begin && j->b != NULL; i++)
        memcpy(y + i * out, j->b->data, (size_t)out * sizeof *y);
    if (r.end > r.begin)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)(r.end - r.begin), (int)out, (int)in, 1,
                    j->x->data + r.begin * in, (int)in, j->w->data, (int)in, j->b != NULL ? 1 : 0, y,
                    (int)out);
}

static void linear_back_part(void *ctx, int p)
{
    const struct linear_job *j = ctx;
    int64_t in = j->w->shape[1], out = j->w->shape[0];
    struct nn_range r = flat_rows(j->nn, j->x, p);
    const float *g = j->y->grad + r.begin * out, *x = j->x->data + r.begin * in;
    int rows = (int)(r.end - r.begin);
    if (rows == 0)
        return;
    if (j->x->grad != NULL)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, rows, (int)in, (int)out, 1, g, (int)out,
                    j->w->data, (int)in, 1, j->x->grad + r.begin * in, (int)in);
    if (j->w->grad != NULL)
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)out, (int)in, rows, 1, g, (int)out, x,
                    (int)in, 1, nn_grad_part(j->w, p), (int)in);
    if (j->b != NULL && j->b->grad != NULL) {
        float *db = nn_grad_part(j->b, p);
        for (int64_t i = 0; i < rows; i++)
            j->nn->kernels->add(db, db, g + i * out, out);
    }
}

static void linear_backward(struct nn *nn, const struct nn_node *node)
{
    struct linear_job j = {nn, node->in[0], node->in[1], node->in[2], node->out};
    nn_grad(nn, j.x);
    nn_grad(nn, j.w);
    nn_grad(nn, j.b);
    nn_parts(nn, linear_back_part, &j);
}

struct nn_tensor *nn_linear(struct nn *nn, struct nn_tensor *x, struct nn_tensor *w, struct nn_tensor *b)
{
    int64_t shape[NN_DIMS_MAX];
    ASSERT(x->n_dims >= 1 && w->n_dims == 2 && x->shape[x->n_dims - 1] == w->shape[1]);
    memcpy(shape, x->shape, sizeof shape);
    shape[x->n_dims - 1] = w->shape[0];
    struct linear_job j = {nn, x, w, b, nn_new(nn, x->n_dims, shape)};
    nn_parts(nn, linear_forward, &j);
    nn_record(nn, j.y, linear_backward, x, w, b);
    return j.y;
}

/* --- embedding */

struct embedding_job { struct nn *nn; const int32_t *ids; struct nn_tensor *table, *y; };

static struct nn_range id_range(const struct nn *nn, const struct nn_tensor *y, int p)
{
    struct nn_range r = nn_part(nn, y, p);
    int64_t each = nn_row(y) / y->shape[y->n_dims - 1];
    return (struct nn_range){r.begin * each, r.end * each};
}

static void embedding_forward(void *ctx, int p)
{
    const struct embedding_job *j = ctx;
    int64_t d = j->table->shape[1];
    struct nn_range r = id_range(j->nn, j->y, p);
    for (int64_t i = r.begin; i < r.end; i++)
        memcpy(j->y->data + i * d, j->table->data + j->ids[i] * d, (size_t)d * sizeof(float));
}

static void embedding_back_part(void *ctx, int p)
{
    const struct embedding_job *j = ctx;
    int64_t d = j->table->shape[1];
    struct nn_range r = id_range(j->nn, j->y, p);
    float *dt = nn_grad_part(j->table, p);
    for (int64_t i = r.begin; i < r.end; i++) {
        float *row = dt + j->ids[i] * d;
        j->nn->kernels->add(row, row, j->y->grad + i * d, d);
    }
}

static void embedding_backward(struct nn *nn, const struct nn_node *node)
{
    struct embedding_job j = {nn, node->saved[0], node->in[0], node->out};
    nn_grad(nn, j.table);
    nn_parts(nn, embedding_back_part, &j);
}

struct nn_tensor *nn_embedding(struct nn *nn, const int32_t *ids, int n_dims, const int64_t *shape,
                               struct nn_tensor *table)
{
    int64_t full[NN_DIMS_MAX];
    ASSERT(n_dims < NN_DIMS_MAX);
    memcpy(full, shape, (size_t)n_dims * sizeof *shape);
    full[n_dims] = table->shape[1];
    struct embedding_job j = {nn, ids, table, nn_new(nn, n_dims + 1, full)};
    for (int64_t i = 0; i < j.y->n / table->shape[1]; i++)
        ASSERT(ids[i] >= 0 && ids[i] < table->shape[0]);
    nn_parts(nn, embedding_forward, &j);
    struct nn_node *node = nn_record(nn, j.y, embedding_backward, table, NULL, NULL);
    if (node != NULL)
        node->saved[0] = (void *)(uintptr_t)ids;
    return j.y;
}
