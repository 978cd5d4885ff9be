/* Linear layers and embeddings: one product a part, by calls whose shapes are the part's. */
#include "workers/models/nn.h"

#include "proto/err.h"
#include "workers/models/nngemm.h"
#include "workers/models/nnhalf.h"

#include <string.h>

struct linear_job {
    struct nn *nn;
    struct nn_tensor *x, *w, *b, *y;
    bool fresh_x, fresh_w;      /* way back: their gradients are written, not added to */
    float *room;                /* a stack of blocks of w for each thread */
    uint16_t *xh, *wh, *gh;     /* bfloat16 twins of x, w and y's gradient; NULL: products in f32 */
};

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
    if (r.end > r.begin && j->wh != NULL) {
        nnhalf_round(j->xh + r.begin * in, j->x->data + r.begin * in, (r.end - r.begin) * in);
        nnhalf_gemm(false, true, r.end - r.begin, out, in, j->xh + r.begin * in, in, j->wh, in,
                    j->b != NULL, y, out);
    } else if (r.end > r.begin)
        nn_gemm(false, true, r.end - r.begin, out, in, 1, j->x->data + r.begin * in, in, j->w->data, in,
                j->b != NULL ? 1 : 0, y, out);
}

/* Into x: one product a part. */
static void linear_back_x(void *ctx, int p)
{
    const struct linear_job *j = ctx;
    int64_t in = j->w->shape[1], out = j->w->shape[0];
    struct nn_range r = flat_rows(j->nn, j->x, p);
    int64_t rows = r.end - r.begin;
    if (rows > 0 && j->wh != NULL)
        nnhalf_gemm(false, false, rows, in, out, j->gh + r.begin * out, out, j->wh, in, !j->fresh_x,
                    j->x->grad + r.begin * in, in);
    else if (rows > 0)
        nn_gemm(false, false, rows, in, out, 1, j->y->grad + r.begin * out, out, j->w->data, in,
                j->fresh_x ? 0 : 1, j->x->grad + r.begin * in, in);
}

static void linear_back_bias(void *ctx, int p)
{
    const struct linear_job *j = ctx;
    int64_t out = j->w->shape[0];
    struct nn_range r = flat_rows(j->nn, j->x, p);
    float *db = nn_grad_part(j->b, p);
    for (int64_t i = r.begin; i < r.end; i++)
        j->nn->kernels->add(db, db, j->y->grad + i * out, out);
}

static void round_back(void *ctx, int p)
{
    const struct linear_job *j = ctx;
    int64_t out = j->w->shape[0];
    struct nn_range r = flat_rows(j->nn, j->x, p);
    nnhalf_round(j->gh + r.begin * out, j->y->grad + r.begin * out, (r.end - r.begin) * out);
}

/* Rows [o, o + n) of part p's gradient of w: into (beta 0) or onto (1) to [n, in]. */
static void weight_rows(const struct linear_job *j, int p, int64_t o, int n, float beta, float *to)
{
    int64_t in = j->w->shape[1], out = j->w->shape[0];
    struct nn_range r = flat_rows(j->nn, j->x, p);
    int64_t rows = r.end - r.begin;
    if (rows > 0 && j->wh != NULL)
        nnhalf_gemm(true, false, n, in, rows, j->gh + r.begin * out + o, out, j->xh + r.begin * in, in,
                    beta != 0, to, in);
    else if (rows > 0)
        nn_gemm(true, false, n, in, rows, 1, j->y->grad + r.begin * out + o, out,
                j->x->data + r.begin * in, in, beta, to, in);
    else if (beta == 0)
        memset(to, 0, (size_t)(n * in) * sizeof *to);
}

static void linear_back_weight(void *ctx, int p)
{
    const struct linear_job *j = ctx;
    weight_rows(j, p, 0, (int)j->w->shape[0], j->fresh_w ? 0 : 1, nn_grad_part(j->w, p));
}

/* A block of rows of w at a time: the parts' products and their sums stay in L2, and only the pieces go out.
 * Parts kept apart would write and read n_parts times the weights. */
enum { FOLD_FLOATS = 8192, FOLD_DEPTH = 8 };

static void fold_rows(const struct linear_job *j, int64_t o, int n, float *room)
{
    int64_t in = j->w->shape[1], block = n * in;
    int top = 0;
    for (int p = 0; p < j->nn->n_parts; p++) {
        float *to = room + top++ * block;
        weight_rows(j, p, o, n, 0, to);
        for (int f = 0; f < j->nn->folds[p]; f++, top--, to -= block)
            j->nn->kernels->add(to - block, to - block, to, block);
    }
    for (int k = 0; k < top; k++)
        memcpy(j->w->grad + k * j->w->fold_stride + o * in, room + k * block, (size_t)block * sizeof *room);
}

static void fold_share(void *ctx, int thread, int n_threads)
{
    const struct linear_job *j = ctx;
    int64_t in = j->w->shape[1], out = j->w->shape[0], unit = FOLD_FLOATS / in > 0 ? FOLD_FLOATS / in : 1;
    int64_t blocks = (out + unit - 1) / unit;
    float *room = j->room + (int64_t)thread * FOLD_DEPTH * unit * in;
    for (int64_t b = blocks * thread / n_threads; b < blocks * (thread + 1) / n_threads; b++) {
        int64_t left = out - b * unit;
        fold_rows(j, b * unit, (int)(left < unit ? left : unit), room);
    }
}

static void linear_back_folded(struct nn *nn, struct linear_job *j)
{
    int64_t in = j->w->shape[1], unit = FOLD_FLOATS / in > 0 ? FOLD_FLOATS / in : 1;
    int threads = nn->team != NULL ? nn->team->n_threads : 1;
    j->w->folded = true;
    j->w->grad = j->w->fold_to;
    if (j->w->grad == NULL) {
        j->w->grad = nn_take(nn, (size_t)(nn->n_pieces * j->w->n) * sizeof(float));
        j->w->fold_stride = j->w->n;
    }
    j->room = nn_scratch(nn, 0, (int64_t)threads * FOLD_DEPTH * unit * in);
    if (nn->team != NULL)
        team_run(nn->team, fold_share, j);
    else
        fold_share(j, 0, 1);
}

static void linear_backward(struct nn *nn, const struct nn_node *node)
{
    struct linear_job j = {.nn = nn, .x = node->in[0], .w = node->in[1], .b = node->in[2], .y = node->out,
                           .xh = node->saved[0], .wh = node->saved[1]};
    if (j.wh != NULL) {
        j.gh = nn_take(nn, (size_t)j.y->n * sizeof *j.gh);
        nn_parts(nn, round_back, &j);
    }
    if (j.x->wants_grad) {
        j.fresh_x = nn_grad_fresh(nn, j.x);
        nn_parts(nn, linear_back_x, &j);
    }
    if (j.w->wants_grad && nn->folding && j.w->unbatched && j.w->uses == 1 && j.w->grad == NULL) {
        linear_back_folded(nn, &j);
    } else if (j.w->wants_grad) {
        j.fresh_w = nn_grad_fresh(nn, j.w);
        nn_parts(nn, linear_back_weight, &j);
    }
    if (nn_grad(nn, j.b) != NULL)
        nn_parts(nn, linear_back_bias, &j);
}

struct nn_tensor *nn_linear(struct nn *nn, struct nn_tensor *x, struct nn_tensor *w, struct nn_tensor *b)
{
    int64_t shape[NN_DIMS_MAX];
    ASSERT(x->n_dims >= 1 && w->n_dims == 2 && x->shape[x->n_dims - 1] == w->shape[1]);
    memcpy(shape, x->shape, sizeof shape);
    shape[x->n_dims - 1] = w->shape[0];
    struct linear_job j = {.nn = nn, .x = x, .w = w, .b = b, .y = nn_new(nn, x->n_dims, shape)};
    if (nn->half) {
        j.xh = nn_take(nn, (size_t)x->n * sizeof *j.xh);
        j.wh = nn_take(nn, (size_t)w->n * sizeof *j.wh);
        nnhalf_round(j.wh, w->data, w->n);
    }
    nn_parts(nn, linear_forward, &j);
    struct nn_node *node = nn_record(nn, j.y, linear_backward, x, w, b);
    if (node != NULL) {
        node->saved[0] = j.xh;
        node->saved[1] = j.wh;
    }
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
