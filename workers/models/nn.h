/* nn.h - operations of networks that learn: eager, in f32, with a tape when one is asked for.
 * Why:    image models, text encoders and trainers share one set of operations; a forward is written
 *         once. Without a tape an operation computes and forgets; with one it leaves a node that knows
 *         how to go back.
 * Parts:  the samples of a rank are cut in parts (training: the parts of the global batch that it
 *         holds; inference: one sample each). A part is computed by one thread, in one order, by calls
 *         whose shapes depend on the part alone; so bits depend neither on threads nor on ranks. What
 *         crosses samples (batch norm, losses, weight gradients) is kept for each part and folded in
 *         the tree of split.h, over the ranks too.
 * Shapes: row-major; axis 0 is the batch, or a multiple of it. Tensors that stand for weights are
 *         `unbatched` and their gradients are [n_parts][shape].
 * Owner:  values live in the context's blocks until nn_reset; the caller owns parameters.
 * Ranks:  operations that say so are collective on the data-parallel group. */
#ifndef MUSTER_NN_H
#define MUSTER_NN_H

#include "proto/err.h"
#include "workers/kernels/kernels.h"
#include "workers/models/team.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { NN_DIMS_MAX = 4, NN_PARTS_MAX = 64, NN_INPUTS_MAX = 4 };

struct nn_tensor {
    float *data;
    float *grad;                /* like data, or [n_parts][n] when unbatched; NULL until needed */
    int n_dims;
    int64_t shape[NN_DIMS_MAX], n;
    bool wants_grad, unbatched;
    bool folded;                /* grad is [n_pieces][..] instead: parts are added up already */
    float *fold_to;             /* where pieces go, fold_stride numbers apart; NULL: the context's memory */
    int64_t fold_stride;
    int uses, gone;             /* by recorded operations, of an unbatched tensor; those gone back through */
};

struct nn;
struct nn_node {
    struct nn_node *before;
    void (*backward)(struct nn *nn, const struct nn_node *node);
    struct nn_tensor *out, *in[NN_INPUTS_MAX];
    int64_t i[8];               /* the operation's own numbers */
    double f[2];
    void *saved[3];
};

/* What several ranks are to each other; NULL: one rank. */
struct nn_sync {
    /* out [n] = sum over the parts of all ranks of part [n_parts][n], in the tree. */
    int (*sum)(struct nn_sync *self, float *out, const float *parts, int64_t n);
    /* On the way back: t's gradient (unbatched) is whole; and what to do between two operations. Both may be
     * NULL. */
    void (*whole)(struct nn_sync *self, struct nn_tensor *t);
    void (*between)(struct nn_sync *self);
};

struct nn_block { struct nn_block *next; size_t cap, used; };

struct nn {
    const struct kernels *kernels;
    struct team *team;
    struct nn_sync *sync;
    int n_parts;
    int64_t part_begin[NN_PARTS_MAX + 1];       /* samples of part p: [part_begin[p], part_begin[p+1]) */
    int leaves;                 /* of the sum tree: these parts are leaves [leaf[p]] of it */
    int leaf[NN_PARTS_MAX];
    /* The same as a program: push a part, then folds[p] times the top two become their sum. What is left in
     * the end are the pieces: one, or where other ranks hold parts of the tree the maximal subtrees. */
    int n_pieces;
    uint8_t folds[NN_PARTS_MAX];
    bool half;                  /* linear layers and convolutions multiply bfloat16 numbers, with f32 sums */
    bool folding;               /* weights' gradients may be folded as they come (trainers) */
    bool recording;
    struct nn_node *last;
    struct nn_block *first, *current;           /* memory: grows once, then is used again */
    float *scratch[NN_PARTS_MAX];               /* per part, grows to the largest asked for */
    size_t scratch_floats[NN_PARTS_MAX];
    bool failed;                /* a collective failed: results are void (sync's err says why) */
};

/* One sample a part (inference) or as given; part_begin [n_parts + 1]. */
void nn_init(struct nn *nn, const struct kernels *kernels, struct team *team);
void nn_set_parts(struct nn *nn, int n_parts, const int64_t *part_begin);
void nn_free(struct nn *nn);
/* Drops all values and the tape; memory stays for the next step. */
void nn_reset(struct nn *nn);

/* A tensor in the context's memory (not zeroed). shape[0] is the batch unless unbatched. */
struct nn_tensor *nn_new(struct nn *nn, int n_dims, const int64_t *shape);
/* A view of numbers that the caller owns; a parameter wants a gradient and is unbatched. */
struct nn_tensor *nn_input(struct nn *nn, float *data, int n_dims, const int64_t *shape);
struct nn_tensor *nn_param(struct nn *nn, float *data, int n_dims, const int64_t *shape);

/* From the scalar (or any) tensor `of`, whose upstream gradient is `seed` in every element, back to all
 * parameters. Parameters' gradients stay per part: fold them with nn_fold. */
void nn_backward(struct nn *nn, struct nn_tensor *of, float seed);
/* out [n] = tree sum over the parts of all ranks. Collective when there is a sync. */
void nn_fold(struct nn *nn, float *out, const float *parts, int64_t n);

/* --- for the operations themselves */

void *nn_take(struct nn *nn, size_t bytes);
void *nn_take_zeroed(struct nn *nn, size_t bytes);
float *nn_scratch(struct nn *nn, int part, int64_t floats);
/* Leaves a node when recording and an input wants a gradient; NULL otherwise. */
struct nn_node *nn_record(struct nn *nn, struct nn_tensor *out,
                          void (*backward)(struct nn *, const struct nn_node *),
                          struct nn_tensor *a, struct nn_tensor *b, struct nn_tensor *c);
/* Allocates (zeroed) the gradient of t; NULL when t wants none. */
float *nn_grad(struct nn *nn, struct nn_tensor *t);
/* For operations whose way back gives every number of t's gradient: true when there was none yet. Then it
 * has memory that is not zeroed, and must be written, not added to. */
bool nn_grad_fresh(struct nn *nn, struct nn_tensor *t);
/* t's gradient is that of `of`, whose way back is done: no copy where t has none yet; true then. */
bool nn_grad_share(struct nn_tensor *t, const struct nn_tensor *of);
/* Gradient where part p adds: of a batched tensor the whole. */
static inline float *nn_grad_part(const struct nn_tensor *t, int p)
{
    return t->grad == NULL ? NULL : t->grad + (t->unbatched ? p * t->n : 0);
}
/* Slices of axis 0 that belong to part p. */
struct nn_range { int64_t begin, end; };
struct nn_range nn_part(const struct nn *nn, const struct nn_tensor *t, int p);
/* job(ctx, p) for every part, parts over threads. */
void nn_parts(struct nn *nn, void (*job)(void *ctx, int part), void *ctx);
static inline int64_t nn_row(const struct nn_tensor *t) { return t->n_dims > 0 ? t->n / t->shape[0] : 1; }

/* --- the operations (shapes as in their comments; gradients of every input that wants one) */

/* x [.., in], w [out, in], b [out] or NULL -> [.., out] */
struct nn_tensor *nn_linear(struct nn *nn, struct nn_tensor *x, struct nn_tensor *w, struct nn_tensor *b);
/* A linear layer's matrix [n, k] that nobody changes, packed: for matmul.h in f32, rounded to bfloat16 as its
 * pairs, or for linear.h, whose products run on AMX's tiles. */
enum nn_form { NN_FORM_F32, NN_FORM_PAIRS, NN_FORM_TILES };
struct nn_packed { float *data; int n, k; enum nn_form form; };
/* What suits the context: of bfloat16 numbers where it is half. */
enum nn_form nn_form(const struct nn *nn);
int nn_pack(struct nn_packed *p, const float *w, int n, int k, enum nn_form form, struct err *err);
void nn_packed_free(struct nn_packed *p);       /* accepts a zeroed one */
/* out [n_piece][rows, n] (pieces piece_stride apart) = x [rows, k] W^T + bias as prog says (NULL: one chain
 * over all of k); all rows at once, shared over the threads. No way back. */
void nn_packed_product(struct nn *nn, const struct nn_packed *w, const struct split_program *prog,
                       const float *bias, const float *x, int64_t rows, float *out, int64_t piece_stride);

/* ids [n] in the shape given, table [rows, d] -> [shape.., d] */
struct nn_tensor *nn_embedding(struct nn *nn, const int32_t *ids, int n_dims, const int64_t *shape,
                               struct nn_tensor *table);
/* Over the last axis; w, b [d] or NULL. */
struct nn_tensor *nn_rms_norm(struct nn *nn, struct nn_tensor *x, struct nn_tensor *w, double eps);
struct nn_tensor *nn_layer_norm(struct nn *nn, struct nn_tensor *x, struct nn_tensor *w,
                                struct nn_tensor *b, double eps);
/* x [b, c, ..]; w, b [c] or NULL. */
struct nn_tensor *nn_group_norm(struct nn *nn, struct nn_tensor *x, struct nn_tensor *w,
                                struct nn_tensor *b, int groups, double eps);
/* x [b, c, ..]; running mean and variance [c] are changed when training (momentum on the new value,
 * unbiased variance). Collective when training with a sync. */
struct nn_tensor *nn_batch_norm(struct nn *nn, struct nn_tensor *x, struct nn_tensor *w,
                                struct nn_tensor *b, float *running_mean, float *running_var,
                                bool training, double momentum, double eps);
/* q [b, h, s, d], k, v [b, kv, t, d] -> [b, h, s, d]; query head i reads KV head i / (h / kv).
 * mask [b, t] (1 keeps) or NULL. */
struct nn_tensor *nn_attention(struct nn *nn, struct nn_tensor *q, struct nn_tensor *k,
                               struct nn_tensor *v, bool causal, const uint8_t *mask);
/* Causal, s = t: query i of a sequence sees the keys from first[i] on, 0 <= first[i] <= i; first
 * [b, s] is read at once. */
struct nn_tensor *nn_attention_since(struct nn *nn, struct nn_tensor *q, struct nn_tensor *k,
                                     struct nn_tensor *v, const int32_t *first);
/* x [.., s, d]; positions [s]; half: pairs (i, i + d/2), else (2i, 2i+1). */
struct nn_tensor *nn_rope(struct nn *nn, struct nn_tensor *x, const int64_t *positions, double theta,
                          bool half);
/* Heads of rows: x [rows, heads head_dim]; row r stands at position r modulo `positions`, whose angles are
 * row r of cosine and sine [positions, n_rot / 2]; the numbers of a head past n_rot stay. */
struct nn_rotation { const float *cosine, *sine; int64_t positions; int head_dim, n_rot; bool half; };
struct nn_tensor *nn_rotate(struct nn *nn, struct nn_tensor *x, const struct nn_rotation *r);
struct nn_tensor *nn_softmax(struct nn *nn, struct nn_tensor *x);

enum nn_act { NN_SILU, NN_GELU_ERF, NN_GELU_TANH, NN_QUICK_GELU, NN_RELU, NN_LEAKY_RELU, NN_TANH,
              NN_SIGMOID, NN_SOFTPLUS };
struct nn_tensor *nn_activation(struct nn *nn, struct nn_tensor *x, enum nn_act act, double slope);
struct nn_tensor *nn_swiglu(struct nn *nn, struct nn_tensor *gate, struct nn_tensor *up);

/* With broadcasting of axes of length 1 or missing in front. */
struct nn_tensor *nn_add(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b);
struct nn_tensor *nn_mul(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b);
struct nn_tensor *nn_scale(struct nn *nn, struct nn_tensor *x, double factor);
/* x [b, t, d], scale, shift [b, d] -> x (1 + scale) + shift */
struct nn_tensor *nn_modulate(struct nn *nn, struct nn_tensor *x, struct nn_tensor *scale,
                              struct nn_tensor *shift);
/* x [b, c, ..], scale, shift [b, c] in any shape -> x (1 + scale) + shift */
struct nn_tensor *nn_modulate_channels(struct nn *nn, struct nn_tensor *x, struct nn_tensor *scale,
                                       struct nn_tensor *shift);
/* residual + gate x; gate [b, d] */
struct nn_tensor *nn_gate(struct nn *nn, struct nn_tensor *residual, struct nn_tensor *gate,
                          struct nn_tensor *x);
/* keep like x, 0 or 1: x keep / (1 - p) */
struct nn_tensor *nn_dropout(struct nn *nn, struct nn_tensor *x, const float *keep, double p);

/* x [b, c, h, w], w [out, c / groups, kh, kw], b [out] or NULL */
struct nn_tensor *nn_conv2d(struct nn *nn, struct nn_tensor *x, struct nn_tensor *w, struct nn_tensor *b,
                            int stride, int padding, int groups);
/* w [c, out, kh, kw] */
struct nn_tensor *nn_conv_transpose2d(struct nn *nn, struct nn_tensor *x, struct nn_tensor *w,
                                      struct nn_tensor *b, int stride, int padding, int output_padding);
/* A 3 x 3 convolution (w [out, c, 3, 3], padding 1), then averages of 2 x 2; or after nearest up-sampling:
 * the same numbers but for rounding, with 4 products a pixel of the large side instead of 9. */
struct nn_tensor *nn_conv3_pool2(struct nn *nn, struct nn_tensor *x, struct nn_tensor *w,
                                 struct nn_tensor *b);
struct nn_tensor *nn_up2_conv3(struct nn *nn, struct nn_tensor *x, struct nn_tensor *w,
                               struct nn_tensor *b);
struct nn_tensor *nn_upsample_nearest2(struct nn *nn, struct nn_tensor *x);
struct nn_tensor *nn_upsample_bilinear2(struct nn *nn, struct nn_tensor *x);
struct nn_tensor *nn_avg_pool2(struct nn *nn, struct nn_tensor *x);
struct nn_tensor *nn_sum_pool(struct nn *nn, struct nn_tensor *x);      /* [b, c, h, w] -> [b, c] */

/* axis < 0 counts from the end. Axis 0: part by part (the samples of a part stay together). */
struct nn_tensor *nn_concat(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b, int axis);
/* x[.., begin:end, ..] along axis > 0 */
struct nn_tensor *nn_slice(struct nn *nn, struct nn_tensor *x, int axis, int64_t begin, int64_t end);
struct nn_tensor *nn_transpose(struct nn *nn, struct nn_tensor *x, const int *axes);
/* x [b, t, d], index [b] -> [b, d]: row index[i] of sample i. */
struct nn_tensor *nn_pick(struct nn *nn, struct nn_tensor *x, const int32_t *index);
/* [b, t, h d] -> [b, h, t, d] and back. */
struct nn_tensor *nn_split_heads(struct nn *nn, struct nn_tensor *x, int heads);
struct nn_tensor *nn_join_heads(struct nn *nn, struct nn_tensor *x);
/* The same numbers under another shape (axis 0 stays a multiple of the batch). */
struct nn_tensor *nn_reshape(struct nn *nn, struct nn_tensor *x, int n_dims, const int64_t *shape);
/* Over the axes in the bit mask. Collective when axis 0 is among them and there is a sync. */
struct nn_tensor *nn_sum(struct nn *nn, struct nn_tensor *x, unsigned axes);
struct nn_tensor *nn_mean(struct nn *nn, struct nn_tensor *x, unsigned axes);
/* [b, c, h, w] -> [b, tokens, c p p]: inside a token channel, row, column */
struct nn_tensor *nn_patchify(struct nn *nn, struct nn_tensor *x, int patch);
/* [b, rows cols, p p c] -> [b, c, h, w]: inside a token row, column, channel */
struct nn_tensor *nn_unpatchify(struct nn *nn, struct nn_tensor *x, int patch, int rows, int cols);

/* [b, c k k, h, w] -> [b, c, k h, k w]: channel c k k + i k + j goes to row k y + i, column k x + j;
 * and back; and each pixel repeated k x k times. */
struct nn_tensor *nn_pixel_shuffle(struct nn *nn, struct nn_tensor *x, int k);
struct nn_tensor *nn_pixel_unshuffle(struct nn *nn, struct nn_tensor *x, int k);
struct nn_tensor *nn_repeat_pixels(struct nn *nn, struct nn_tensor *x, int k);

/* t [n] -> [n, dim]: cos then sin of t exp(-ln(10000) i / (dim/2)), angles in double. No gradient. */
struct nn_tensor *nn_timestep_embedding(struct nn *nn, const double *t, int64_t n, int dim);
/* The same with i / (dim/2 - shift). */
struct nn_tensor *nn_timestep_embedding_shifted(struct nn *nn, const double *t, int64_t n, int dim,
                                                int shift);
/* [rows cols, dim] into out: first half of dim from the column, second from the row, each sin then cos
 * of position scale 10000^(-k / (dim/4)); a scale for rows and one for columns. */
void nn_pos_embed_2d(float *out, int dim, int rows, int cols, double row_scale, double col_scale);
/* w / sigma of its matrix [out, rest] after one power iteration, which changes u [out], v [rest];
 * iterate false: u, v as they are. */
struct nn_tensor *nn_spectral_norm(struct nn *nn, struct nn_tensor *w, float *u, float *v, bool iterate);

/* Losses: a scalar, over all ranks' samples. Collective with a sync. Labels < 0 do not count. */
struct nn_tensor *nn_cross_entropy(struct nn *nn, struct nn_tensor *logits, const int32_t *labels,
                                   bool mean);
struct nn_tensor *nn_mse(struct nn *nn, struct nn_tensor *x, struct nn_tensor *target);
struct nn_tensor *nn_hinge_d(struct nn *nn, struct nn_tensor *real, struct nn_tensor *fake);
struct nn_tensor *nn_hinge_g(struct nn *nn, struct nn_tensor *fake);
struct nn_tensor *nn_softplus_d(struct nn *nn, struct nn_tensor *real, struct nn_tensor *fake);
struct nn_tensor *nn_softplus_g(struct nn *nn, struct nn_tensor *fake);
/* One side of a discriminator's loss: mean relu(1 - x) or softplus(-x) of real ones, of x + 1 and x for
 * others. */
struct nn_tensor *nn_hinge_side(struct nn *nn, struct nn_tensor *x, bool real);
struct nn_tensor *nn_softplus_side(struct nn *nn, struct nn_tensor *x, bool real);
/* 1 / (mean |x - x'| / mean |z - z'| + 1e-5) over pairs of neighbours in each part (its samples 0 and 1, 2
 * and 3, ..): large where different latents z make the same x. No gradient of z. (Mao et al. 1903.05628) */
struct nn_tensor *nn_mode_seeking(struct nn *nn, struct nn_tensor *x, const struct nn_tensor *z);
/* weight_a a + weight_b b of two scalars */
struct nn_tensor *nn_mix(struct nn *nn, struct nn_tensor *a, double weight_a, struct nn_tensor *b,
                         double weight_b);

#endif
