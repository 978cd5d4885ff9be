/* Samplers on the discrete table of alpha_bar: DDPM, DDIM, PNDM, LCM, TCD. */
#include "workers/diffusion/solverkit.h"

#include <math.h>
#include <string.h>

static double alpha_bar_at(const struct solver_plan *p, double t, double before_first)
{
    return t >= 0 ? p->table.alpha_bar[(int)t] : before_first;
}

static int plan_whole_timesteps(struct solver_plan *p, int n, struct err *err)
{
    const struct solver_config *c = &p->config;
    TRY(solver_plan_room(p, n + 1, 0, err));
    if (c->n_custom > 0) {
        for (int i = 0; i < n; i++)
            p->timestep[i] = c->custom[i];
        p->n_calls = n;
    } else {
        p->n_calls = spacing_timesteps(p->timestep, c->spacing, n, c->train_steps, c->steps_offset, 1, 0);
    }
    for (int i = 0; i < p->n_calls; i++)
        if (!(p->timestep[i] >= 0 && p->timestep[i] < c->train_steps))
            return err_set(err, ERR_INVAL, "timestep %g lies outside 0..%d (steps_offset?)",
                           p->timestep[i], c->train_steps - 1);
    return ERR_OK;
}

/* --- DDPM: posterior mean (eq. 7) and variance */

static void ddpm_defaults(struct solver_config *c)
{
    c->clip = true;
    c->spacing = SPACING_LEADING;
}

static bool ddpm_draws(const struct solver_plan *p, int call) { return p->timestep[call] > 0; }

static void ddpm_add_variance(const struct solver_plan *p, double small, double beta, const float *v,
                              float *x, const float *noise, int64_t n)
{
    small = small > 1e-20 ? small : 1e-20;
    double fixed = sqrt(p->config.variance == VARIANCE_LARGE ? beta : small);
    for (int64_t i = 0; i < n; i++) {
        double deviation = fixed;
        if (p->config.variance == VARIANCE_LEARNED_RANGE) {
            double part = (v[i] + 1.0) / 2;     /* Nichol & Dhariwal 2021, eq. 15 */
            deviation = exp(0.5 * (part * log(beta) + (1 - part) * log(small)));
        }
        x[i] = (float)(x[i] + deviation * noise[i]);
    }
}

static void ddpm_step(const struct solver_plan *p, int call, struct solver_state *s, const float *out,
                      float *x, const float *noise)
{
    double t = p->timestep[call], before = call + 1 < p->n_calls ? p->timestep[call + 1] : -1;
    double abar = alpha_bar_at(p, t, 1), abar_before = alpha_bar_at(p, before, 1);
    /* the quotient of two float32 table entries is near 1: its rounding shows in beta, and models were
     * tuned with it */
    double kept = (float)(abar / abar_before), beta = 1 - kept, ab[2];
    float *x0 = s->saved;
    solver_clean_coefficients(p->config.prediction, sqrt(abar), sqrt(1 - abar), ab);
    solver_mix(x0, s->n, 2, ab, (const float *const[]){x, out});
    solver_limit_clean(&p->config, x0, s->n, s->scratch);
    double mean[2] = {sqrt(abar_before) * beta / (1 - abar),
                      sqrt(kept) * (1 - abar_before) / (1 - abar)};
    solver_mix(x, s->n, 2, mean, (const float *const[]){x0, x});
    if (t > 0)
        ddpm_add_variance(p, (1 - abar_before) / (1 - abar) * beta, beta, out + s->n, x, noise, s->n);
}

const struct solver solver_ddpm = {
    .name = "ddpm", .class_name = "DDPMScheduler", .summary = "ancestral sampling, many steps",
    .defaults = ddpm_defaults, .plan = plan_whole_timesteps, .draws = ddpm_draws, .step = ddpm_step,
};

/* --- DDIM: eq. 12 and 16 */

static void ddim_defaults(struct solver_config *c)
{
    c->clip = true;
    c->alpha_to_one = true;
    c->spacing = SPACING_LEADING;
}

static bool ddim_draws(const struct solver_plan *p, int call) { return p->config.eta > 0; }

static void ddim_step(const struct solver_plan *p, int call, struct solver_state *s, const float *out,
                      float *x, const float *noise)
{
    const struct solver_config *c = &p->config;
    double t = p->timestep[call], before = t - c->train_steps / p->n_steps;
    double abar = alpha_bar_at(p, t, 1), abar_before = alpha_bar_at(p, before, p->final_alpha_bar);
    double ab[2], e[2];
    float *x0 = s->saved, *eps = s->history[0];
    solver_clean_coefficients(c->prediction, sqrt(abar), sqrt(1 - abar), ab);
    solver_mix(x0, s->n, 2, ab, (const float *const[]){x, out});
    solver_limit_clean(c, x0, s->n, s->scratch);
    if (c->use_clipped_output) {
        solver_noise_coefficients(PREDICT_SAMPLE, sqrt(abar), sqrt(1 - abar), e);
        solver_mix(eps, s->n, 2, e, (const float *const[]){x, x0});
    } else {
        solver_noise_coefficients(c->prediction, sqrt(abar), sqrt(1 - abar), e);
        solver_mix(eps, s->n, 2, e, (const float *const[]){x, out});
    }
    double variance = (1 - abar_before) / (1 - abar) * (1 - abar / abar_before);
    double deviation = c->eta > 0 ? c->eta * sqrt(variance) : 0;
    double coef[3] = {sqrt(abar_before), sqrt(1 - abar_before - deviation * deviation), deviation};
    solver_mix(x, s->n, c->eta > 0 ? 3 : 2, coef, (const float *const[]){x0, eps, noise});
}

const struct solver solver_ddim = {
    .name = "ddim", .class_name = "DDIMScheduler", .summary = "deterministic (eta 0), few steps",
    .defaults = ddim_defaults, .plan = plan_whole_timesteps, .draws = ddim_draws, .step = ddim_step,
};

/* --- PNDM: pseudo linear multistep, with a Runge-Kutta start unless skipped */

static void pndm_defaults(struct solver_config *c) { c->spacing = SPACING_LEADING; }

/* Calls of the Runge-Kutta start: the four largest timesteps (down[0] is the largest), each with its
 * half step, all but the ends visited twice. */
static int plan_prk(double *t, const double *down, int n, int half)
{
    double points[8], doubled[16];
    int m = n < 4 ? n : 4, count = 0, out = 0;
    for (int i = 0; i < m; i++)
        for (int k = 0; k < 2; k++)
            points[count++] = down[m - 1 - i] + (k == 0 ? 0 : half);
    int twice = 0;
    for (int i = 0; i < count - 1; i++)
        for (int k = 0; k < 2; k++)
            doubled[twice++] = points[i];
    for (int i = twice - 2; i >= 1; i--)
        t[out++] = doubled[i];
    return out;
}

static int plan_pndm(struct solver_plan *p, int n, struct err *err)
{
    const struct solver_config *c = &p->config;
    if (!c->skip_prk && n < 4)
        return err_set(err, ERR_INVAL, "%d steps: pndm with its Runge-Kutta start takes 4 or more", n);
    TRY(solver_plan_room(p, n + 16, n, err));
    double *down = p->sigma;    /* PNDM has no noise levels of its own: the room serves as scratch */
    int m = spacing_timesteps(down, c->spacing, n, c->train_steps, c->steps_offset, 1, 0), calls = 0;
    p->n_sigmas = 0;
    if (c->skip_prk) {
        p->timestep[calls++] = down[0];
        if (m > 1)
            p->timestep[calls++] = down[1];
        for (int i = 1; i < m; i++)
            p->timestep[calls++] = down[i];
    } else {
        calls = plan_prk(p->timestep, down, m, c->train_steps / n / 2);
        p->order[0] = calls;    /* how many calls the start takes */
        for (int i = 3; i < m; i++)
            p->timestep[calls++] = down[i];
    }
    p->n_calls = calls;
    return ERR_OK;
}

/* eq. 11 of the paper: from t to t_before along the averaged direction e [n]. */
static void pndm_move(const struct solver_plan *p, double t, double t_before, const float *from,
                      const float *e, float *x, int64_t n)
{
    double a = alpha_bar_at(p, t, 1), b = alpha_bar_at(p, t_before, p->final_alpha_bar);
    double denominator = a * sqrt(1 - b) + sqrt(a * (1 - a) * b);
    double coef[2] = {sqrt(b / a), -(b - a) / denominator};
    if (p->config.prediction == PREDICT_V) {    /* e = sqrt(a) v + sqrt(1 - a) x */
        coef[0] += coef[1] * sqrt(1 - a);
        coef[1] *= sqrt(a);
    }
    solver_mix(x, n, 2, coef, (const float *const[]){from, e});
}

static void pndm_start_step(const struct solver_plan *p, struct solver_state *s, int call,
                            const float *out, float *x)
{
    static const double weight[4] = {1.0 / 6, 1.0 / 3, 1.0 / 3, 1.0 / 6};
    int at = s->calls, phase = at % 4;
    double half = p->config.train_steps / p->n_steps / 2;
    double t_before = p->timestep[call] - (at % 2 ? 0 : half);
    double t = p->timestep[s->first_call + at / 4 * 4];
    float *sum = s->scratch;
    if (phase == 0) {
        memcpy(solver_push_history(s, 4), out, (size_t)s->n * sizeof *out);
        memcpy(s->saved, x, (size_t)s->n * sizeof *x);
        memset(sum, 0, (size_t)s->n * sizeof *sum);
    }
    solver_mix(sum, s->n, 2, (const double[]){1, weight[phase]}, (const float *const[]){sum, out});
    pndm_move(p, t, t_before, s->saved, phase == 3 ? sum : out, x, s->n);
}

static void pndm_step(const struct solver_plan *p, int call, struct solver_state *s, const float *out,
                      float *x, const float *noise)
{
    if (s->calls < p->order[0]) {
        pndm_start_step(p, s, call, out, x);
        return;
    }
    double step = p->config.train_steps / p->n_steps, t = p->timestep[call], before = t - step;
    if (s->calls != 1) {
        memcpy(solver_push_history(s, 4), out, (size_t)s->n * sizeof *out);
    } else {
        before = t;
        t += step;
    }
    const float *const *h = (const float *const *)s->history;
    float *e = s->scratch;
    if (s->n_history == 1 && s->calls == 0) {
        memcpy(s->saved, x, (size_t)s->n * sizeof *x);
        memcpy(e, out, (size_t)s->n * sizeof *e);
    } else if (s->n_history == 1 && s->calls == 1) {
        solver_mix(e, s->n, 2, (const double[]){0.5, 0.5}, (const float *const[]){out, h[0]});
        memcpy(x, s->saved, (size_t)s->n * sizeof *x);
    } else if (s->n_history == 2) {
        solver_mix(e, s->n, 2, (const double[]){1.5, -0.5}, h);
    } else if (s->n_history == 3) {
        solver_mix(e, s->n, 3, (const double[]){23.0 / 12, -16.0 / 12, 5.0 / 12}, h);
    } else {
        solver_mix(e, s->n, 4, (const double[]){55.0 / 24, -59.0 / 24, 37.0 / 24, -9.0 / 24}, h);
    }
    pndm_move(p, t, before, x, e, x, s->n);
}

const struct solver solver_pndm = {
    .name = "pndm", .class_name = "PNDMScheduler", .summary = "pseudo linear multistep",
    .defaults = pndm_defaults, .plan = plan_pndm, .draws = solver_never_draws, .step = pndm_step,
};

/* --- LCM and TCD: a distilled schedule of original_steps, of which n are visited */

static void lcm_defaults(struct solver_config *c)
{
    c->beta_kind = BETA_SCALED_LINEAR;
    c->beta_start = 0.00085;
    c->beta_end = 0.012;
    c->alpha_to_one = true;
    c->spacing = SPACING_LEADING;
}

static void tcd_defaults(struct solver_config *c)
{
    lcm_defaults(c);
    c->eta = 0.3;
}

static int plan_distilled(struct solver_plan *p, int n, struct err *err)
{
    const struct solver_config *c = &p->config;
    bool all = c->original_given && p->solver == &solver_tcd;
    int original = c->original_steps;
    if (original < 1 || original > c->train_steps)
        return err_set(err, ERR_INVAL, "original_inference_steps %d must be in 1..%d", original,
                       c->train_steps);
    int spacing = c->train_steps / original;
    int count = all ? (int)(c->train_steps * c->strength) : (int)(original * c->strength);
    if (n > count || n > original)
        return err_set(err, ERR_INVAL, "%d steps: %s was distilled for at most %d", n,
                       p->solver->name, count < original ? count : original);
    TRY(solver_plan_room(p, n, 0, err));
    for (int i = 0; i < n; i++) {
        int from_end = (int)floor((double)count / n * i);
        int at = count - 1 - from_end;
        p->timestep[i] = all ? at : (at + 1) * spacing - 1;
    }
    return ERR_OK;
}

static bool lcm_draws(const struct solver_plan *p, int call) { return call != p->n_steps - 1; }

static void lcm_step(const struct solver_plan *p, int call, struct solver_state *s, const float *out,
                     float *x, const float *noise)
{
    double t = p->timestep[call], next = call + 1 < p->n_calls ? p->timestep[call + 1] : t;
    double abar = alpha_bar_at(p, t, 1), abar_next = alpha_bar_at(p, next, p->final_alpha_bar);
    double scaled = t * p->config.timestep_scaling, data = 0.5, ab[2];
    double c_skip = data * data / (scaled * scaled + data * data);
    double c_out = scaled / sqrt(scaled * scaled + data * data);
    float *x0 = s->saved;
    solver_clean_coefficients(p->config.prediction, sqrt(abar), sqrt(1 - abar), ab);
    solver_mix(x0, s->n, 2, ab, (const float *const[]){x, out});
    solver_limit_clean(&p->config, x0, s->n, s->scratch);
    solver_mix(x, s->n, 2, (const double[]){c_out, c_skip}, (const float *const[]){x0, x});
    if (lcm_draws(p, call))
        solver_mix(x, s->n, 2, (const double[]){sqrt(abar_next), sqrt(1 - abar_next)},
                   (const float *const[]){x, noise});
}

const struct solver solver_lcm = {
    .name = "lcm", .class_name = "LCMScheduler", .summary = "latent consistency models, 1 to 8 steps",
    .defaults = lcm_defaults, .plan = plan_distilled, .draws = lcm_draws, .step = lcm_step,
};

static bool tcd_draws(const struct solver_plan *p, int call)
{
    return p->config.eta > 0 && call != p->n_steps - 1;
}

static void tcd_step(const struct solver_plan *p, int call, struct solver_state *s, const float *out,
                     float *x, const float *noise)
{
    double t = p->timestep[call], next = call + 1 < p->n_calls ? p->timestep[call + 1] : 0;
    double abar = alpha_bar_at(p, t, 1), abar_next = alpha_bar_at(p, next, p->final_alpha_bar);
    double abar_s = alpha_bar_at(p, floor((1 - p->config.eta) * next), 1);
    double clean[2], eps[2];
    solver_clean_coefficients(p->config.prediction, sqrt(abar), sqrt(1 - abar), clean);
    solver_noise_coefficients(p->config.prediction, sqrt(abar), sqrt(1 - abar), eps);
    double a = sqrt(abar_s), b = sqrt(1 - abar_s);
    double coef[3] = {a * clean[0] + b * eps[0], a * clean[1] + b * eps[1], 0};
    if (tcd_draws(p, call)) {
        double keep = sqrt(abar_next / abar_s);
        coef[0] *= keep;
        coef[1] *= keep;
        coef[2] = sqrt(1 - abar_next / abar_s);
    }
    solver_mix(x, s->n, 3, coef, (const float *const[]){x, out, noise});
}

const struct solver solver_tcd = {
    .name = "tcd", .class_name = "TCDScheduler", .summary = "trajectory consistency, 2 to 8 steps",
    .defaults = tcd_defaults, .plan = plan_distilled, .draws = tcd_draws, .step = tcd_step,
};
