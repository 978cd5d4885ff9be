/* moe.h - a layer's experts: who is chosen for a row, and the sum of what they say.
 * Why:    only the chosen experts' weights are read, and their sum must not depend on who else is in
 *         the batch or on how many ranks hold the columns.
 * Sums:   experts are cut over tensor-parallel ranks like a dense FFN. For each segment of the cut the
 *         chosen experts are added in ascending id, weighted; then the segments in split.h's tree.
 * Owner:  buffers are the caller's (struct moe_buffers), sized by moe_buffers_bytes.
 * Ranks:  not collective: the result is this rank's pieces. */
#ifndef MUSTER_MOE_H
#define MUSTER_MOE_H

#include "workers/models/decoderweights.h"
#include "workers/models/ops.h"

struct moe_group { int expert, role, first, n; };       /* entries [first, first + n) of the order */

struct moe_buffers {
    int max_rows;
    float *logits;              /* [rows, experts] */
    int32_t *chosen;            /* [rows, used], ascending */
    float *weight;              /* [rows, used] */
    int32_t *order;             /* [rows used] entries (row used + j), group after group */
    struct moe_group *group;    /* [2 experts] */
    int n_groups;
    float *x;                   /* [rows used, dim] gathered */
    float *gate, *up;           /* [rows used, expert_ffn_local] */
};

/* Places the buffers in memory (NULL: only counts); returns their bytes. */
size_t moe_buffers_place(struct moe_buffers *b, uint8_t *memory, const struct model_config *c,
                         int max_rows, int expert_ffn_local);
/* What moe_forward takes from the ops' arena and needs in each thread's scratch beside linear_run's. */
size_t moe_scratch_bytes(const struct model_config *c, const struct expert_weights *e, enum isa isa,
                         enum compute compute, int max_rows);
size_t moe_thread_bytes(const struct model_config *c, const struct split_program *p, int max_rows);

/* The n_used chosen of logits [n], ascending in ids, and their weights. Equal logits: lower id first. */
void moe_route(const float *logits, int n, int n_used, enum moe_gate gate, bool renormalise,
               int32_t *ids, float *weights);

struct op_moe {
    struct tensor x;                    /* normalised rows, prompts first */
    int n_prompt;
    const struct layer_weights *w;
    const struct model_config *c;
    const struct split_program *program;        /* of the expert columns held here */
    struct moe_buffers *b;
    size_t linear_bytes;                /* of a thread's scratch that linear_run uses */
};
/* pieces [program->n_piece][rows, dim] (piece stride in floats). */
void moe_forward(struct ops *o, const struct op_moe *m, float *pieces, int64_t piece_stride);
/* After the sum over ranks: out += sum of weight x down bias of the chosen. Only where biases are. */
void moe_add_bias(struct ops *o, const struct op_moe *m, struct tensor out);

#endif
