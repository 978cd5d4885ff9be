/* What crosses samples: sums over axes, losses, and spectral norm (which crosses none but is a scalar of
 * a whole weight). Partial sums are kept for each part and folded in the tree, over the ranks too. */
#include "workers/models/nn.h"

#include "proto/err.h"
#include "workers/models/nnrows.h"

#include <math.h>
#include <string.h>

/* --- sums over axes */

struct sum_job {
    struct nn *nn;
    struct nn_tensor *x, *y;
    unsigned axes;
    float *parts;               /* [n_parts][y] when axis 0 is summed too */
    float factor;
    bool back;
};

/* Index in y of element `at` of x. */
static int64_t sum_target(const struct sum_job *j, int64_t at)
{
    int64_t target = 0, stride = 1;
    for (int k = j->x->n_dims - 1; k >= 0; k--) {
        if ((j->axes >> k & 1) == 0) {
            target += at % j->x->shape[k] * stride;
            stride *= j->x->shape[k];
        }
        at /= j->x->shape[k];
    }
    return target;
}

static void sum_part(void *ctx, int part)
{
    const struct sum_job *j = ctx;
    struct nn_range r = nn_part(j->nn, j->x, part);
    int64_t each = nn_row(j->x);
    float *out = j->parts != NULL ? j->parts + part * j->y->n : j->y->data;
    for (int64_t at = r.begin * each; at < r.end * each; at++) {
        int64_t target = sum_target(j, at);
        if (j->back)
            j->x->grad[at] += j->factor * j->y->grad[target];
        else
            out[target] += j->factor * j->x->data[at];
    }
}

static void sum_backward(struct nn *nn, const struct nn_node *node)
{
    struct sum_job j = {nn, node->in[0], node->out, (unsigned)node->i[0], NULL, (float)node->f[0], true};
    nn_grad(nn, j.x);
    nn_parts(nn, sum_part, &j);
}

/* Samples of all ranks along axis 0 of x. */
static double global_rows(struct nn *nn, const struct nn_tensor *x)
{
    float parts[NN_PARTS_MAX], n;
    for (int p = 0; p < nn->n_parts; p++) {
        struct nn_range r = nn_part(nn, x, p);
        parts[p] = (float)(r.end - r.begin);
    }
    nn_fold(nn, &n, parts, 1);
    return n;
}

static struct nn_tensor *reduce_axes(struct nn *nn, struct nn_tensor *x, unsigned axes, bool mean)
{
    int64_t shape[NN_DIMS_MAX];
    int n_dims = 0;
    double count = 1;
    for (int k = 0; k < x->n_dims; k++) {
        if (axes >> k & 1)
            count *= k == 0 ? global_rows(nn, x) : (double)x->shape[k];
        else
            shape[n_dims++] = x->shape[k];
    }
    struct nn_tensor *y = nn_new(nn, n_dims, shape);
    struct sum_job j = {nn, x, y, axes, NULL, (float)(mean ? 1 / count : 1), false};
    memset(y->data, 0, (size_t)y->n * sizeof *y->data);
    if (axes & 1)
        j.parts = nn_take_zeroed(nn, (size_t)(nn->n_parts * y->n) * sizeof(float));
    nn_parts(nn, sum_part, &j);
    if (axes & 1)
        nn_fold(nn, y->data, j.parts, y->n);
    struct nn_node *node = nn_record(nn, y, sum_backward, x, NULL, NULL);
    if (node != NULL) {
        node->i[0] = axes;
        node->f[0] = j.factor;
    }
    return y;
}

struct nn_tensor *nn_sum(struct nn *nn, struct nn_tensor *x, unsigned axes)
{
    return reduce_axes(nn, x, axes, false);
}

struct nn_tensor *nn_mean(struct nn *nn, struct nn_tensor *x, unsigned axes)
{
    return reduce_axes(nn, x, axes, true);
}

/* --- losses: a term and its slope for each number, summed and divided by a global count */

enum loss { MSE, HINGE_REAL, HINGE_FAKE, HINGE_G, SOFT_REAL, SOFT_FAKE };

struct loss_job {
    struct nn *nn;
    struct nn_tensor *x, *target, *y;
    enum loss kind;
    double *sums;               /* [n_parts] */
    float factor;
    bool back;
};

/* ln(1 + e^x) and its slope, for one number (losses of discriminators are a handful). */
static void softplus(const struct kernels *k, float x, float *value, float *slope)
{
    float e = -fabsf(x), l;
    k->exp(&e, &e, 1);
    e += 1;
    k->log(&l, &e, 1);
    *value = l + (x > 0 ? x : 0);
    k->sigmoid(slope, &x, 1);
}

static void loss_term(const struct loss_job *j, int64_t i, float *value, float *slope)
{
    float x = j->x->data[i], d;
    switch (j->kind) {
    case MSE:
        d = x - j->target->data[i];
        *value = d * d;
        *slope = 2 * d;
        return;
    case HINGE_REAL:
        *value = x < 1 ? 1 - x : 0;
        *slope = x < 1 ? -1 : 0;
        return;
    case HINGE_FAKE:
        *value = x > -1 ? 1 + x : 0;
        *slope = x > -1 ? 1 : 0;
        return;
    case HINGE_G:
        *value = -x;
        *slope = -1;
        return;
    case SOFT_REAL:
        softplus(j->nn->kernels, -x, value, slope);
        *slope = -*slope;
        return;
    case SOFT_FAKE: softplus(j->nn->kernels, x, value, slope); return;
    }
}

static void loss_part(void *ctx, int part)
{
    const struct loss_job *j = ctx;
    struct nn_range r = nn_part(j->nn, j->x, part);
    int64_t each = nn_row(j->x);
    double sum = 0;
    for (int64_t i = r.begin * each; i < r.end * each; i++) {
        float value = 0, slope = 0;
        loss_term(j, i, &value, &slope);
        sum += value;
        if (!j->back)
            continue;
        float g = slope * j->factor * j->y->grad[0];
        if (j->x->grad != NULL)
            j->x->grad[i] += g;
        if (j->target != NULL && j->target->grad != NULL)
            j->target->grad[i] -= g;
    }
    if (!j->back)
        j->sums[part] = sum;
}

static void loss_backward(struct nn *nn, const struct nn_node *node)
{
    struct loss_job j = {nn, node->in[0], node->in[1], node->out, (enum loss)node->i[0], NULL,
                         (float)node->f[0], true};
    nn_grad(nn, j.x);
    nn_grad(nn, j.target);
    nn_parts(nn, loss_part, &j);
}

static struct nn_tensor *loss_mean(struct nn *nn, struct nn_tensor *x, struct nn_tensor *target,
                                   enum loss kind)
{
    double sums[NN_PARTS_MAX], count = global_rows(nn, x) * (double)nn_row(x);
    float parts[NN_PARTS_MAX];
    struct loss_job j = {nn, x, target, nn_new(nn, 0, NULL), kind, sums, (float)(1 / count), false};
    nn_parts(nn, loss_part, &j);
    for (int p = 0; p < nn->n_parts; p++)
        parts[p] = (float)(sums[p] / count);
    nn_fold(nn, j.y->data, parts, 1);
    struct nn_node *node = nn_record(nn, j.y, loss_backward, x, target, NULL);
    if (node != NULL) {
        node->i[0] = kind;
        node->f[0] = 1 / count;
    }
    return j.y;
}

struct nn_tensor *nn_mse(struct nn *nn, struct nn_tensor *x, struct nn_tensor *target)
{
    ASSERT(x->n == target->n);
    return loss_mean(nn, x, target, MSE);
}

/* --- a discriminator's two halves */

static void mix_backward(struct nn *nn, const struct nn_node *node)
{
    for (int i = 0; i < 2; i++) {
        float *g = nn_grad(nn, node->in[i]);
        if (g != NULL)
            g[0] += (float)node->f[i] * node->out->grad[0];
    }
}

struct nn_tensor *nn_mix(struct nn *nn, struct nn_tensor *a, double weight_a, struct nn_tensor *b,
                         double weight_b)
{
    struct nn_tensor *y = nn_new(nn, 0, NULL);
    y->data[0] = (float)weight_a * a->data[0] + (float)weight_b * b->data[0];
    struct nn_node *node = nn_record(nn, y, mix_backward, a, b, NULL);
    if (node != NULL) {
        node->f[0] = weight_a;
        node->f[1] = weight_b;
    }
    return y;
}

struct nn_tensor *nn_hinge_side(struct nn *nn, struct nn_tensor *x, bool real)
{
    return loss_mean(nn, x, NULL, real ? HINGE_REAL : HINGE_FAKE);
}

struct nn_tensor *nn_softplus_side(struct nn *nn, struct nn_tensor *x, bool real)
{
    return loss_mean(nn, x, NULL, real ? SOFT_REAL : SOFT_FAKE);
}

struct nn_tensor *nn_hinge_d(struct nn *nn, struct nn_tensor *real, struct nn_tensor *fake)
{
    return nn_mix(nn, nn_hinge_side(nn, real, true), 1, nn_hinge_side(nn, fake, false), 1);
}

struct nn_tensor *nn_hinge_g(struct nn *nn, struct nn_tensor *fake)
{
    return loss_mean(nn, fake, NULL, HINGE_G);
}

struct nn_tensor *nn_softplus_d(struct nn *nn, struct nn_tensor *real, struct nn_tensor *fake)
{
    return nn_mix(nn, nn_softplus_side(nn, real, true), 1, nn_softplus_side(nn, fake, false), 1);
}

struct nn_tensor *nn_softplus_g(struct nn *nn, struct nn_tensor *fake)
{
    return nn_softplus_side(nn, fake, true);
}

/* --- pairs of neighbours: how far apart are they? */

struct pair_job {
    struct nn *nn;
    struct nn_tensor *x, *y;
    const struct nn_tensor *z;
    float *sums;                /* [n_parts][2]: of x, of z */
    float slope;                /* of y, for each number of x */
};

/* Sum of |a - b| over the pairs of a part. */
static double pair_gap(const struct nn *nn, const struct nn_tensor *t, int part)
{
    struct nn_range r = nn_part(nn, t, part);
    int64_t each = nn_row(t);
    double sum = 0;
    for (int64_t s = r.begin; s + 1 < r.end; s += 2)
        for (int64_t i = s * each; i < (s + 1) * each; i++)
            sum += fabsf(t->data[i] - t->data[i + each]);
    return sum;
}

static void pair_part(void *ctx, int part)
{
    const struct pair_job *j = ctx;
    j->sums[2 * part] = (float)pair_gap(j->nn, j->x, part);
    j->sums[2 * part + 1] = (float)pair_gap(j->nn, j->z, part);
}

static void pair_back_part(void *ctx, int part)
{
    const struct pair_job *j = ctx;
    struct nn_range r = nn_part(j->nn, j->x, part);
    int64_t each = nn_row(j->x);
    float g = j->slope * j->y->grad[0];
    for (int64_t s = r.begin; s + 1 < r.end; s += 2)
        for (int64_t i = s * each; i < (s + 1) * each; i++) {
            float gap = j->x->data[i] - j->x->data[i + each], toward = gap > 0 ? g : gap < 0 ? -g : 0;
            j->x->grad[i] += toward;
            j->x->grad[i + each] -= toward;
        }
}

static void pair_backward(struct nn *nn, const struct nn_node *node)
{
    struct pair_job j = {nn, node->in[0], node->out, NULL, NULL, (float)node->f[0]};
    nn_grad(nn, j.x);
    nn_parts(nn, pair_back_part, &j);
}

struct nn_tensor *nn_mode_seeking(struct nn *nn, struct nn_tensor *x, const struct nn_tensor *z)
{
    const double least = 1e-5;
    float sums[2], parts[2 * NN_PARTS_MAX];
    struct pair_job j = {nn, x, nn_new(nn, 0, NULL), z, parts, 0};
    nn_parts(nn, pair_part, &j);
    nn_fold(nn, sums, parts, 2);
    double scale = sums[1] > 0 ? (double)nn_row(z) / sums[1] / (double)nn_row(x) : 0;
    double y = 1 / (sums[0] * scale + least);
    j.y->data[0] = (float)y;
    struct nn_node *node = nn_record(nn, j.y, pair_backward, x, NULL, NULL);
    if (node != NULL)
        node->f[0] = -y * y * scale;
    return j.y;
}

/* --- cross entropy of rows [.., classes] */

struct ce_job {
    struct nn *nn;
    struct nn_tensor *x, *y;
    const int32_t *labels;      /* [rows] */
    float *lse;                 /* [rows] */
    double *sums, *counts;      /* [n_parts] */
    float factor;
    bool back;
};

/* ln of the sum of e^x over a row, and the loss of its label. */
static float row_lse(const struct kernels *k, const float *x, int64_t n)
{
    float top = x[0], block[256];
    double sum = 0;
    for (int64_t i = 1; i < n; i++)
        top = x[i] > top ? x[i] : top;
    for (int64_t at = 0; at < n; at += 256) {
        int count = n - at < 256 ? (int)(n - at) : 256;
        for (int i = 0; i < count; i++)
            block[i] = x[at + i] - top;
        k->exp(block, block, count);
        for (int i = 0; i < count; i++)
            sum += block[i];
    }
    float total = (float)sum, l;
    k->log(&l, &total, 1);
    return l + top;
}

static void ce_row_back(const struct ce_job *j, int64_t row, int64_t n)
{
    const float *x = j->x->data + row * n;
    float *dx = j->x->grad + row * n, block[256], g = j->factor * j->y->grad[0];
    for (int64_t at = 0; at < n; at += 256) {
        int count = n - at < 256 ? (int)(n - at) : 256;
        for (int i = 0; i < count; i++)
            block[i] = x[at + i] - j->lse[row];
        j->nn->kernels->exp(block, block, count);
        for (int i = 0; i < count; i++)
            dx[at + i] += g * block[i];
    }
    dx[j->labels[row]] -= g;
}

static void ce_part(void *ctx, int part)
{
    const struct ce_job *j = ctx;
    int64_t n = j->x->shape[j->x->n_dims - 1], rows = nn_row(j->x) / n;
    struct nn_range r = nn_part(j->nn, j->x, part);
    double sum = 0, count = 0;
    for (int64_t row = r.begin * rows; row < r.end * rows; row++) {
        if (j->labels[row] < 0)
            continue;
        if (j->back) {
            ce_row_back(j, row, n);
            continue;
        }
        j->lse[row] = row_lse(j->nn->kernels, j->x->data + row * n, n);
        sum += (double)j->lse[row] - j->x->data[row * n + j->labels[row]];
        count++;
    }
    if (!j->back) {
        j->sums[part] = sum;
        j->counts[part] = count;
    }
}

static void ce_backward(struct nn *nn, const struct nn_node *node)
{
    struct ce_job j = {.nn = nn, .x = node->in[0], .y = node->out, .labels = node->saved[0],
                       .lse = node->saved[1], .factor = (float)node->f[0], .back = true};
    nn_grad(nn, j.x);
    nn_parts(nn, ce_part, &j);
}

struct nn_tensor *nn_cross_entropy(struct nn *nn, struct nn_tensor *logits, const int32_t *labels,
                                   bool mean)
{
    int64_t classes = logits->shape[logits->n_dims - 1], rows = logits->n / classes;
    double sums[NN_PARTS_MAX], counts[NN_PARTS_MAX];
    float parts[NN_PARTS_MAX], count = 1;
    for (int64_t i = 0; i < rows; i++)
        ASSERT(labels[i] < classes);
    struct ce_job j = {nn, logits, nn_new(nn, 0, NULL), labels,
                       nn_take(nn, (size_t)rows * sizeof(float)), sums, counts, 1, false};
    nn_parts(nn, ce_part, &j);
    if (mean) {
        for (int p = 0; p < nn->n_parts; p++)
            parts[p] = (float)counts[p];
        nn_fold(nn, &count, parts, 1);
        count = count > 0 ? count : 1;
    }
    for (int p = 0; p < nn->n_parts; p++)
        parts[p] = (float)(sums[p] / count);
    nn_fold(nn, j.y->data, parts, 1);
    struct nn_node *node = nn_record(nn, j.y, ce_backward, logits, NULL, NULL);
    if (node != NULL) {
        node->saved[0] = (void *)(uintptr_t)labels;
        node->saved[1] = j.lse;
        node->f[0] = 1.0 / count;
    }
    return j.y;
}

/* --- spectral norm */

static void normalise(float *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    double norm = sqrt(sum);
    norm = norm > 1e-12 ? norm : 1e-12;
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(x[i] / norm);
}

/* out [rows] = W v, or out [cols] = W^T u; returns nothing, sums in double. */
static void times(float *out, const float *w, const float *v, int64_t rows, int64_t cols)
{
    for (int64_t i = 0; i < rows; i++) {
        double sum = 0;
        for (int64_t k = 0; k < cols; k++)
            sum += (double)w[i * cols + k] * v[k];
        out[i] = (float)sum;
    }
}

static void times_transposed(float *out, const float *w, const float *u, int64_t rows, int64_t cols)
{
    for (int64_t k = 0; k < cols; k++) {
        double sum = 0;
        for (int64_t i = 0; i < rows; i++)
            sum += (double)w[i * cols + k] * u[i];
        out[k] = (float)sum;
    }
}

struct spectral { struct nn *nn; struct nn_tensor *w, *y; const float *u, *v; float sigma; };

static void spectral_back_part(void *ctx, int part)
{
    const struct spectral *j = ctx;
    int64_t rows = j->w->shape[0], cols = j->w->n / rows;
    const float *g = nn_grad_part(j->y, part);
    float *dw = nn_grad_part(j->w, part);
    double dot = nnrows_dot(g, j->y->data, j->w->n);
    float inverse = 1 / j->sigma;
    for (int64_t r = 0; r < rows; r++) {
        float along = (float)dot * j->u[r];
        for (int64_t c = 0; c < cols; c++)
            dw[r * cols + c] += (g[r * cols + c] - along * j->v[c]) * inverse;
    }
}

static void spectral_backward(struct nn *nn, const struct nn_node *node)
{
    struct spectral j = {nn, node->in[0], node->out, node->saved[0], node->saved[1], (float)node->f[0]};
    nn_grad(nn, j.w);
    nn_parts(nn, spectral_back_part, &j);
}

struct nn_tensor *nn_spectral_norm(struct nn *nn, struct nn_tensor *w, float *u, float *v, bool iterate)
{
    int64_t rows = w->shape[0], cols = w->n / rows;
    float *wv = nn_take(nn, (size_t)rows * sizeof *wv);
    double sigma = 0;
    if (iterate) {
        times_transposed(v, w->data, u, rows, cols);
        normalise(v, cols);
        times(u, w->data, v, rows, cols);
        normalise(u, rows);
    }
    times(wv, w->data, v, rows, cols);
    for (int64_t i = 0; i < rows; i++)
        sigma += (double)u[i] * wv[i];
    struct nn_tensor *y = nn_new(nn, w->n_dims, w->shape);
    y->unbatched = w->unbatched;
    for (int64_t i = 0; i < w->n; i++)
        y->data[i] = (float)(w->data[i] / sigma);
    struct nn_node *node = nn_record(nn, y, spectral_backward, w, NULL, NULL);
    if (node != NULL) {     /* u and v go on changing: the tape keeps these */
        node->saved[0] = memcpy(nn_take(nn, (size_t)rows * sizeof *u), u, (size_t)rows * sizeof *u);
        node->saved[1] = memcpy(nn_take(nn, (size_t)cols * sizeof *v), v, (size_t)cols * sizeof *v);
        node->f[0] = sigma;
    }
    return y;
}
