#include "workers/models/netshard.h"

#include "workers/models/netparts.h"

#include <stdbool.h>
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

/* --- weights */

/* Outputs (axis 0) or inputs of a layer's matrix that are shared out, by heads or by columns. */
static const struct { const char *end; int axis; bool heads; } cuts[] = {
    {".to_q", 0, true}, {".to_k", 0, true}, {".to_v", 0, true},
    {".add_q_proj", 0, true}, {".add_k_proj", 0, true}, {".add_v_proj", 0, true},
    {".to_out.0", 1, true}, {".to_add_out", 1, true},
    {".net.0.proj", 0, false}, {".net.2", 1, false},
    {".norm1.linear", 0, false}, {".norm1_context.linear", 0, false}};

static bool ends_with(const char *name, size_t n, const char *end)
{
    size_t k = strlen(end);
    return n >= k && memcmp(name + n - k, end, k) == 0;
}

/* A bias is shared out as its matrix's outputs are. */
struct param_cut netshard_cut(void *ctx, const char *name, int n_dims, const int64_t *shape)
{
    const struct netshard_held *h = ctx;
    const char *dot = strrchr(name, '.');
    int layer;
    if (sscanf(name, "transformer_blocks.%d.", &layer) != 1)
        return (struct param_cut){h->leads, -1, 0, 0};
    if (layer < h->first || layer >= h->end)
        return (struct param_cut){false, -1, 0, 0};
    for (size_t i = 0; dot != NULL && i < sizeof cuts / sizeof *cuts; i++) {
        if (!ends_with(name, (size_t)(dot - name), cuts[i].end) || cuts[i].axis >= n_dims)
            continue;
        int unit = cuts[i].heads ? split_head_unit(h->head_dim) * h->head_dim : SPLIT_GROUP;
        struct split_range r = netshard_share(h->shard, (int)shape[cuts[i].axis], unit);
        return (struct param_cut){true, cuts[i].axis, r.begin, r.end};
    }
    return (struct param_cut){true, -1, 0, 0};
}

/* --- products */

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
