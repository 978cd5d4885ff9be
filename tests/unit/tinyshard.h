/* tinyshard.h - is a loaded shard what tinymodel.h wrote? For a rank that holds every layer. */
#ifndef MUSTER_TESTS_TINYSHARD_H
#define MUSTER_TESTS_TINYSHARD_H

#include "tests/unit/tinymodel.h"
#include "workers/models/decoderweights.h"

/* Numbers of l that differ from rows [row, ...) and columns [col, ...) of the tensor. */
static inline int tinyshard_differing(const struct linear *l, const char *name, int row, int col, int all_cols)
{
    float *got = malloc(((size_t)l->k + 256) * sizeof *got);
    uint64_t seed = tinymodel_seed(name);
    int n = 0;
    for (int r = 0; r < l->n_out && l->k > 0; r++) {
        linear_row(l, r, got);
        for (int k = 0; k < l->k; k++)
            n += got[k] != tinymodel_value(seed, (uint64_t)(row + r) * (uint64_t)all_cols +
                                                     (uint64_t)(col + k));
    }
    free(got);
    return n;
}

static inline int tinyshard_wrong(const struct decoder_weights *w, const struct model_config *c)
{
    int hd = c->head_dim, q0 = w->heads_begin * hd, n = 0;
    n += tinyshard_differing(&w->embed, "model.embed_tokens.weight", w->vocab_begin, 0, c->dim);
    n += tinyshard_differing(&w->head, c->tied ? "model.embed_tokens.weight" : "lm_head.weight",
                   w->vocab_begin, 0, c->dim);
    for (int i = 0; i < c->n_layers; i++) {
        const struct layer_weights *l = &w->layer[i];
        const struct { const struct linear *l; const char *name; int row, col, cols; } list[] = {
            {&l->q, "self_attn.q_proj", q0, 0, c->dim},
            {&l->k, "self_attn.k_proj", w->kv_begin * hd, 0, c->dim},
            {&l->v, "self_attn.v_proj", w->kv_begin * hd, 0, c->dim},
            {&l->o, "self_attn.o_proj", 0, q0, c->n_heads * hd},
            {&l->gate, "mlp.gate_proj", w->ffn_begin, 0, c->dim},
            {&l->up, "mlp.up_proj", w->ffn_begin, 0, c->dim},
            {&l->down, "mlp.down_proj", 0, w->ffn_begin, c->ffn_dim}};
        for (size_t j = 0; j < sizeof list / sizeof *list; j++) {
            char name[128];
            snprintf(name, sizeof name, "model.layers.%d.%s.weight", i, list[j].name);
            n += tinyshard_differing(list[j].l, name, list[j].row, list[j].col, list[j].cols);
        }
    }
    return n;
}

#endif
