/* tensormap.h - which tensors of a file make which matrices of the decoder.
 * Why:    files bundle differently (fused q k v, stacked experts, one tensor per expert, codes and
 *         scales apart); behind this map there is one set of matrices with one shape each.
 * Owner:  entries belong to the tensorfile; a list is freed by tensormap_free.
 * Ranks:  not collective. */
#ifndef MUSTER_TENSORMAP_H
#define MUSTER_TENSORMAP_H

#include "muster.pb-c.h"
#include "workers/models/archs.h"
#include "workers/weights/loader.h"

enum { TENSORMAP_BEFORE = -1, TENSORMAP_AFTER = -2 };   /* "layers" of the embedding, of norm and head */

/* One or more matrices (or vectors: cols 1) of one role. */
struct tensormap_part {
    enum slot slot;             /* with lanes 2: EXPERT_GATE stands for gate and up */
    int layer;
    int expert;                 /* of a tensor of its own; -1: source.n_mats stacked ones, or none */
    bool vector;
    Muster__Cut cut;
    struct load_source source;  /* vectors: row0, mat_rows and lanes count numbers */
};

struct tensormap { struct tensormap_part *part; int n, cap; };

/* Appends the parts of a layer, in loading order: vectors, row cuts, column cuts. Missing tensors,
 * wrong shapes and types are ERR_FORMAT. */
int tensormap_layer(struct tensormap *map, const struct model_config *c, const struct tensorfile *t,
                    int layer, struct err *err);
void tensormap_free(struct tensormap *map);

/* Every layer is complete, and every tensor of the file is either part of the decoder or known to be
 * no weight: a tensor that nobody multiplies by would mean a different network. */
int tensormap_check(const struct model_config *c, const struct tensorfile *t, struct err *err);

/* Rows and columns of a slot's whole matrix (vectors: columns 1). */
void tensormap_shape(const struct model_config *c, enum slot slot, int *rows, int *cols);

#endif
