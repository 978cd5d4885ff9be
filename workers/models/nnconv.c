/* Convolutions as products over unfolded pictures, a few samples at a time; up- and down-sampling. */
#include "workers/models/nn.h"

#include "proto/err.h"
#include "workers/models/nnrows.h"

#include <cblas.h>
#include <string.h>

struct conv_job {
    struct nn *nn;
    struct nn_tensor *x, *w, *b, *y;
    int64_t kh, kw, stride, padding, groups;
};

/* The picture side of a convolution: [c, h, w], unfolded under (kh, kw) to [c kh kw, oh ow]. */
struct fold { int64_t c, h, w, kh, kw, stride, padding, oh, ow; };

/* Places o of n whose pixel o stride + shift is one of `size`: [*begin, *end). */
static void inside(int64_t n, int64_t size, int64_t stride, int64_t shift, int64_t *begin, int64_t *end)
{
    *begin = shift < 0 ? (-shift + stride - 1) / stride : 0;
    *end = size - 1 - shift >= 0 ? (size - 1 - shift) / stride + 1 : 0;
    *end = *end < n ? *end : n;
    *begin = *begin < *end ? *begin : *end;
}

/* cols [c kh kw] rows of oh ow numbers, `ld` apart, from x [c, h, w]; zeros outside. */
static NN_WIDE void unfold(const struct fold *f, float *cols, int64_t ld, const float *x)
{
    for (int64_t row = 0; row < f->c * f->kh * f->kw; row++) {
        int64_t kx = row % f->kw, ky = row / f->kw % f->kh, c = row / (f->kw * f->kh), x0, x1;
        inside(f->ow, f->w, f->stride, kx - f->padding, &x0, &x1);
        for (int64_t oy = 0; oy < f->oh; oy++) {
            float *to = cols + row * ld + oy * f->ow;
            int64_t iy = oy * f->stride - f->padding + ky;
            if (iy < 0 || iy >= f->h) {
                memset(to, 0, (size_t)f->ow * sizeof *to);
                continue;
            }
            const float *from = x + (c * f->h + iy) * f->w + kx - f->padding;
            for (int64_t ox = 0; ox < x0; ox++)
                to[ox] = 0;
            if (f->stride == 1)
                memcpy(to + x0, from + x0, (size_t)(x1 - x0) * sizeof *to);
            else
                for (int64_t ox = x0; ox < x1; ox++)
                    to[ox] = from[ox * f->stride];
            for (int64_t ox = x1; ox < f->ow; ox++)
                to[ox] = 0;
        }
    }
}

/* x [c, h, w] += the columns, each to where it came from. */
static NN_WIDE void fold_add(const struct fold *f, float *x, const float *cols, int64_t ld)
{
    for (int64_t row = 0; row < f->c * f->kh * f->kw; row++) {
        int64_t kx = row % f->kw, ky = row / f->kw % f->kh, c = row / (f->kw * f->kh), x0, x1;
        inside(f->ow, f->w, f->stride, kx - f->padding, &x0, &x1);
        for (int64_t oy = 0; oy < f->oh; oy++) {
            const float *from = cols + row * ld + oy * f->ow;
            int64_t iy = oy * f->stride - f->padding + ky;
            if (iy < 0 || iy >= f->h)
                continue;
            float *to = x + (c * f->h + iy) * f->w + kx - f->padding;
            if (f->stride == 1)
                for (int64_t ox = x0; ox < x1; ox++)
                    to[ox] += from[ox];
            else
                for (int64_t ox = x0; ox < x1; ox++)
                    to[ox * f->stride] += from[ox];
        }
    }
}

static NN_WIDE void add_bias(float *y, const struct nn_tensor *b, int64_t channels, int64_t area)
{
    for (int64_t c = 0; b != NULL && c < channels; c++)
        for (int64_t i = 0; i < area; i++)
            y[c * area + i] += b->data[c];
}

static void bias_back(float *db, const float *g, int64_t channels, int64_t area)
{
    for (int64_t c = 0; db != NULL && c < channels; c++) {
        db[c] += (float)nnrows_sum(g + c * area, area);
    }
}

static struct fold fold_of(const struct conv_job *j)
{
    return (struct fold){j->x->shape[1] / j->groups, j->x->shape[2], j->x->shape[3], j->kh, j->kw,
                         j->stride, j->padding, j->y->shape[2], j->y->shape[3]};
}

/* Pictures that share a product: small ones make too few columns alone. */
static int64_t pictures_together(int64_t area, int64_t left)
{
    enum { COLUMNS = 256 };
    int64_t n = area >= COLUMNS ? 1 : COLUMNS / area;
    return n < left ? n : left;
}

/* What lies picture by picture, [n][rows, area] `step` apart, as one matrix [rows, n area]; and back. */
static void side_by_side(float *out, const float *in, int64_t n, int64_t step, int64_t rows, int64_t area)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t r = 0; r < rows; r++)
            memcpy(out + (r * n + i) * area, in + i * step + r * area, (size_t)area * sizeof *out);
}

static void apart(float *out, const float *in, int64_t n, int64_t step, int64_t rows, int64_t area)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t r = 0; r < rows; r++)
            memcpy(out + i * step + r * area, in + (r * n + i) * area, (size_t)area * sizeof *out);
}

/* A group of the channels of n pictures from s on: their places in x and in y. */
struct conv_group {
    const struct conv_job *j;
    const struct fold *f;
    int part;
    int64_t s, n, g, out, k, area;
    float *cols, *lines;        /* scratch: [k, n area], [out, n area] */
};

static struct conv_group conv_group_of(const struct conv_job *j, const struct fold *f, int part)
{
    struct conv_group c = {.j = j, .f = f, .part = part, .out = j->w->shape[0] / j->groups,
                           .k = f->c * f->kh * f->kw, .area = f->oh * f->ow};
    struct nn_range r = nn_part(j->nn, j->x, part);
    int64_t n = pictures_together(c.area, r.end - r.begin);
    c.cols = nn_scratch(j->nn, part, (c.k + c.out) * n * c.area);
    c.lines = c.cols + c.k * n * c.area;
    return c;
}

static void unfold_group(const struct conv_group *c, const float *x)
{
    int64_t each = c->f->c * c->f->h * c->f->w;
    for (int64_t i = 0; i < c->n; i++)
        unfold(c->f, c->cols + i * c->area, c->n * c->area,
               x + ((c->s + i) * c->j->groups + c->g) * each);
}

static void conv_group(const struct conv_group *c)
{
    const struct conv_job *j = c->j;
    int64_t columns = c->n * c->area;
    float *y = j->y->data + (c->s * j->groups + c->g) * c->out * c->area;
    unfold_group(c, j->x->data);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)c->out, (int)columns, (int)c->k, 1,
                j->w->data + c->g * c->out * c->k, (int)c->k, c->cols, (int)columns, 0,
                c->n > 1 ? c->lines : y, (int)columns);
    if (c->n > 1)
        apart(y, c->lines, c->n, j->groups * c->out * c->area, c->out, c->area);
}

static void conv_part(void *ctx, int part)
{
    const struct conv_job *j = ctx;
    struct fold f = fold_of(j);
    struct nn_range r = nn_part(j->nn, j->x, part);
    struct conv_group c = conv_group_of(j, &f, part);
    for (c.s = r.begin; c.s < r.end; c.s += c.n) {
        c.n = pictures_together(c.area, r.end - c.s);
        for (c.g = 0; c.g < j->groups; c.g++)
            conv_group(&c);
    }
    for (int64_t s = r.begin; s < r.end; s++)
        add_bias(j->y->data + s * j->y->shape[1] * c.area, j->b, j->y->shape[1], c.area);
}

static void conv_group_back(const struct conv_group *c)
{
    const struct conv_job *j = c->j;
    const struct fold *f = c->f;
    int64_t columns = c->n * c->area, each = f->c * f->h * f->w;
    const float *gy = j->y->grad + (c->s * j->groups + c->g) * c->out * c->area;
    if (c->n > 1) {
        side_by_side(c->lines, gy, c->n, j->groups * c->out * c->area, c->out, c->area);
        gy = c->lines;
    }
    if (j->w->grad != NULL) {
        unfold_group(c, j->x->data);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)c->out, (int)c->k, (int)columns, 1, gy,
                    (int)columns, c->cols, (int)columns, 1,
                    nn_grad_part(j->w, c->part) + c->g * c->out * c->k, (int)c->k);
    }
    if (j->x->grad == NULL)
        return;
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)c->k, (int)columns, (int)c->out, 1,
                j->w->data + c->g * c->out * c->k, (int)c->k, gy, (int)columns, 0, c->cols, (int)columns);
    for (int64_t i = 0; i < c->n; i++)
        fold_add(f, j->x->grad + ((c->s + i) * j->groups + c->g) * each, c->cols + i * c->area, columns);
}

static void conv_back_part(void *ctx, int part)
{
    const struct conv_job *j = ctx;
    struct fold f = fold_of(j);
    struct nn_range r = nn_part(j->nn, j->x, part);
    struct conv_group c = conv_group_of(j, &f, part);
    int64_t channels = j->y->shape[1];
    float *db = j->b != NULL ? nn_grad_part(j->b, part) : NULL;
    for (c.s = r.begin; c.s < r.end; c.s += c.n) {
        c.n = pictures_together(c.area, r.end - c.s);
        for (c.g = 0; c.g < j->groups; c.g++)
            conv_group_back(&c);
    }
    for (int64_t s = r.begin; s < r.end; s++)
        bias_back(db, j->y->grad + s * channels * c.area, channels, c.area);
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

/* n pictures from s on: x side by side, or apart again. */
struct transposed { const struct conv_job *j; const struct fold *f; int part;
                    int64_t s, n, in, k, area, out_area; float *cols, *lines; };

static struct transposed transposed_of(const struct conv_job *j, const struct fold *f, int part)
{
    struct transposed t = {.j = j, .f = f, .part = part, .in = j->x->shape[1], .k = f->c * f->kh * f->kw,
                           .area = f->oh * f->ow, .out_area = f->h * f->w};
    struct nn_range r = nn_part(j->nn, j->x, part);
    int64_t n = pictures_together(t.area, r.end - r.begin);
    t.cols = nn_scratch(j->nn, part, (t.k + t.in) * n * t.area);
    t.lines = t.cols + t.k * n * t.area;
    return t;
}

static const float *transposed_lines(const struct transposed *t)
{
    const float *x = t->j->x->data + t->s * t->in * t->area;
    if (t->n == 1)
        return x;
    side_by_side(t->lines, x, t->n, t->in * t->area, t->in, t->area);
    return t->lines;
}

static void transposed_some(const struct transposed *t)
{
    const struct conv_job *j = t->j;
    int64_t columns = t->n * t->area, each = t->f->c * t->out_area;
    float *y = j->y->data + t->s * each;
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)t->k, (int)columns, (int)t->in, 1, j->w->data,
                (int)t->k, transposed_lines(t), (int)columns, 0, t->cols, (int)columns);
    memset(y, 0, (size_t)(t->n * each) * sizeof *y);
    for (int64_t i = 0; i < t->n; i++) {
        fold_add(t->f, y + i * each, t->cols + i * t->area, columns);
        add_bias(y + i * each, j->b, t->f->c, t->out_area);
    }
}

static void transposed_part(void *ctx, int part)
{
    const struct conv_job *j = ctx;
    struct fold f = transposed_fold(j);
    struct nn_range r = nn_part(j->nn, j->x, part);
    struct transposed t = transposed_of(j, &f, part);
    for (t.s = r.begin; t.s < r.end; t.s += t.n) {
        t.n = pictures_together(t.area, r.end - t.s);
        transposed_some(&t);
    }
}

static void transposed_some_back(const struct transposed *t)
{
    const struct conv_job *j = t->j;
    int64_t columns = t->n * t->area, each = t->f->c * t->out_area;
    const float *g = j->y->grad + t->s * each;
    for (int64_t i = 0; i < t->n; i++)
        unfold(t->f, t->cols + i * t->area, columns, g + i * each);
    if (j->w->grad != NULL)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)t->in, (int)t->k, (int)columns, 1,
                    transposed_lines(t), (int)columns, t->cols, (int)columns, 1,
                    nn_grad_part(j->w, t->part), (int)t->k);
    if (j->x->grad == NULL)
        return;
    float *dx = j->x->grad + t->s * t->in * t->area;
    if (t->n > 1)
        side_by_side(t->lines, dx, t->n, t->in * t->area, t->in, t->area);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)t->in, (int)columns, (int)t->k, 1,
                j->w->data, (int)t->k, t->cols, (int)columns, 1, t->n > 1 ? t->lines : dx, (int)columns);
    if (t->n > 1)
        apart(dx, t->lines, t->n, t->in * t->area, t->in, t->area);
}

static void transposed_back_part(void *ctx, int part)
{
    const struct conv_job *j = ctx;
    struct fold f = transposed_fold(j);
    struct nn_range r = nn_part(j->nn, j->x, part);
    struct transposed t = transposed_of(j, &f, part);
    float *db = j->b != NULL ? nn_grad_part(j->b, part) : NULL;
    for (t.s = r.begin; t.s < r.end; t.s += t.n) {
        t.n = pictures_together(t.area, r.end - t.s);
        transposed_some_back(&t);
    }
    for (int64_t s = r.begin; s < r.end; s++)
        bias_back(db, j->y->grad + s * f.c * t.out_area, f.c, t.out_area);
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

/* Rows (or columns) of x and their weights that row o of y mixes, for a length n of x: half-pixel centres,
 * 0.25 and 0.75, clamped at the edges. */
static void mix_of(int64_t o, int64_t n, int64_t index[2], float weight[2])
{
    double at = ((double)o + 0.5) / 2 - 0.5;
    at = at < 0 ? 0 : at;
    index[0] = (int64_t)at;
    index[1] = index[0] + 1 < n ? index[0] + 1 : index[0];
    weight[1] = (float)(at - (double)index[0]);
    weight[0] = 1 - weight[1];
}

/* Nearest and average, the frequent ones: each pixel of the small side belongs to 2 x 2 of the large. */
static NN_WIDE void square_plane(const struct resize_job *j, int64_t plane)
{
    bool up = j->kind == NEAREST2;
    const struct nn_tensor *small = up ? j->x : j->y, *large = up ? j->y : j->x;
    int64_t h = small->shape[2], w = small->shape[3], lw = large->shape[3], lh = large->shape[2];
    float *s = (j->back ? small->grad : small->data) + plane * h * w;
    float *l = (j->back ? large->grad : large->data) + plane * lh * lw;
    for (int64_t y = 0; y < h; y++, s += w) {
        float *l0 = l + 2 * y * lw, *l1 = l0 + lw;
        if (up && !j->back)
            for (int64_t x = 0; x < w; x++)
                l0[2 * x] = l0[2 * x + 1] = l1[2 * x] = l1[2 * x + 1] = s[x];
        else if (up)
            for (int64_t x = 0; x < w; x++)
                s[x] += (l0[2 * x] + l0[2 * x + 1]) + (l1[2 * x] + l1[2 * x + 1]);
        else if (!j->back)
            for (int64_t x = 0; x < w; x++)
                s[x] = ((l0[2 * x] + l0[2 * x + 1]) + (l1[2 * x] + l1[2 * x + 1])) * 0.25f;
        else
            for (int64_t x = 0; x < w; x++) {
                float g = s[x] * 0.25f;
                l0[2 * x] += g;
                l0[2 * x + 1] += g;
                l1[2 * x] += g;
                l1[2 * x + 1] += g;
            }
    }
}

static void resize_plane(const struct resize_job *j, int64_t plane)
{
    int64_t h = j->x->shape[2], w = j->x->shape[3], oh = j->y->shape[2], ow = j->y->shape[3];
    for (int64_t o = 0; o < oh * ow; o++) {
        int64_t row[2], col[2];
        float wr[2], wc[2], sum = 0;
        mix_of(o / ow, h, row, wr);
        mix_of(o % ow, w, col, wc);
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
    for (int64_t i = plane * area; j->back && i < (plane + 1) * area; i++)
        j->x->grad[i] += j->y->grad[plane];
    if (!j->back)
        j->y->data[plane] = (float)nnrows_sum(j->x->data + plane * area, area);
}

static void resize_part(void *ctx, int part)
{
    const struct resize_job *j = ctx;
    struct nn_range r = nn_part(j->nn, j->x, part);
    for (int64_t plane = r.begin * j->x->shape[1]; plane < r.end * j->x->shape[1]; plane++) {
        if (j->kind == SUM_ALL)
            sum_plane(j, plane);
        else if (j->kind == BILINEAR2)
            resize_plane(j, plane);
        else
            square_plane(j, plane);
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
