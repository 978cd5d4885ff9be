/* netlayers.h - layers by name whose weights are checked where they are used.
 * Why:    networks that are known by their tensors' names alone come in any width; a forward that is
 *         written as one chain of such layers needs no second description of all its shapes.
 * Errors: a layer whose weights are missing or do not fit its input notes that in the reader (first error
 *         wins) and gives NULL; NULL in gives NULL out, so a chain is checked once, at its end.
 * Shapes: pictures x [b, c, h, w], rows x [b, .., d].
 * Ranks:  not collective. */
#ifndef MUSTER_NETLAYERS_H
#define MUSTER_NETLAYERS_H

#include "workers/models/params.h"

/* NAME.weight [out, c, k, k], NAME.bias [out] where there is one. */
struct nn_tensor *netlayer_conv(struct params_reader *r, struct nn_tensor *x, const char *name, int stride,
                                int padding);
/* NAME.weight [out, d], NAME.bias [out]. */
struct nn_tensor *netlayer_linear(struct params_reader *r, struct nn_tensor *x, const char *name);
/* NAME.weight, NAME.bias [c]. */
struct nn_tensor *netlayer_group_norm(struct params_reader *r, struct nn_tensor *x, const char *name,
                                      int groups, double eps);
/* The same, and NAME.running_mean, NAME.running_var, which are used. */
struct nn_tensor *netlayer_batch_norm(struct params_reader *r, struct nn_tensor *x, const char *name,
                                      double eps);
/* Over all of a sample; NAME.weight, NAME.bias as large as one. */
struct nn_tensor *netlayer_norm_sample(struct params_reader *r, struct nn_tensor *x, const char *name,
                                       double eps);
/* Rows label[i] of NAME.weight [rows, d]. */
struct nn_tensor *netlayer_rows(struct params_reader *r, const int32_t *label, int64_t b, const char *name);

struct nn_tensor *netlayer_act(struct params_reader *r, struct nn_tensor *x, enum nn_act act);
struct nn_tensor *netlayer_add(struct params_reader *r, struct nn_tensor *a, struct nn_tensor *b);
struct nn_tensor *netlayer_up2(struct params_reader *r, struct nn_tensor *x);
/* max of 2 x 2 */
struct nn_tensor *netlayer_max_pool2(struct params_reader *r, struct nn_tensor *x);
struct nn_tensor *netlayer_shape(struct params_reader *r, struct nn_tensor *x, int n_dims,
                                 const int64_t *shape);
/* The tensor `name` if it has so many numbers; else NULL, noted. */
struct nn_tensor *netlayer_tensor(struct params_reader *r, const char *name, int64_t n);

#endif
