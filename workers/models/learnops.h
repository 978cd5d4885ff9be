/* learnops.h - the operations of ops.h on the tape of nn.h: a decoder's layers, learning.
 * Why:    the layers of a decoder are written once, over ops; serving computes on buffers, learning on
 *         values that the tape keeps.
 * How:    the layers name their buffers; here a name stands for the value that was written to it last.
 *         Weights are known by the addresses of their numbers in the set.
 * Shapes: every sequence of a step has the same length; rows are sequence after sequence.
 * Ranks:  not collective. */
#ifndef MUSTER_LEARNOPS_H
#define MUSTER_LEARNOPS_H

#include "workers/models/ops.h"
#include "workers/models/params.h"

enum { LEARNOPS_NAMES_MAX = 16 };

struct learnops {
    struct ops_tape tape;       /* first: ops sees this */
    struct nn *nn;
    struct params *params;
    int n_rows_each;            /* rows of a sequence */
    const int32_t *first;       /* [rows] of its sequence: the first one that a row attends to; NULL: 0 */
    int n_names;
    struct { const float *name; struct nn_tensor *value; } named[LEARNOPS_NAMES_MAX];
};

/* Borrows nn, params and first until the next call. Forgets all values. */
void learnops_begin(struct learnops *l, struct nn *nn, struct params *params, int n_rows_each,
                    const int32_t *first);
/* The value that was last written to `name`. */
struct nn_tensor *learnops_value(const struct learnops *l, const float *name);

#endif
