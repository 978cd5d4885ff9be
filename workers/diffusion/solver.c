#include "workers/diffusion/solver.h"

#include "workers/diffusion/solverkit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct solver *const solver_table[] = {
    &solver_ddpm, &solver_ddim, &solver_euler, &solver_euler_a, &solver_heun, &solver_lms,
    &solver_pndm, &solver_dpm_multi, &solver_dpm_sde, &solver_dpm_single, &solver_unipc,
    &solver_deis, &solver_lcm, &solver_tcd, &solver_flow_euler, &solver_flow_heun, NULL,
};

const struct solver *solver_find(const char *name)
{
    for (int i = 0; solver_table[i] != NULL; i++)
        if (strcmp(solver_table[i]->name, name) == 0)
            return solver_table[i];
    for (int i = 0; solver_table[i] != NULL; i++)
        if (strcmp(solver_table[i]->class_name, name) == 0)
            return solver_table[i];
    return NULL;
}

void solver_names(char *out, size_t cap)
{
    size_t at = 0;
    out[0] = '\0';
    for (int i = 0; solver_table[i] != NULL && at < cap; i++)
        at += (size_t)snprintf(out + at, cap - at, "%s%s", i > 0 ? ", " : "", solver_table[i]->name);
}

struct solver_config solver_config_default(const struct solver *s)
{
    struct solver_config c = {
        .train_steps = 1000,
        .beta_start = 0.0001,
        .beta_end = 0.02,
        .churn_max = INFINITY,
        .churn_noise = 1,
        .order = 2,
        .lower_order_final = true,
        .predict_x0 = true,
        .clip_range = 1,
        .threshold_ratio = 0.995,
        .threshold_max = 1,
        .original_steps = 50,
        .strength = 1,
        .timestep_scaling = 10,
        .shift = 1,
    };
    if (s->defaults != NULL)
        s->defaults(&c);
    return c;
}

static int check_config(const struct solver_plan *p, int n, struct err *err)
{
    const struct solver_config *c = &p->config;
    if (c->n_custom == 0 && (n < 1 || n > SOLVER_STEPS_MAX || n > c->train_steps))
        return err_set(err, ERR_INVAL, "%d steps: %s takes 1 to %d", n, p->solver->name,
                       c->train_steps < SOLVER_STEPS_MAX ? c->train_steps : SOLVER_STEPS_MAX);
    if (c->order < 1 || c->order > 4)
        return err_set(err, ERR_INVAL, "solver order %d: 1 to 4 are possible", c->order);
    if (!(c->shift > 0) || !(c->strength > 0 && c->strength <= 1))
        return err_set(err, ERR_INVAL, "shift %g must be positive and strength %g in (0, 1]", c->shift,
                       c->strength);
    return ERR_OK;
}

int solver_plan_init(struct solver_plan *p, const struct solver *s, const struct solver_config *c,
                     int n_steps, struct err *err)
{
    memset(p, 0, sizeof *p);
    p->solver = s;
    p->config = *c;
    p->init_scale = 1;
    if (c->n_custom > 0)
        n_steps = c->n_custom;
    TRY(check_config(p, n_steps, err));
    TRY(noise_table_init(&p->table, c->beta_kind, c->beta_start, c->beta_end, c->train_steps,
                         c->zero_snr, err));
    p->n_steps = n_steps;
    p->final_alpha_bar = c->alpha_to_one ? 1 : p->table.alpha_bar[0];
    int rc = s->plan(p, n_steps, err);
    if (rc != ERR_OK)
        solver_plan_free(p);
    return rc;
}

void solver_plan_free(struct solver_plan *p)
{
    noise_table_free(&p->table);
    free(p->timestep);
    free(p->sigma);
    free(p->order);
    memset(p, 0, sizeof *p);
}

int64_t solver_state_floats(int64_t n) { return (SOLVER_HISTORY + 2) * n; }

void solver_state_init(struct solver_state *s, int64_t n, int first_call, float *memory)
{
    memset(s, 0, sizeof *s);
    s->n = n;
    s->first_call = first_call;
    for (int i = 0; i < SOLVER_HISTORY; i++)
        s->history[i] = memory + i * n;
    s->saved = memory + SOLVER_HISTORY * n;
    s->scratch = s->saved + n;
}

double solver_input_scale(const struct solver_plan *p, int call)
{
    if (!p->solver->sigma_space)
        return 1;
    double s = p->sigma[call];
    return 1 / sqrt(s * s + 1);
}

bool solver_draws_noise(const struct solver_plan *p, int call)
{
    return p->solver->draws(p, call);
}

void solver_add_noise(const struct solver_plan *p, int call, const float *clean, const float *noise,
                      float *x, int64_t n)
{
    double coef[2];
    if (p->n_sigmas == 0) {
        double abar = p->table.alpha_bar[(int)p->timestep[call]];
        coef[0] = sqrt(abar);
        coef[1] = sqrt(1 - abar);
    } else if (p->solver->flow) {
        coef[0] = 1 - p->sigma[call];
        coef[1] = p->sigma[call];
    } else if (p->solver->sigma_space) {
        coef[0] = 1;
        coef[1] = p->sigma[call];
    } else {
        solver_alpha_sigma(&p->config, p->sigma[call], &coef[0], &coef[1]);
    }
    solver_mix(x, n, 2, coef, (const float *const[]){clean, noise});
}

int solver_first_call(const struct solver_plan *p, double strength)
{
    int keep = (int)(p->n_steps * strength);
    int step = p->n_steps - (keep < p->n_steps ? keep : p->n_steps);
    bool two_calls = p->n_calls == 2 * p->n_steps - 1 && p->n_steps > 1 &&
                     (p->solver == &solver_heun || p->solver == &solver_flow_heun);
    return two_calls ? 2 * step : step;
}

void solver_step(const struct solver_plan *p, int call, struct solver_state *s, const float *out,
                 float *x, const float *noise)
{
    p->solver->step(p, call, s, out, x, noise);
    s->calls++;
}
