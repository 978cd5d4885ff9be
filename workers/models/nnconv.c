/* Convolutions, a part at a time through the library; up- and down-sampling. */
#include "workers/models/nn.h"

#include "proto/err.h"
#include "workers/models/nnconvlib.h"
#include "workers/models/nnrows.h"

#include <string.h>

/* Parts differ by one sample at most: weights are laid out for each of the sizes. */
enum { PART_SIZES = 2 };

struct conv_job {
    struct nn *nn;
    struct nn_tensor *x, *w, *b, *y;
    int64_t stride, padding, groups;
    bool transposed;            /* from lines to pictures (nnconvlib.h) */
    bool fresh_x, fresh_w;      /* way back: their gradients are written, not added to */
    void *inside[PART_SIZES];   /* weights in the library's layout, for parts of n_inside samples */
    int64_t n_inside[PART_SIZES];
};

static struct nnconvlib lib_of(const struct conv_job *j, int64_t n, enum nnconvlib_kind kind, bool add)
{
    const int64_t *p = (j->transposed ? j->y : j->x)->shape, *l = (j->transposed ? j->x : j->y)->shape;
    return (struct nnconvlib){.n = n, .c = p[1], .h = p[2], .w = p[3], .out = l[1], .oh = l[2], .ow = l[3],
                              .kh = j->w->shape[2], .kw = j->w->shape[3], .stride = j->stride,
                              .padding = j->padding, .groups = j->groups, .kind = (int32_t)kind, .add = add,
                              .half = j->nn->half};
}

static int64_t part_samples(const struct conv_job *j, int part)
{
    struct nn_range r = nn_part(j->nn, j->x, part);
    return r.end - r.begin;
}

/* Weights as runs of a kind want them, once for all parts. */
static void lay_out_weights(struct conv_job *j, enum nnconvlib_kind kind, bool add)
{
    int n_sizes = 0;
    memset(j->n_inside, 0, sizeof j->n_inside);
    for (int p = 0; p < j->nn->n_parts; p++) {
        int64_t n = part_samples(j, p);
        if (n == 0 || n == j->n_inside[0] || n == j->n_inside[1])
            continue;
        ASSERT(n_sizes < PART_SIZES);
        struct nnconvlib lib = lib_of(j, n, kind, add);
        j->n_inside[n_sizes] = n;
        j->inside[n_sizes] = nn_take(j->nn, (size_t)nnconvlib_weight_floats(&lib) * sizeof(float));
        nnconvlib_weights(&lib, j->inside[n_sizes++], j->w->data);
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
    for (int64_t c = 0; db != NULL && c < channels; c++)
        db[c] += (float)nnrows_sum(g + c * area, area);
}

/* A part of `from` through the weights into `to`: the way there, or with gradients the way back. */
static void run_part(const struct conv_job *j, int part, enum nnconvlib_kind kind, bool add,
                     const float *from, float *to)
{
    int64_t n = part_samples(j, part);
    if (n == 0)
        return;
    struct nnconvlib lib = lib_of(j, n, kind, add);
    nnconvlib_run(&lib, from, j->inside[n == j->n_inside[0] ? 0 : 1], to,
                  nn_scratch(j->nn, part, nnconvlib_room(&lib)));
}

static void conv_part(void *ctx, int part)
{
    const struct conv_job *j = ctx;
    struct nn_range r = nn_part(j->nn, j->x, part);
    int64_t area = j->y->shape[2] * j->y->shape[3];
    run_part(j, part, j->transposed ? NNCONVLIB_BACK : NNCONVLIB_FORWARD, false,
             j->x->data + r.begin * nn_row(j->x), j->y->data + r.begin * nn_row(j->y));
    for (int64_t s = r.begin; s < r.end; s++)
        add_bias(j->y->data + s * nn_row(j->y), j->b, j->y->shape[1], area);
}

static void conv_back_x(void *ctx, int part)
{
    const struct conv_job *j = ctx;
    struct nn_range r = nn_part(j->nn, j->x, part);
    run_part(j, part, j->transposed ? NNCONVLIB_FORWARD : NNCONVLIB_BACK, !j->fresh_x,
             j->y->grad + r.begin * nn_row(j->y), j->x->grad + r.begin * nn_row(j->x));
}

static void conv_back_w(void *ctx, int part)
{
    const struct conv_job *j = ctx;
    struct nn_range r = nn_part(j->nn, j->x, part);
    float *dw = nn_grad_part(j->w, part);
    const float *x = j->x->data + r.begin * nn_row(j->x), *g = j->y->grad + r.begin * nn_row(j->y);
    if (r.end > r.begin) {
        struct nnconvlib lib = lib_of(j, r.end - r.begin, NNCONVLIB_WEIGHTS, !j->fresh_w);
        nnconvlib_run(&lib, j->transposed ? g : x, j->transposed ? x : g, dw,
                      nn_scratch(j->nn, part, nnconvlib_room(&lib)));
    } else if (j->fresh_w) {
        memset(dw, 0, (size_t)j->w->n * sizeof *dw);
    }
}

static void conv_back_bias(void *ctx, int part)
{
    const struct conv_job *j = ctx;
    struct nn_range r = nn_part(j->nn, j->x, part);
    for (int64_t s = r.begin; s < r.end; s++)
        bias_back(nn_grad_part(j->b, part), j->y->grad + s * nn_row(j->y), j->y->shape[1],
                  j->y->shape[2] * j->y->shape[3]);
}

static void conv_backward(struct nn *nn, const struct nn_node *node)
{
    struct conv_job j = {.nn = nn, .x = node->in[0], .w = node->in[1], .b = node->in[2], .y = node->out,
                         .stride = node->i[0], .padding = node->i[1], .groups = node->i[2],
                         .transposed = node->i[3] != 0};
    if (j.w->wants_grad) {
        j.fresh_w = nn_grad_fresh(nn, j.w);
        nn_parts(nn, conv_back_w, &j);
    }
    if (nn_grad(nn, j.b) != NULL)
        nn_parts(nn, conv_back_bias, &j);
    if (!j.x->wants_grad)
        return;
    j.fresh_x = nn_grad_fresh(nn, j.x);
    lay_out_weights(&j, j.transposed ? NNCONVLIB_FORWARD : NNCONVLIB_BACK, !j.fresh_x);
    nn_parts(nn, conv_back_x, &j);
}

static struct nn_tensor *run_conv(struct conv_job *j)
{
    lay_out_weights(j, j->transposed ? NNCONVLIB_BACK : NNCONVLIB_FORWARD, false);
    nn_parts(j->nn, conv_part, j);
    struct nn_node *node = nn_record(j->nn, j->y, conv_backward, j->x, j->w, j->b);
    if (node != NULL) {
        node->i[0] = j->stride;
        node->i[1] = j->padding;
        node->i[2] = j->groups;
        node->i[3] = j->transposed;
    }
    return j->y;
}

struct nn_tensor *nn_conv2d(struct nn *nn, struct nn_tensor *x, struct nn_tensor *w, struct nn_tensor *b,
                            int stride, int padding, int groups)
{
    ASSERT(x->n_dims == 4 && w->n_dims == 4 && x->shape[1] == w->shape[1] * groups);
    int64_t oh = (x->shape[2] + 2 * padding - w->shape[2]) / stride + 1;
    int64_t ow = (x->shape[3] + 2 * padding - w->shape[3]) / stride + 1;
    struct nn_tensor *y = nn_new(nn, 4, (const int64_t[]){x->shape[0], w->shape[0], oh, ow});
    struct conv_job j = {.nn = nn, .x = x, .w = w, .b = b, .y = y, .stride = stride, .padding = padding,
                         .groups = groups};
    return run_conv(&j);
}

struct nn_tensor *nn_conv_transpose2d(struct nn *nn, struct nn_tensor *x, struct nn_tensor *w,
                                      struct nn_tensor *b, int stride, int padding, int output_padding)
{
    ASSERT(x->n_dims == 4 && w->n_dims == 4 && x->shape[1] == w->shape[0]);
    int64_t oh = (x->shape[2] - 1) * stride - 2 * padding + w->shape[2] + output_padding;
    int64_t ow = (x->shape[3] - 1) * stride - 2 * padding + w->shape[3] + output_padding;
    struct nn_tensor *y = nn_new(nn, 4, (const int64_t[]){x->shape[0], w->shape[1], oh, ow});
    struct conv_job j = {.nn = nn, .x = x, .w = w, .b = b, .y = y, .stride = stride, .padding = padding,
                         .groups = 1, .transposed = true};
    return run_conv(&j);
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
