/* netparts.h - what the files of image networks share: sizes from a configuration, linear layers by
 * name, positions by formula.
 * Ranks:  not collective. */
#ifndef MUSTER_NETPARTS_H
#define MUSTER_NETPARTS_H

#include "workers/models/params.h"

#include <jansson.h>

/* A whole number least..most under key, `otherwise` when it is absent. */
int netparts_size(const json_t *config, const char *key, int otherwise, int least, int most, int *out,
                  const char *file, struct err *err);

/* PREFIX NAME.weight [out, in] and .bias [out] are there. */
int netparts_expect_linear(const struct params *w, const char *prefix, const char *name, int out, int in,
                           const char *file, struct err *err);

/* x through the linear layer NAME (weight and bias). */
struct nn_tensor *netparts_linear(struct params_reader *r, struct nn_tensor *x, const char *name);
/* linear_2(act(linear_1(x))) under NAME. */
struct nn_tensor *netparts_two_linears(struct params_reader *r, struct nn_tensor *x, const char *name,
                                       enum nn_act act);

/* Chunk i of a modulation [b, n d]. */
struct nn_tensor *netparts_chunk(struct nn *nn, struct nn_tensor *m, int d, int i);
/* LN(x) (1 + scale) + shift; the norm has no parameters. */
struct nn_tensor *netparts_adaptive(struct nn *nn, struct nn_tensor *x, struct nn_tensor *scale,
                                    struct nn_tensor *shift, double eps);

/* x [b, c, h, w] cut in patches and projected by the convolution NAME [d, c, p, p]: [b, tokens, d]. */
struct nn_tensor *netparts_patches(struct params_reader *r, struct nn_tensor *x, const char *name,
                                   int patch);

#endif
