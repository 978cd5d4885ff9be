#include "workers/diffusion/enlarge.h"
#include "workers/train/diffusiontask.h"

#include "workers/train/traindraw.h"
#include "workers/train/trainer.h"
#include "workers/train/trainfolder.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Draws of a sample: noise from 0 on; its time here. */
static const uint64_t TIME_DRAW = 1u << 27;

/* --- making one */

static void read_settings(struct diffusion *d, struct trainconfig *c)
{
    static const char *const layouts[] = {"mmdit", "pixart", NULL};
    static const char *const objectives[] = {"flow", "epsilon", "v", NULL};
    static const char *const schedules[] = {"linear", "scaled_linear", "cosine", NULL};
    static const char *const times[] = {"uniform", "normal", NULL};
    d->layout = (enum diffusion_layout)trainconfig_choice(c, "layout", LAYOUT_MMDIT, layouts);
    d->objective = (enum diffusion_objective)trainconfig_choice(c, "objective", OBJECTIVE_FLOW, objectives);
    d->schedule = (enum beta_kind)trainconfig_choice(c, "schedule", BETA_COSINE, schedules);
    d->times = (enum diffusion_times)trainconfig_choice(c, "times", TIMES_NORMAL, times);
    d->shift = trainconfig_real(c, "shift", 3, 0.01, 100);
    d->super = trainconfig_flag(c, "super", false);
    double gain = trainconfig_real(c, "residual", 4, 0, 1000);
    d->residual = d->super ? gain : 0;
    d->preview_steps = (int)trainconfig_int(c, "preview_steps", 20, 1, 1000);
    d->guidance = trainconfig_real(c, "guidance", 3, 0, 100);
    d->words = json_incref((json_t *)(uintptr_t)trainconfig_texts(c, "words"));
    d->seed = c->seed;
}

static int read_networks(struct diffusion *d, struct err *err)
{
    const char *class = json_string_value(json_object_get(d->denoiser_json, "_class_name"));
    bool pixart = class != NULL && strcmp(class, "PixArtTransformer2DModel") == 0;
    if (!pixart && (class == NULL || strcmp(class, "SD3Transformer2DModel") != 0))
        return err_set(err, ERR_FORMAT, "transformer/config.json: _class_name %.60s: SD3Transformer2DModel "
                       "and PixArtTransformer2DModel can be trained", class != NULL ? class : "is missing");
    d->layout = pixart ? LAYOUT_PIXART : LAYOUT_MMDIT;
    TRY(cliptext_config_read(&d->text, d->text_json, "text_encoder/config.json", err));
    if (pixart)
        return pixart_config_read(&d->pixart, d->denoiser_json, "transformer/config.json", err);
    return mmdit_config_read(&d->mmdit, d->denoiser_json, "transformer/config.json", err);
}

/* Networks of a folder, to go on from; with more layers, if c says so. */
static int open_folder(struct diffusion *d, struct train_task *t, struct trainconfig *c, struct err *err)
{
    char transformer[4096], text[4096];
    snprintf(transformer, sizeof transformer, "%s/transformer", c->from);
    snprintf(text, sizeof text, "%s/text_encoder", c->from);
    TRY(trainfolder_read_json(transformer, "config.json", &d->denoiser_json, err));
    TRY(trainfolder_read_json(text, "config.json", &d->text_json, err));
    TRY(read_networks(d, err));
    TRY(trainfolder_read_weights(transformer, "diffusion_pytorch_model.safetensors",
                                 &t->set[DIFFUSION_DENOISER].params, err));
    TRY(trainfolder_read_weights(text, "model.safetensors", &t->set[DIFFUSION_TEXT].params, err));
    struct param *positions = params_find(&t->set[DIFFUSION_DENOISER].params, "pos_embed.pos_embed");
    if (positions != NULL)
        positions->frozen = true;
    int layers = d->layout == LAYOUT_MMDIT ? d->mmdit.layers : d->pixart.layers;
    return diffusion_grow(d, t, (int)trainconfig_int(c, "layers", layers, 1, MMDIT_LAYERS_MAX), err);
}

static int make_networks(struct diffusion *d, struct train_task *t, struct trainconfig *c, struct err *err)
{
    if (c->from != NULL)
        TRY(open_folder(d, t, c, err));
    else {
        TRY(diffusion_new_configs(d, c, err));
        TRY(read_networks(d, err));
        TRY(diffusion_new_weights(d, t, err));
    }
    d->length = (int)trainconfig_int(c, "length", d->text.positions, 3, d->text.positions);
    const struct params *w = &t->set[DIFFUSION_DENOISER].params;
    return d->layout == LAYOUT_MMDIT ? mmdit_check(&d->mmdit, w, "transformer", err)
                                     : pixart_check(&d->pixart, w, "transformer", err);
}

static int create(struct train_task *t, struct trainconfig *c, struct err *err)
{
    struct diffusion *d = t->state = calloc(1, sizeof *d);
    if (d == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a task");
    t->n_sets = 2;
    t->set[DIFFUSION_DENOISER].prefix = "transformer.";
    t->set[DIFFUSION_TEXT].prefix = "text_encoder.";
    t->n_groups = 1;
    t->group[0] = (struct train_group){.name = "model", .adam = {1e-3, 0.9, 0.999, 1e-8, 0.01},
                                       .clip = 1, .ema = 0.999, .warmup = 200};
    train_group_read(&t->group[0], c, NULL);
    read_settings(d, c);
    TRY(make_networks(d, t, c, err));
    static const double starts[] = {[BETA_LINEAR] = 1e-4, [BETA_SCALED_LINEAR] = 0.00085, [BETA_COSINE] = 0};
    static const double ends[] = {[BETA_LINEAR] = 0.02, [BETA_SCALED_LINEAR] = 0.012, [BETA_COSINE] = 0};
    return noise_table_init(&d->table, d->schedule, starts[d->schedule], ends[d->schedule],
                            DIFFUSION_TIMES, false, err);
}

static void destroy(struct train_task *t)
{
    struct diffusion *d = t->state;
    if (d == NULL)
        return;
    json_decref(d->denoiser_json);
    json_decref(d->text_json);
    noise_table_free(&d->table);
    json_decref(d->words);
    free(d->preview);
    free(d);
    t->state = NULL;
}

/* --- forward */

static const uint8_t *caption_mask(const struct diffusion *d, struct nn *nn, const int32_t *ids, int64_t n)
{
    uint8_t *mask = nn_take(nn, (size_t)(n * d->length));
    for (int64_t i = 0; i < n; i++)
        for (int k = 0, keep = 1; k < d->length; k++) {
            mask[i * d->length + k] = (uint8_t)keep;
            keep = keep && ids[i * d->length + k] != d->text.eos;
        }
    return mask;
}

int diffusion_forward(struct diffusion *d, struct nn *nn, const struct train_weights *w,
                      struct nn_tensor *x, const double *time, const int32_t *ids, struct nn_tensor **out,
                      struct err *err)
{
    int64_t n = x->shape[0];
    struct cliptext_out text;
    TRY(cliptext_forward(nn, &d->text, w->set[DIFFUSION_TEXT], "text_encoder", ids, n, d->length, &text,
                         err));
    if (d->layout == LAYOUT_MMDIT)
        return mmdit_forward(nn, &d->mmdit, w->set[DIFFUSION_DENOISER], "transformer", x, time,
                             text.hidden, text.embeds != NULL ? text.embeds : text.pooled, out, err);
    struct pixart_input in = {.x = x, .caption = text.hidden, .time = time,
                              .mask = caption_mask(d, nn, ids, n)};
    return pixart_forward(nn, &d->pixart, w->set[DIFFUSION_DENOISER], "transformer", &in, out, err);
}

struct nn_tensor *diffusion_pixels(struct nn *nn, const struct train_batch *b, const char *name,
                                   struct err *err)
{
    const struct train_tensor *t = train_batch_find(b, name, WIRE_U8, 4, err);
    if (t == NULL || t->shape[1] != 3)
        return NULL;
    const uint8_t *pixel = t->data;
    struct nn_tensor *x = nn_new(nn, 4, t->shape);
    for (int64_t i = 0; i < x->n; i++)
        x->data[i] = (float)pixel[i] / 127.5f - 1;
    return x;
}

struct nn_tensor *diffusion_beside(struct nn *nn, struct nn_tensor *x, struct nn_tensor *small)
{
    int64_t n = x->shape[0], side = x->shape[2], plane = side * side;
    struct nn_tensor *y = nn_new(nn, 4, (const int64_t[]){n, 6, side, side});
    for (int64_t i = 0; i < n; i++) {
        memcpy(y->data + i * 6 * plane, x->data + i * 3 * plane, (size_t)(3 * plane) * sizeof(float));
        const float *from = small->data + i * 3 * (plane / 4);
        float *to = y->data + (i * 6 + 3) * plane;
        for (int64_t c = 0; c < 3; c++)
            for (int64_t at = 0; at < plane; at++)
                to[c * plane + at] = from[c * (plane / 4) + at / side / 2 * (side / 2) + at % side / 2];
    }
    return y;
}

struct nn_tensor *diffusion_enlarged(struct nn *nn, const struct nn_tensor *small)
{
    int64_t n = small->shape[0], rows = small->shape[2], cols = small->shape[3];
    struct nn_tensor *large = nn_new(nn, 4, (const int64_t[]){n, 3, 2 * rows, 2 * cols});
    enlarge_bicubic(small->data, (int)(3 * n), (int)rows, (int)cols, large->data);
    return large;
}

/* --- a step */

/* Noise level of a sample, 0 clean to 1 noise. */
static double draw_time(const struct diffusion *d, const struct kernels *k, uint64_t sample)
{
    double u;
    if (d->times == TIMES_UNIFORM) {
        u = traindraw_uniform(d->seed, sample, TIME_DRAW);
    } else {
        float x = (float)traindraw_one_normal(d->seed, sample, TIME_DRAW), y;
        k->sigmoid(&y, &x, 1);
        u = y;
    }
    return d->shift * u / (1 + (d->shift - 1) * u);
}

struct noising {
    const struct diffusion *d;
    struct nn *nn;
    const struct train_batch *b;
    const float *noise, *when;          /* given (tests), or NULL: drawn */
    struct nn_tensor *x0, *x_t, *target;
    double *time;
};

/* Of sample i: the mix of picture and noise, what is to be predicted, and what the model is told. */
static void noise_sample(const struct noising *j, int64_t i, float *noise)
{
    const struct diffusion *d = j->d;
    int64_t n = nn_row(j->x0);
    double s = j->when != NULL ? j->when[i] : draw_time(d, j->nn->kernels, j->b->sample[i]), a = 1 - s;
    if (j->noise == NULL)
        traindraw_normal(d->seed, j->b->sample[i], 0, noise, n);
    else
        memcpy(noise, j->noise + i * n, (size_t)n * sizeof *noise);
    j->time[i] = DIFFUSION_TIMES * s;
    if (d->objective != OBJECTIVE_FLOW) {
        int t = j->when != NULL ? (int)s : (int)(s * DIFFUSION_TIMES);
        t = t < 0 ? 0 : t >= DIFFUSION_TIMES ? DIFFUSION_TIMES - 1 : t;
        j->time[i] = t;
        a = sqrt(d->table.alpha_bar[t]);
        s = sqrt(1 - d->table.alpha_bar[t]);
    }
    const float *x0 = j->x0->data + i * n;
    float *x_t = j->x_t->data + i * n, *target = j->target->data + i * n;
    float clean = (float)a, noisy = (float)s;
    for (int64_t k = 0; k < n; k++) {
        x_t[k] = clean * x0[k] + noisy * noise[k];
        target[k] = d->objective == OBJECTIVE_FLOW      ? noise[k] - x0[k]
                    : d->objective == OBJECTIVE_EPSILON ? noise[k]
                                                        : clean * noise[k] - noisy * x0[k];
    }
}

static void noise_part(void *ctx, int part)
{
    const struct noising *j = ctx;
    struct nn_range r = nn_part(j->nn, j->x0, part);
    float *noise = nn_scratch(j->nn, part, nn_row(j->x0));
    for (int64_t i = r.begin; i < r.end; i++)
        noise_sample(j, i, noise);
}

static const float *given(const struct train_batch *b, const char *name, int n_dims)
{
    const struct train_tensor *t = train_batch_find(b, name, WIRE_F32, n_dims, NULL);
    return t != NULL ? t->data : NULL;
}

/* What a batch must hold for this model. */
static int take_batch(const struct diffusion *d, struct nn *nn, const struct train_batch *b,
                      struct nn_tensor **x0, const int32_t **ids, struct err *err)
{
    int side = diffusion_side(d);
    const struct train_tensor *x = train_batch_find(b, "x0", WIRE_F32, 4, NULL);
    const struct train_tensor *text = train_batch_find(b, "ids", WIRE_I32, 2, err);
    *x0 = x != NULL ? nn_input(nn, (float *)(uintptr_t)x->data, 4, x->shape)
                    : diffusion_pixels(nn, b, "pixels", err);
    if (*x0 == NULL || (*x0)->shape[1] != 3 || (*x0)->shape[2] != side || (*x0)->shape[3] != side)
        return err_set(err, ERR_PEER, "a batch without pictures of %d x %d", side, side);
    if (text == NULL || text->shape[1] != d->length)
        return err_set(err, ERR_PEER, "a batch without captions of %d ids", d->length);
    *ids = text->data;
    return ERR_OK;
}

/* Super-resolution: the small pictures; x0 becomes what they lack, if that is what is learnt. */
static int take_small(const struct diffusion *d, struct nn *nn, const struct train_batch *b,
                      struct nn_tensor **x0, struct nn_tensor **small, struct err *err)
{
    *small = diffusion_pixels(nn, b, "small", err);
    const int64_t *large = (*x0)->shape;
    if (*small == NULL || (*small)->shape[2] * 2 != large[2] || (*small)->shape[3] * 2 != large[3])
        return err_set(err, ERR_PEER, "a batch without pictures of half the size");
    if (d->residual <= 0)
        return ERR_OK;
    struct nn_tensor *lacks = diffusion_enlarged(nn, *small);
    for (int64_t i = 0; i < lacks->n; i++)
        lacks->data[i] = (float)d->residual * ((*x0)->data[i] - lacks->data[i]);
    *x0 = lacks;
    return ERR_OK;
}

static int step(struct train_task *t, struct trainer *tr, const struct train_batch *b,
                struct train_metrics *out, struct err *err)
{
    struct diffusion *d = t->state;
    struct nn *nn = &tr->nn;
    struct noising j = {.d = d, .nn = nn, .b = b, .noise = given(b, "noise", 4), .when = given(b, "time", 1)};
    struct train_weights w = {{&t->set[0].params, &t->set[1].params}};
    const int32_t *ids = NULL;
    struct nn_tensor *pred, *small = NULL;
    TRY(take_batch(d, nn, b, &j.x0, &ids, err));
    if (d->super)
        TRY(take_small(d, nn, b, &j.x0, &small, err));
    j.x_t = nn_new(nn, 4, j.x0->shape);
    j.target = nn_new(nn, 4, j.x0->shape);
    j.time = nn_take(nn, (size_t)b->n * sizeof *j.time);
    nn_parts(nn, noise_part, &j);
    struct nn_tensor *x = d->super ? diffusion_beside(nn, j.x_t, small) : j.x_t;
    TRY(diffusion_forward(d, nn, &w, x, j.time, ids, &pred, err));
    struct nn_tensor *loss = nn_mse(nn, pred, j.target);
    train_metric(out, "loss", loss->data[0]);
    if (b->evaluate)
        return ERR_OK;
    nn_backward(nn, loss, 1);
    return trainer_update(tr, 0, loss->data[0], out, err);
}

const struct train_task_row train_task_diffusion = {
    .name = "diffusion", .create = create, .step = step, .sample = diffusion_sample,
    .save = diffusion_save, .destroy = destroy};
