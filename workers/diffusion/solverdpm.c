/* Solvers in the half log signal-to-noise ratio lambda = ln(alpha / sigma): DPM-Solver(++) multistep,
 * its SDE form and single-step form, and DEIS. */
#include "workers/diffusion/solverkit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- planning, shared with UniPC */

static bool ends_where_it_is(const struct solver_plan *p)
{
    return p->solver == &solver_deis || (p->solver == &solver_unipc && p->config.final_sigma_min);
}

/* Levels of flow matching for this family: evenly in 1 - s, then shifted. */
static void dpm_flow_levels(const struct solver_plan *p, int n, double *level)
{
    const struct solver_config *c = &p->config;
    double last = 1.0 / c->train_steps;
    for (int i = 0; i < n; i++) {
        if (p->solver == &solver_unipc) {
            double s = spacing_shift(1 + (last - 1) * i / n, c->shift);
            level[i] = i == 0 && fabs(s - 1) < 1e-6 ? s - 1e-6 : s;     /* ln(alpha) must exist */
        } else {
            double alpha = 1 + (last - 1) * (n - i) / n;
            level[i] = spacing_shift(1 - alpha, c->shift);
        }
    }
}

/* Timesteps belonging to levels: the nearest in log sigma; whole numbers, as the models' integer
 * timesteps demand, rounded or cut off as the published schedules are. */
static void dpm_timesteps(const struct solver_plan *p, const double *log_table, int n)
{
    const struct solver_config *c = &p->config;
    bool round = c->sigmas == SIGMA_KARRAS || c->sigmas == SIGMA_LU;
    if (p->solver == &solver_dpm_multi || p->solver == &solver_dpm_sde)
        round = round && c->beta_kind != BETA_COSINE;
    for (int i = 0; i < n; i++) {
        double t = c->sigmas == SIGMA_FLOW ? p->sigma[i] * c->train_steps
                                           : spacing_sigma_to_t(p->sigma[i], log_table, p->table.n);
        p->timestep[i] = round ? nearbyint(t) : floor(t + 1e-9);
    }
}

static int dpm_levels(struct solver_plan *p, int n, const double *table, const double *log_table)
{
    const struct solver_config *c = &p->config;
    if (c->sigmas == SIGMA_TABLE) {
        if (c->n_custom > 0)
            memcpy(p->timestep, c->custom, (size_t)n * sizeof *p->timestep);
        else
            n = spacing_timesteps(p->timestep, c->spacing, n, c->train_steps, c->steps_offset, 1, 1);
        for (int i = 0; i < n; i++)
            p->sigma[i] = spacing_interpolate(p->timestep[i], table, p->table.n);
        p->sigma[n] = c->final_sigma_min || p->solver == &solver_deis ? table[0] : 0;
        return n;
    }
    if (c->sigmas == SIGMA_FLOW)
        dpm_flow_levels(p, n, p->sigma);
    else
        spacing_sigmas(p->sigma, c->sigmas, n, table[p->table.n - 1], table[0]);
    dpm_timesteps(p, log_table, n);
    p->sigma[n] = ends_where_it_is(p) ? p->sigma[n - 1] : c->final_sigma_min ? table[0] : 0;
    return n;
}

int solver_plan_dpm(struct solver_plan *p, int n, struct err *err)
{
    if (p->config.order > 3)
        return err_set(err, ERR_INVAL, "solver order %d: %s goes up to 3", p->config.order,
                       p->solver->name);
    double *table = solver_table_sigmas(p, false, err), *logs = solver_table_sigmas(p, true, err);
    int rc = table == NULL || logs == NULL ? ERR_NOMEM : solver_plan_room(p, n + 1, n + 2, err);
    if (rc == ERR_OK) {
        p->n_calls = dpm_levels(p, n, table, logs);
        p->n_sigmas = p->n_calls + 1;
    }
    free(table);
    free(logs);
    return rc;
}

/* --- one update of order 1..3 from level s (levels older first in `at`) to level t */

struct dpm_update {
    double alpha_t, sigma_t, keep;      /* keep: of x */
    double phi1, phi2, phi3;            /* weights of D0, D1, D2 */
    double noise;
};

/* phi functions of the four algorithms (Lu et al. eq. 4.1 to 4.4 and their SDE forms). */
static struct dpm_update dpm_weights(const struct solver_config *c, double level_t, double level_s,
                                     double h, bool midpoint)
{
    struct dpm_update u = {0};
    double alpha_s, sigma_s;
    solver_alpha_sigma(c, level_t, &u.alpha_t, &u.sigma_t);
    solver_alpha_sigma(c, level_s, &alpha_s, &sigma_s);
    double a = u.alpha_t, s = u.sigma_t, e;
    switch (c->algorithm) {
    case DPM_PLUS:
        e = expm1(-h);
        u.keep = s / sigma_s;
        u.phi1 = -a * e;
        u.phi2 = midpoint ? -0.5 * a * e : a * (e / h + 1);
        u.phi3 = -a * ((e + h) / (h * h) - 0.5);
        break;
    case DPM_PLAIN:
        e = expm1(h);
        u.keep = a / alpha_s;
        u.phi1 = -s * e;
        u.phi2 = midpoint ? -0.5 * s * e : -s * (e / h - 1);
        u.phi3 = -s * ((e - h) / (h * h) - 0.5);
        break;
    case DPM_PLUS_SDE:
        e = -expm1(-2 * h);
        u.keep = s / sigma_s * exp(-h);
        u.phi1 = a * e;
        u.phi2 = midpoint ? 0.5 * a * e : a * (e / (-2 * h) + 1);
        u.phi3 = a * ((e - 2 * h) / (4 * h * h) - 0.5);
        u.noise = s * sqrt(e);
        break;
    case DPM_PLAIN_SDE:
        e = expm1(h);
        u.keep = a / alpha_s;
        u.phi1 = -2 * s * e;
        u.phi2 = midpoint ? -s * e : -2 * s * (e / h - 1);
        u.phi3 = 0;
        u.noise = s * sqrt(expm1(2 * h));
        break;
    }
    return u;
}

/* x = keep from + phi1 D0 + phi2 D1 + phi3 D2 + noise, with the differences D written out in the
 * outputs m: d[k][j] is the weight of m[j] in D_k. */
static void dpm_apply(const struct dpm_update *u, const double d[3][3], int order, const float *from,
                      float *const *m, const float *noise, float *x, int64_t n)
{
    double coef[5] = {u->keep};
    const float *src[5] = {from};
    double phi[3] = {u->phi1, u->phi2, u->phi3};
    for (int j = 0; j < order; j++) {
        double sum = 0;
        for (int k = 0; k < order; k++)
            if (d[k][j] != 0)
                sum += phi[k] * d[k][j];
        coef[j + 1] = sum;
        src[j + 1] = m[j];
    }
    coef[order + 1] = noise != NULL ? u->noise : 0;
    src[order + 1] = noise;
    solver_mix(x, n, order + 2, coef, src);
}

/* The model's answer as x0 (++ forms) or noise (plain forms) becomes the newest of the history. */
static void dpm_convert(const struct solver_plan *p, int call, struct solver_state *s,
                        const float *out, const float *x)
{
    const struct solver_config *c = &p->config;
    bool clean = c->algorithm == DPM_PLUS || c->algorithm == DPM_PLUS_SDE;
    double alpha, sigma, ab[2];
    float *m = solver_push_history(s, c->order);
    solver_alpha_sigma(c, p->sigma[call], &alpha, &sigma);
    if (clean || c->threshold) {
        solver_clean_coefficients(c->prediction, alpha, sigma, ab);
        solver_mix(m, s->n, 2, ab, (const float *const[]){x, out});
        if (c->threshold)
            solver_limit_clean(c, m, s->n, s->scratch);
        if (!clean)
            solver_mix(m, s->n, 2, (const double[]){1 / sigma, -alpha / sigma},
                       (const float *const[]){x, m});
    } else {
        solver_noise_coefficients(c->prediction, alpha, sigma, ab);
        solver_mix(m, s->n, 2, ab, (const float *const[]){x, out});
    }
}

/* --- multistep */

static void multistep_update(const struct solver_plan *p, int call, struct solver_state *s, int order,
                             const float *noise, float *x)
{
    const struct solver_config *c = &p->config;
    double l_t = solver_lambda(c, p->sigma[call + 1]), l0 = solver_lambda(c, p->sigma[call]);
    double h = l_t - l0, d[3][3] = {{1, 0, 0}};
    if (order > 1) {
        double r0 = (l0 - solver_lambda(c, p->sigma[call - 1])) / h;
        d[1][0] = 1 / r0;
        d[1][1] = -1 / r0;
        if (order > 2) {
            double r1 = (solver_lambda(c, p->sigma[call - 1]) - solver_lambda(c, p->sigma[call - 2])) / h;
            double first[3] = {1 / r0, -1 / r0, 0}, second[3] = {0, 1 / r1, -1 / r1};
            for (int j = 0; j < 3; j++) {
                d[1][j] = first[j] + r0 / (r0 + r1) * (first[j] - second[j]);
                d[2][j] = (first[j] - second[j]) / (r0 + r1);
            }
        }
    }
    struct dpm_update u = dpm_weights(c, p->sigma[call + 1], p->sigma[call], h,
                                      order == 2 && c->variant == VARIANT_MIDPOINT);
    dpm_apply(&u, d, order, x, s->history, noise, x, s->n);
}

static int multistep_order(const struct solver_plan *p, int call, const struct solver_state *s,
                           bool first_at_end)
{
    bool last = call == p->n_calls - 1, second_last = call == p->n_calls - 2;
    bool lower = p->config.lower_order_final && p->n_calls < 15;
    if (p->config.order == 1 || s->n_history < 2 || (last && (lower || first_at_end)))
        return 1;
    if (p->config.order == 2 || s->n_history < 3 || (second_last && lower))
        return 2;
    return 3;
}

static void dpm_multi_step(const struct solver_plan *p, int call, struct solver_state *s,
                           const float *out, float *x, const float *noise)
{
    const struct solver_config *c = &p->config;
    dpm_convert(p, call, s, out, x);
    int order = multistep_order(p, call, s, c->euler_at_final || !c->final_sigma_min);
    multistep_update(p, call, s, order, noise, x);
}

static bool sde_draws(const struct solver_plan *p, int call)
{
    return p->config.algorithm == DPM_PLUS_SDE || p->config.algorithm == DPM_PLAIN_SDE;
}

static int plan_dpm_multi(struct solver_plan *p, int n, struct err *err)
{
    const struct solver_config *c = &p->config;
    if ((c->algorithm == DPM_PLAIN || c->algorithm == DPM_PLAIN_SDE) && !c->final_sigma_min)
        return err_set(err, ERR_INVAL, "final_sigmas_type zero needs dpmsolver++: the plain algorithm "
                                       "divides by the last sigma (use sigma_min)");
    return solver_plan_dpm(p, n, err);
}

static void sde_defaults(struct solver_config *c) { c->algorithm = DPM_PLUS_SDE; }

const struct solver solver_dpm_multi = {
    .name = "dpmpp_2m", .class_name = "DPMSolverMultistepScheduler",
    .summary = "DPM-Solver++ multistep, 15 to 25 steps", .plan = plan_dpm_multi, .draws = sde_draws,
    .step = dpm_multi_step,
};

const struct solver solver_dpm_sde = {
    .name = "dpmpp_2m_sde", .class_name = "DPMSolverMultistepScheduler.sde",
    .summary = "DPM-Solver++ multistep with noise", .defaults = sde_defaults, .plan = plan_dpm_multi,
    .draws = sde_draws, .step = dpm_multi_step,
};

/* --- single step: orders 1, 2, 3 in turn, each from the level where its group began */

static void single_defaults(struct solver_config *c) { c->lower_order_final = false; }

static int plan_dpm_single(struct solver_plan *p, int n, struct err *err)
{
    const struct solver_config *c = &p->config;
    TRY(plan_dpm_multi(p, n, err));
    n = p->n_calls;
    int order = c->order;
    bool lower = c->lower_order_final || n % order != 0 || !c->final_sigma_min;
    for (int i = 0; i < n; i++)
        p->order[i] = i % order + 1;
    if (lower && order == 3) {
        if (n % 3 == 0 && n >= 1)
            p->order[n - 1] = 1;        /* ... 1 2 | 1 */
    } else if (lower && order == 2 && n % 2 == 0) {
        p->order[n - 1] = 1;            /* ... 1 | 1 */
    }
    if (!c->final_sigma_min)
        p->order[n - 1] = 1;
    return ERR_OK;
}

static void single_update(const struct solver_plan *p, int call, struct solver_state *s, int order,
                          const float *noise, float *x)
{
    const struct solver_config *c = &p->config;
    int origin = call - order + 1;
    double l_o = solver_lambda(c, p->sigma[origin]), h = solver_lambda(c, p->sigma[call + 1]) - l_o;
    double d[3][3] = {{0}};
    d[0][order - 1] = 1;        /* D0 is the answer at the group's beginning */
    bool midpoint = c->variant == VARIANT_MIDPOINT;
    double r0 = order > 1 ? (solver_lambda(c, p->sigma[call]) - l_o) / h : 0;
    if (order == 2) {
        d[1][0] = 1 / r0;
        d[1][1] = -1 / r0;
    } else if (order == 3) {
        double r1 = (solver_lambda(c, p->sigma[call - 1]) - l_o) / h;
        double near[3] = {0, 1 / r1, -1 / r1}, far[3] = {1 / r0, 0, -1 / r0};
        for (int j = 0; j < 3; j++) {
            d[1][j] = midpoint ? far[j] : (r0 * near[j] - r1 * far[j]) / (r0 - r1);
            d[2][j] = midpoint ? 0 : 2 * (far[j] - near[j]) / (r0 - r1);
        }
    }
    struct dpm_update u = dpm_weights(c, p->sigma[call + 1], p->sigma[origin], h,
                                      order == 2 && midpoint);
    dpm_apply(&u, d, order, s->saved, s->history, noise, x, s->n);
}

static void dpm_single_step(const struct solver_plan *p, int call, struct solver_state *s,
                            const float *out, float *x, const float *noise)
{
    dpm_convert(p, call, s, out, x);
    int order = p->order[call];
    if (order > s->n_history)
        order = s->n_history;
    if (order == 1)
        memcpy(s->saved, x, (size_t)s->n * sizeof *x);
    single_update(p, call, s, order, noise, x);
}

const struct solver solver_dpm_single = {
    .name = "dpmpp_s", .class_name = "DPMSolverSinglestepScheduler",
    .summary = "DPM-Solver++ single-step", .defaults = single_defaults, .plan = plan_dpm_single,
    .draws = sde_draws, .step = dpm_single_step,
};

/* --- DEIS: exponential integrator, polynomial in ln rho, rho = sigma / alpha */

static double deis_2(double t, double b, double c)
{
    return t * (-log(c) + log(t) - 1) / (log(b) - log(c));
}

static double deis_3(double t, double b, double c, double d)
{
    double lt = log(t), lc = log(c), ld = log(d);
    double top = t * (lc * (ld - lt + 1) - ld * lt + ld + lt * lt - 2 * lt + 2);
    return top / ((log(b) - lc) * (log(b) - ld));
}

static double rho_of(const struct solver_config *c, double level)
{
    double alpha, sigma;
    solver_alpha_sigma(c, level, &alpha, &sigma);
    return sigma / alpha;
}

static void deis_step(const struct solver_plan *p, int call, struct solver_state *s, const float *out,
                      float *x, const float *noise)
{
    const struct solver_config *c = &p->config;
    double alpha_t, sigma_t, alpha_s, sigma_s, rho[4] = {0}, w[3];
    dpm_convert(p, call, s, out, x);
    int order = multistep_order(p, call, s, false);
    solver_alpha_sigma(c, p->sigma[call + 1], &alpha_t, &sigma_t);
    solver_alpha_sigma(c, p->sigma[call], &alpha_s, &sigma_s);
    rho[3] = rho_of(c, p->sigma[call + 1]);
    for (int j = 0; j < order; j++)
        rho[j] = rho_of(c, p->sigma[call - j]);
    double t = rho[3], a = rho[0], b = rho[1], e = rho[2];
    if (order == 1) {
        w[0] = t - a;       /* the integral of 1 over rho */
    } else if (order == 2) {
        w[0] = deis_2(t, a, b) - deis_2(a, a, b);
        w[1] = deis_2(t, b, a) - deis_2(a, b, a);
    } else {
        w[0] = deis_3(t, a, b, e) - deis_3(a, a, b, e);
        w[1] = deis_3(t, b, e, a) - deis_3(a, b, e, a);
        w[2] = deis_3(t, e, a, b) - deis_3(a, e, a, b);
    }
    double coef[4] = {alpha_t / alpha_s};
    const float *src[4] = {x};
    for (int j = 0; j < order; j++) {
        coef[j + 1] = alpha_t * w[j];
        src[j + 1] = s->history[j];
    }
    solver_mix(x, s->n, order + 1, coef, src);
}

static void deis_defaults(struct solver_config *c)
{
    c->algorithm = DPM_PLAIN;       /* its history holds noise */
    c->final_sigma_min = true;
}

const struct solver solver_deis = {
    .name = "deis", .class_name = "DEISMultistepScheduler", .summary = "exponential integrator",
    .defaults = deis_defaults, .plan = solver_plan_dpm, .draws = solver_never_draws,
    .step = deis_step,
};
