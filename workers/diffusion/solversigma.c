/* Samplers in sigma space (x = x0 + sigma e: Euler, Euler ancestral, Heun, LMS) and on the straight path
 * of flow matching (x = (1 - s) x0 + s noise: flow Euler, flow Heun). */
#include "workers/diffusion/solverkit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- planning */

static double sigma_coordinate(enum spacing s, double largest)
{
    return s == SPACING_LEADING ? sqrt(largest * largest + 1) : largest;
}

/* Levels and timesteps of n steps into level [n], t [n]; logs of the table in log_table. */
static int plan_levels(const struct solver_plan *p, const double *table, const double *log_table,
                       int n, double *level, double *t)
{
    const struct solver_config *c = &p->config;
    int T = p->table.n;
    if (c->n_custom > 0 && c->custom_sigmas) {
        for (int i = 0; i < n; i++) {
            level[i] = c->custom[i];
            t[i] = spacing_sigma_to_t(level[i], log_table, T);
        }
        return n;
    }
    if (c->n_custom > 0)
        memcpy(t, c->custom, (size_t)n * sizeof *t);
    else
        n = spacing_timesteps(t, c->spacing, n, c->train_steps, c->steps_offset, 0, 0);
    for (int i = 0; i < n; i++)
        level[i] = spacing_interpolate(t[i], table, T);
    if (c->sigmas == SIGMA_TABLE)
        return n;
    double largest = c->sigma_max > 0 ? c->sigma_max : level[0];
    double smallest = c->sigma_min > 0 ? c->sigma_min : level[n - 1];
    spacing_sigmas(level, c->sigmas, n, largest, smallest);
    for (int i = 0; i < n; i++)
        t[i] = spacing_sigma_to_t(level[i], log_table, T);
    return n;
}

int solver_plan_sigma_space(struct solver_plan *p, int n, struct err *err)
{
    const struct solver_config *c = &p->config;
    if (c->n_custom > 1 && c->custom_sigmas)
        n--;        /* the last one given is where the last step ends */
    double *table = solver_table_sigmas(p, false, err), *logs = solver_table_sigmas(p, true, err);
    int rc = table == NULL || logs == NULL ? ERR_NOMEM : solver_plan_room(p, n + 1, n + 2, err);
    if (rc == ERR_OK) {
        int m = plan_levels(p, table, logs, n, p->sigma, p->timestep), end = m;
        if (c->log_linear) {        /* n + 1 levels evenly in log sigma, then the last */
            spacing_sigmas(p->sigma, SIGMA_EXPONENTIAL, m + 1, table[p->table.n - 1], table[0]);
            end = m + 1;
        }
        p->sigma[end] = c->n_custom > 0 && c->custom_sigmas ? c->custom[n]
                        : c->final_sigma_min               ? table[0]
                                                           : 0;
        p->n_steps = p->n_calls = m;
        p->n_sigmas = end + 1;
        if (c->continuous_time && c->prediction == PREDICT_V)
            for (int i = 0; i < m; i++)
                p->timestep[i] = 0.25 * log(p->sigma[i]);
        double largest = 0;
        for (int i = 0; i < p->n_sigmas; i++)
            largest = p->sigma[i] > largest ? p->sigma[i] : largest;
        p->init_scale = sigma_coordinate(c->spacing, largest);
    }
    free(table);
    free(logs);
    return rc;
}

/* Two-call samplers visit each level but the first twice: s0 | s1 s1 | s2 s2 | ... | end. */
static int double_calls(struct solver_plan *p, struct err *err)
{
    int n = p->n_calls;
    double *t = p->timestep, *s = p->sigma;
    p->timestep = NULL;
    p->sigma = NULL;
    free(p->order);
    p->order = NULL;
    int rc = solver_plan_room(p, 2 * n - 1, 2 * n, err);
    if (rc == ERR_OK) {
        for (int i = 0; i < 2 * n - 1; i++) {
            p->timestep[i] = t[(i + 1) / 2];
            p->sigma[i] = s[(i + 1) / 2];
        }
        p->sigma[2 * n - 1] = s[n];
    }
    free(t);
    free(s);
    return rc;
}

static int plan_heun(struct solver_plan *p, int n, struct err *err)
{
    TRY(solver_plan_sigma_space(p, n, err));
    return double_calls(p, err);
}

/* x0 in sigma space from the model's answer: a x + b out. */
static void clean_in_sigma_space(enum prediction prediction, double sigma, double ab[2])
{
    if (prediction == PREDICT_V) {
        ab[0] = 1 / (sigma * sigma + 1);
        ab[1] = -sigma / sqrt(sigma * sigma + 1);
    } else if (prediction == PREDICT_SAMPLE) {
        ab[0] = 0;
        ab[1] = 1;
    } else {
        ab[0] = 1;
        ab[1] = -sigma;
    }
}

/* --- Euler, with churn (Karras et al. algorithm 2) */

static double euler_gamma(const struct solver_plan *p, int call)
{
    const struct solver_config *c = &p->config;
    double s = p->sigma[call], most = sqrt(2) - 1, gamma = c->churn / (p->n_sigmas - 1);
    if (s < c->churn_min || s > c->churn_max)
        return 0;
    return gamma < most ? gamma : most;
}

static bool euler_draws(const struct solver_plan *p, int call) { return euler_gamma(p, call) > 0; }

static void euler_step(const struct solver_plan *p, int call, struct solver_state *s, const float *out,
                       float *x, const float *noise)
{
    double gamma = euler_gamma(p, call), sigma = p->sigma[call], hat = sigma * (gamma + 1), ab[2];
    if (gamma > 0)
        solver_mix(x, s->n, 2,
                   (const double[]){1, p->config.churn_noise * sqrt(hat * hat - sigma * sigma)},
                   (const float *const[]){x, noise});
    clean_in_sigma_space(p->config.prediction, p->config.prediction == PREDICT_V ? sigma : hat, ab);
    double step = (p->sigma[call + 1] - hat) / hat;     /* (x - x0) / hat times the way to go */
    solver_mix(x, s->n, 2, (const double[]){1 + step * (1 - ab[0]), -step * ab[1]},
               (const float *const[]){x, out});
}

const struct solver solver_euler = {
    .name = "euler", .class_name = "EulerDiscreteScheduler", .summary = "first order, 20 to 30 steps",
    .sigma_space = true, .plan = solver_plan_sigma_space, .draws = euler_draws, .step = euler_step,
};

/* --- Euler ancestral: part of the noise is drawn anew at every step */

static bool always_draws(const struct solver_plan *p, int call) { return true; }

static void euler_a_step(const struct solver_plan *p, int call, struct solver_state *s,
                         const float *out, float *x, const float *noise)
{
    double from = p->sigma[call], to = p->sigma[call + 1], ab[2];
    double up = sqrt(to * to * (from * from - to * to) / (from * from));
    double down = sqrt(to * to - up * up), step = (down - from) / from;
    clean_in_sigma_space(p->config.prediction, from, ab);
    solver_mix(x, s->n, 3, (const double[]){1 + step * (1 - ab[0]), -step * ab[1], up},
               (const float *const[]){x, out, noise});
}

const struct solver solver_euler_a = {
    .name = "euler_a", .class_name = "EulerAncestralDiscreteScheduler",
    .summary = "first order with fresh noise", .sigma_space = true, .plan = solver_plan_sigma_space,
    .draws = always_draws, .step = euler_a_step,
};

/* --- Heun (Karras et al. algorithm 1): two evaluations a step, the last step one */

static void heun_second_half(struct solver_state *s, double dt, const float *derivative, float *x)
{
    solver_mix(x, s->n, 3, (const double[]){1, dt / 2, dt / 2},
               (const float *const[]){s->saved, s->history[0], derivative});
}

static void heun_step(const struct solver_plan *p, int call, struct solver_state *s, const float *out,
                      float *x, const float *noise)
{
    bool first = call % 2 == 0;
    double sigma = p->sigma[first ? call : call - 1], next = p->sigma[first ? call + 1 : call];
    double level = first ? sigma : next, ab[2];
    float *d = s->scratch, *x0 = s->history[1];
    clean_in_sigma_space(p->config.prediction, level, ab);
    solver_mix(x0, s->n, 2, ab, (const float *const[]){x, out});
    solver_limit_clean(&p->config, x0, s->n, s->scratch);
    solver_mix(d, s->n, 2, (const double[]){1 / level, -1 / level}, (const float *const[]){x, x0});
    if (!first) {
        heun_second_half(s, next - sigma, d, x);
        return;
    }
    memcpy(s->saved, x, (size_t)s->n * sizeof *x);
    memcpy(s->history[0], d, (size_t)s->n * sizeof *d);
    solver_mix(x, s->n, 2, (const double[]){1, next - sigma}, (const float *const[]){x, d});
}

const struct solver solver_heun = {
    .name = "heun", .class_name = "HeunDiscreteScheduler", .summary = "second order, two calls a step",
    .sigma_space = true, .plan = plan_heun, .draws = solver_never_draws, .step = heun_step,
};

/* --- LMS: Adams-Bashforth on uneven levels */

static void lms_defaults(struct solver_config *c) { c->order = 4; }

/* Integral over [a, b] of the Lagrange polynomial that is 1 at level[call - j] and 0 at the other
 * order - 1 levels: cubic at most, so that four Gauss points are exact. */
static double lms_coefficient(const double *level, int call, int order, int j)
{
    static const double node[4] = {-0.8611363115940526, -0.3399810435848563, 0.3399810435848563,
                                   0.8611363115940526};
    static const double weight[4] = {0.3478548451374538, 0.6521451548625461, 0.6521451548625461,
                                     0.3478548451374538};
    double a = level[call], b = level[call + 1], sum = 0;
    for (int g = 0; g < 4; g++) {
        double at = (a + b) / 2 + (b - a) / 2 * node[g], product = 1;
        for (int k = 0; k < order; k++)
            if (k != j)
                product *= (at - level[call - k]) / (level[call - j] - level[call - k]);
        sum += weight[g] * product;
    }
    return sum * (b - a) / 2;
}

static void lms_step(const struct solver_plan *p, int call, struct solver_state *s, const float *out,
                     float *x, const float *noise)
{
    double sigma = p->sigma[call], ab[2], coef[SOLVER_HISTORY + 1] = {1};
    int order = call + 1 < p->config.order ? call + 1 : p->config.order;
    float *d = solver_push_history(s, p->config.order);
    clean_in_sigma_space(p->config.prediction, sigma, ab);
    solver_mix(d, s->n, 2, (const double[]){(1 - ab[0]) / sigma, -ab[1] / sigma},
               (const float *const[]){x, out});
    const float *src[SOLVER_HISTORY + 1] = {x};
    int terms = order < s->n_history ? order : s->n_history;
    for (int j = 0; j < terms; j++) {
        coef[j + 1] = lms_coefficient(p->sigma, call, order, j);
        src[j + 1] = s->history[j];
    }
    solver_mix(x, s->n, terms + 1, coef, src);
}

const struct solver solver_lms = {
    .name = "lms", .class_name = "LMSDiscreteScheduler", .summary = "linear multistep, order 4",
    .sigma_space = true, .defaults = lms_defaults, .plan = solver_plan_sigma_space,
    .draws = solver_never_draws, .step = lms_step,
};

/* --- flow matching */

static double flow_shifted(const struct solver_config *c, double s)
{
    if (!c->dynamic_shift)
        return spacing_shift(s, c->shift);
    double k = c->shift_linear ? c->mu : exp(c->mu);
    return k / (k + (1 / s - 1));
}

/* Levels of n steps. Those not given run from the shifted largest to the shifted smallest training
 * level and are then shifted once more, as the published pipelines' scheduler does. */
static void flow_levels(const struct solver_config *c, int n, double *s)
{
    double top = 1, bottom = 1.0 / c->train_steps;
    if (!c->dynamic_shift) {
        top = spacing_shift(top, c->shift);
        bottom = spacing_shift(bottom, c->shift);
    }
    for (int i = 0; i < n; i++) {
        double at = n > 1 ? (double)i / (n - 1) : 0;
        double given = c->n_custom > 0 ? c->custom[i] : top + at * (bottom - top);
        s[i] = flow_shifted(c, given);
    }
    if (c->shift_terminal > 0) {
        double scale = (1 - s[n - 1]) / (1 - c->shift_terminal);
        for (int i = 0; i < n; i++)
            s[i] = 1 - (1 - s[i]) / scale;
    }
    if (c->sigmas != SIGMA_TABLE && c->sigmas != SIGMA_FLOW)
        spacing_sigmas(s, c->sigmas, n, s[0], s[n - 1]);
}

static int plan_flow(struct solver_plan *p, int n, struct err *err)
{
    const struct solver_config *c = &p->config;
    for (int i = 0; i < c->n_custom; i++)
        if (!(c->custom[i] > 0 && c->custom[i] <= 1))
            return err_set(err, ERR_INVAL, "sigma %g: levels of flow matching lie in (0, 1]",
                           c->custom[i]);
    TRY(solver_plan_room(p, n, n + 1, err));
    flow_levels(c, n, p->sigma);
    for (int i = 0; i < n; i++) {
        p->sigma[i] = c->invert ? 1 - p->sigma[i] : p->sigma[i];
        p->timestep[i] = p->sigma[i] * c->train_steps;
    }
    p->sigma[n] = c->invert ? 1 : 0;
    return ERR_OK;
}

static bool flow_draws(const struct solver_plan *p, int call) { return p->config.stochastic; }

static void flow_euler_step(const struct solver_plan *p, int call, struct solver_state *s,
                            const float *out, float *x, const float *noise)
{
    double from = p->sigma[call], to = p->sigma[call + 1];
    if (p->config.stochastic)       /* the clean image, noised anew */
        solver_mix(x, s->n, 3, (const double[]){1 - to, -(1 - to) * from, to},
                   (const float *const[]){x, out, noise});
    else
        solver_mix(x, s->n, 2, (const double[]){1, to - from}, (const float *const[]){x, out});
}

static void flow_defaults(struct solver_config *c) { c->prediction = PREDICT_FLOW; }

const struct solver solver_flow_euler = {
    .name = "flow_euler", .class_name = "FlowMatchEulerDiscreteScheduler",
    .summary = "flow matching, first order", .flow = true, .defaults = flow_defaults,
    .plan = plan_flow, .draws = flow_draws, .step = flow_euler_step,
};

static int plan_flow_heun(struct solver_plan *p, int n, struct err *err)
{
    TRY(plan_flow(p, n, err));
    return double_calls(p, err);
}

static void flow_heun_step(const struct solver_plan *p, int call, struct solver_state *s,
                           const float *out, float *x, const float *noise)
{
    bool first = call % 2 == 0;
    double dt = first ? p->sigma[call + 1] - p->sigma[call] : p->sigma[call] - p->sigma[call - 1];
    if (!first) {
        heun_second_half(s, dt, out, x);
        return;
    }
    memcpy(s->saved, x, (size_t)s->n * sizeof *x);
    memcpy(s->history[0], out, (size_t)s->n * sizeof *out);
    solver_mix(x, s->n, 2, (const double[]){1, dt}, (const float *const[]){x, out});
}

const struct solver solver_flow_heun = {
    .name = "flow_heun", .class_name = "FlowMatchHeunDiscreteScheduler",
    .summary = "flow matching, second order", .flow = true, .defaults = flow_defaults,
    .plan = plan_flow_heun, .draws = solver_never_draws, .step = flow_heun_step,
};
