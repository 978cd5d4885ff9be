#include "workers/models/cliptext.h"

#include "workers/models/netparts.h"

#include <string.h>

int cliptext_config_read(struct cliptext_config *c, const json_t *config, const char *file,
                         struct err *err)
{
    const char *act = json_string_value(json_object_get(config, "hidden_act"));
    const json_t *eps = json_object_get(config, "layer_norm_eps");
    memset(c, 0, sizeof *c);
    TRY(netparts_size(config, "vocab_size", -1, 3, 1 << 24, &c->vocab, file, err));
    TRY(netparts_size(config, "max_position_embeddings", 77, 1, 1 << 16, &c->positions, file, err));
    TRY(netparts_size(config, "hidden_size", -1, 1, 1 << 16, &c->width, file, err));
    TRY(netparts_size(config, "intermediate_size", -1, 1, 1 << 18, &c->ffn, file, err));
    TRY(netparts_size(config, "num_hidden_layers", -1, 1, 1024, &c->layers, file, err));
    TRY(netparts_size(config, "num_attention_heads", -1, 1, 1024, &c->heads, file, err));
    TRY(netparts_size(config, "projection_dim", 0, 0, 1 << 16, &c->projection, file, err));
    TRY(netparts_size(config, "eos_token_id", 49407, 0, 1 << 24, &c->eos, file, err));
    TRY(netparts_size(config, "bos_token_id", 49406, 0, 1 << 24, &c->bos, file, err));
    TRY(netparts_size(config, "pad_token_id", 1, 0, 1 << 24, &c->pad, file, err));
    c->eps = json_is_number(eps) ? json_number_value(eps) : 1e-5;
    if (c->width % c->heads != 0)
        return err_set(err, ERR_FORMAT, "%s: hidden_size %d is no multiple of %d heads", file, c->width,
                       c->heads);
    if (act == NULL || strcmp(act, "quick_gelu") == 0)
        c->act = NN_QUICK_GELU;
    else if (strcmp(act, "gelu") == 0)
        c->act = NN_GELU_ERF;
    else
        return err_set(err, ERR_FORMAT, "%s: hidden_act %s: quick_gelu and gelu are known", file, act);
    return ERR_OK;
}

/* h += out_proj(causal attention(norm h)); h += fc2(act(fc1(norm h))) */
static struct nn_tensor *layer(struct params_reader *r, const struct cliptext_config *c,
                               const char *prefix, int i, struct nn_tensor *h)
{
    struct nn *nn = r->nn;
    struct nn_tensor *proj[3], *n;
    static const char *const names[3] = {"q_proj", "k_proj", "v_proj"};
#define AT(what) "%sencoder.layers.%d." what
    n = nn_layer_norm(nn, h, params_get(r, AT("layer_norm1.weight"), prefix, i),
                      params_get(r, AT("layer_norm1.bias"), prefix, i), c->eps);
    for (int k = 0; k < 3; k++)
        proj[k] = nn_split_heads(
            nn,
            nn_linear(nn, n, params_get(r, AT("self_attn.%s.weight"), prefix, i, names[k]),
                      params_get(r, AT("self_attn.%s.bias"), prefix, i, names[k])),
            c->heads);
    n = nn_join_heads(nn, nn_attention(nn, proj[0], proj[1], proj[2], true, NULL));
    h = nn_add(nn, h, nn_linear(nn, n, params_get(r, AT("self_attn.out_proj.weight"), prefix, i),
                                params_get(r, AT("self_attn.out_proj.bias"), prefix, i)));
    n = nn_layer_norm(nn, h, params_get(r, AT("layer_norm2.weight"), prefix, i),
                      params_get(r, AT("layer_norm2.bias"), prefix, i), c->eps);
    n = nn_linear(nn, n, params_get(r, AT("mlp.fc1.weight"), prefix, i),
                  params_get(r, AT("mlp.fc1.bias"), prefix, i));
    n = nn_linear(nn, nn_activation(nn, n, c->act, 0),
                  params_get(r, AT("mlp.fc2.weight"), prefix, i),
                  params_get(r, AT("mlp.fc2.bias"), prefix, i));
#undef AT
    return nn_add(nn, h, n);
}

/* All weights are there in the shapes that the configuration says; layers look them up blindly. */
static int check_shapes(const struct cliptext_config *c, const struct params *w, const char *prefix,
                        const char *file, struct err *err)
{
    static const struct { const char *name; int rows, cols; } rows[] = {
        {"self_attn.q_proj", 0, 0}, {"self_attn.k_proj", 0, 0}, {"self_attn.v_proj", 0, 0},
        {"self_attn.out_proj", 0, 0}, {"mlp.fc1", 1, 0}, {"mlp.fc2", 0, 1},
    };
    int size[2] = {c->width, c->ffn};
    char name[256];
    for (int i = 0; i < c->layers; i++)
        for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
            snprintf(name, sizeof name, "%sencoder.layers.%d.%s.weight", prefix, i, rows[k].name);
            TRY(params_expect(w, name, file, err, 2, size[rows[k].rows], size[rows[k].cols]));
            snprintf(name, sizeof name, "%sencoder.layers.%d.%s.bias", prefix, i, rows[k].name);
            TRY(params_expect(w, name, file, err, 1, size[rows[k].rows]));
        }
    for (int i = 0; i < c->layers * 4; i++) {
        snprintf(name, sizeof name, "%sencoder.layers.%d.layer_norm%d.%s", prefix, i / 4, i % 2 + 1,
                 i / 2 % 2 ? "bias" : "weight");
        TRY(params_expect(w, name, file, err, 1, c->width));
    }
    snprintf(name, sizeof name, "%sembeddings.token_embedding.weight", prefix);
    TRY(params_expect(w, name, file, err, 2, c->vocab, c->width));
    snprintf(name, sizeof name, "%sembeddings.position_embedding.weight", prefix);
    TRY(params_expect(w, name, file, err, 2, c->positions, c->width));
    snprintf(name, sizeof name, "%sfinal_layer_norm.weight", prefix);
    TRY(params_expect(w, name, file, err, 1, c->width));
    snprintf(name, sizeof name, "%sfinal_layer_norm.bias", prefix);
    TRY(params_expect(w, name, file, err, 1, c->width));
    if (params_find(w, "text_projection.weight") != NULL)
        TRY(params_expect(w, "text_projection.weight", file, err, 2, c->projection, c->width));
    return ERR_OK;
}

/* Position of the first end token of each row; an old configuration (eos 2) means the largest id. */
static int32_t *end_positions(struct nn *nn, const struct cliptext_config *c, const int32_t *ids,
                              int64_t b, int64_t l)
{
    int32_t *at = nn_take_zeroed(nn, (size_t)b * sizeof *at);
    for (int64_t i = 0; i < b; i++)
        for (int64_t k = l - 1; k >= 0; k--) {
            int32_t id = ids[i * l + k];
            if (c->eos == 2 ? id >= ids[i * l + at[i]] : id == c->eos)
                at[i] = (int32_t)k;
        }
    return at;
}

static int check_ids(const struct cliptext_config *c, const int32_t *ids, int64_t b, int64_t l,
                     const char *file, struct err *err)
{
    if (l < 1 || l > c->positions)
        return err_set(err, ERR_INVAL, "%s: %lld tokens, the text encoder takes 1 to %d", file,
                       (long long)l, c->positions);
    for (int64_t i = 0; i < b * l; i++)
        if (ids[i] < 0 || ids[i] >= c->vocab)
            return err_set(err, ERR_INVAL, "%s: token %d lies outside the vocabulary of %d", file, ids[i],
                           c->vocab);
    return ERR_OK;
}

int cliptext_forward(struct nn *nn, const struct cliptext_config *c, struct params *w,
                     const char *file, const int32_t *ids, int64_t b, int64_t l,
                     struct cliptext_out *out, struct err *err)
{
    struct params_reader r = {w, nn, file, err, ERR_OK};
    const char *prefix =
        params_find(w, "text_model.final_layer_norm.weight") != NULL ? "text_model." : "";
    TRY(check_ids(c, ids, b, l, file, err));
    TRY(check_shapes(c, w, prefix, file, err));
    int32_t *places = nn_take(nn, (size_t)(b * l) * sizeof *places);
    for (int64_t i = 0; i < b * l; i++)
        places[i] = (int32_t)(i % l);
    const int64_t shape[2] = {b, l};
    struct nn_tensor *h = nn_add(
        nn, nn_embedding(nn, ids, 2, shape, params_get(&r, "%sembeddings.token_embedding.weight", prefix)),
        nn_embedding(nn, places, 2, shape,
                     params_get(&r, "%sembeddings.position_embedding.weight", prefix)));
    for (int i = 0; i < c->layers; i++) {
        out->penultimate = h;
        h = layer(&r, c, prefix, i, h);
    }
    out->hidden = nn_layer_norm(nn, h, params_get(&r, "%sfinal_layer_norm.weight", prefix),
                                params_get(&r, "%sfinal_layer_norm.bias", prefix), c->eps);
    out->pooled = nn_pick(nn, out->hidden, end_positions(nn, c, ids, b, l));
    struct nn_tensor *projection = params_maybe(w, nn, "text_projection.weight");
    out->embeds = projection != NULL ? nn_linear(nn, out->pooled, projection, NULL) : NULL;
    return r.rc;
}
