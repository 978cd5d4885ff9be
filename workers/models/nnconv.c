/* Convolutions as products over unfolded pictures, one sample at a time; up- and down-sampling. */
#include "workers/models/nn.h"

#include "proto/err.h"

#include <cblas.h>
#include <string.h>

struct conv_job {
    struct nn *nn;
    struct nn_tensor *x, *w, *b, *y;
    int64_t kh, kw, stride, padding, groups;
};

/* The picture side of a convolution: [c, h, w], unfolded under (kh, kw) to [c kh kw, oh ow]. */
struct fold { int64_t c, h, w, kh, kw, stride, padding, oh, ow; };

/* cols [c kh kw, oh ow] from x [c, h, w]; zeros outside. */
static void unfold(const struct fold *f, float *cols, const float *x)
{
    for (int64_t row = 0; row < f->c * f->kh * f->kw; row++) {
        int64_t kx = row % f->kw, ky = row / f->kw % f->kh, c = row / (f->kw * f->kh);
        for (int64_t oy = 0; oy < f->oh; oy++) {
            int64_t iy = oy * f->stride - f->padding + ky;
            for (int64_t ox = 0; ox < f->ow; ox++) {
                int64_t ix = ox * f->stride - f->padding + kx;
                bool inside = iy >= 0 && iy < f->h && ix >= 0 && ix < f->w;
                *cols++ = inside ? x[(c * f->h + iy) * f->w + ix] : 0;
            }
        }
    }
}

/* x [c, h, w] += the columns, each to where it came from. */
static void fold_add(const struct fold *f, float *x, const float *cols)
{
    for (int64_t row = 0; row < f->c * f->kh * f->kw; row++) {
        int64_t kx = row % f->kw, ky = row / f->kw % f->kh, c = row / (f->kw * f->kh);
        for (int64_t oy = 0; oy < f->oh; oy++) {
            int64_t iy = oy * f->stride - f->padding + ky;
            for (int64_t ox = 0; ox < f->ow; ox++, cols++) {
                int64_t ix = ox * f->stride - f->padding + kx;
                if (iy >= 0 && iy < f->h && ix >= 0 && ix < f->w)
                    x[(c * f->h + iy) * f->w + ix] += *cols;
            }
        }
    }
}

static void add_bias(float *y, const struct nn_tensor *b, int64_t channels, int64_t area)
{
    for (int64_t c = 0; b != NULL && c < channels; c++)
        for (int64_t i = 0; i < area; i++)
            y[c * area + i] += b->data[c];
}

static void bias_back(float *db, const float *g, int64_t channels, int64_t area)
{
    for (int64_t c = 0; db != NULL && c < channels; c++) {
        double sum = 0;
        for (int64_t i = 0; i < area; i++)
            sum += g[c * area + i];
        db[c] += (float)sum;
    }
}

static struct fold fold_of(const struct conv_job *j)
{
    return (struct fold){j->x->shape[1] / j->groups, j->x->shape[2], j->x->shape[3], j->kh, j->kw,
                         j->stride, j->padding, j->y->shape[2], j->y->shape[3]};
}

static void conv_part(void *ctx, int part)
{
    const struct conv_job *j = ctx;
    struct fold f = fold_of(j);
    struct nn_range r = nn_part(j->nn, j->x, part);
    int64_t out = j->w->shape[0] / j->groups, k = f.c * f.kh * f.kw, area = f.oh * f.ow;
    float *cols = nn_scratch(j->nn, part, k * area);
    for (int64_t s = r.begin; s < r.end; s++) {
        for (int64_t g = 0; g < j->groups; g++) {
            unfold(&f, cols, j->x->data + (s * j->groups + g) * f.c * f.h * f.w);
            cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)out, (int)area, (int)k, 1,
                        j->w->data + g * out * k, (int)k, cols, (int)area, 0,
                        j->y->data + (s * j->groups + g) * out * area, (int)area);
        }
        add_bias(j->y->data + s * j->y->shape[1] * area, j->b, j->y->shape[1], area);
    }
}

static void conv_group_back(const struct conv_job *j, const struct fold *f, int part, int64_t s,
                            int64_t g, float *cols)
{
    int64_t out = j->w->shape[0] / j->groups, k = f->c * f->kh * f->kw, area = f->oh * f->ow;
    const float *gy = j->y->grad + (s * j->groups + g) * out * area;
    int64_t at = (s * j->groups + g) * f->c * f->h * f->w;
    if (j->w->grad != NULL) {
        unfold(f, cols, j->x->data + at);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)out, (int)k, (int)area, 1, gy,
                    (int)area, cols, (int)area, 1, nn_grad_part(j->w, part) + g * out * k, (int)k);
    }
    if (j->x->grad != NULL) {
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)k, (int)area, (int)out, 1,
                    j->w->data + g * out * k, (int)k, gy, (int)area, 0, cols, (int)area);
        fold_add(f, j->x->grad + at, cols);
    }
}

static void conv_back_part(void *ctx, int part)
{
    const struct conv_job *j = ctx;
    struct fold f = fold_of(j);
    struct nn_range r = nn_part(j->nn, j->x, part);
    int64_t area = f.oh * f.ow, channels = j->y->shape[1];
    float *cols = nn_scratch(j->nn, part, f.c * f.kh * f.kw * area);
    float *db = j->b != NULL ? nn_grad_part(j->b, part) : NULL;
    for (int64_t s = r.begin; s < r.end; s++) {
        for (int64_t g = 0; g < j->groups; g++)
            conv_group_back(j, &f, part, s, g, cols);
        bias_back(db, j->y->grad + s * channels * area, channels, area);
    }
}

static struct conv_job conv_of_node(struct nn *nn, const struct nn_node *n)
{
    struct conv_job j = {nn, n->in[0], n->in[1], n->in[2], n->out, n->in[1]->shape[2],
                         n->in[1]->shape[3], n->i[0], n->i[1], n->i[2]};
    nn_grad(nn, j.x);
    nn_grad(nn, j.w);
    nn_grad(nn, j.b);
    return j;
}

static void conv_backward(struct nn *nn, const struct nn_node *node)
{
    struct conv_job j = conv_of_node(nn, node);
    nn_parts(nn, conv_back_part, &j);
}

static void record_conv(struct nn *nn, const struct conv_job *j,
                        void (*backward)(struct nn *, const struct nn_node *))
{
    struct nn_node *node = nn_record(nn, j->y, backward, j->x, j->w, j->b);
    if (node != NULL) {
        node->i[0] = j->stride;
        node->i[1] = j->padding;
        node->i[2] = j->groups;
    }
}

struct nn_tensor *nn_conv2d(struct nn *nn, struct nn_tensor *x, struct nn_tensor *w, struct nn_tensor *b,
                            int stride, int padding, int groups)
{
    ASSERT(x->n_dims == 4 && w->n_dims == 4 && x->shape[1] == w->shape[1] * groups);
    int64_t oh = (x->shape[2] + 2 * padding - w->shape[2]) / stride + 1;
    int64_t ow = (x->shape[3] + 2 * padding - w->shape[3]) / stride + 1;
    struct nn_tensor *y = nn_new(nn, 4, (const int64_t[]){x->shape[0], w->shape[0], oh, ow});
    struct conv_job j = {nn, x, w, b, y, w->shape[2], w->shape[3], stride, padding, groups};
    nn_parts(nn, conv_part, &j);
    record_conv(nn, &j, conv_backward);
    return y;
}

/* --- transposed: the picture side is y */

static struct fold transposed_fold(const struct conv_job *j)
{
    return (struct fold){j->y->shape[1], j->y->shape[2], j->y->shape[3], j->kh, j->kw,
                         j->stride,      j->padding,     j->x->shape[2], j->x->shape[3]};
}

static void transposed_part(void *ctx, int part)
{
    const struct conv_job *j = ctx;
    struct fold f = transposed_fold(j);
    struct nn_range r = nn_part(j->nn, j->x, part);
    int64_t in = j->x->shape[1], k = f.c * f.kh * f.kw, area = f.oh * f.ow, out_area = f.h * f.w;
    float *cols = nn_scratch(j->nn, part, k * area);
    for (int64_t s = r.begin; s < r.end; s++) {
        float *y = j->y->data + s * f.c * out_area;
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)k, (int)area, (int)in, 1, j->w->data,
                    (int)k, j->x->data + s * in * area, (int)area, 0, cols, (int)area);
        memset(y, 0, (size_t)(f.c * out_area) * sizeof *y);
        fold_add(&f, y, cols);
        add_bias(y, j->b, f.c, out_area);
    }
}

static void transposed_back_part(void *ctx, int part)
{
    const struct conv_job *j = ctx;
    struct fold f = transposed_fold(j);
    struct nn_range r = nn_part(j->nn, j->x, part);
    int64_t in = j->x->shape[1], k = f.c * f.kh * f.kw, area = f.oh * f.ow, out_area = f.h * f.w;
    float *cols = nn_scratch(j->nn, part, k * area);
    for (int64_t s = r.begin; s < r.end; s++) {
        const float *g = j->y->grad + s * f.c * out_area, *x = j->x->data + s * in * area;
        unfold(&f, cols, g);
        if (j->x->grad != NULL)
            cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)in, (int)area, (int)k, 1,
                        j->w->data, (int)k, cols, (int)area, 1, j->x->grad + s * in * area, (int)area);
        if (j->w->grad != NULL)
            cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)in, (int)k, (int)area, 1, x,
                        (int)area, cols, (int)area, 1, nn_grad_part(j->w, part), (int)k);
        bias_back(j->b != NULL ? nn_grad_part(j->b, part) : NULL, g, f.c, out_area);
    }
}

static void transposed_backward(struct nn *nn, const struct nn_node *node)
{
    struct conv_job j = conv_of_node(nn, node);
    nn_parts(nn, transposed_back_part, &j);
}

struct nn_tensor *nn_conv_transpose2d(struct nn *nn, struct nn_tensor *x, struct nn_tensor *w,
                                      struct nn_tensor *b, int stride, int padding, int output_padding)
{
    ASSERT(x->n_dims == 4 && w->n_dims == 4 && x->shape[1] == w->shape[0]);
    int64_t oh = (x->shape[2] - 1) * stride - 2 * padding + w->shape[2] + output_padding;
    int64_t ow = (x->shape[3] - 1) * stride - 2 * padding + w->shape[3] + output_padding;
    struct nn_tensor *y = nn_new(nn, 4, (const int64_t[]){x->shape[0], w->shape[1], oh, ow});
    struct conv_job j = {nn, x, w, b, y, w->shape[2], w->shape[3], stride, padding, 1};
    nn_parts(nn, transposed_part, &j);
    record_conv(nn, &j, transposed_backward);
    return y;
}

/* --- resizing: each y is a fixed mix of a few x; planes [b c] are independent */

struct resize_job { struct nn *nn; struct nn_tensor *x, *y; int kind; bool back; };

enum { NEAREST2, BILINEAR2, AVERAGE2, SUM_ALL };

/* Rows (or columns) of x and their weights that row o of y mixes, for a length n of x. */
static void mix_of(int kind, int64_t o, int64_t n, int64_t index[2], float weight[2])
{
    if (kind == NEAREST2) {
        index[0] = index[1] = o / 2;
        weight[0] = 1;
        weight[1] = 0;
    } else if (kind == AVERAGE2) {
        index[0] = 2 * o;
        index[1] = 2 * o + 1;
        weight[0] = weight[1] = 0.5f;
    } else {        /* half-pixel centres: 0.25 and 0.75, clamped at the edges */
        double at = ((double)o + 0.5) / 2 - 0.5;
        at = at < 0 ? 0 : at;
        index[0] = (int64_t)at;
        index[1] = index[0] + 1 < n ? index[0] + 1 : index[0];
        weight[1] = (float)(at - (double)index[0]);
        weight[0] = 1 - weight[1];
    }
}

static void resize_plane(const struct resize_job *j, int64_t plane)
{
    int64_t h = j->x->shape[2], w = j->x->shape[3], oh = j->y->shape[2], ow = j->y->shape[3];
    for (int64_t o = 0; o < oh * ow; o++) {
        int64_t row[2], col[2];
        float wr[2], wc[2], sum = 0;
        mix_of(j->kind, o / ow, h, row, wr);
        mix_of(j->kind, o % ow, w, col, wc);
        for (int a = 0; a < 4; a++) {
            float weight = wr[a / 2] * wc[a % 2];
            int64_t at = plane * h * w + row[a / 2] * w + col[a % 2];
            if (weight == 0)
                continue;
            if (j->back)
                j->x->grad[at] += weight * j->y->grad[plane * oh * ow + o];
            else
                sum += weight * j->x->data[at];
        }
        if (!j->back)
            j->y->data[plane * oh * ow + o] = sum;
    }
}

static void sum_plane(const struct resize_job *j, int64_t plane)
{
    int64_t area = j->x->shape[2] * j->x->shape[3];
    double sum = 0;
    for (int64_t i = plane * area; i < (plane + 1) * area; i++) {
        if (j->back)
            j->x->grad[i] += j->y->grad[plane];
        else
            sum += j->x->data[i];
    }
    if (!j->back)
        j->y->data[plane] = (float)sum;
}

static void resize_part(void *ctx, int part)
{
    const struct resize_job *j = ctx;
    struct nn_range r = nn_part(j->nn, j->x, part);
    for (int64_t plane = r.begin * j->x->shape[1]; plane < r.end * j->x->shape[1]; plane++) {
        if (j->kind == SUM_ALL)
            sum_plane(j, plane);
        else
            resize_plane(j, plane);
    }
}

static void resize_backward(struct nn *nn, const struct nn_node *node)
{
    struct resize_job j = {nn, node->in[0], node->out, (int)node->i[0], true};
    nn_grad(nn, j.x);
    nn_parts(nn, resize_part, &j);
}

static struct nn_tensor *resize(struct nn *nn, struct nn_tensor *x, int n_dims, const int64_t *shape,
                                int kind)
{
    struct resize_job j = {nn, x, nn_new(nn, n_dims, shape), kind, false};
    nn_parts(nn, resize_part, &j);
    struct nn_node *node = nn_record(nn, j.y, resize_backward, x, NULL, NULL);
    if (node != NULL)
        node->i[0] = kind;
    return j.y;
}

struct nn_tensor *nn_upsample_nearest2(struct nn *nn, struct nn_tensor *x)
{
    const int64_t *s = x->shape;
    return resize(nn, x, 4, (const int64_t[]){s[0], s[1], 2 * s[2], 2 * s[3]}, NEAREST2);
}

struct nn_tensor *nn_upsample_bilinear2(struct nn *nn, struct nn_tensor *x)
{
    const int64_t *s = x->shape;
    return resize(nn, x, 4, (const int64_t[]){s[0], s[1], 2 * s[2], 2 * s[3]}, BILINEAR2);
}

struct nn_tensor *nn_avg_pool2(struct nn *nn, struct nn_tensor *x)
{
    const int64_t *s = x->shape;
    return resize(nn, x, 4, (const int64_t[]){s[0], s[1], s[2] / 2, s[3] / 2}, AVERAGE2);
}

struct nn_tensor *nn_sum_pool(struct nn *nn, struct nn_tensor *x)
{
    return resize(nn, x, 2, x->shape, SUM_ALL);
}
