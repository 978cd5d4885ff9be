/* diffusioninit.c - first weights of a denoiser and its text encoder.
 * Source: Peebles & Xie 2212.09748: Xavier-uniform linears, zero biases, times through a normal of 0.02,
 *         modulations and the last layer at zero, so that each block begins as the identity; the text
 *         encoder as Radford et al. 2103.00020. */
#include "workers/train/diffusiontask.h"

#include "workers/train/traindraw.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum init { INIT_ZERO, INIT_ONE, INIT_XAVIER, INIT_NORMAL };
enum { TIME_WIDTH = 256, NAME_BYTES = 160 };

/* Adds tensors in order; the first failure stays. tensor counts them: each draws numbers of its own. */
struct maker { struct params *set; uint64_t seed; uint32_t tensor; struct err *err; int rc; };

static struct param *add(struct maker *m, const char *name, int n_dims, const int64_t *shape)
{
    struct param *p = m->rc == ERR_OK ? params_add(m->set, name, n_dims, shape) : NULL;
    if (p == NULL && m->rc == ERR_OK)
        m->rc = err_set(m->err, ERR_NOMEM, "no memory for tensor %s", name);
    m->tensor++;
    return p;
}

static void fill(struct maker *m, struct param *p, enum init init, double value)
{
    if (p == NULL)
        return;
    if (init == INIT_NORMAL)
        traindraw_weights_normal(m->seed, m->tensor, value, p->data, p->n);
    if (init == INIT_XAVIER)
        traindraw_weights_uniform(m->seed, m->tensor, sqrt(6 / value), p->data, p->n);
    for (int64_t i = 0; init == INIT_ONE && i < p->n; i++)
        p->data[i] = 1;
}

static void vector(struct maker *m, const char *name, int n, enum init init)
{
    fill(m, add(m, name, 1, (const int64_t[]){n}), init, 0);
}

static void matrix(struct maker *m, const char *name, int rows, int cols, enum init init, double value)
{
    fill(m, add(m, name, 2, (const int64_t[]){rows, cols}), init, init == INIT_XAVIER ? rows + cols : value);
}

/* NAME.weight and NAME.bias (zeros). */
static void linear(struct maker *m, int out, int in, enum init init, double value, const char *fmt, ...)
    __attribute__((format(printf, 6, 7)));
static void linear(struct maker *m, int out, int in, enum init init, double value, const char *fmt, ...)
{
    char stem[NAME_BYTES], name[NAME_BYTES + 8];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(stem, sizeof stem, fmt, ap);
    va_end(ap);
    snprintf(name, sizeof name, "%s.weight", stem);
    matrix(m, name, out, in, init, value);
    snprintf(name, sizeof name, "%s.bias", stem);
    vector(m, name, out, INIT_ZERO);
}

static void ones(struct maker *m, int n, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void ones(struct maker *m, int n, const char *fmt, ...)
{
    char name[NAME_BYTES];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    vector(m, name, n, INIT_ONE);
}

/* The patch convolution, drawn as the linear layer that it is. */
static void patches(struct maker *m, int d, int channels, int patch)
{
    struct param *p = add(m, "pos_embed.proj.weight", 4, (const int64_t[]){d, channels, patch, patch});
    fill(m, p, INIT_XAVIER, d + channels * patch * patch);
    vector(m, "pos_embed.proj.bias", d, INIT_ZERO);
}

/* --- two streams */

static void mmdit_block(struct maker *m, const struct mmdit_config *c, int i)
{
    static const char *const both[6] = {"to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj"};
    static const char *const norms[4] = {"norm_q", "norm_k", "norm_added_q", "norm_added_k"};
    bool last = i == c->layers - 1;
    int d = c->caption;
#define AT "transformer_blocks.%d."
    linear(m, 6 * d, d, INIT_ZERO, 0, AT "norm1.linear", i);
    linear(m, (last ? 2 : 6) * d, d, INIT_ZERO, 0, AT "norm1_context.linear", i);
    for (int k = 0; k < 6; k++)
        linear(m, d, d, INIT_XAVIER, 0, AT "attn.%s", i, both[k]);
    linear(m, d, d, INIT_XAVIER, 0, AT "attn.to_out.0", i);
    for (int k = 0; k < 4 && c->qk_norm; k++)
        ones(m, c->head_dim, AT "attn.%s.weight", i, norms[k]);
    linear(m, 4 * d, d, INIT_XAVIER, 0, AT "ff.net.0.proj", i);
    linear(m, d, 4 * d, INIT_XAVIER, 0, AT "ff.net.2", i);
    if (last)
        return;
    linear(m, d, d, INIT_XAVIER, 0, AT "attn.to_add_out", i);
    linear(m, 4 * d, d, INIT_XAVIER, 0, AT "ff_context.net.0.proj", i);
    linear(m, d, 4 * d, INIT_XAVIER, 0, AT "ff_context.net.2", i);
}

static void make_mmdit(struct maker *m, const struct mmdit_config *c)
{
    int d = c->caption, side = c->positions;
    double scale = (double)c->sample / c->patch / side;
    patches(m, d, c->in_channels, c->patch);
    struct param *p = add(m, "pos_embed.pos_embed", 3, (const int64_t[]){1, (int64_t)side * side, d});
    if (p != NULL) {
        nn_pos_embed_2d(p->data, d, side, side, scale, scale);
        p->frozen = true;
    }
    linear(m, d, TIME_WIDTH, INIT_NORMAL, 0.02, "time_text_embed.timestep_embedder.linear_1");
    linear(m, d, d, INIT_NORMAL, 0.02, "time_text_embed.timestep_embedder.linear_2");
    linear(m, d, c->pooled, INIT_XAVIER, 0, "time_text_embed.text_embedder.linear_1");
    linear(m, d, d, INIT_XAVIER, 0, "time_text_embed.text_embedder.linear_2");
    linear(m, d, c->joint, INIT_XAVIER, 0, "context_embedder");
    for (int i = 0; i < c->layers; i++)
        mmdit_block(m, c, i);
    linear(m, 2 * d, d, INIT_ZERO, 0, "norm_out.linear");
    linear(m, c->patch * c->patch * c->out_channels, d, INIT_ZERO, 0, "proj_out");
}

/* --- one stream, cross-attention */

static void pixart_block(struct maker *m, const struct pixart_config *c, int i)
{
    static const char *const projections[3] = {"to_q", "to_k", "to_v"};
    int d = c->heads * c->head_dim;
    char name[NAME_BYTES];
    snprintf(name, sizeof name, AT "scale_shift_table", i);
    matrix(m, name, 6, d, INIT_NORMAL, 1 / sqrt(d));
    for (int a = 1; a <= 2; a++) {
        for (int k = 0; k < 3; k++)
            linear(m, d, d, INIT_XAVIER, 0, AT "attn%d.%s", i, a, projections[k]);
        linear(m, d, d, a == 2 ? INIT_ZERO : INIT_XAVIER, 0, AT "attn%d.to_out.0", i, a);
    }
    linear(m, 4 * d, d, INIT_XAVIER, 0, AT "ff.net.0.proj", i);
    linear(m, d, 4 * d, INIT_XAVIER, 0, AT "ff.net.2", i);
#undef AT
}

static void make_pixart(struct maker *m, const struct pixart_config *c)
{
    int d = c->heads * c->head_dim;
    patches(m, d, c->in_channels, c->patch);
    linear(m, d, TIME_WIDTH, INIT_NORMAL, 0.02, "adaln_single.emb.timestep_embedder.linear_1");
    linear(m, d, d, INIT_NORMAL, 0.02, "adaln_single.emb.timestep_embedder.linear_2");
    linear(m, 6 * d, d, INIT_NORMAL, 0.02, "adaln_single.linear");
    linear(m, d, c->caption, INIT_NORMAL, 0.02, "caption_projection.linear_1");
    linear(m, d, d, INIT_NORMAL, 0.02, "caption_projection.linear_2");
    for (int i = 0; i < c->layers; i++)
        pixart_block(m, c, i);
    matrix(m, "scale_shift_table", 2, d, INIT_NORMAL, 1 / sqrt(d));
    linear(m, c->patch * c->patch * c->out_channels, d, INIT_ZERO, 0, "proj_out");
}

/* --- text */

static void text_norm(struct maker *m, int width, const char *stem)
{
    ones(m, width, "%s.weight", stem);
    char name[NAME_BYTES + 8];
    snprintf(name, sizeof name, "%s.bias", stem);
    vector(m, name, width, INIT_ZERO);
}

static void make_text(struct maker *m, const struct cliptext_config *c, bool projection)
{
    static const char *const projections[3] = {"q_proj", "k_proj", "v_proj"};
    double in = 1 / sqrt(c->width), deep = in / sqrt(2 * c->layers);
    matrix(m, "text_model.embeddings.token_embedding.weight", c->vocab, c->width, INIT_NORMAL, 0.02);
    matrix(m, "text_model.embeddings.position_embedding.weight", c->positions, c->width, INIT_NORMAL, 0.02);
    for (int i = 0; i < c->layers; i++) {
        char stem[NAME_BYTES];
#define AT "text_model.encoder.layers.%d."
        for (int k = 0; k < 3; k++)
            linear(m, c->width, c->width, INIT_NORMAL, deep, AT "self_attn.%s", i, projections[k]);
        linear(m, c->width, c->width, INIT_NORMAL, in, AT "self_attn.out_proj", i);
        linear(m, c->ffn, c->width, INIT_NORMAL, 1 / sqrt(2 * c->width), AT "mlp.fc1", i);
        linear(m, c->width, c->ffn, INIT_NORMAL, deep, AT "mlp.fc2", i);
        for (int k = 1; k <= 2; k++) {
            snprintf(stem, sizeof stem, AT "layer_norm%d", i, k);
            text_norm(m, c->width, stem);
        }
#undef AT
    }
    text_norm(m, c->width, "text_model.final_layer_norm");
    if (projection)
        matrix(m, "text_projection.weight", c->projection, c->width, INIT_NORMAL, in);
}

int diffusion_new_weights(struct diffusion *d, struct train_task *t, struct err *err)
{
    struct maker m = {.set = &t->set[DIFFUSION_DENOISER].params, .seed = d->seed, .err = err};
    if (d->layout == LAYOUT_MMDIT)
        make_mmdit(&m, &d->mmdit);
    else
        make_pixart(&m, &d->pixart);
    m.set = &t->set[DIFFUSION_TEXT].params;
    make_text(&m, &d->text, d->layout == LAYOUT_MMDIT);
    return m.rc;
}

/* --- configurations */

static json_t *text_config(struct trainconfig *c, bool projection, int *width)
{
    *width = (int)trainconfig_int(c, "text_width", 96, 8, 4096);
    int layers = (int)trainconfig_int(c, "text_layers", 2, 1, 64);
    int heads = (int)trainconfig_int(c, "text_heads", 4, 1, 64);
    int vocab = (int)trainconfig_int(c, "vocab", 1024, 4, 1 << 20);
    int length = (int)trainconfig_int(c, "length", 24, 3, 512);
    int eos = (int)trainconfig_int(c, "eos", vocab - 1, 0, vocab - 1);
    int bos = (int)trainconfig_int(c, "bos", vocab - 2, 0, vocab - 1);
    int pad = (int)trainconfig_int(c, "pad", eos, 0, vocab - 1);
    json_t *j = json_pack("{s:[s], s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:s, s:s}",
        "architectures", projection ? "CLIPTextModelWithProjection" : "CLIPTextModel",
        "model_type", "clip_text_model", "hidden_size", *width, "intermediate_size", 4 * *width,
        "num_hidden_layers", layers, "num_attention_heads", heads, "vocab_size", vocab,
        "max_position_embeddings", length, "projection_dim", *width, "eos_token_id", eos, "bos_token_id",
        bos, "pad_token_id", pad, "hidden_act", "quick_gelu", "dtype", "float32");
    if (j != NULL)
        json_object_set_new(j, "layer_norm_eps", json_real(1e-5));
    return j;
}

static json_t *mmdit_json(int channels, int side, int patch, int layers, int heads, int width, int text)
{
    return json_pack("{s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:s, s:[]}",
        "_class_name", "SD3Transformer2DModel", "in_channels", channels, "out_channels", 3, "patch_size",
        patch, "sample_size", side, "num_layers", layers, "num_attention_heads", heads,
        "attention_head_dim", width / heads, "joint_attention_dim", text, "caption_projection_dim", width,
        "pooled_projection_dim", text, "pos_embed_max_size", side / patch, "qk_norm", "rms_norm",
        "dual_attention_layers");
}

static json_t *pixart_json(int channels, int side, int patch, int layers, int heads, int width, int text)
{
    json_t *j = json_pack("{s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:s, s:b, s:s, s:i, s:b}",
        "_class_name", "PixArtTransformer2DModel", "in_channels", channels, "out_channels", 3,
        "patch_size", patch, "sample_size", side, "num_layers", layers, "num_attention_heads", heads,
        "attention_head_dim", width / heads, "caption_channels", text, "cross_attention_dim", width,
        "norm_type", "ada_norm_single", "attention_bias", 1, "activation_fn", "gelu-approximate",
        "num_embeds_ada_norm", DIFFUSION_TIMES, "norm_elementwise_affine", 0);
    if (j != NULL) {
        json_object_set_new(j, "norm_eps", json_real(1e-6));
        json_object_set_new(j, "use_additional_conditions", json_false());
    }
    return j;
}

int diffusion_new_configs(struct diffusion *d, struct trainconfig *c, struct err *err)
{
    int text, channels = d->super ? 6 : 3;
    int side = (int)trainconfig_int(c, "side", d->super ? 64 : 32, 4, 1024);
    int patch = (int)trainconfig_int(c, "patch", d->super ? 8 : 4, 1, 64);
    int layers = (int)trainconfig_int(c, "layers", 4, 1, MMDIT_LAYERS_MAX);
    int heads = (int)trainconfig_int(c, "heads", 4, 1, 256);
    int width = (int)trainconfig_int(c, "width", 128, 8, 1 << 14);
    if (side % patch != 0 || width % heads != 0 || width % 4 != 0)
        return err_set(err, ERR_INVAL, "side %d must be whole patches of %d, width %d a multiple of 4 and "
                       "of %d heads", side, patch, width, heads);
    d->text_json = text_config(c, d->layout == LAYOUT_MMDIT, &text);
    d->denoiser_json = d->layout == LAYOUT_MMDIT
                           ? mmdit_json(channels, side, patch, layers, heads, width, text)
                           : pixart_json(channels, side, patch, layers, heads, width, text);
    if (d->text_json == NULL || d->denoiser_json == NULL)
        return err_set(err, ERR_NOMEM, "no memory for configurations");
    return ERR_OK;
}
