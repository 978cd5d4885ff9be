/* netshard.h - a rank's share of a transformer's layers, and the products of layers that are cut.
 * Why:    heads and columns of a layer live on the ranks of a group as the decoder's do: a run of the
 *         segments of split.h each. What is summed over heads or columns is summed in that tree on one
 *         rank too, so the group's size never shows in a picture.
 * Owner:  borrows mesh and reduce.
 * Ranks:  a product that says so is collective on the group. */
#ifndef MUSTER_NETSHARD_H
#define MUSTER_NETSHARD_H

#include "workers/models/params.h"
#include "workers/parallel/reduce.h"

struct netshard { const struct mesh *mesh; struct reduce *reduce; };    /* a NULL netshard: one rank, all */

/* What goes from layer to layer of a denoiser, and from stage to stage: the picture's tokens [b, t, d], the
 * text's [b, l, d], and what a model wants beside them [b, e, d]. */
struct netrows { struct nn_tensor *x, *text, *extra; };

/* Columns [begin, end) of n, in units, that this rank (rank i of the group) holds. */
struct split_range netshard_share(const struct netshard *s, int n, int unit);
struct split_range netshard_share_of(const struct netshard *s, int i, int n, int unit);
/* Heads that this rank holds. */
struct split_range netshard_heads(const struct netshard *s, int heads, int head_dim);

/* What a rank loads of a denoiser in diffusers' names: its share of the layers [first, end), and what lies
 * outside of the layers where it leads. A params_cut, ctx: struct netshard_held. */
struct netshard_held { const struct netshard *shard; int first, end, head_dim; bool leads; };
struct param_cut netshard_cut(void *ctx, const char *name, int n_dims, const int64_t *shape);

/* [like's rows, out] = x W^T + bias of the layer NAME, of whose k columns this rank holds the share that x
 * [rows, its columns] has (NULL: none). Collective on the group. */
struct nn_tensor *netshard_sum(struct params_reader *r, struct nn_tensor *x, const struct nn_tensor *like,
                               const char *name, int k, int unit);
/* [rows, n] of a layer whose n outputs, in units of SPLIT_GROUP, are shared out. Collective on the group. */
struct nn_tensor *netshard_gather(struct params_reader *r, struct nn_tensor *x, const char *name, int n);

#endif
