/* diffusionsave.c - the folder that a diffusion model leaves, and pictures on the way there. */
#include "workers/train/diffusiontask.h"

#include "workers/diffusion/enlarge.h"
#include "workers/diffusion/guidance.h"
#include "workers/diffusion/solver.h"
#include "workers/train/traindraw.h"
#include "workers/train/trainer.h"
#include "workers/train/trainfolder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- the folder */

/* transformers' class with projection writes the prefix, and both of its versions read it. */
static void text_name(const char *from, char out[256])
{
    bool has = strncmp(from, "text_model.", 11) == 0 || strncmp(from, "text_projection.", 16) == 0;
    snprintf(out, 256, "%s%s", has ? "" : "text_model.", from);
}

static json_t *scheduler_json(const struct diffusion *d)
{
    static const char *const schedules[] = {[BETA_LINEAR] = "linear", [BETA_SCALED_LINEAR] = "scaled_linear",
                                            [BETA_COSINE] = "squaredcos_cap_v2"};
    bool clip = d->residual <= 0;       /* what is missing goes beyond -1..1 */
    if (d->objective == OBJECTIVE_FLOW)
        return json_pack("{s:s, s:i, s:f, s:b}", "_class_name", "FlowMatchEulerDiscreteScheduler",
                         "num_train_timesteps", DIFFUSION_TIMES, "shift", 1.0, "use_dynamic_shifting", 0);
    double start = d->schedule == BETA_SCALED_LINEAR ? 0.00085 : 1e-4;
    double end = d->schedule == BETA_SCALED_LINEAR ? 0.012 : 0.02;
    return json_pack("{s:s, s:i, s:f, s:f, s:s, s:s, s:b, s:s}", "_class_name", "DDPMScheduler",
                     "num_train_timesteps", DIFFUSION_TIMES, "beta_start", start, "beta_end", end,
                     "beta_schedule", schedules[d->schedule], "prediction_type",
                     d->objective == OBJECTIVE_V ? "v_prediction" : "epsilon", "clip_sample", clip,
                     /* v says the most where there is only noise: few steps must begin there */
                     "timestep_spacing", d->objective == OBJECTIVE_V ? "trailing" : "leading");
}

static json_t *index_json(const struct diffusion *d)
{
    bool two = d->layout == LAYOUT_MMDIT;
    return json_pack("{s:s, s:[ss], s:[ss], s:[ss], s:[ss]}", "_class_name",
                     two ? "PixelMMDiT" : "PixelPixArt", "scheduler", "diffusers",
                     d->objective == OBJECTIVE_FLOW ? "FlowMatchEulerDiscreteScheduler" : "DDPMScheduler",
                     "text_encoder", "transformers", two ? "CLIPTextModelWithProjection" : "CLIPTextModel",
                     "tokenizer", "transformers", "CLIPTokenizer", "transformer", "diffusers",
                     two ? "SD3Transformer2DModel" : "PixArtTransformer2DModel");
}

/* What suits the model when it paints. */
static json_t *hints_json(const struct diffusion *d)
{
    json_t *j = json_pack("{s:i, s:f}", "steps", d->preview_steps, "guidance", d->guidance);
    if ((d->words != NULL && json_object_set(j, "words", d->words) != 0) ||
        (d->residual > 0 && json_object_set_new(j, "residual", json_real(d->residual)) != 0)) {
        json_decref(j);
        return NULL;
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

int diffusion_save(struct train_task *t, const struct train_weights *w, const char *dir, enum dtype type,
                   struct err *err)
{
    const struct diffusion *d = t->state;
    static const char *const folders[] = {"transformer", "text_encoder", "scheduler"};
    for (int i = 0; i < 3; i++)
        TRY(trainfolder_make(dir, folders[i], err));
    TRY(trainfolder_json(dir, "transformer/config.json", d->denoiser_json, err));
    TRY(trainfolder_json(dir, "text_encoder/config.json", d->text_json, err));
    TRY(save_json(dir, "scheduler/scheduler_config.json", scheduler_json(d), err));
    TRY(save_json(dir, "model_index.json", index_json(d), err));
    TRY(save_json(dir, "muster.json", hints_json(d), err));
    TRY(trainfolder_weights(dir, "transformer/diffusion_pytorch_model.safetensors",
                            w->set[DIFFUSION_DENOISER], type, NULL, err));
    return trainfolder_weights(dir, "text_encoder/model.safetensors", w->set[DIFFUSION_TEXT], type,
                               text_name, err);
}

/* --- previews */

struct preview {
    struct diffusion *d;
    struct nn *nn;
    const struct train_weights *w;
    struct solver_plan plan;
    struct nn_tensor *small;            /* its numbers are `small_copy` */
    float *x, *cond, *uncond, *state, *small_copy;
    int n;
    int64_t each;                       /* numbers of a picture */
    int32_t *empty;                     /* [n, length] */
};

static int run_model(struct preview *p, int call, const int32_t *ids, float *out, struct err *err)
{
    struct diffusion *d = p->d;
    struct nn *nn = p->nn;
    int side = diffusion_side(d);
    double scale = solver_input_scale(&p->plan, call), time[NN_PARTS_MAX];
    struct nn_tensor *pred;
    nn_reset(nn);
    for (int s = 0; s < 2; s++)
        params_begin(p->w->set[s]);
    struct nn_tensor *x = nn_new(nn, 4, (const int64_t[]){p->n, 3, side, side});
    for (int64_t i = 0; i < x->n; i++)
        x->data[i] = (float)(p->x[i] * scale);
    for (int i = 0; i < p->n; i++)
        time[i] = p->plan.timestep[call];
    if (d->super) {
        const int64_t half[4] = {p->n, 3, side / 2, side / 2};
        x = diffusion_beside(nn, x, nn_input(nn, p->small_copy, 4, half));
    }
    TRY(diffusion_forward(d, nn, p->w, x, time, ids, &pred, err));
    memcpy(out, pred->data, (size_t)pred->n * sizeof *out);
    return ERR_OK;
}

static int plan_solver(struct preview *p, struct err *err)
{
    const struct diffusion *d = p->d;
    bool flow = d->objective == OBJECTIVE_FLOW;
    const struct solver *solver = solver_find(flow ? "flow_euler" : "ddim");
    struct solver_config c = solver_config_default(solver);
    json_t *json = scheduler_json(d);
    int rc = json == NULL ? ERR_NOMEM : solver_config_read(&c, json, err);
    json_decref(json);
    return rc != ERR_OK ? rc : solver_plan_init(&p->plan, solver, &c, d->preview_steps, err);
}

static int denoise(struct preview *p, const int32_t *ids, struct err *err)
{
    int64_t floats = solver_state_floats(p->each);
    struct solver_state state[NN_PARTS_MAX];
    for (int i = 0; i < p->n; i++)
        solver_state_init(&state[i], p->each, 0, p->state + i * floats);
    for (int call = 0; call < p->plan.n_calls; call++) {
        TRY(run_model(p, call, ids, p->cond, err));
        if (p->d->guidance != 1)
            TRY(run_model(p, call, p->empty, p->uncond, err));
        for (int i = 0; i < p->n; i++) {
            float *out = p->cond + i * p->each;
            if (p->d->guidance != 1)
                guidance_apply(out, out, p->uncond + i * p->each, p->each, p->d->guidance, 0);
            solver_step(&p->plan, call, &state[i], out, p->x + i * p->each, NULL);
        }
    }
    return ERR_OK;
}

static int take_room(struct preview *p, struct err *err)
{
    size_t all = (size_t)(p->n * p->each);
    p->x = calloc(all, sizeof *p->x);
    p->cond = calloc(all, sizeof *p->cond);
    p->uncond = calloc(all, sizeof *p->uncond);
    p->state = calloc((size_t)p->n * (size_t)solver_state_floats(p->each) + 1, sizeof *p->state);
    p->empty = calloc((size_t)(p->n * p->d->length), sizeof *p->empty);
    free(p->d->preview);
    p->d->preview = malloc(all);
    if (p->x == NULL || p->cond == NULL || p->uncond == NULL || p->state == NULL || p->empty == NULL ||
        p->d->preview == NULL)
        return err_set(err, ERR_NOMEM, "no memory for previews");
    return ERR_OK;
}

static int begin(struct preview *p, const struct train_batch *b, struct err *err)
{
    const struct diffusion *d = p->d;
    TRY(take_room(p, err));
    if (d->super) {
        struct nn_tensor *small = diffusion_pixels(p->nn, b, "small", err);
        if (small == NULL || nn_row(small) != p->each / 4)
            return err_set(err, ERR_PEER, "previews without pictures of half the size");
        p->small_copy = malloc((size_t)small->n * sizeof *p->small_copy);
        if (p->small_copy == NULL)
            return err_set(err, ERR_NOMEM, "no memory for previews");
        memcpy(p->small_copy, small->data, (size_t)small->n * sizeof *p->small_copy);
    }
    for (int i = 0; i < p->n; i++) {
        traindraw_normal(d->seed, b->sample[i], 0, p->x + i * p->each, p->each);
        for (int k = 0; k < d->length; k++)
            p->empty[i * d->length + k] = k == 0 ? d->text.bos : k == 1 ? d->text.eos : d->text.pad;
    }
    for (int64_t i = 0; i < p->n * p->each; i++)
        p->x[i] = (float)(p->x[i] * p->plan.init_scale);
    return ERR_OK;
}

/* x back to pictures where it is what bicubic enlargement lacks. */
static void add_enlarged(struct preview *p)
{
    int half = diffusion_side(p->d) / 2;
    for (int i = 0; i < p->n; i++) {
        float *x = p->x + i * p->each, *large = p->cond;
        enlarge_bicubic(p->small_copy + i * p->each / 4, 3, half, half, large);
        for (int64_t k = 0; k < p->each; k++)
            x[k] = large[k] + x[k] / (float)p->d->residual;
    }
}

static void to_bytes(const struct preview *p, struct train_tensor *out)
{
    int side = diffusion_side(p->d);
    for (int64_t i = 0; i < p->n * p->each; i++) {
        float v = (p->x[i] + 1) * 127.5f + 0.5f;
        p->d->preview[i] = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
    }
    *out = (struct train_tensor){"pictures", WIRE_U8, 4, {p->n, 3, side, side}, p->d->preview};
}

int diffusion_sample(struct train_task *t, struct trainer *tr, const struct train_weights *w,
                     const struct train_batch *b, struct train_tensor *out, struct err *err)
{
    struct diffusion *d = t->state;
    struct preview p = {.d = d, .nn = &tr->nn, .w = w, .n = b->n};
    const struct train_tensor *ids = train_batch_find(b, "ids", WIRE_I32, 2, err);
    if (ids == NULL || ids->shape[1] != d->length)
        return err_set(err, ERR_PEER, "previews without captions of %d ids", d->length);
    p.each = 3 * (int64_t)diffusion_side(d) * diffusion_side(d);
    int rc = plan_solver(&p, err);
    if (rc == ERR_OK)
        rc = begin(&p, b, err);
    if (rc == ERR_OK)
        rc = denoise(&p, ids->data, err);
    if (rc == ERR_OK && d->residual > 0)
        add_enlarged(&p);
    if (rc == ERR_OK)
        to_bytes(&p, out);
    solver_plan_free(&p.plan);
    free(p.x);
    free(p.cond);
    free(p.uncond);
    free(p.state);
    free(p.small_copy);
    free(p.empty);
    return rc;
}
