#include "workers/models/netshard.h"

#include "workers/models/netparts.h"

#include <stdio.h>
#include <string.h>

static int group_of(const struct netshard *s) { return s != NULL ? s->mesh->tp : 1; }

static struct split_range segments_of(const struct netshard *s, int i)
{
    return s != NULL ? s->mesh->peer_segments[i] : (struct split_range){0, SPLIT_SEGMENTS};
}

static int leaves_of(const struct netshard *s) { return s != NULL ? s->mesh->leaves : SPLIT_SEGMENTS; }

struct split_range netshard_share_of(const struct netshard *s, int i, int n, int unit)
{
    return split_owned(n, unit, leaves_of(s), segments_of(s, i));
}

struct split_range netshard_share(const struct netshard *s, int n, int unit)
{
    return netshard_share_of(s, s != NULL ? s->mesh->tp_index : 0, n, unit);
}

struct split_range netshard_heads(const struct netshard *s, int heads, int head_dim)
{
    return netshard_share(s, heads, split_head_unit(head_dim));
}

static void keep_first(struct params_reader *r, int rc)
{
    if (rc != ERR_OK && r->rc == ERR_OK)
        r->rc = rc;
}

/* y += bias, row by row. */
static void add_bias(struct nn *nn, struct nn_tensor *y, const float *bias)
{
    int64_t n = y->shape[y->n_dims - 1];
    for (int64_t i = 0; i < y->n; i += n)
        nn->kernels->add(y->data + i, y->data + i, bias, n);
}

/* Pieces of this rank, and their sum with the others'. */
static void sum_pieces(struct params_reader *r, const struct nn_packed *w, struct nn_tensor *x,
                       struct nn_tensor *y, const struct split_program *prog, int k, int unit)
{
    float *pieces = nn_take(r->nn, (size_t)(prog->n_piece + 1) * (size_t)y->n * sizeof *pieces);
    if (prog->n_piece > 0)
        nn_packed_product(r->nn, w, prog, NULL, x->data, y->n / w->n, pieces, y->n);
    if (r->rc == ERR_OK)
        keep_first(r, reduce_sum(r->shard->reduce, y->data, pieces, y->n, y->n, k, unit, r->err));
}

struct nn_tensor *netshard_sum(struct params_reader *r, struct nn_tensor *x, const struct nn_tensor *like,
                               const char *name, int k, int unit)
{
    char full[160];
    if (!r->set->fixed)
        return netparts_linear(r, x, name);
    snprintf(full, sizeof full, "%s.weight", name);
    const struct nn_packed *w = params_packed(r, full);
    struct nn_tensor *bias = params_get(r, "%s.bias", name);
    int64_t shape[NN_DIMS_MAX];
    memcpy(shape, like->shape, sizeof shape);
    if (w != NULL)
        shape[like->n_dims - 1] = w->n;
    struct nn_tensor *y = nn_new(r->nn, like->n_dims, shape);
    if (w == NULL)
        return y;
    struct split_program prog = split_program_for(k, unit, leaves_of(r->shard),
                                                  segments_of(r->shard, r->shard != NULL
                                                                            ? r->shard->mesh->tp_index : 0));
    if (group_of(r->shard) == 1) {
        nn_packed_product(r->nn, w, &prog, bias->data, x->data, y->n / w->n, y->data, 0);
        return y;
    }
    sum_pieces(r, w, x, y, &prog, k, unit);
    add_bias(r->nn, y, bias->data);
    return y;
}

struct nn_tensor *netshard_gather(struct params_reader *r, struct nn_tensor *x, const char *name, int n)
{
    struct nn_tensor *mine = netparts_linear(r, x, name);
    int tp = group_of(r->shard);
    if (tp == 1)
        return mine;
    int64_t rows = x->n / x->shape[x->n_dims - 1], counts[MESH_TP_MAX], shape[NN_DIMS_MAX];
    for (int i = 0; i < tp; i++) {
        struct split_range s = netshard_share_of(r->shard, i, n, SPLIT_GROUP);
        counts[i] = rows * (s.end - s.begin);
    }
    memcpy(shape, x->shape, sizeof shape);
    shape[x->n_dims - 1] = n;
    struct nn_tensor *y = nn_new(r->nn, x->n_dims, shape);
    float *all = nn_take(r->nn, (size_t)y->n * sizeof *all);
    if (r->rc == ERR_OK)
        keep_first(r, reduce_gather(r->shard->reduce, all, mine->data, counts, r->err));
    for (int i = 0; i < tp; all += counts[i++]) {
        struct split_range s = netshard_share_of(r->shard, i, n, SPLIT_GROUP);
        int64_t width = s.end - s.begin;
        for (int64_t k = 0; k < rows; k++)
            memcpy(y->data + k * n + s.begin, all + k * width, (size_t)width * sizeof *all);
    }
    return y;
}
