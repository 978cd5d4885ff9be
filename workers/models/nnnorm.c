/* Normalisations: over the last axis, over groups of channels, over the batch. Sums in double, in one
 * order; statistics are kept for the way back. */
#include "workers/models/nn.h"

#include "proto/err.h"
#include "workers/models/nnrows.h"

#include <math.h>
#include <string.h>

struct norm_job {
    struct nn *nn;
    struct nn_tensor *x, *w, *b, *y;
    float *stats;               /* per line: mean, 1 / deviation */
    double eps;
    bool fresh;                 /* way back: x's gradient is written, not added to */
    bool centred;               /* layer norm subtracts the mean, RMS norm does not */
    int groups;
};

/* --- RMS norm and layer norm: lines of the last axis */

static void line_statistics(const float *x, int64_t d, bool centred, double eps, float stats[2])
{
    double mean = centred ? nnrows_sum(x, d) / (double)d : 0;
    stats[0] = (float)mean;
    stats[1] = (float)(1 / sqrt(nnrows_spread(x, mean, d) / (double)d + eps));
}

static struct nn_range lines_of(const struct norm_job *j, int p)
{
    int64_t d = j->x->shape[j->x->n_dims - 1], each = nn_row(j->x) / d;
    struct nn_range r = nn_part(j->nn, j->x, p);
    if (j->x->n_dims == 1)
        return (struct nn_range){0, 1};
    return (struct nn_range){r.begin * each, r.end * each};
}

static void lines_forward(void *ctx, int p)
{
    const struct norm_job *j = ctx;
    int64_t d = j->x->shape[j->x->n_dims - 1];
    struct nn_range r = lines_of(j, p);
    for (int64_t l = r.begin; l < r.end; l++) {
        const float *x = j->x->data + l * d;
        float *y = j->y->data + l * d, *s = j->stats + 2 * l;
        line_statistics(x, d, j->centred, j->eps, s);
        nnrows_norm(y, x, s[0], s[1], j->w != NULL ? j->w->data : NULL, j->b != NULL ? j->b->data : NULL,
                    d);
    }
}

/* With n = (x - mean) r: dx = r (gw - mean(gw) - n mean(gw n)); RMS norm lacks the second term. */
static void line_back(const struct norm_job *j, int64_t l, float *dw, float *db)
{
    int64_t d = j->x->shape[j->x->n_dims - 1];
    const float *x = j->x->data + l * d, *g = j->y->grad + l * d, *s = j->stats + 2 * l;
    const float *w = j->w != NULL ? j->w->data : NULL;
    double sum, along;
    nnrows_norm_sums(g, x, s[0], s[1], w, dw, db, d, &sum, &along);
    if (j->x->grad != NULL)
        nnrows_norm_back(j->x->grad + l * d, g, x, s[0], s[1], w, j->centred ? (float)(sum / (double)d) : 0,
                         (float)(along / (double)d), d, j->fresh);
}

static void lines_back_part(void *ctx, int p)
{
    const struct norm_job *j = ctx;
    struct nn_range r = lines_of(j, p);
    float *dw = j->w != NULL ? nn_grad_part(j->w, p) : NULL;
    float *db = j->b != NULL ? nn_grad_part(j->b, p) : NULL;
    for (int64_t l = r.begin; l < r.end; l++)
        line_back(j, l, dw, db);
}

static void lines_backward(struct nn *nn, const struct nn_node *node)
{
    struct norm_job j = {.nn = nn, .x = node->in[0], .w = node->in[1], .b = node->in[2],
                         .y = node->out, .stats = node->saved[0], .centred = node->i[0] != 0};
    j.fresh = nn_grad_fresh(nn, j.x);
    nn_grad(nn, j.w);
    nn_grad(nn, j.b);
    nn_parts(nn, lines_back_part, &j);
}

static struct nn_tensor *norm_lines(struct nn *nn, struct nn_tensor *x, struct nn_tensor *w,
                                    struct nn_tensor *b, double eps, bool centred)
{
    int64_t lines = x->n / x->shape[x->n_dims - 1];
    struct norm_job j = {.nn = nn, .x = x, .w = w, .b = b, .y = nn_new(nn, x->n_dims, x->shape),
                         .stats = nn_take(nn, (size_t)lines * 2 * sizeof(float)), .eps = eps,
                         .centred = centred};
    nn_parts(nn, lines_forward, &j);
    struct nn_node *node = nn_record(nn, j.y, lines_backward, x, w, b);
    if (node != NULL) {
        node->saved[0] = j.stats;
        node->i[0] = centred;
    }
    return j.y;
}

struct nn_tensor *nn_rms_norm(struct nn *nn, struct nn_tensor *x, struct nn_tensor *w, double eps)
{
    return norm_lines(nn, x, w, NULL, eps, false);
}

struct nn_tensor *nn_layer_norm(struct nn *nn, struct nn_tensor *x, struct nn_tensor *w,
                                struct nn_tensor *b, double eps)
{
    return norm_lines(nn, x, w, b, eps, true);
}

/* --- group norm: a line is the channels of a group, all positions */

static void groups_forward(void *ctx, int p)
{
    const struct norm_job *j = ctx;
    int64_t c = j->x->shape[1], area = nn_row(j->x) / c, per = c / j->groups;
    struct nn_range r = nn_part(j->nn, j->x, p);
    for (int64_t l = r.begin * j->groups; l < r.end * j->groups; l++) {
        float *s = j->stats + 2 * l;
        line_statistics(j->x->data + l * per * area, per * area, true, j->eps, s);
        for (int64_t k = 0; k < per; k++) {
            int64_t channel = l % j->groups * per + k, at = (l * per + k) * area;
            float w = j->w != NULL ? j->w->data[channel] : 1, b = j->b != NULL ? j->b->data[channel] : 0;
            for (int64_t i = at; i < at + area; i++)
                j->y->data[i] = (j->x->data[i] - s[0]) * s[1] * w + b;
        }
    }
}

static void group_back(const struct norm_job *j, int64_t l, float *dw, float *db)
{
    int64_t c = j->x->shape[1], area = nn_row(j->x) / c, per = c / j->groups;
    const float *s = j->stats + 2 * l, *x = j->x->data, *g = j->y->grad;
    double sum = 0, along = 0;
    for (int64_t k = 0; k < per; k++) {
        int64_t channel = l % j->groups * per + k, at = (l * per + k) * area;
        double sum_g = 0, sum_gn = 0;
        for (int64_t i = at; i < at + area; i++) {
            sum_g += g[i];
            sum_gn += (double)g[i] * ((x[i] - s[0]) * s[1]);
        }
        if (dw != NULL)
            dw[channel] += (float)sum_gn;
        if (db != NULL)
            db[channel] += (float)sum_g;
        double w = j->w != NULL ? j->w->data[channel] : 1;
        sum += sum_g * w;
        along += sum_gn * w;
    }
    if (j->x->grad == NULL)
        return;
    float mean = (float)(sum / (double)(per * area)), mean_n = (float)(along / (double)(per * area));
    for (int64_t k = 0; k < per; k++) {
        int64_t at = (l * per + k) * area;
        float w = j->w != NULL ? j->w->data[l % j->groups * per + k] : 1;
        for (int64_t i = at; i < at + area; i++)
            j->x->grad[i] += s[1] * (g[i] * w - mean - (x[i] - s[0]) * s[1] * mean_n);
    }
}

static void groups_back_part(void *ctx, int p)
{
    const struct norm_job *j = ctx;
    struct nn_range r = nn_part(j->nn, j->x, p);
    float *dw = j->w != NULL ? nn_grad_part(j->w, p) : NULL;
    float *db = j->b != NULL ? nn_grad_part(j->b, p) : NULL;
    for (int64_t l = r.begin * j->groups; l < r.end * j->groups; l++)
        group_back(j, l, dw, db);
}

static void groups_backward(struct nn *nn, const struct nn_node *node)
{
    struct norm_job j = {.nn = nn, .x = node->in[0], .w = node->in[1], .b = node->in[2],
                         .y = node->out, .stats = node->saved[0], .groups = (int)node->i[0]};
    nn_grad(nn, j.x);
    nn_grad(nn, j.w);
    nn_grad(nn, j.b);
    nn_parts(nn, groups_back_part, &j);
}

struct nn_tensor *nn_group_norm(struct nn *nn, struct nn_tensor *x, struct nn_tensor *w,
                                struct nn_tensor *b, int groups, double eps)
{
    ASSERT(x->n_dims >= 2 && x->shape[1] % groups == 0);
    struct norm_job j = {.nn = nn, .x = x, .w = w, .b = b, .y = nn_new(nn, x->n_dims, x->shape),
                         .stats = nn_take(nn, (size_t)(x->shape[0] * groups) * 2 * sizeof(float)),
                         .eps = eps, .groups = groups};
    nn_parts(nn, groups_forward, &j);
    struct nn_node *node = nn_record(nn, j.y, groups_backward, x, w, b);
    if (node != NULL) {
        node->saved[0] = j.stats;
        node->i[0] = groups;
    }
    return j.y;
}

/* --- batch norm: statistics over all samples of all ranks, in two passes */

struct batch_job {
    struct nn *nn;
    struct nn_tensor *x, *w, *b, *y;
    const float *mean, *inverse;    /* [c] */
    float *parts;                   /* [n_parts][k] sums of the pass */
    int pass;
};

enum { PASS_SUM, PASS_SQUARES, PASS_APPLY, PASS_BACK_SUMS, PASS_BACK };

static void batch_channel(const struct batch_job *j, int64_t sample, int64_t channel, double sums[2])
{
    int64_t c = j->x->shape[1], area = nn_row(j->x) / c, at = (sample * c + channel) * area;
    const float *x = j->x->data + at;
    float m = j->mean != NULL ? j->mean[channel] : 0, r = j->inverse != NULL ? j->inverse[channel] : 1;
    if (j->pass == PASS_SUM) {
        sums[0] += nnrows_sum(x, area);
    } else if (j->pass == PASS_SQUARES) {
        sums[0] += nnrows_spread(x, m, area);
    } else {
        double sum = 0, along = 0;
        nnrows_norm_sums(j->y->grad + at, x, m, r, NULL, NULL, NULL, area, &sum, &along);
        sums[0] += sum;
        sums[1] += along;
    }
}

/* Sums of a pass over the part's samples, for each channel: [c] or, backward, [2][c]. */
static void batch_sums_part(void *ctx, int p)
{
    const struct batch_job *j = ctx;
    int64_t c = j->x->shape[1], k = j->pass == PASS_BACK_SUMS ? 2 * c : c;
    struct nn_range r = nn_part(j->nn, j->x, p);
    for (int64_t channel = 0; channel < c; channel++) {
        double sums[2] = {0, 0};
        for (int64_t s = r.begin; s < r.end; s++)
            batch_channel(j, s, channel, sums);
        j->parts[p * k + channel] = (float)sums[0];
        if (j->pass == PASS_BACK_SUMS)
            j->parts[p * k + c + channel] = (float)sums[1];
    }
}

static void batch_apply_part(void *ctx, int p)
{
    const struct batch_job *j = ctx;
    int64_t c = j->x->shape[1], area = nn_row(j->x) / c;
    struct nn_range r = nn_part(j->nn, j->x, p);
    for (int64_t l = r.begin * c; l < r.end * c; l++) {
        int64_t channel = l % c;
        float w = j->w != NULL ? j->w->data[channel] : 1, b = j->b != NULL ? j->b->data[channel] : 0;
        for (int64_t i = l * area; i < (l + 1) * area; i++)
            j->y->data[i] = (j->x->data[i] - j->mean[channel]) * j->inverse[channel] * w + b;
    }
}

/* Samples times positions over all ranks: counted like everything else. */
static double batch_count(struct nn *nn, const struct nn_tensor *x)
{
    float parts[NN_PARTS_MAX], count;
    for (int p = 0; p < nn->n_parts; p++) {
        struct nn_range r = nn_part(nn, x, p);
        parts[p] = (float)((r.end - r.begin) * (nn_row(x) / x->shape[1]));
    }
    nn_fold(nn, &count, parts, 1);
    return count;
}

struct batch_saved { float *mean, *inverse; double count; bool training; };

struct batch_back { struct batch_job job; const float *sums; double count; bool training; };

static void batch_back_part(void *ctx, int p)
{
    const struct batch_back *k = ctx;
    const struct batch_job *j = &k->job;
    int64_t c = j->x->shape[1], area = nn_row(j->x) / c;
    struct nn_range r = nn_part(j->nn, j->x, p);
    for (int64_t l = r.begin * c; l < r.end * c && j->x->grad != NULL; l++) {
        int64_t channel = l % c;
        float inverse = j->inverse[channel], w = j->w != NULL ? j->w->data[channel] : 1;
        float mean_g = k->training ? (float)(k->sums[channel] / k->count) : 0;
        float mean_gn = k->training ? (float)(k->sums[c + channel] / k->count) : 0;
        for (int64_t i = l * area; i < (l + 1) * area; i++) {
            float n = (j->x->data[i] - j->mean[channel]) * inverse;
            j->x->grad[i] += w * inverse * (j->y->grad[i] - mean_g - n * mean_gn);
        }
    }
}

static void batch_backward(struct nn *nn, const struct nn_node *node)
{
    const struct batch_saved *s = node->saved[0];
    int64_t c = node->in[0]->shape[1];
    float *sums = nn_take(nn, 2 * (size_t)c * sizeof *sums);
    struct batch_job j = {.nn = nn, .x = node->in[0], .w = node->in[1], .b = node->in[2],
                          .y = node->out, .mean = s->mean, .inverse = s->inverse,
                          .pass = PASS_BACK_SUMS,
                          .parts = nn_take(nn, (size_t)(nn->n_parts * 2 * c) * sizeof(float))};
    nn_grad(nn, j.x);
    nn_grad(nn, j.w);
    nn_grad(nn, j.b);
    nn_parts(nn, batch_sums_part, &j);
    for (int p = 0; p < nn->n_parts; p++)
        for (int64_t i = 0; i < c; i++) {
            if (j.b != NULL && j.b->grad != NULL)
                nn_grad_part(j.b, p)[i] += j.parts[p * 2 * c + i];
            if (j.w != NULL && j.w->grad != NULL)
                nn_grad_part(j.w, p)[i] += j.parts[p * 2 * c + c + i];
        }
    if (s->training)
        nn_fold(nn, sums, j.parts, 2 * c);
    struct batch_back k = {j, sums, s->count, s->training};
    nn_parts(nn, batch_back_part, &k);
}

/* Statistics of the batch into mean, inverse; the running ones move. */
static double batch_statistics(struct batch_job *j, float *mean, float *inverse, float *running_mean,
                               float *running_var, double momentum, double eps)
{
    int64_t c = j->x->shape[1];
    double n = batch_count(j->nn, j->x);
    j->parts = nn_take(j->nn, (size_t)(j->nn->n_parts * c) * sizeof(float));
    j->pass = PASS_SUM;
    nn_parts(j->nn, batch_sums_part, j);
    nn_fold(j->nn, mean, j->parts, c);
    for (int64_t i = 0; i < c; i++)
        mean[i] = (float)(mean[i] / n);
    j->mean = mean;
    j->pass = PASS_SQUARES;
    nn_parts(j->nn, batch_sums_part, j);
    nn_fold(j->nn, inverse, j->parts, c);
    for (int64_t i = 0; i < c; i++) {
        double biased = inverse[i] / n, unbiased = n > 1 ? inverse[i] / (n - 1) : biased;
        inverse[i] = (float)(1 / sqrt(biased + eps));
        running_mean[i] = (float)((1 - momentum) * running_mean[i] + momentum * mean[i]);
        running_var[i] = (float)((1 - momentum) * running_var[i] + momentum * unbiased);
    }
    return n;
}

struct nn_tensor *nn_batch_norm(struct nn *nn, struct nn_tensor *x, struct nn_tensor *w,
                                struct nn_tensor *b, float *running_mean, float *running_var,
                                bool training, double momentum, double eps)
{
    int64_t c = x->shape[1];
    float *mean = nn_take(nn, (size_t)c * sizeof *mean), *inverse = nn_take(nn, (size_t)c * sizeof *mean);
    struct batch_job j = {.nn = nn, .x = x, .w = w, .b = b, .y = nn_new(nn, x->n_dims, x->shape)};
    double n = 0;
    if (training) {
        n = batch_statistics(&j, mean, inverse, running_mean, running_var, momentum, eps);
    } else {
        memcpy(mean, running_mean, (size_t)c * sizeof *mean);
        for (int64_t i = 0; i < c; i++)
            inverse[i] = (float)(1 / sqrt(running_var[i] + eps));
    }
    j.mean = mean;
    j.inverse = inverse;
    j.pass = PASS_APPLY;
    nn_parts(nn, batch_apply_part, &j);
    struct nn_node *node = nn_record(nn, j.y, batch_backward, x, w, b);
    if (node != NULL) {
        struct batch_saved *s = nn_take(nn, sizeof *s);
        *s = (struct batch_saved){mean, inverse, n, training};
        node->saved[0] = s;
    }
    return j.y;
}
