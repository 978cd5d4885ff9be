/* Channels of each sample times a factor, plus a number: what a conditional batch norm does last. */
#include "workers/models/nn.h"

#include "proto/err.h"
#include "workers/models/nnrows.h"

struct channel_job { struct nn *nn; struct nn_tensor *x, *scale, *shift, *y; bool fresh; };

static NN_WIDE void channel_line(float *y, const float *x, float factor, float more, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] * factor + more;
}

static NN_WIDE void channel_line_back(float *dx, const float *g, float factor, int64_t n, bool fresh)
{
    if (fresh)
        for (int64_t i = 0; i < n; i++)
            dx[i] = g[i] * factor;
    else
        for (int64_t i = 0; i < n; i++)
            dx[i] += g[i] * factor;
}

static void channel_part(void *ctx, int part)
{
    const struct channel_job *j = ctx;
    struct nn_range r = nn_part(j->nn, j->x, part);
    int64_t c = j->x->shape[1], area = nn_row(j->x) / c;
    for (int64_t l = r.begin * c; l < r.end * c; l++)
        channel_line(j->y->data + l * area, j->x->data + l * area, 1 + j->scale->data[l], j->shift->data[l],
                     area);
}

static void channel_back_part(void *ctx, int part)
{
    const struct channel_job *j = ctx;
    struct nn_range r = nn_part(j->nn, j->x, part);
    int64_t c = j->x->shape[1], area = nn_row(j->x) / c;
    for (int64_t l = r.begin * c; l < r.end * c; l++) {
        const float *g = j->y->grad + l * area;
        if (j->x->grad != NULL)
            channel_line_back(j->x->grad + l * area, g, 1 + j->scale->data[l], area, j->fresh);
        if (j->scale->grad != NULL)
            j->scale->grad[l] += (float)nnrows_dot(g, j->x->data + l * area, area);
        if (j->shift->grad != NULL)
            j->shift->grad[l] += (float)nnrows_sum(g, area);
    }
}

static void channel_backward(struct nn *nn, const struct nn_node *node)
{
    struct channel_job j = {nn, node->in[0], node->in[1], node->in[2], node->out, false};
    j.fresh = nn_grad_fresh(nn, j.x);
    nn_grad(nn, j.scale);
    nn_grad(nn, j.shift);
    nn_parts(nn, channel_back_part, &j);
}

struct nn_tensor *nn_modulate_channels(struct nn *nn, struct nn_tensor *x, struct nn_tensor *scale,
                                       struct nn_tensor *shift)
{
    ASSERT(scale->n == x->shape[0] * x->shape[1] && shift->n == scale->n && !scale->unbatched);
    struct channel_job j = {nn, x, scale, shift, nn_new(nn, x->n_dims, x->shape), false};
    nn_parts(nn, channel_part, &j);
    nn_record(nn, j.y, channel_backward, x, scale, shift);
    return j.y;
}
