/* gantask.c - training a GAN: the discriminator's update, then the generator's, in each step.
 * Told:   a frozen text encoder's pooled caption, a class, or nothing (one class).
 * Losses: hinge or non-saturating. D: real + (1 - m) fake + m (real pictures with wrong captions), where
 *         captions tell; G: fakes through the updated D, with `diversity` also the mode-seeking term of
 *         pairs that are told the same.
 * Batch:  pixels u8 (or f32) [n, 3, side, side]; ids, wrong_ids i32 [n, length]; labels i32 [n].
 *         A batch may bring its own draws: z_d, z_g f32 [n, z], labels_d, labels_g i32 [n].
 * Source: Miyato et al. 1802.05957, 1802.05637; wrong captions: Reed et al. 1605.05396. */
#include "proto/philox.h"
#include "proto/split.h"
#include "workers/models/cliptext.h"
#include "workers/models/gan.h"
#include "workers/train/ganbuild.h"
#include "workers/train/traindraw.h"
#include "workers/train/trainer.h"
#include "workers/train/trainfolder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SET_G, SET_D, GROUP_G = 0, GROUP_D = 1 };
/* Draws of a sample: places in its row of random numbers. */
static const uint64_t Z_D_DRAW = 0, Z_G_DRAW = 1 << 20, LABEL_DRAW = 1 << 21;

struct gan {
    struct ganbuild build;
    bool softplus;
    double mismatch, diversity;
    uint64_t seed;
    /* Captions: the frozen encoder. */
    char *text_path;            /* its folder; NULL: classes */
    struct cliptext_config text;
    json_t *text_json;
    struct params text_weights;
    float *pooled[2];           /* of a step's captions and of the wrong ones: [n, pooled] */
    int64_t n_pooled;
    uint8_t *preview;
};

/* --- making one */

static int open_text(struct gan *g, const char *path, struct err *err)
{
    g->text_path = strdup(path);
    if (g->text_path == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a path");
    TRY(trainfolder_read_json(path, "config.json", &g->text_json, err));
    TRY(cliptext_config_read(&g->text, g->text_json, "text_encoder/config.json", err));
    TRY(trainfolder_read_weights(path, "model.safetensors", &g->text_weights, err));
    g->build.pooled = g->text.projection > 0 ? g->text.projection : g->text.width;
    return ERR_OK;
}

static int read_settings(struct gan *g, struct trainconfig *c, struct err *err)
{
    static const char *const archs[] = {"resnet", "dcgan", NULL};
    static const char *const losses[] = {"hinge", "softplus", NULL};
    struct ganbuild *b = &g->build;
    b->dcgan = trainconfig_choice(c, "arch", 0, archs) == 1;
    b->z = (int)trainconfig_int(c, "z", 64, 1, 4096);
    b->side = (int)trainconfig_int(c, "side", 32, 4, 512);
    b->condition = (int)trainconfig_int(c, "condition", 64, 1, 4096);
    b->classes = (int)trainconfig_int(c, "classes", 1, 1, 1 << 20);
    g->softplus = trainconfig_choice(c, "loss", b->dcgan, losses) == 1;
    g->mismatch = trainconfig_real(c, "mismatch", 0.5, 0, 1);
    g->diversity = trainconfig_real(c, "diversity", 0, 0, 1e6);
    g->seed = c->seed;
    const char *text = trainconfig_text(c, "text_encoder", NULL);
    TRY(ganbuild_widths(trainconfig_text(c, "g", b->dcgan ? "128-64-32" : "128-128-64-32"), "g", b->g,
                        &b->n_g, err));
    TRY(ganbuild_widths(trainconfig_text(c, "d", b->dcgan ? "32-64-128" : "32-64-128-128"), "d", b->d,
                        &b->n_d, err));
    if (g->diversity > 0 && (b->dcgan || c->batch % (2 * SPLIT_SEGMENTS) != 0))
        return err_set(err, ERR_INVAL, "diversity compares pairs of pictures in each of the %d parts of a "
                       "resnet's batch: --batch %d, or a multiple of it", SPLIT_SEGMENTS, 2 * SPLIT_SEGMENTS);
    if (text != NULL && b->dcgan)
        return err_set(err, ERR_INVAL, "a dcgan cannot be told anything: no text_encoder with it");
    if (text != NULL)
        TRY(open_text(g, text, err));
    return ganbuild_check(b, err);
}

/* Weights of a folder that training made: those of the same shapes, or none at all. */
static int take_weights(struct params *w, const char *from, const char *part, struct err *err)
{
    struct params read = {0};
    char folder[4096];
    snprintf(folder, sizeof folder, "%s/%s", from, part);
    int rc = trainfolder_read_weights(folder, "model.safetensors", &read, err);
    for (int i = 0; i < w->n && rc == ERR_OK; i++) {
        const struct param *p = params_find(&read, w->p[i].name);
        if (p == NULL || p->n_dims != w->p[i].n_dims ||
            memcmp(p->shape, w->p[i].shape, (size_t)p->n_dims * sizeof *p->shape) != 0)
            rc = err_set(err, ERR_FORMAT, "%.150s: tensor %s is not what g, d, z, condition and side say",
                         folder, w->p[i].name);
        else
            memcpy(w->p[i].data, p->data, (size_t)p->n * sizeof *p->data);
    }
    params_free(&read);
    return rc;
}

static int create(struct train_task *t, struct trainconfig *c, struct err *err)
{
    struct gan *g = t->state = calloc(1, sizeof *g);
    if (g == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a task");
    t->n_sets = t->n_groups = 2;
    t->set[SET_G].prefix = "G.";
    t->set[SET_D].prefix = "D.";
    t->set[SET_D].group = GROUP_D;
    TRY(read_settings(g, c, err));
    struct adam_config adam = {2e-4, 0, 0.9, 1e-8, 0};
    if (g->build.dcgan)
        adam = (struct adam_config){2e-4, 0.5, 0.999, 1e-8, 0};
    t->group[GROUP_G] = (struct train_group){.name = "g", .adam = adam, .ema = 0.999};
    adam.lr = g->build.dcgan ? adam.lr : 4e-4;
    t->group[GROUP_D] = (struct train_group){.name = "d", .adam = adam};
    train_group_read(&t->group[GROUP_G], c, NULL);
    train_group_read(&t->group[GROUP_D], c, "d_");
    for (int i = 0; i < 2; i++) {       /* `steps` is read for both, but the rates stay where they are */
        struct train_group *group = &t->group[i];
        group->floor = group->floor > 0 ? group->floor : group->adam.lr;
    }
    TRY(ganbuild_generator(&g->build, &t->set[SET_G].params, g->seed, err));
    TRY(ganbuild_discriminator(&g->build, &t->set[SET_D].params, g->seed, err));
    if (c->from == NULL)
        return ERR_OK;
    TRY(take_weights(&t->set[SET_G].params, c->from, "generator", err));
    return take_weights(&t->set[SET_D].params, c->from, "discriminator", err);
}

static void destroy(struct train_task *t)
{
    struct gan *g = t->state;
    if (g == NULL)
        return;
    params_free(&g->text_weights);
    json_decref(g->text_json);
    for (int i = 0; i < 2; i++)
        free(g->pooled[i]);
    free(g->text_path);
    free(g->preview);
    free(g);
    t->state = NULL;
}

/* --- what a batch says */

/* ids [n, length] through the frozen encoder, into g->pooled[which]: they outlive the pass. */
static int encode(struct gan *g, struct nn *nn, const struct train_batch *b, const char *name, int which,
                  struct err *err)
{
    const struct train_tensor *ids = train_batch_find(b, name, WIRE_I32, 2, err);
    struct cliptext_out out;
    if (ids == NULL)
        return err_set(err, ERR_PEER, "a batch without %s", name);
    params_begin(&g->text_weights);
    TRY(cliptext_forward(nn, &g->text, &g->text_weights, "text_encoder", ids->data, b->n, ids->shape[1], &out,
                         err));
    struct nn_tensor *pooled = out.embeds != NULL ? out.embeds : out.pooled;
    memcpy(g->pooled[which], pooled->data, (size_t)pooled->n * sizeof *pooled->data);
    return ERR_OK;
}

static int encode_captions(struct gan *g, struct nn *nn, const struct train_batch *b, bool wrong,
                           struct err *err)
{
    if (g->text_path == NULL)
        return ERR_OK;
    if (g->n_pooled < b->n) {
        g->n_pooled = 0;
        for (int i = 0; i < 2; i++) {
            free(g->pooled[i]);
            g->pooled[i] = malloc((size_t)b->n * (size_t)g->build.pooled * sizeof **g->pooled);
            if (g->pooled[i] == NULL)
                return err_set(err, ERR_NOMEM, "no memory for %d captions", b->n);
        }
        g->n_pooled = b->n;
    }
    TRY(encode(g, nn, b, "ids", 0, err));
    return wrong ? encode(g, nn, b, "wrong_ids", 1, err) : ERR_OK;
}

/* Labels of a batch, by name; else drawn by sample from draw `place` on. */
static const int32_t *labels_of(const struct gan *g, struct nn *nn, const struct train_batch *b,
                                const char *name, uint64_t place)
{
    const struct train_tensor *t = train_batch_find(b, name, WIRE_I32, 1, NULL);
    if (t != NULL)
        return t->data;
    int32_t *labels = nn_take(nn, (size_t)b->n * sizeof *labels);
    for (int i = 0; i < b->n; i++)
        labels[i] = (int32_t)(traindraw_uniform(g->seed, b->sample[i], place) * g->build.classes);
    return labels;
}

/* What pictures are to show: captions number `which` (0 right, 1 wrong), or labels. */
static struct gan_condition condition(const struct gan *g, struct nn *nn, const struct train_batch *b,
                                      int which, const char *labels, uint64_t place)
{
    const int64_t shape[2] = {b->n, g->build.pooled};
    if (g->text_path != NULL)
        return (struct gan_condition){NULL, nn_input(nn, g->pooled[which], 2, shape)};
    return (struct gan_condition){labels_of(g, nn, b, labels, place), NULL};
}

/* y with every second sample told what the one before it is. */
static struct gan_condition condition_of_pairs(struct nn *nn, const struct gan_condition *y, int n)
{
    struct gan_condition out = {NULL, NULL};
    int32_t *labels = y->labels != NULL ? nn_take(nn, (size_t)n * sizeof *labels) : NULL;
    for (int i = 0; labels != NULL && i < n; i++)
        labels[i] = y->labels[i & ~1];
    out.labels = labels;
    if (y->caption == NULL)
        return out;
    out.caption = nn_new(nn, y->caption->n_dims, y->caption->shape);
    int64_t row = nn_row(y->caption);
    for (int i = 0; i < n; i++)
        memcpy(out.caption->data + i * row, y->caption->data + (i & ~1) * row, (size_t)row * sizeof(float));
    return out;
}

static struct nn_tensor *latent(const struct gan *g, struct nn *nn, const struct train_batch *b,
                                const char *name, uint64_t place)
{
    const struct train_tensor *t = train_batch_find(b, name, WIRE_F32, 2, NULL);
    const int64_t flat[2] = {b->n, g->build.z}, deep[4] = {b->n, g->build.z, 1, 1};
    struct nn_tensor *z = nn_new(nn, g->build.dcgan ? 4 : 2, g->build.dcgan ? deep : flat);
    if (t != NULL && t->shape[1] == g->build.z)
        memcpy(z->data, t->data, (size_t)z->n * sizeof *z->data);
    for (int i = 0; t == NULL && i < b->n; i++)
        traindraw_normal(g->seed, b->sample[i], place, z->data + (int64_t)i * g->build.z,
                         g->build.z);
    return z;
}

static int real_pictures(const struct gan *g, struct nn *nn, const struct train_batch *b,
                         struct nn_tensor **x, struct err *err)
{
    const struct train_tensor *bytes = train_batch_find(b, "pixels", WIRE_U8, 4, NULL);
    const struct train_tensor *floats = train_batch_find(b, "pixels", WIRE_F32, 4, NULL);
    const struct train_tensor *t = bytes != NULL ? bytes : floats;
    int side = g->build.side;
    if (t == NULL || t->shape[1] != 3 || t->shape[2] != side || t->shape[3] != side)
        return err_set(err, ERR_PEER, "a batch without pictures of %d x %d", side, side);
    *x = nn_new(nn, 4, t->shape);
    for (int64_t i = 0; i < (*x)->n; i++)
        (*x)->data[i] = bytes != NULL ? (float)((const uint8_t *)t->data)[i] / 127.5f - 1
                                      : ((const float *)t->data)[i];
    return ERR_OK;
}

/* --- a step */

struct pass {
    struct gan *g;
    struct train_task *t;
    struct trainer *tr;
    const struct train_batch *b;
    struct train_metrics *out;
    struct err *err;
};

static int generate(const struct pass *p, struct nn_tensor *z, const struct gan_condition *y,
                    struct nn_tensor **image)
{
    struct gan_net net = {&p->tr->nn, &p->t->set[SET_G].params, "the generator", !p->b->evaluate};
    return p->g->build.dcgan ? dcgan_generator(&net, z, image, p->err)
                             : resgan_generator(&net, z, y, image, p->err);
}

static int judge(const struct pass *p, struct nn_tensor *x, const struct gan_condition *y,
                 const struct gan_condition *wrong, struct nn_tensor **logit, struct nn_tensor **on_wrong)
{
    struct gan_net net = {&p->tr->nn, &p->t->set[SET_D].params, "the discriminator", !p->b->evaluate};
    return p->g->build.dcgan ? dcgan_discriminator(&net, x, logit, p->err)
                             : resgan_discriminator(&net, x, y, wrong, logit, on_wrong, p->err);
}

static struct nn_tensor *side_loss(const struct pass *p, struct nn_tensor *logit, bool real)
{
    struct nn *nn = &p->tr->nn;
    return p->g->softplus ? nn_softplus_side(nn, logit, real) : nn_hinge_side(nn, logit, real);
}

/* Share of logits [n, ..] on the right side of zero, over all ranks. */
static double right_share(const struct pass *p, const struct nn_tensor *logit, bool real)
{
    struct nn *nn = &p->tr->nn;
    struct nn_tensor *right = nn_new(nn, logit->n_dims, logit->shape);
    for (int64_t i = 0; i < logit->n; i++)
        right->data[i] = (logit->data[i] > 0) == real;
    return nn_mean(nn, right, (1u << logit->n_dims) - 1)->data[0];
}

static int learn_d(const struct pass *p, struct nn_tensor *fake, const struct gan_condition *fake_y)
{
    struct gan *g = p->g;
    struct nn *nn = &p->tr->nn;
    bool wrong = g->text_path != NULL && g->mismatch > 0;
    struct gan_condition real_y = condition(g, nn, p->b, 0, "labels", LABEL_DRAW);
    struct gan_condition wrong_y = {NULL, NULL};
    struct nn_tensor *real = NULL, *on_real, *on_fake, *on_wrong = NULL;
    if (wrong)
        wrong_y = condition(g, nn, p->b, 1, "labels", LABEL_DRAW);
    TRY(real_pictures(g, nn, p->b, &real, p->err));
    TRY(judge(p, real, &real_y, wrong ? &wrong_y : NULL, &on_real, &on_wrong));
    TRY(judge(p, fake, fake_y, NULL, &on_fake, NULL));
    struct nn_tensor *loss = side_loss(p, on_fake, false);
    if (wrong)
        loss = nn_mix(nn, loss, 1 - g->mismatch, side_loss(p, on_wrong, false), g->mismatch);
    loss = nn_mix(nn, side_loss(p, on_real, true), 1, loss, 1);
    train_metric(p->out, "loss", loss->data[0]);
    train_metric(p->out, "d_real", right_share(p, on_real, true));
    train_metric(p->out, "d_fake", right_share(p, on_fake, false));
    if (p->b->evaluate)
        return ERR_OK;
    nn_backward(nn, loss, 1);
    return trainer_update(p->tr, GROUP_D, loss->data[0], p->out, p->err);
}

/* z [n, ..]: the fakes' latents, whose pairs are to differ; NULL: nobody asks for that. */
static int learn_g(const struct pass *p, struct nn_tensor *fake, const struct gan_condition *y,
                   const struct nn_tensor *z)
{
    struct nn *nn = &p->tr->nn;
    struct nn_tensor *on_fake;
    TRY(judge(p, fake, y, NULL, &on_fake, NULL));
    struct nn_tensor *loss = p->g->softplus ? nn_softplus_g(nn, on_fake) : nn_hinge_g(nn, on_fake);
    train_metric(p->out, "loss_g", loss->data[0]);
    if (z != NULL) {
        struct nn_tensor *alike = nn_mode_seeking(nn, fake, z);
        train_metric(p->out, "spread", 1 / alike->data[0]);
        loss = nn_mix(nn, loss, 1, alike, p->g->diversity);
    }
    if (p->b->evaluate)
        return ERR_OK;
    nn_backward(nn, loss, 1);
    return trainer_update(p->tr, GROUP_G, loss->data[0], p->out, p->err);
}

static void who_learns(const struct pass *p, bool g, bool d)
{
    p->t->set[SET_G].params.train = g && !p->b->evaluate;
    p->t->set[SET_D].params.train = d && !p->b->evaluate;
}

/* Fakes of their own for each network. */
static int step_resnet(const struct pass *p)
{
    struct nn *nn = &p->tr->nn;
    struct nn_tensor *fake;
    who_learns(p, false, true);
    struct gan_condition y = condition(p->g, nn, p->b, 0, "labels_d", LABEL_DRAW + 1);
    TRY(generate(p, latent(p->g, nn, p->b, "z_d", Z_D_DRAW), &y, &fake));
    TRY(learn_d(p, fake, &y));
    if (!p->b->evaluate)
        trainer_pass(p->tr);
    who_learns(p, true, false);
    y = condition(p->g, nn, p->b, 0, "labels_g", LABEL_DRAW + 2);
    struct nn_tensor *z = latent(p->g, nn, p->b, "z_g", Z_G_DRAW);
    if (p->g->diversity > 0)
        y = condition_of_pairs(nn, &y, p->b->n);
    TRY(generate(p, z, &y, &fake));
    return learn_g(p, fake, &y, p->g->diversity > 0 ? z : NULL);
}

/* One forward of the generator serves both: its part of the tape waits while D learns from a view that
 * wants no gradient. */
static int step_dcgan(const struct pass *p)
{
    struct nn *nn = &p->tr->nn;
    struct nn_tensor *fake;
    who_learns(p, true, true);
    TRY(generate(p, latent(p->g, nn, p->b, "z_d", Z_D_DRAW), NULL, &fake));
    struct nn_node *tape = nn->last;
    TRY(learn_d(p, nn_input(nn, fake->data, fake->n_dims, fake->shape), NULL));
    nn->last = tape;
    params_begin(&p->t->set[SET_D].params);
    who_learns(p, true, false);
    return learn_g(p, fake, NULL, NULL);
}

static int step(struct train_task *t, struct trainer *tr, const struct train_batch *b,
                struct train_metrics *out, struct err *err)
{
    struct gan *g = t->state;
    struct pass p = {g, t, tr, b, out, err};
    TRY(encode_captions(g, &tr->nn, b, g->mismatch > 0, err));
    return g->build.dcgan ? step_dcgan(&p) : step_resnet(&p);
}

/* --- previews */

static int sample(struct train_task *t, struct trainer *tr, const struct train_weights *w,
                  const struct train_batch *b, struct train_tensor *out, struct err *err)
{
    struct gan *g = t->state;
    struct nn *nn = &tr->nn;
    struct gan_net net = {nn, w->set[SET_G], "the generator", false};
    struct nn_tensor *image;
    params_begin(w->set[SET_G]);
    TRY(encode_captions(g, nn, b, false, err));
    struct gan_condition y = condition(g, nn, b, 0, "labels", LABEL_DRAW);
    struct nn_tensor *z = latent(g, nn, b, "z_d", Z_D_DRAW);
    TRY(g->build.dcgan ? dcgan_generator(&net, z, &image, err) : resgan_generator(&net, z, &y, &image, err));
    free(g->preview);
    g->preview = malloc((size_t)image->n);
    if (g->preview == NULL)
        return err_set(err, ERR_NOMEM, "no memory for previews");
    for (int64_t i = 0; i < image->n; i++) {
        float v = (image->data[i] + 1) * 127.5f + 0.5f;
        g->preview[i] = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
    }
    *out = (struct train_tensor){"pictures", WIRE_U8, 4, {b->n, 3, g->build.side, g->build.side}, g->preview};
    return ERR_OK;
}

/* --- the folder */

static json_t *generator_json(const struct gan *g)
{
    const struct ganbuild *b = &g->build;
    json_t *j = json_pack("{s:s, s:i, s:i}", "_class_name", b->dcgan ? "DCGANGenerator" : "ResidualGenerator",
                          "latent", b->z, "side", b->side);
    if (j != NULL && !b->dcgan)
        json_object_set_new(j, g->text_path != NULL ? "pooled_width" : "classes",
                            json_integer(g->text_path != NULL ? b->pooled : b->classes));
    return j;
}

static json_t *index_json(const struct gan *g)
{
    json_t *j = json_pack("{s:s, s:[ss]}", "_class_name", "MusterGAN", "generator", "muster",
                          g->build.dcgan ? "DCGANGenerator" : "ResidualGenerator");
    if (j != NULL && g->text_path != NULL) {
        const char *class = g->text.projection > 0 ? "CLIPTextModelWithProjection" : "CLIPTextModel";
        json_object_set_new(j, "text_encoder", json_pack("[ss]", "transformers", class));
        json_object_set_new(j, "tokenizer", json_pack("[ss]", "transformers", "CLIPTokenizer"));
    }
    return j;
}

static int save_json(const char *dir, const char *name, json_t *json, struct err *err)
{
    int rc = json == NULL ? err_set(err, ERR_NOMEM, "no memory for %s", name)
                          : trainfolder_json(dir, name, json, err);
    json_decref(json);
    return rc;
}

static int save(struct train_task *t, const struct train_weights *w, const char *dir, enum dtype type,
                struct err *err)
{
    const struct gan *g = t->state;
    TRY(trainfolder_make(dir, "generator", err));
    TRY(save_json(dir, "generator/config.json", generator_json(g), err));
    TRY(save_json(dir, "model_index.json", index_json(g), err));
    TRY(trainfolder_weights(dir, "generator/model.safetensors", w->set[SET_G], type, NULL, err));
    if (g->text_path == NULL)
        return ERR_OK;
    TRY(trainfolder_make(dir, "text_encoder", err));
    TRY(trainfolder_json(dir, "text_encoder/config.json", g->text_json, err));
    return trainfolder_weights(dir, "text_encoder/model.safetensors", &g->text_weights, type, NULL, err);
}

const struct train_task_row train_task_gan = {
    .name = "gan", .create = create, .step = step, .sample = sample, .save = save, .destroy = destroy};
