#include "workers/models/learnweights.h"

#include "workers/models/archs.h"
#include "workers/models/tensormap.h"

#include <stdlib.h>
#include <string.h>

/* Every slot that a decoder of this configuration has, layer by layer. */
struct slots_of { enum slot slot; bool wanted; };

static int each_slot(const struct model_config *c, int layer, struct slots_of out[24])
{
    const struct slots_of once[] = {{SLOT_EMBED, true}, {SLOT_OUT_NORM, true}, {SLOT_HEAD, !c->tied}};
    const struct slots_of list[] = {
        {SLOT_ATTN_NORM, true}, {SLOT_POST_ATTN_NORM, c->post_norms}, {SLOT_FFN_NORM, true},
        {SLOT_POST_FFN_NORM, c->post_norms}, {SLOT_Q_NORM, c->qk_norm}, {SLOT_K_NORM, c->qk_norm},
        {SLOT_Q, true}, {SLOT_K, true}, {SLOT_V, true}, {SLOT_O, true}, {SLOT_Q_BIAS, c->qkv_bias},
        {SLOT_K_BIAS, c->qkv_bias}, {SLOT_V_BIAS, c->qkv_bias}, {SLOT_O_BIAS, c->o_bias},
        {SLOT_GATE, true}, {SLOT_UP, true}, {SLOT_DOWN, true}};
    const struct slots_of *from = layer < 0 ? once : list;
    int n = 0, count = (int)(layer < 0 ? sizeof once : sizeof list) / (int)sizeof *list;
    for (int i = 0; i < count; i++)
        if (from[i].wanted)
            out[n++] = from[i];
    return n;
}

/* Sizes of a slot; returns the number of dimensions. */
static int slot_shape(const struct model_config *c, enum slot slot, int64_t shape[2])
{
    int rows, cols;
    tensormap_shape(c, slot, &rows, &cols);
    shape[0] = rows;
    shape[1] = cols;
    return cols == 1 ? 1 : 2;
}

int learnweights_add(const struct model_config *c, struct params *set, struct err *err)
{
    for (int layer = -1; layer < c->n_layers; layer++) {
        struct slots_of slot[24];
        int n = each_slot(c, layer, slot);
        for (int i = 0; i < n; i++) {
            char name[160];
            int64_t shape[2];
            int n_dims = slot_shape(c, slot[i].slot, shape);
            const char *found = arch_tensor_name(c, slot[i].slot, layer, 0, name, sizeof name);
            if (found == NULL || params_add(set, found, n_dims, shape) == NULL)
                return err_set(err, ERR_NOMEM, "no memory for the weights of layer %d", layer);
        }
    }
    return ERR_OK;
}

/* Where the layers look for a slot's numbers: a vector, or a matrix. */
static float **vector_place(struct decoder_weights *w, struct layer_weights *l, enum slot slot)
{
    switch (slot) {
    case SLOT_OUT_NORM: return &w->out_norm;
    case SLOT_ATTN_NORM: return &l->attn_norm;
    case SLOT_POST_ATTN_NORM: return &l->post_attn_norm;
    case SLOT_FFN_NORM: return &l->ffn_norm;
    case SLOT_POST_FFN_NORM: return &l->post_ffn_norm;
    case SLOT_Q_NORM: return &l->q_norm;
    case SLOT_K_NORM: return &l->k_norm;
    case SLOT_Q_BIAS: return &l->q_bias;
    case SLOT_K_BIAS: return &l->k_bias;
    case SLOT_V_BIAS: return &l->v_bias;
    case SLOT_O_BIAS: return &l->o_bias;
    default: return NULL;
    }
}

static struct linear *matrix_place(struct decoder_weights *w, struct layer_weights *l, enum slot slot)
{
    switch (slot) {
    case SLOT_EMBED: return &w->embed;
    case SLOT_HEAD: return &w->head;
    case SLOT_Q: return &l->q;
    case SLOT_K: return &l->k;
    case SLOT_V: return &l->v;
    case SLOT_O: return &l->o;
    case SLOT_GATE: return &l->gate;
    case SLOT_UP: return &l->up;
    case SLOT_DOWN: return &l->down;
    default: return NULL;
    }
}

static int find_weight(struct decoder_weights *w, const struct model_config *c,
                       const struct params *set, int layer, enum slot slot, const char *file,
                       struct err *err)
{
    char name[160];
    int64_t shape[2];
    int n_dims = slot_shape(c, slot, shape);
    const char *found = arch_tensor_name(c, slot, layer, 0, name, sizeof name);
    if (found == NULL)
        return err_set(err, ERR_FORMAT, "%s: this folder bundles tensors in a way that does not learn here",
                       file);
    TRY(n_dims == 1 ? params_expect(set, found, file, err, 1, (int)shape[0])
                    : params_expect(set, found, file, err, 2, (int)shape[0], (int)shape[1]));
    float *data = params_find(set, found)->data;
    struct layer_weights *l = layer < 0 ? NULL : &w->layer[layer];
    if (n_dims == 1)
        *vector_place(w, l, slot) = data;
    else
        *matrix_place(w, l, slot) = (struct linear){.type = DT_F32, .n_out = (int)shape[0],
                                                        .k = (int)shape[1], .packed = (uint8_t *)data};
    return ERR_OK;
}

int learnweights_find(struct decoder_weights *w, const struct model_config *c, const struct params *set,
                      const char *file, struct err *err)
{
    *w = (struct decoder_weights){.heads_local = c->n_heads, .kv_local = c->n_kv_heads,
                                  .ffn_local = c->ffn_dim, .vocab_local = c->vocab,
                                  .n_layers = c->n_layers};
    w->layer = calloc((size_t)c->n_layers, sizeof *w->layer);
    if (w->layer == NULL)
        return err_set(err, ERR_NOMEM, "no memory for %d layers", c->n_layers);
    for (int layer = -1; layer < c->n_layers; layer++) {
        struct slots_of slot[24];
        int n = each_slot(c, layer, slot);
        for (int i = 0; i < n; i++)
            TRY(find_weight(w, c, set, layer, slot[i].slot, file, err));
    }
    if (c->tied)
        w->head = w->embed;
    return ERR_OK;
}

void learnweights_free(struct decoder_weights *w)
{
    free(w->layer);
    memset(w, 0, sizeof *w);
}
