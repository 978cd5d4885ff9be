/* Sums with broadcasting, views in another order, reductions over axes, patches. */
#include "workers/models/nn.h"

#include "proto/err.h"
#include "workers/models/nnangle.h"
#include "workers/models/nnrows.h"

#include <string.h>

/* --- add and mul with broadcasting */

struct cast_job {
    struct nn *nn;
    struct nn_tensor *a, *b, *y;
    int64_t step_a[NN_DIMS_MAX], step_b[NN_DIMS_MAX];   /* strides under y's axes, 0 where broadcast */
    bool multiply, back;
    bool shared;                /* a's gradient is y's, without a copy */
};

static void cast_steps(const struct nn_tensor *t, const struct nn_tensor *y, int64_t *step)
{
    int64_t stride = 1;
    memset(step, 0, NN_DIMS_MAX * sizeof *step);
    for (int i = t->n_dims - 1, k = y->n_dims - 1; i >= 0; i--, k--) {
        step[k] = t->shape[i] == 1 ? 0 : stride;
        stride *= t->shape[i];
    }
}

static void cast_shape(const struct nn_tensor *a, const struct nn_tensor *b, int *n_dims, int64_t *shape)
{
    *n_dims = a->n_dims > b->n_dims ? a->n_dims : b->n_dims;
    for (int k = *n_dims - 1, i = a->n_dims - 1, j = b->n_dims - 1; k >= 0; k--, i--, j--) {
        int64_t u = i >= 0 ? a->shape[i] : 1, v = j >= 0 ? b->shape[j] : 1;
        ASSERT(u == v || u == 1 || v == 1);
        shape[k] = u == 1 ? v : u;
    }
}

/* gy_part: gradient of y for this part, NULL on the way forward. */
static void cast_line(const struct cast_job *j, int64_t at, int64_t a, int64_t b,
                      const float *gy_part, float *da, float *db)
{
    int last = j->y->n_dims - 1;
    int64_t n = j->y->shape[last], sa = j->step_a[last], sb = j->step_b[last];
    const float *x = j->a->data + a, *w = j->b->data + b, *gy = gy_part != NULL ? gy_part + at : NULL;
    const struct kernels *k = j->nn->kernels;
    if (!j->multiply && sa == 1 && sb == 1) {       /* rows onto rows: sums that models are full of */
        if (!j->back)
            k->add(j->y->data + at, x, w, n);
        if (da != NULL)
            k->add(da + a, da + a, gy, n);
        if (db != NULL)
            k->add(db + b, db + b, gy, n);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        if (!j->back) {
            j->y->data[at + i] = j->multiply ? x[i * sa] * w[i * sb] : x[i * sa] + w[i * sb];
            continue;
        }
        float g = gy[i];
        if (da != NULL)
            da[a + i * sa] += j->multiply ? g * w[i * sb] : g;
        if (db != NULL)
            db[b + i * sb] += j->multiply ? g * x[i * sa] : g;
    }
}

static void cast_part(void *ctx, int part)
{
    const struct cast_job *j = ctx;
    int dims = j->y->n_dims;
    int64_t line = j->y->shape[dims - 1], lines = nn_row(j->y) / line;
    struct nn_range r = {0, j->y->n / line};
    if (j->y->unbatched) {          /* weights: one forward, a way back for each part */
        if (!j->back && part > 0)
            return;
    } else if (dims > 1) {
        r = nn_part(j->nn, j->y, part);
        r = (struct nn_range){r.begin * lines, r.end * lines};
    } else {
        ASSERT(j->nn->n_parts == 1);    /* a line has no samples to share out */
    }
    const float *gy = j->back ? nn_grad_part(j->y, part) : NULL;
    for (int64_t l = r.begin; l < r.end; l++) {
        int64_t rest = l, a = 0, b = 0;
        for (int k = dims - 2; k >= 0; k--) {
            int64_t index = rest % j->y->shape[k];
            rest /= j->y->shape[k];
            a += index * j->step_a[k];
            b += index * j->step_b[k];
        }
        cast_line(j, l * line, a, b, gy, j->shared ? NULL : nn_grad_part(j->a, part),
                  nn_grad_part(j->b, part));
    }
}

static struct cast_job cast_job_of(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b,
                                   struct nn_tensor *y, bool multiply, bool back)
{
    struct cast_job j = {.nn = nn, .a = a, .b = b, .y = y, .multiply = multiply, .back = back};
    cast_steps(a, y, j.step_a);
    cast_steps(b, y, j.step_b);
    return j;
}

static void cast_backward(struct nn *nn, const struct nn_node *node)
{
    struct cast_job j = cast_job_of(nn, node->in[0], node->in[1], node->out, node->i[0] != 0, true);
    j.shared = !j.multiply && j.a != j.b && nn_grad_share(j.a, j.y);
    nn_grad(nn, j.a);
    nn_grad(nn, j.b);
    nn_parts(nn, cast_part, &j);
}

static struct nn_tensor *broadcast(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b,
                                   bool multiply)
{
    int64_t shape[NN_DIMS_MAX];
    int n_dims;
    cast_shape(a, b, &n_dims, shape);
    struct cast_job j = cast_job_of(nn, a, b, nn_new(nn, n_dims, shape), multiply, false);
    j.y->unbatched = a->unbatched && b->unbatched;
    nn_parts(nn, cast_part, &j);
    struct nn_node *node = nn_record(nn, j.y, cast_backward, a, b, NULL);
    if (node != NULL)
        node->i[0] = multiply;
    return j.y;
}

struct nn_tensor *nn_add(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b)
{
    return broadcast(nn, a, b, false);
}

struct nn_tensor *nn_mul(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b)
{
    return broadcast(nn, a, b, true);
}

struct nn_tensor *nn_scale(struct nn *nn, struct nn_tensor *x, double factor)
{
    static const int64_t one[1] = {1};
    struct nn_tensor *f = nn_new(nn, 1, one);
    f->data[0] = (float)factor;
    return broadcast(nn, x, f, true);
}

/* --- adaptive norm: modulate and gate */

/* shift: of a gate the residual. shared: its gradient is y's, without a copy. */
struct mod_job { struct nn *nn; struct nn_tensor *x, *scale, *shift, *y; bool gate, back, fresh, shared; };

/* One sample: rows [t, d] of x under the sample's scale and shift (or gate) [d]. */
static void mod_sample(const struct mod_job *j, int64_t s)
{
    int64_t d = j->x->shape[j->x->n_dims - 1], rows = nn_row(j->x) / d, at = s * rows * d;
    const float *scale = j->scale->data + s * d;
    for (int64_t r = 0; r < rows; r++, at += d) {
        if (j->gate)
            nnrows_gate(j->y->data + at, j->shift->data + at, scale, j->x->data + at, d);
        else
            nnrows_modulate(j->y->data + at, j->x->data + at, scale, j->shift->data + s * d, d);
    }
}

static void mod_sample_back(const struct mod_job *j, int64_t s)
{
    int64_t d = j->x->shape[j->x->n_dims - 1], rows = nn_row(j->x) / d, at = s * rows * d;
    const float *scale = j->scale->data + s * d;
    for (int64_t r = 0; r < rows; r++, at += d) {
        const float *x = j->x->data + at, *g = j->y->grad + at;
        if (j->scale->grad != NULL)
            nnrows_product(j->scale->grad + s * d, g, x, d, false);
        if (j->x->grad != NULL && j->gate)
            nnrows_product(j->x->grad + at, g, scale, d, j->fresh);
        else if (j->x->grad != NULL)
            nnrows_scaled_back(j->x->grad + at, g, scale, d, j->fresh);
        if (j->shift->grad != NULL && !j->shared) {
            float *to = j->shift->grad + (j->gate ? at : s * d);
            j->nn->kernels->add(to, to, g, d);
        }
    }
}

static void mod_part(void *ctx, int part)
{
    const struct mod_job *j = ctx;
    struct nn_range r = nn_part(j->nn, j->x, part);
    for (int64_t s = r.begin; s < r.end; s++) {
        if (j->back)
            mod_sample_back(j, s);
        else
            mod_sample(j, s);
    }
}

static void mod_backward(struct nn *nn, const struct nn_node *node)
{
    struct mod_job j = {nn, node->in[0], node->in[1], node->in[2], node->out, node->i[0] != 0, true,
                        false, false};
    j.fresh = nn_grad_fresh(nn, j.x);
    j.shared = j.gate && j.x != j.shift && nn_grad_share(j.shift, j.y);
    nn_grad(nn, j.scale);
    nn_grad(nn, j.shift);
    nn_parts(nn, mod_part, &j);
}

static struct nn_tensor *modulate(struct nn *nn, struct nn_tensor *x, struct nn_tensor *scale,
                                  struct nn_tensor *other, bool gate)
{
    struct mod_job j = {nn, x, scale, other, nn_new(nn, x->n_dims, x->shape), gate, false, false,
                        false};
    nn_parts(nn, mod_part, &j);
    struct nn_node *node = nn_record(nn, j.y, mod_backward, x, scale, other);
    if (node != NULL)
        node->i[0] = gate;
    return j.y;
}

struct nn_tensor *nn_modulate(struct nn *nn, struct nn_tensor *x, struct nn_tensor *scale,
                              struct nn_tensor *shift)
{
    return modulate(nn, x, scale, shift, false);
}

struct nn_tensor *nn_gate(struct nn *nn, struct nn_tensor *residual, struct nn_tensor *gate,
                          struct nn_tensor *x)
{
    return modulate(nn, x, gate, residual, true);
}

/* --- moves: every number of y comes from one place of x (concat, slice, transpose, patches) */

/* Index of the source in x of element `at` of y, or -1 when it is not in x. */
typedef int64_t move_from(const struct nn_node *n, const struct nn_tensor *x, const struct nn_tensor *y,
                          int64_t at);

/* Numbers come in runs that lie end to end in both: `from` is asked once a run. whole: all of x is in y. */
struct move_job {
    struct nn *nn;
    struct nn_node node;
    struct nn_tensor *x, *y;
    move_from *from;
    int64_t run;
    bool back, fresh;
};
enum { MOVE_RUN = 6, MOVE_WHOLE = 7 };      /* in node.i, behind what `from` needs */

static void move_run(const struct move_job *j, int64_t src, int64_t at)
{
    size_t bytes = (size_t)j->run * sizeof(float);
    if (!j->back)
        memcpy(j->y->data + at, j->x->data + src, bytes);
    else if (j->fresh)
        memcpy(j->x->grad + src, j->y->grad + at, bytes);
    else
        j->nn->kernels->add(j->x->grad + src, j->x->grad + src, j->y->grad + at, j->run);
}

static void move_one(const struct move_job *j, int64_t src, int64_t at)
{
    if (!j->back)
        j->y->data[at] = j->x->data[src];
    else if (j->fresh)
        j->x->grad[src] = j->y->grad[at];
    else
        j->x->grad[src] += j->y->grad[at];
}

static void move_part(void *ctx, int part)
{
    const struct move_job *j = ctx;
    struct nn_range r = nn_part(j->nn, j->y, part);
    int64_t each = nn_row(j->y);
    for (int64_t at = r.begin * each; at < r.end * each; at += j->run) {
        int64_t src = j->from(&j->node, j->x, j->y, at);
        if (src < 0)
            continue;
        if (j->run == 1)
            move_one(j, src, at);
        else
            move_run(j, src, at);
    }
}

static void move_backward(struct nn *nn, const struct nn_node *node)
{
    struct move_job j = {nn, *node, node->in[0], node->out, NULL, node->i[MOVE_RUN], true, false};
    memcpy(&j.from, &node->saved[0], sizeof j.from);
    if (node->i[MOVE_WHOLE])
        j.fresh = nn_grad_fresh(nn, j.x);
    else
        nn_grad(nn, j.x);
    nn_parts(nn, move_part, &j);
}

/* numbers: what `from` needs, up to 6. Writes the elements of y that lie in x. */
static void move(struct nn *nn, struct nn_tensor *x, struct nn_tensor *y, move_from *from, int64_t run,
                 bool whole, const int64_t *numbers, int n_numbers)
{
    struct move_job j = {.nn = nn, .x = x, .y = y, .from = from, .run = run};
    memcpy(j.node.i, numbers, (size_t)n_numbers * sizeof *numbers);
    nn_parts(nn, move_part, &j);
    struct nn_node *node = nn_record(nn, y, move_backward, x, NULL, NULL);
    if (node != NULL) {
        memcpy(node->i, numbers, (size_t)n_numbers * sizeof *numbers);
        node->i[MOVE_RUN] = run;
        node->i[MOVE_WHOLE] = whole;
        memcpy(&node->saved[0], &from, sizeof from);
    }
}

/* numbers: inner (elements after the axis), lengths of x and y on the axis, first index of y that x
 * has, first index of x that y has. */
static int64_t from_axis(const struct nn_node *n, const struct nn_tensor *x, const struct nn_tensor *y,
                         int64_t at)
{
    int64_t inner = n->i[0], nx = n->i[1], ny = n->i[2];
    int64_t in = at % inner, k = at / inner % ny, outer = at / inner / ny;
    int64_t source = k - n->i[3];
    if (source < 0 || source >= nx - n->i[4] || (source += n->i[4]) >= nx)
        return -1;
    (void)x;
    (void)y;
    return (outer * nx + source) * inner + in;
}

static int64_t inner_of(const struct nn_tensor *t, int axis)
{
    int64_t n = 1;
    for (int i = axis + 1; i < t->n_dims; i++)
        n *= t->shape[i];
    return n;
}

static int64_t common_divisor(int64_t a, int64_t b)
{
    while (b != 0) {
        int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* Along axis 0 the samples of a part stay together: part by part a, then b. */
struct batch_concat { struct nn *nn; struct nn_tensor *a, *b, *y; bool back; };

static void batch_concat_part(void *ctx, int part)
{
    const struct batch_concat *j = ctx;
    struct nn_range ra = nn_part(j->nn, j->a, part), rb = nn_part(j->nn, j->b, part);
    int64_t each = nn_row(j->y), na = (ra.end - ra.begin) * each, nb = (rb.end - rb.begin) * each;
    int64_t at = (ra.begin + rb.begin) * each;
    for (int64_t i = 0; i < na + nb; i++) {
        struct nn_tensor *t = i < na ? j->a : j->b;
        int64_t src = i < na ? ra.begin * each + i : rb.begin * each + i - na;
        if (!j->back)
            j->y->data[at + i] = t->data[src];
        else if (t->grad != NULL)
            t->grad[src] += j->y->grad[at + i];
    }
}

static void batch_concat_backward(struct nn *nn, const struct nn_node *node)
{
    struct batch_concat j = {nn, node->in[0], node->in[1], node->out, true};
    nn_grad(nn, j.a);
    nn_grad(nn, j.b);
    nn_parts(nn, batch_concat_part, &j);
}

struct nn_tensor *nn_concat(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b, int axis)
{
    int64_t shape[NN_DIMS_MAX];
    axis = axis < 0 ? axis + a->n_dims : axis;
    ASSERT(a->n_dims == b->n_dims && axis >= 0 && axis < a->n_dims);
    memcpy(shape, a->shape, sizeof shape);
    shape[axis] += b->shape[axis];
    struct nn_tensor *y = nn_new(nn, a->n_dims, shape);
    if (axis == 0) {
        struct batch_concat j = {nn, a, b, y, false};
        nn_parts(nn, batch_concat_part, &j);
        nn_record(nn, y, batch_concat_backward, a, b, NULL);
        return y;
    }
    int64_t inner = inner_of(a, axis), na = a->shape[axis];
    int64_t run = inner * common_divisor(na, shape[axis]);
    move(nn, a, y, from_axis, run, true, (const int64_t[]){inner, na, shape[axis], 0, 0}, 5);
    move(nn, b, y, from_axis, run, true, (const int64_t[]){inner, b->shape[axis], shape[axis], na, 0}, 5);
    return y;
}

struct nn_tensor *nn_slice(struct nn *nn, struct nn_tensor *x, int axis, int64_t begin, int64_t end)
{
    int64_t shape[NN_DIMS_MAX];
    axis = axis < 0 ? axis + x->n_dims : axis;
    ASSERT(axis > 0 && axis < x->n_dims && begin >= 0 && end <= x->shape[axis] && begin < end);
    memcpy(shape, x->shape, sizeof shape);
    shape[axis] = end - begin;
    struct nn_tensor *y = nn_new(nn, x->n_dims, shape);
    move(nn, x, y, from_axis, inner_of(x, axis) * shape[axis], false,
         (const int64_t[]){inner_of(x, axis), x->shape[axis], shape[axis], 0, begin}, 5);
    return y;
}

/* numbers: stride in x of each axis of y. */
static int64_t from_transposed(const struct nn_node *n, const struct nn_tensor *x,
                               const struct nn_tensor *y, int64_t at)
{
    int64_t src = 0;
    (void)x;
    for (int k = y->n_dims - 1; k >= 0; k--) {
        src += at % y->shape[k] * n->i[k];
        at /= y->shape[k];
    }
    return src;
}

struct nn_tensor *nn_transpose(struct nn *nn, struct nn_tensor *x, const int *axes)
{
    int64_t shape[NN_DIMS_MAX], strides[NN_DIMS_MAX];
    ASSERT(axes[0] == 0);
    for (int k = 0; k < x->n_dims; k++) {
        shape[k] = x->shape[axes[k]];
        strides[k] = inner_of(x, axes[k]);
    }
    struct nn_tensor *y = nn_new(nn, x->n_dims, shape);
    int last = x->n_dims - 1;
    move(nn, x, y, from_transposed, strides[last] == 1 ? shape[last] : 1, true, strides, x->n_dims);
    return y;
}

static void reshape_backward(struct nn *nn, const struct nn_node *node)
{
    if (nn_grad_share(node->in[0], node->out))
        return;
    float *dx = nn_grad(nn, node->in[0]);
    int64_t n = node->out->n * (node->out->unbatched ? nn->n_parts : 1);
    nn->kernels->add(dx, dx, node->out->grad, n);
}

struct nn_tensor *nn_reshape(struct nn *nn, struct nn_tensor *x, int n_dims, const int64_t *shape)
{
    struct nn_tensor *y = nn_input(nn, x->data, n_dims, shape);
    ASSERT(y->n == x->n);
    y->unbatched = x->unbatched;
    y->uses = 1;        /* never the only one: its gradient goes on to x by parts */
    nn_record(nn, y, reshape_backward, x, NULL, NULL);
    return y;
}

/* numbers: patch, channels, height, width of x. */
static int64_t from_patch(const struct nn_node *n, const struct nn_tensor *x, const struct nn_tensor *y,
                          int64_t at)
{
    int64_t p = n->i[0], c = n->i[1], h = n->i[2], w = n->i[3];
    (void)x;
    (void)y;
    int64_t column = at % p, row = at / p % p, channel = at / (p * p) % c;
    int64_t token = at / (p * p * c) % (h / p * (w / p)), b = at / (p * p * c) / (h / p * (w / p));
    int64_t r = token / (w / p) * p + row, q = token % (w / p) * p + column;
    return ((b * c + channel) * h + r) * w + q;
}

struct nn_tensor *nn_patchify(struct nn *nn, struct nn_tensor *x, int patch)
{
    int64_t b = x->shape[0], c = x->shape[1], h = x->shape[2], w = x->shape[3];
    ASSERT(x->n_dims == 4 && h % patch == 0 && w % patch == 0);
    struct nn_tensor *y = nn_new(nn, 3, (const int64_t[]){b, h / patch * (w / patch), c * patch * patch});
    move(nn, x, y, from_patch, patch, true, (const int64_t[]){patch, c, h, w}, 4);
    return y;
}

/* numbers: patch, channels, token rows, token columns. */
static int64_t from_token(const struct nn_node *n, const struct nn_tensor *x, const struct nn_tensor *y,
                          int64_t at)
{
    int64_t p = n->i[0], c = n->i[1], rows = n->i[2], cols = n->i[3], h = rows * p, w = cols * p;
    (void)x;
    (void)y;
    int64_t q = at % w, r = at / w % h, channel = at / (w * h) % c, b = at / (w * h * c);
    int64_t token = r / p * cols + q / p;
    return ((b * rows * cols + token) * p * p + r % p * p + q % p) * c + channel;
}

struct nn_tensor *nn_unpatchify(struct nn *nn, struct nn_tensor *x, int patch, int rows, int cols)
{
    int64_t c = x->shape[2] / (patch * patch);
    ASSERT(x->n_dims == 3 && x->shape[1] == (int64_t)rows * cols && c * patch * patch == x->shape[2]);
    struct nn_tensor *y = nn_new(nn, 4, (const int64_t[]){x->shape[0], c, rows * patch, cols * patch});
    move(nn, x, y, from_token, 1, true, (const int64_t[]){patch, c, rows, cols}, 4);
    return y;
}

/* numbers: k, and the channels, height and width of the large picture. */
static int64_t from_shuffled(const struct nn_node *n, const struct nn_tensor *x,
                             const struct nn_tensor *y, int64_t at)
{
    int64_t k = n->i[0], c = n->i[1], h = n->i[2], w = n->i[3];
    (void)x;
    (void)y;
    int64_t col = at % w, row = at / w % h, channel = at / (w * h) % c, b = at / (w * h * c);
    int64_t source = channel * k * k + row % k * k + col % k;
    return ((b * c * k * k + source) * (h / k) + row / k) * (w / k) + col / k;
}

static int64_t from_unshuffled(const struct nn_node *n, const struct nn_tensor *x,
                               const struct nn_tensor *y, int64_t at)
{
    int64_t k = n->i[0], c = n->i[1], h = n->i[2], w = n->i[3], sw = w / k, sh = h / k;
    (void)x;
    (void)y;
    int64_t col = at % sw, row = at / sw % sh, source = at / (sw * sh) % (c * k * k);
    int64_t b = at / (sw * sh * c * k * k), channel = source / (k * k);
    return ((b * c + channel) * h + row * k + source % (k * k) / k) * w + col * k + source % k;
}

static int64_t from_repeated(const struct nn_node *n, const struct nn_tensor *x,
                             const struct nn_tensor *y, int64_t at)
{
    int64_t k = n->i[0], h = n->i[2], w = n->i[3];
    (void)x;
    (void)y;
    return (at / (w * h) * (h / k) + at / w % h / k) * (w / k) + at % w / k;
}

struct nn_tensor *nn_pixel_shuffle(struct nn *nn, struct nn_tensor *x, int k)
{
    const int64_t *s = x->shape;
    ASSERT(x->n_dims == 4 && s[1] % (k * k) == 0);
    const int64_t shape[4] = {s[0], s[1] / (k * k), s[2] * k, s[3] * k};
    struct nn_tensor *y = nn_new(nn, 4, shape);
    move(nn, x, y, from_shuffled, 1, true, (const int64_t[]){k, shape[1], shape[2], shape[3]}, 4);
    return y;
}

struct nn_tensor *nn_pixel_unshuffle(struct nn *nn, struct nn_tensor *x, int k)
{
    const int64_t *s = x->shape;
    ASSERT(x->n_dims == 4 && s[2] % k == 0 && s[3] % k == 0);
    struct nn_tensor *y = nn_new(nn, 4, (const int64_t[]){s[0], s[1] * k * k, s[2] / k, s[3] / k});
    move(nn, x, y, from_unshuffled, 1, true, (const int64_t[]){k, s[1], s[2], s[3]}, 4);
    return y;
}

struct nn_tensor *nn_repeat_pixels(struct nn *nn, struct nn_tensor *x, int k)
{
    const int64_t *s = x->shape;
    struct nn_tensor *y = nn_new(nn, 4, (const int64_t[]){s[0], s[1], s[2] * k, s[3] * k});
    move(nn, x, y, from_repeated, 1, false, (const int64_t[]){k, s[1], s[2] * k, s[3] * k}, 4);
    return y;
}

struct pick_job { struct nn *nn; struct nn_tensor *x, *y; const int32_t *index; bool back; };

static void pick_part(void *ctx, int part)
{
    const struct pick_job *j = ctx;
    struct nn_range r = nn_part(j->nn, j->x, part);
    int64_t d = j->x->shape[2];
    for (int64_t b = r.begin; b < r.end; b++) {
        int64_t at = (b * j->x->shape[1] + j->index[b]) * d;
        if (j->back)
            j->nn->kernels->add(j->x->grad + at, j->x->grad + at, j->y->grad + b * d, d);
        else
            memcpy(j->y->data + b * d, j->x->data + at, (size_t)d * sizeof(float));
    }
}

static void pick_backward(struct nn *nn, const struct nn_node *node)
{
    struct pick_job j = {nn, node->in[0], node->out, node->saved[0], true};
    nn_grad(nn, j.x);
    nn_parts(nn, pick_part, &j);
}

struct nn_tensor *nn_pick(struct nn *nn, struct nn_tensor *x, const int32_t *index)
{
    ASSERT(x->n_dims == 3);
    for (int64_t b = 0; b < x->shape[0]; b++)
        ASSERT(index[b] >= 0 && index[b] < x->shape[1]);
    struct pick_job j = {nn, x, nn_new(nn, 2, (const int64_t[]){x->shape[0], x->shape[2]}), index, false};
    nn_parts(nn, pick_part, &j);
    struct nn_node *node = nn_record(nn, j.y, pick_backward, x, NULL, NULL);
    if (node != NULL)
        node->saved[0] = (void *)(uintptr_t)index;
    return j.y;
}

struct nn_tensor *nn_split_heads(struct nn *nn, struct nn_tensor *x, int heads)
{
    const int64_t shape[4] = {x->shape[0], x->shape[1], heads, x->shape[2] / heads};
    ASSERT(x->n_dims == 3 && x->shape[2] % heads == 0);
    return nn_transpose(nn, nn_reshape(nn, x, 4, shape), (const int[]){0, 2, 1, 3});
}

struct nn_tensor *nn_join_heads(struct nn *nn, struct nn_tensor *x)
{
    const int64_t shape[3] = {x->shape[0], x->shape[2], x->shape[1] * x->shape[3]};
    return nn_reshape(nn, nn_transpose(nn, x, (const int[]){0, 2, 1, 3}), 3, shape);
}

/* --- fixed embeddings */

struct nn_tensor *nn_timestep_embedding(struct nn *nn, const double *t, int64_t n, int dim)
{
    return nn_timestep_embedding_shifted(nn, t, n, dim, 0);
}

struct nn_tensor *nn_timestep_embedding_shifted(struct nn *nn, const double *t, int64_t n, int dim,
                                                int shift)
{
    struct nn_tensor *y = nn_new(nn, 2, (const int64_t[]){n, dim});
    int half = dim / 2;
    for (int i = 0; i < half; i++) {
        double frequency = nn_power(10000, -(double)i / (half - shift));
        for (int64_t k = 0; k < n; k++) {
            double sine, cosine;
            nn_sincos(t[k] * frequency, &sine, &cosine);
            y->data[k * dim + i] = (float)cosine;
            y->data[k * dim + half + i] = (float)sine;
        }
    }
    return y;
}

void nn_pos_embed_2d(float *out, int dim, int rows, int cols, double row_scale, double col_scale)
{
    int quarter = dim / 4;
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < cols; c++)
            for (int k = 0; k < quarter; k++) {
                float *at = out + ((int64_t)r * cols + c) * dim;
                double omega = nn_power(10000, -(double)k / quarter), sine, cosine;
                nn_sincos(c * col_scale * omega, &sine, &cosine);
                at[k] = (float)sine;
                at[quarter + k] = (float)cosine;
                nn_sincos(r * row_scale * omega, &sine, &cosine);
                at[2 * quarter + k] = (float)sine;
                at[3 * quarter + k] = (float)cosine;
            }
}
