#include "workers/imageslot.h"

#include "proto/wire.h"
#include "workers/diffusion/enlarge.h"
#include "workers/diffusion/guidance.h"
#include "workers/kernels/normal.h"

#include <stdlib.h>
#include <string.h>

/* --- a task becomes a picture in the making */

static int unpack(struct imageslot *s, const uint8_t *bytes, size_t n, struct err *err)
{
    Muster__Envelope *m;
    size_t want = 4 * n + 65536;        /* texts and ids, each in an aligned place of its own */
    if (s->mem.cap < want) {
        arena_free(&s->mem);
        if (arena_init(&s->mem, want) != ERR_OK)
            return err_set(err, ERR_NOMEM, "no memory for a picture's task");
    }
    arena_reset(&s->mem);
    TRY(wire_unpack(bytes, n, &s->mem, &m, err));
    if (m->body_case != MUSTER__ENVELOPE__BODY_IMAGE_CHUNK || m->image_chunk->n_tasks != 1)
        return err_set(err, ERR_PEER, "a picture's task that is none");
    s->task = m->image_chunk->tasks[0];
    return ERR_OK;
}

static int check_size(const struct imageslot *s, const struct imagepipe_facts *f, struct err *err)
{
    if (s->width < f->patch || s->height < f->patch || s->width > f->side_max || s->height > f->side_max ||
        s->width % f->patch != 0 || s->height % f->patch != 0)
        return err_set(err, ERR_INVAL, "a picture of %d x %d: sides of %s are multiples of %d, at most %d",
                       s->width, s->height, f->name, f->patch, f->side_max);
    return ERR_OK;
}

static int check_pixels(const struct imageslot *s, const Muster__Pixels *p, uint32_t channels,
                        const char *what, struct err *err)
{
    if (p != NULL && (p->width != (uint32_t)s->width || p->height != (uint32_t)s->height ||
                      p->channels != channels ||
                      p->data.len != (size_t)p->width * p->height * p->channels))
        return err_set(err, ERR_INVAL, "the %s is %u x %u, the picture %d x %d", what, p->width, p->height,
                       s->width, s->height);
    return ERR_OK;
}

/* Super-resolution sees a picture of half its sides beside its own. */
static int check_small(const struct imageslot *s, struct err *err)
{
    const Muster__Pixels *p = s->task->init;
    if (p == NULL || s->task->mask != NULL)
        return err_set(err, ERR_INVAL, "this model enlarges a picture: --init, without a mask");
    if (2 * p->width != (uint32_t)s->width || 2 * p->height != (uint32_t)s->height || p->channels != 3 ||
        p->data.len != (size_t)p->width * p->height * 3)
        return err_set(err, ERR_INVAL, "a picture of %d x %d from one of %u x %u: twice as large "
                       "is possible",
                       s->width, s->height, p->width, p->height);
    return ERR_OK;
}

static int choose(const char *text, const char *const *names, const int *values, int *out,
                  const char *what, struct err *err)
{
    for (int i = 0; names[i] != NULL; i++)
        if (strcmp(text, names[i]) == 0) {
            *out = values[i];
            return ERR_OK;
        }
    return text[0] == '\0' ? ERR_OK : err_set(err, ERR_INVAL, "%s '%s' is not known", what, text);
}

static int make_plan(struct imageslot *s, const struct imagepipe *pipe, struct err *err)
{
    static const char *const spacings[] = {"linspace", "leading", "trailing", NULL};
    static const int spacing_values[] = {SPACING_LINSPACE, SPACING_LEADING, SPACING_TRAILING};
    static const char *const sigmas[] = {"table", "karras", "exponential", "beta", "lu", NULL};
    static const int sigma_values[] = {SIGMA_TABLE, SIGMA_KARRAS, SIGMA_EXPONENTIAL, SIGMA_BETA, SIGMA_LU};
    const Muster__ImageTask *t = s->task;
    const struct solver *solver = t->sampler[0] != '\0' ? solver_find(t->sampler)
                                                        : imagepipe_facts(pipe)->solver;
    struct solver_config c;
    if (solver == NULL) {
        char names[512];
        imagepipe_samplers(pipe, names, sizeof names);
        return err_set(err, ERR_INVAL, "no sampler '%s'; there are %s", t->sampler, names);
    }
    TRY(imagepipe_settings(pipe, solver, s->width, s->height, &c, err));
    int spacing = (int)c.spacing, sigma = (int)c.sigmas;
    TRY(choose(t->spacing, spacings, spacing_values, &spacing, "spacing", err));
    TRY(choose(t->sigmas, sigmas, sigma_values, &sigma, "sigmas", err));
    c.spacing = (enum spacing)spacing;
    c.sigmas = (enum sigma_kind)sigma;
    if (t->shift > 0) {
        c.shift = t->shift;
        c.dynamic_shift = false;
    }
    if (t->eta >= 0)
        c.eta = t->eta;
    return solver_plan_init(&s->plan, solver, &c, (int)t->steps, err);
}

/* One allocation for all that the picture needs. */
static int make_room(struct imageslot *s, int64_t prompt_floats, struct err *err)
{
    const Muster__ImageTask *t = s->task;
    int64_t area = (int64_t)s->width * s->height;
    int64_t state = s->latent > 0 ? 0 : solver_state_floats(s->n);
    int64_t all = state + 2 * s->n + 2 * s->latent + (t->init != NULL ? s->n : 0) +
                  (t->mask != NULL ? (int64_t)s->rows * s->cols : 0) +
                  (t->n_ids_to > 0 ? prompt_floats : 0) + 3 * area;
    if (s->cap < all) {
        free(s->floats);
        s->cap = all;
        if ((s->floats = malloc((size_t)all * sizeof *s->floats)) == NULL) {
            s->cap = 0;
            return err_set(err, ERR_NOMEM, "no memory for a picture of %d x %d", s->width, s->height);
        }
    }
    float *at = s->floats + state;
    s->x = at;
    s->noise = at += s->n;
    at += s->n > 2 * s->latent ? s->n : 2 * s->latent;
    s->clean = t->init != NULL && !s->enlarges ? at : NULL;
    at += t->init != NULL ? s->n : 0;
    s->mask = t->mask != NULL ? at : NULL;
    at += t->mask != NULL ? (int64_t)s->rows * s->cols : 0;
    s->mixed = t->n_ids_to > 0 ? at : NULL;
    at += t->n_ids_to > 0 ? prompt_floats : 0;
    s->beside = s->enlarges ? at : NULL;
    s->first = s->decodes && t->init != NULL ? at : NULL;
    return ERR_OK;
}

/* 8-bit [h, w, c] to [-1, 1] [c, h, w]. */
static void spread(float *out, const Muster__Pixels *p)
{
    int64_t area = (int64_t)p->width * p->height, c = p->channels;
    for (int64_t k = 0; k < c; k++)
        for (int64_t i = 0; i < area; i++)
            out[k * area + i] = (float)p->data.data[i * c + k] / 127.5f - 1;
}

/* Normal numbers of the seed, those beyond the truncation drawn again: draw r of number i is a function
 * of (seed, i, r). */
static void latent_numbers(float *z, int n, uint64_t seed, double truncation)
{
    enum { REDRAWS = 1000 };
    normal_fill(z, n, seed, 0, PHILOX_GAN);
    for (int i = 0; truncation > 0 && i < n; i++) {
        float four[4];
        for (uint32_t r = 1; r < REDRAWS && fabs((double)z[i]) > truncation; r++) {
            normal_block(seed, (uint64_t)i / 4, r, PHILOX_GAN, four);
            z[i] = four[i % 4];
        }
        double limit = truncation;
        z[i] = (float)(z[i] > limit ? limit : z[i] < -limit ? -limit : z[i]);
    }
}

static void make_latent(struct imageslot *s)
{
    const Muster__ImageTask *t = s->task;
    latent_numbers(s->noise, s->latent, t->seed, t->truncation);
    if (t->mix <= 0)
        return;
    double sine, cosine;
    vmath_sincos(t->mix * 1.5707963267948966, &sine, &cosine);
    float *other = s->noise + s->latent;
    latent_numbers(other, s->latent, t->seed_to, t->truncation);
    for (int i = 0; i < s->latent; i++)
        s->noise[i] = (float)(cosine * s->noise[i] + sine * other[i]);
}

/* Each pixel of the small picture twice each way. */
static void spread_twice(struct imageslot *s, const Muster__Pixels *p)
{
    int64_t area = (int64_t)s->width * s->height;
    for (int64_t k = 0; k < 3; k++)
        for (int64_t i = 0; i < area; i++) {
            int64_t from = i / s->width / 2 * p->width + i % s->width / 2;
            s->beside[k * area + i] = (float)p->data.data[from * 3 + k] / 127.5f - 1;
        }
}

/* Unit noise of the seed; between two seeds along a quarter of a circle, so that it stays unit. */
static void make_noise(struct imageslot *s)
{
    const Muster__ImageTask *t = s->task;
    normal_fill(s->noise, s->n, t->seed, 0, PHILOX_IMAGE_NOISE);
    if (t->mix <= 0)
        return;
    double sine, cosine;
    vmath_sincos(t->mix * 1.5707963267948966, &sine, &cosine);
    normal_fill(s->x, s->n, t->seed_to, 0, PHILOX_IMAGE_NOISE);
    for (int64_t i = 0; i < s->n; i++)
        s->noise[i] = (float)(cosine * s->noise[i] + sine * s->x[i]);
}

/* A number of x is painted anew where any of its pixels is. */
static void shrink_mask(struct imageslot *s)
{
    const Muster__Pixels *p = s->task->mask;
    int k = s->width / s->cols;
    for (int64_t i = 0; i < (int64_t)s->rows * s->cols; i++) {
        int64_t top = i / s->cols * k, left = i % s->cols * k;
        uint8_t most = 0;
        for (int64_t y = top; y < top + k; y++)
            for (int64_t x = left; x < left + k; x++) {
                uint8_t v = p->data.data[y * s->width + x];
                most = v > most ? v : most;
            }
        s->mask[i] = (float)most / 255;
    }
}

void imageslot_start(struct imageslot *s, const float *clean)
{
    const Muster__ImageTask *t = s->task;
    int first = 0;
    make_noise(s);
    if (s->enlarges)
        spread_twice(s, t->init);
    if (s->clean != NULL) {
        if (clean != NULL)
            memcpy(s->clean, clean, (size_t)s->n * sizeof *clean);
        else
            spread(s->clean, t->init);
        if (t->strength < 1)
            first = solver_first_call(&s->plan, t->strength);
        if (first < s->plan.n_calls)
            solver_add_noise(&s->plan, first, s->clean, s->noise, s->x, s->n);
        else
            memcpy(s->x, s->clean, (size_t)s->n * sizeof *s->x);
    }
    if (t->mask != NULL)
        shrink_mask(s);
    if (first == 0)
        for (int64_t i = 0; i < s->n; i++)
            s->x[i] = (float)(s->plan.init_scale * s->noise[i]);
    solver_state_init(&s->state, s->n, first, s->floats);
    s->call = first;
}

int imageslot_begin(struct imageslot *s, const struct imagepipe *pipe, const uint8_t *bytes, size_t n,
                    struct err *err)
{
    const struct imagepipe_facts *f = imagepipe_facts(pipe);
    TRY(unpack(s, bytes, n, err));
    s->width = (int)s->task->width;
    s->height = (int)s->task->height;
    s->channels = f->channels_out;
    TRY(check_size(s, f, err));
    s->enlarges = f->channels == 2 * f->channels_out;
    s->residual = s->enlarges ? f->residual : 0;
    if (s->enlarges)
        TRY(check_small(s, err));
    else
        TRY(check_pixels(s, s->task->init, 3, "first picture", err));
    TRY(check_pixels(s, s->task->mask, 1, "mask", err));
    if (f->latent > 0 && s->task->init != NULL)
        return err_set(err, ERR_INVAL, "a GAN begins with no picture: leave --init out");
    if (s->task->mask != NULL && s->task->init == NULL)
        return err_set(err, ERR_INVAL, "a mask goes with a first picture");
    s->rows = s->height / f->pixels;
    s->cols = s->width / f->pixels;
    s->n = (int64_t)s->channels * s->rows * s->cols;
    s->latent = f->latent;
    s->decodes = f->decodes;
    if (s->latent == 0)
        TRY(make_plan(s, pipe, err));
    int rc = make_room(s, imagepipe_prompt_floats(pipe), err);
    if (rc != ERR_OK) {
        solver_plan_free(&s->plan);
        return rc;
    }
    if (s->latent > 0)
        make_latent(s);
    else if (s->first != NULL)
        spread(s->first, s->task->init);
    else
        imageslot_start(s, NULL);
    s->guided = s->latent == 0 && (f->n_texts > 0 || f->none >= 0) && s->task->guidance != 1;
    s->generated = false;
    s->used_us = 0;
    s->used = true;
    return ERR_OK;
}

/* --- steps */

double imageslot_input(const struct imageslot *s, float *x)
{
    double scale = solver_input_scale(&s->plan, s->call);
    if (scale == 1)
        memcpy(x, s->x, (size_t)s->n * sizeof *x);
    else
        for (int64_t i = 0; i < s->n; i++)
            x[i] = (float)(scale * s->x[i]);
    if (s->beside != NULL)
        memcpy(x + s->n, s->beside, (size_t)(3 * s->width * s->height) * sizeof *x);
    return s->plan.timestep[s->call];
}

/* Outside of the mask, the first picture at the noise of the next call; in the end, as it was. */
static void keep_outside(struct imageslot *s, float *kept)
{
    int64_t area = (int64_t)s->rows * s->cols;
    const float *want = s->clean;
    if (s->call < s->plan.n_calls) {
        solver_add_noise(&s->plan, s->call, s->clean, s->noise, kept, s->n);
        want = kept;
    }
    for (int64_t i = 0; i < s->n; i++) {
        float m = s->mask[i % area];
        s->x[i] = m * s->x[i] + (1 - m) * want[i];
    }
}

void imageslot_advance(struct imageslot *s, const float *cond, const float *uncond, float *scratch)
{
    const float *out = cond;
    float *noise = NULL;
    if (uncond != NULL) {
        guidance_apply(scratch, cond, uncond, s->n, s->task->guidance, s->task->rescale);
        out = scratch;
    }
    if (solver_draws_noise(&s->plan, s->call)) {
        noise = scratch + s->n;
        normal_fill(noise, s->n, s->task->seed, (uint32_t)s->call, PHILOX_IMAGE_STEP);
    }
    solver_step(&s->plan, s->call, &s->state, out, s->x, noise);
    s->call++;
    if (s->mask != NULL)
        keep_outside(s, scratch);
}

void imageslot_generated(struct imageslot *s, const float *image)
{
    memcpy(s->x, image, (size_t)s->n * sizeof *image);
    s->generated = true;
}

bool imageslot_done(const struct imageslot *s)
{
    return s->latent > 0 ? s->generated : s->call >= s->plan.n_calls;
}

/* x becomes the picture: the small one enlarged, and what that lacks. */
static void add_enlarged(struct imageslot *s)
{
    float *small = s->noise, *large = s->beside;
    spread(small, s->task->init);
    enlarge_bicubic(small, 3, s->height / 2, s->width / 2, large);
    for (int64_t i = 0; i < s->n; i++)
        s->x[i] = large[i] + s->x[i] / (float)s->residual;
}

void imageslot_pixels(struct imageslot *s, const float *picture, uint8_t *rgb)
{
    if (s->residual > 0)
        add_enlarged(s);
    int64_t area = (int64_t)s->width * s->height;
    for (int64_t i = 0; i < area; i++)
        for (int64_t k = 0; k < 3; k++) {
            float v = picture[k * area + i];
            if (s->first != NULL && s->mask != NULL) {
                float m = (float)s->task->mask->data.data[i] / 255;
                v = m * v + (1 - m) * s->first[k * area + i];
            }
            v = v * 127.5f + 128;                   /* 127.5, and a half to round */
            rgb[i * 3 + k] = (uint8_t)(v >= 255 ? 255 : v >= 0 ? v : 0);
        }
}

void imageslot_end(struct imageslot *s)
{
    promptcache_put(s->prompt);
    promptcache_put(s->negative);
    s->prompt = s->negative = NULL;
    solver_plan_free(&s->plan);
    s->used = false;
}

void imageslot_free(struct imageslot *s)
{
    if (s->used)
        imageslot_end(s);
    arena_free(&s->mem);
    free(s->floats);
    memset(s, 0, sizeof *s);
}
