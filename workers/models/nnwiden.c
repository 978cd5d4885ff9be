/* A 3 x 3 convolution beside a change of size, as one convolution of stride 2 with a 4 x 4 kernel that the
 * 3 x 3 one makes: 4 products a pixel of the large picture instead of 9, and the picture between is never
 * there.
 * - averages of 2 x 2 after it: each of the kernel's numbers, at four places, a quarter of it;
 * - nearest up-sampling before it: a transposed convolution, its kernel mirrored. */
#include "workers/models/nn.h"

#include "proto/err.h"

#include <string.h>

struct widen_job { struct nn *nn; struct nn_tensor *w, *y; bool up; };

/* Places of the 4 x 4 kernel that number k of a 3 x 3 kernel's axis goes to: two neighbours. */
static int first_place(bool up, int k) { return up ? 2 - k : k; }

/* Kernels of out o and in c: rows of 9 and 16 numbers. */
static void places(const struct widen_job *j, int64_t o, int64_t c, int64_t at[2])
{
    int64_t out = j->w->shape[0], in = j->w->shape[1];
    at[0] = (o * in + c) * 9;
    at[1] = (j->up ? c * out + o : o * in + c) * 16;
}

static void widen(const struct widen_job *j, const float *w, float *y)
{
    float factor = j->up ? 1 : 0.25f;
    int64_t at[2];
    memset(y, 0, (size_t)j->y->n * sizeof *y);
    for (int64_t o = 0; o < j->w->shape[0]; o++)
        for (int64_t c = 0; c < j->w->shape[1]; c++) {
            places(j, o, c, at);
            for (int k = 0; k < 9; k++) {
                float v = w[at[0] + k] * factor;
                float *to = y + at[1] + first_place(j->up, k / 3) * 4 + first_place(j->up, k % 3);
                to[0] += v;
                to[1] += v;
                to[4] += v;
                to[5] += v;
            }
        }
}

static void widen_back_part(void *ctx, int part)
{
    const struct widen_job *j = ctx;
    const float *g = nn_grad_part(j->y, part);
    float *dw = nn_grad_part(j->w, part), factor = j->up ? 1 : 0.25f;
    int64_t at[2];
    for (int64_t o = 0; o < j->w->shape[0]; o++)
        for (int64_t c = 0; c < j->w->shape[1]; c++) {
            places(j, o, c, at);
            for (int k = 0; k < 9; k++) {
                const float *from = g + at[1] + first_place(j->up, k / 3) * 4 + first_place(j->up, k % 3);
                dw[at[0] + k] += factor * ((from[0] + from[1]) + (from[4] + from[5]));
            }
        }
}

static void widen_backward(struct nn *nn, const struct nn_node *node)
{
    struct widen_job j = {nn, node->in[0], node->out, node->i[0] != 0};
    nn_grad(nn, j.w);
    nn_parts(nn, widen_back_part, &j);
}

static struct nn_tensor *widened(struct nn *nn, struct nn_tensor *w, bool up)
{
    const int64_t shape[4] = {w->shape[up ? 1 : 0], w->shape[up ? 0 : 1], 4, 4};
    ASSERT(w->n_dims == 4 && w->shape[2] == 3 && w->shape[3] == 3 && w->unbatched);
    struct widen_job j = {nn, w, nn_new(nn, 4, shape), up};
    j.y->unbatched = true;
    widen(&j, w->data, j.y->data);
    struct nn_node *node = nn_record(nn, j.y, widen_backward, w, NULL, NULL);
    if (node != NULL)
        node->i[0] = up;
    return j.y;
}

struct nn_tensor *nn_conv3_pool2(struct nn *nn, struct nn_tensor *x, struct nn_tensor *w,
                                 struct nn_tensor *b)
{
    return nn_conv2d(nn, x, widened(nn, w, false), b, 2, 1, 1);
}

struct nn_tensor *nn_up2_conv3(struct nn *nn, struct nn_tensor *x, struct nn_tensor *w,
                               struct nn_tensor *b)
{
    return nn_conv_transpose2d(nn, x, widened(nn, w, true), b, 2, 1, 0);
}
