#include "workers/train/dpsync.h"

#include <stdlib.h>
#include <string.h>

enum { LEAVES = SPLIT_SEGMENTS, FOLD_BLOCK = 2048 };    /* floats folded at a time: a stack of them in L1 */

/* A part is a unit of one of the tree's leaves; with fewer parts than leaves some leaves stay empty. */
static int parts_before(int n_parts, int leaf)
{
    return split_segment(n_parts, 1, LEAVES, leaf).begin;
}

static int64_t part_begin(int batch, int n_parts, int part)
{
    return (int64_t)batch * part / n_parts;
}

static void make_mesh(struct mesh *m, struct comm *comm)
{
    memset(m, 0, sizeof *m);
    m->n_replicas = m->n_stages = 1;
    m->tp = comm->n_workers;
    m->tp_index = m->self = comm->self;
    m->leaves = LEAVES;
    for (int i = 0; i < m->tp; i++) {
        m->tp_ranks[i] = i;
        m->peer_segments[i] = split_even(LEAVES, m->tp, i);
    }
    m->segments = m->peer_segments[m->tp_index];
}

static int parts_of(int n_parts, struct split_range leaves)
{
    int end = leaves.end < LEAVES ? parts_before(n_parts, leaves.end) : n_parts;
    return end - parts_before(n_parts, leaves.begin);
}

int dpsync_init(struct dpsync *s, struct comm *comm, int batch, int64_t n_max, struct err *err)
{
    int n = comm->n_workers;
    memset(s, 0, sizeof *s);
    s->comm = comm;
    s->n_parts = batch < LEAVES ? batch : LEAVES;
    for (int i = 0; i < n; i++)
        if (n > LEAVES || parts_of(s->n_parts, split_even(LEAVES, n, i)) == 0)
            return err_set(err, ERR_INVAL, "a batch of %d is cut in %d parts, too few for %d ranks: start "
                           "fewer, or choose a batch of 8 or more", batch, s->n_parts, n);
    make_mesh(&s->mesh, comm);
    s->part_begin = parts_before(s->n_parts, s->mesh.segments.begin);
    s->part_end = s->part_begin + parts_of(s->n_parts, s->mesh.segments);
    s->program = split_program_for(s->n_parts, 1, LEAVES, s->mesh.segments);
    s->joined = n > 1;
    if (!s->joined)
        return ERR_OK;
    TRY(reduce_init(&s->reduce, comm, &s->mesh, WIRE_F32, n_max, err));
    s->reduce.channel = COMM_DP;
    return ERR_OK;
}

void dpsync_free(struct dpsync *s)
{
    reduce_free(&s->reduce);
    free(s->pieces);
    memset(s, 0, sizeof *s);
}

void dpsync_samples(const struct dpsync *s, int batch, int *first, int *n)
{
    *first = (int)part_begin(batch, s->n_parts, s->part_begin);
    *n = (int)part_begin(batch, s->n_parts, s->part_end) - *first;
}

/* --- parts to pieces */

/* Numbers [at, at + n) of all parts, added by the program into this rank's pieces. */
static void fold_block(const struct dpsync *s, const struct kernels *k, const float *parts, int64_t stride,
                       float *pieces, int64_t piece_stride, int64_t at, int n)
{
    float stack[SPLIT_PIECES_MAX][FOLD_BLOCK];
    const struct split_program *p = &s->program;
    int top = 0;
    for (int i = 0; i < p->n_seg; i++) {
        const float *src = parts + i * stride + at;
        int folds = p->seg[i].folds;
        if (folds > 0) {        /* the part need not be copied: it is added at once */
            k->add(stack[top - 1], stack[top - 1], src, n);
            folds--;
        } else {
            memcpy(stack[top++], src, (size_t)n * sizeof *src);
        }
        for (; folds > 0; folds--, top--)
            k->add(stack[top - 2], stack[top - 2], stack[top - 1], n);
    }
    for (int j = 0; j < p->n_piece; j++)
        memcpy(pieces + j * piece_stride + at, stack[j], (size_t)n * sizeof **stack);
}

void dpsync_pieces(const struct dpsync *s, const struct kernels *k, const float *parts, int64_t stride,
                   float *pieces, int64_t piece_stride, int64_t n)
{
    for (int64_t at = 0; at < n; at += FOLD_BLOCK) {
        int64_t here = n - at < FOLD_BLOCK ? n - at : FOLD_BLOCK;
        fold_block(s, k, parts, stride, pieces, piece_stride, at, (int)here);
    }
}

/* Room for the pieces of n numbers, kept until a larger one is wanted; NULL when memory is out. */
static float *room(struct dpsync *s, int64_t n)
{
    int64_t floats = n * (s->program.n_piece > 0 ? s->program.n_piece : 1);
    if (floats > s->n_pieces_floats) {
        free(s->pieces);
        s->pieces = aligned_alloc(64, ((size_t)floats * sizeof *s->pieces + 63) / 64 * 64);
        s->n_pieces_floats = s->pieces != NULL ? floats : 0;
        if (s->pieces == NULL)
            err_set(s->err, ERR_NOMEM, "no memory for the sums of %lld numbers", (long long)n);
    }
    return s->pieces;
}

/* What nn calls for sums that cross samples. */
static int sum_parts(struct nn_sync *self, float *out, const float *parts, int64_t n)
{
    struct dpsync *s = (struct dpsync *)self;
    float *pieces = room(s, n);
    if (pieces == NULL)
        return ERR_NOMEM;
    dpsync_pieces(s, s->kernels, parts, n, pieces, n, n);
    return reduce_sum(&s->reduce, out, pieces, n, n, s->n_parts, 1, s->err);
}

void dpsync_attach(struct dpsync *s, struct nn *nn, int batch)
{
    int64_t begin[NN_PARTS_MAX + 1] = {0};
    int n = s->part_end - s->part_begin, first, count, leaf = 0;
    dpsync_samples(s, batch, &first, &count);
    for (int p = 0; p <= n; p++)
        begin[p] = part_begin(batch, s->n_parts, s->part_begin + p) - first;
    nn_set_parts(nn, n, begin);
    nn->leaves = LEAVES;
    for (int p = 0; p < n; p++, leaf++) {
        while (parts_before(s->n_parts, leaf + 1) <= s->part_begin + p && leaf < LEAVES - 1)
            leaf++;
        nn->leaf[p] = leaf;
    }
    for (int p = 0; p < n; p++)
        nn->folds[p] = (uint8_t)s->program.seg[p].folds;
    nn->n_pieces = s->program.n_piece;
    s->kernels = nn->kernels;
    s->sync.sum = sum_parts;
    nn->sync = s->joined ? &s->sync : NULL;
}
