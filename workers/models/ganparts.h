/* ganparts.h - what the files of GAN networks share: finding weights by name and shape, batch norm.
 * Why:    widths are read off the file, so every lookup is a check too.
 * Ranks:  not collective, but batch norm in training (nn.h). */
#ifndef MUSTER_GANPARTS_H
#define MUSTER_GANPARTS_H

#include "workers/models/gan.h"

/* One forward: the first thing that does not fit is kept in rc, and what follows is skipped. */
struct gan_run { struct nn *nn; struct params *w; const char *file; bool training; struct err *err; int rc; };

struct gan_run ganparts_run(const struct gan_net *net, struct err *err);

/* The entry PREFIX WHAT, or NULL; its tensor, or NULL. */
struct param *ganparts_find(const struct gan_run *r, const char *prefix, const char *what);
struct nn_tensor *ganparts_get(struct gan_run *r, const char *prefix, const char *what);
/* PREFIX WHAT is missing or of the wrong shape. */
void ganparts_wants(struct gan_run *r, const char *prefix, const char *what);
/* A vector of n numbers: the tensor, or a buffer's numbers; NULL (and rc set) otherwise. */
struct nn_tensor *ganparts_vector(struct gan_run *r, const char *prefix, const char *what, int64_t n);
float *ganparts_buffer(struct gan_run *r, const char *prefix, const char *what, int64_t n);
struct nn_tensor *ganparts_optional_bias(struct gan_run *r, const char *prefix, int64_t n);

/* x through the batch norm PREFIX. */
struct nn_tensor *ganparts_batch_norm(struct gan_run *r, const char *prefix, struct nn_tensor *x,
                                      double eps, bool affine);

/* A weight of a convolution? */
static inline bool ganparts_is_convolution(const struct param *p) { return p != NULL && p->n_dims == 4; }

#endif
