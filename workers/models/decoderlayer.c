/* A layer, for every architecture: what differs is in model_config and in which weights are there. */
#include "workers/models/decoderstate.h"

static struct tensor rows_of(const struct decoder *d, float *data, int cols)
{
    return tensor_of(data, d->rows.n_rows, cols);
}

static struct tensor x_of(const struct decoder *d) { return rows_of(d, d->x, d->c->dim); }
static struct tensor h_of(const struct decoder *d) { return rows_of(d, d->h, d->c->dim); }
/* The first piece; after the reduction, the branch's sum. */
static struct tensor branch_of(const struct decoder *d) { return rows_of(d, d->pieces, d->c->dim); }

static int64_t piece_stride(const struct decoder *d) { return (int64_t)d->rows.n_rows * d->c->dim; }

/* --- before the layers */

int decoderlayer_embed(struct decoder *d, struct err *err)
{
    struct op_embed e = {.embed = &d->w->embed, .first = d->w->vocab_begin, .ids = d->rows.token,
                         .owner = d->owner, .scale = d->c->embed_scale};
    for (int r = 0; r < d->rows.n_rows; r++)
        for (int i = 0; i < d->m->tp; i++) {
            struct split_range v = decoder_vocab_range(d->c->vocab, d->m, i);
            if (v.begin <= e.ids[r] && e.ids[r] < v.end)
                d->owner[r] = (uint8_t)i;
        }
    return op_embed(&d->ops, x_of(d), &e, err);
}

static void find_angles(struct decoder *d)
{
    int half = d->c->n_rot / 2;
    for (int i = 0; i < d->rows.n_runs; i++) {
        const struct steprow_run *run = &d->rows.run[i];
        for (int r = 0; r < run->n_rows; r++)
            for (int k = 0; k < d->n_ropes; k++) {
                int64_t at = (int64_t)(run->row + r) * half;
                rope_angles(&d->rope[k], run->slot->is_long, run->position + r, d->cosine[k] + at,
                            d->sine[k] + at);
            }
    }
}

/* --- attention */

/* h = q, k, v of it, with biases, norms and rotation. */
static void project(struct decoder *d, const struct layer_weights *w, const struct layer_config *l,
                    struct op_attention *a)
{
    const struct model_config *c = d->c;
    struct op_product product[3] = {
        {&w->q, a->q, c->qkv_bias ? w->q_bias : NULL},
        {&w->k, a->k, c->qkv_bias ? w->k_bias : NULL},
        {&w->v, a->v, c->qkv_bias ? w->v_bias : NULL},
    };
    op_rmsnorm(&d->ops, h_of(d), x_of(d), w->attn_norm, c->norm_eps);
    op_linear(&d->ops, &(struct op_linear){.x = h_of(d), .n_prompt = d->rows.n_prompt,
                                           .product = product, .n_products = 3});
    if (w->q_norm != NULL)
        op_head_rmsnorm(&d->ops, a->q, c->head_dim, w->q_norm, c->norm_eps);
    if (w->k_norm != NULL)
        op_head_rmsnorm(&d->ops, a->k, c->head_dim, w->k_norm, c->norm_eps);
    op_rope(&d->ops, a->q, c->head_dim, c->n_rot, c->rope_kind, d->cosine[l->rope], d->sine[l->rope]);
    op_rope(&d->ops, a->k, c->head_dim, c->n_rot, c->rope_kind, d->cosine[l->rope], d->sine[l->rope]);
}

/* x += what the pieces sum up to, over the ranks; bias [dim] once, norm before it is added. */
static int add_branch(struct decoder *d, int n_total, int unit, const float *bias,
                      const struct op_moe *moe, const float *norm, struct err *err)
{
    struct op_reduce r = {.pieces = d->pieces, .piece_stride = piece_stride(d), .n_total = n_total,
                          .unit = unit};
    struct tensor branch = branch_of(d);
    TRY(op_reduce(&d->ops, branch, &r, err));
    if (bias != NULL)
        op_add_row(&d->ops, branch, bias);
    if (moe != NULL && d->c->expert_bias)
        moe_add_bias(&d->ops, moe, branch);
    if (norm != NULL)
        op_rmsnorm(&d->ops, branch, branch, norm, d->c->norm_eps);
    op_add(&d->ops, x_of(d), x_of(d), branch);
    return ERR_OK;
}

static int attention(struct decoder *d, int layer, struct err *err)
{
    const struct model_config *c = d->c;
    const struct decoder_weights *w = d->w;
    const struct layer_config *l = &c->layer[d->m->layer_begin + layer];
    const struct layer_weights *lw = &w->layer[layer];
    struct op_attention a = {
        .q = rows_of(d, d->q, w->heads_local * c->head_dim),
        .k = rows_of(d, d->k, w->kv_local * c->head_dim),
        .v = rows_of(d, d->v, w->kv_local * c->value_dim),
        .cache = &d->kv, .layer = layer, .run = d->rows.op_run, .n_runs = d->rows.n_runs,
        .heads_begin = w->heads_begin, .heads_local = w->heads_local, .kv_begin = w->kv_begin,
        .group = c->n_heads / c->n_kv_heads, .window = l->window, .scale = c->q_scale,
        .softcap = c->attn_softcap, .sinks = c->sinks ? lw->sinks : NULL};
    struct tensor attended = rows_of(d, d->attended, w->heads_local * c->value_dim);
    struct op_product o = {.w = &lw->o, .out = branch_of(d)};
    if (w->heads_local > 0) {
        project(d, lw, l, &a);
        op_attention(&d->ops, attended, &a);
        op_linear(&d->ops, &(struct op_linear){.x = attended, .n_prompt = d->rows.n_prompt,
                                               .program = &d->heads_program,
                                               .piece_stride = piece_stride(d), .product = &o,
                                               .n_products = 1});
    }
    return add_branch(d, d->heads_k, d->heads_unit, c->o_bias ? lw->o_bias : NULL, NULL,
                      lw->post_attn_norm, err);
}

/* --- feed-forward */

static int dense(struct decoder *d, const struct layer_weights *w, struct err *err)
{
    const struct model_config *c = d->c;
    struct tensor gate = rows_of(d, d->gate, d->w->ffn_local);
    struct tensor up = rows_of(d, d->up, d->w->ffn_local);
    struct op_product in[2] = {{&w->gate, gate, NULL}, {&w->up, up, NULL}};
    struct op_product down = {.w = &w->down, .out = branch_of(d)};
    if (d->w->ffn_local > 0) {
        op_rmsnorm(&d->ops, h_of(d), x_of(d), w->ffn_norm, c->norm_eps);
        op_linear(&d->ops, &(struct op_linear){.x = h_of(d), .n_prompt = d->rows.n_prompt,
                                               .product = in, .n_products = 2});
        op_gate(&d->ops, gate, gate, up, c->act, c->act_limit);
        op_linear(&d->ops, &(struct op_linear){.x = gate, .n_prompt = d->rows.n_prompt,
                                               .program = &d->ffn_program,
                                               .piece_stride = piece_stride(d), .product = &down,
                                               .n_products = 1});
    }
    return add_branch(d, c->ffn_dim, SPLIT_GROUP, NULL, NULL, w->post_ffn_norm, err);
}

static int experts(struct decoder *d, const struct layer_weights *w, struct err *err)
{
    const struct model_config *c = d->c;
    struct op_moe moe = {.x = h_of(d), .n_prompt = d->rows.n_prompt, .w = w, .c = c,
                         .program = &d->expert_program, .b = &d->moe,
                         .linear_bytes = d->moe_linear_bytes};
    op_rmsnorm(&d->ops, h_of(d), x_of(d), w->ffn_norm, c->norm_eps);
    moe_forward(&d->ops, &moe, d->pieces, piece_stride(d));
    return add_branch(d, c->expert_ffn_dim, SPLIT_GROUP, NULL, &moe, w->post_ffn_norm, err);
}

int decoderlayer_all(struct decoder *d, struct err *err)
{
    find_angles(d);
    for (int i = 0; i < d->m->layer_end - d->m->layer_begin; i++) {
        const struct layer_config *l = &d->c->layer[d->m->layer_begin + i];
        TRY(attention(d, i, err));
        TRY(l->moe ? experts(d, &d->w->layer[i], err) : dense(d, &d->w->layer[i], err));
        TRY(decoderlink_progress(d, err));
    }
    return ERR_OK;
}

/* --- after the layers */

void decoderlayer_logits(struct decoder *d, const int *wanted, int n, int n_prompt)
{
    struct tensor h = tensor_of(d->h, n, d->c->dim);
    struct tensor logits = tensor_of(d->logits, n, d->w->vocab_local);
    op_pick(&d->ops, h, x_of(d), wanted);
    op_rmsnorm(&d->ops, h, h, d->w->out_norm, d->c->norm_eps);
    struct op_product head = {.w = &d->w->head, .out = logits};
    op_linear(&d->ops, &(struct op_linear){.x = h, .n_prompt = n_prompt, .product = &head,
                                           .n_products = 1});
    if (d->c->final_softcap > 0)
        op_softcap(&d->ops, logits, d->c->final_softcap);
}
