/* UniPC (Zhao et al. 2302.04867): a multistep predictor, corrected when the next answer is known. */
#include "workers/diffusion/solverkit.h"

#include <math.h>
#include <string.h>

static void unipc_defaults(struct solver_config *c) { c->variant = VARIANT_BH2; }

/* Solves R w = b, n <= 3, by elimination with row exchange. */
static void solve_small(double r[3][3], double *b, double *w, int n)
{
    for (int i = 0; i < n; i++) {
        int pivot = i;
        for (int k = i + 1; k < n; k++)
            if (fabs(r[k][i]) > fabs(r[pivot][i]))
                pivot = k;
        for (int j = 0; j < n; j++) {
            double t = r[i][j];
            r[i][j] = r[pivot][j];
            r[pivot][j] = t;
        }
        double t = b[i];
        b[i] = b[pivot];
        b[pivot] = t;
        for (int k = i + 1; k < n; k++) {
            double f = r[k][i] / r[i][i];
            for (int j = i; j < n; j++)
                r[k][j] -= f * r[i][j];
            b[k] -= f * b[i];
        }
    }
    for (int i = n - 1; i >= 0; i--) {
        double sum = b[i];
        for (int j = i + 1; j < n; j++)
            sum -= r[i][j] * w[j];
        w[i] = sum / r[i][i];
    }
}

/* What predictor and corrector share: from level `from` to level `to`, with `order` points. */
struct unipc_move {
    double keep, first, scale;      /* x = keep x + first m0 + scale (sum of w_k D_k) */
    double rk[3];                   /* where the older answers lie, in units of h; the last is 1 */
    double r[3][3], b[3];
};

static struct unipc_move unipc_move(const struct solver_plan *p, int from, int order)
{
    const struct solver_config *c = &p->config;
    struct unipc_move u = {0};
    double alpha_t, sigma_t, alpha_s, sigma_s, l0 = solver_lambda(c, p->sigma[from]);
    solver_alpha_sigma(c, p->sigma[from + 1], &alpha_t, &sigma_t);
    solver_alpha_sigma(c, p->sigma[from], &alpha_s, &sigma_s);
    double h = solver_lambda(c, p->sigma[from + 1]) - l0, hh = c->predict_x0 ? -h : h;
    double phi1 = expm1(hh), phi = phi1 / hh - 1, factorial = 1;
    double bh = c->variant == VARIANT_BH1 ? hh : phi1;
    for (int i = 1; i < order; i++)
        u.rk[i - 1] = (solver_lambda(c, p->sigma[from - i]) - l0) / h;
    u.rk[order - 1] = 1;
    for (int i = 0; i < order; i++) {
        for (int j = 0; j < order; j++)
            u.r[i][j] = i == 0 ? 1 : u.r[i - 1][j] * u.rk[j];
        u.b[i] = phi * factorial / bh;
        factorial *= i + 2;
        phi = phi / hh - 1 / factorial;
    }
    u.keep = c->predict_x0 ? sigma_t / sigma_s : alpha_t / alpha_s;
    u.first = -(c->predict_x0 ? alpha_t : sigma_t) * phi1;
    u.scale = -(c->predict_x0 ? alpha_t : sigma_t) * bh;
    return u;
}

/* x to the next level; history[0] is the answer here. */
static void unipc_predict(const struct solver_plan *p, int call, struct solver_state *s, int order,
                          float *x)
{
    struct unipc_move u = unipc_move(p, call, order);
    double w[3] = {0.5}, coef[4] = {u.keep, u.first};
    const float *src[4] = {x, s->history[0]};
    if (order > 2)
        solve_small(u.r, u.b, w, order - 1);
    for (int k = 0; k < order - 1; k++) {       /* D_k = (m_k+1 - m_0) / rk */
        double weight = u.scale * w[k] / u.rk[k];
        coef[1] -= weight;
        coef[k + 2] = weight;
        src[k + 2] = s->history[k + 1];
    }
    solver_mix(x, s->n, order + 1, coef, src);
}

/* x at `call` once more, now that the answer there (`now`) is known; saved is x at the call before. */
static void unipc_correct(const struct solver_plan *p, int call, struct solver_state *s, int order,
                          const float *now, float *x)
{
    struct unipc_move u = unipc_move(p, call - 1, order);
    double w[3] = {0.5}, coef[5] = {u.keep, u.first};
    const float *src[5] = {s->saved, s->history[0]};
    if (order > 1)
        solve_small(u.r, u.b, w, order);
    int count = 2;
    for (int k = 0; k < order - 1; k++) {
        double weight = u.scale * w[k] / u.rk[k];
        coef[1] -= weight;
        coef[count] = weight;
        src[count++] = s->history[k + 1];
    }
    coef[1] -= u.scale * w[order - 1];
    coef[count] = u.scale * w[order - 1];
    src[count++] = now;
    solver_mix(x, s->n, count, coef, src);
}

static void unipc_convert(const struct solver_plan *p, int call, struct solver_state *s,
                          const float *out, const float *x, float *m)
{
    const struct solver_config *c = &p->config;
    double alpha, sigma, ab[2];
    solver_alpha_sigma(c, p->sigma[call], &alpha, &sigma);
    if (c->predict_x0)
        solver_clean_coefficients(c->prediction, alpha, sigma, ab);
    else
        solver_noise_coefficients(c->prediction, alpha, sigma, ab);
    solver_mix(m, s->n, 2, ab, (const float *const[]){x, out});
    if (c->predict_x0 && c->threshold)
        solver_limit_clean(c, m, s->n, s->history[SOLVER_HISTORY - 1]);
}

static bool corrects(const struct solver_plan *p, int call, const struct solver_state *s)
{
    for (int i = 0; i < p->config.n_no_corrector; i++)
        if (p->config.no_corrector[i] == call - 1)
            return false;
    return call > 0 && s->calls > 0;
}

static void unipc_step(const struct solver_plan *p, int call, struct solver_state *s, const float *out,
                       float *x, const float *noise)
{
    const struct solver_config *c = &p->config;
    float *now = s->scratch;
    unipc_convert(p, call, s, out, x, now);
    if (corrects(p, call, s))
        unipc_correct(p, call, s, s->last_order, now, x);
    int known = s->n_history;
    memcpy(solver_push_history(s, c->order), now, (size_t)s->n * sizeof *now);
    int order = c->order;
    if (c->lower_order_final && p->n_calls - call < order)
        order = p->n_calls - call;
    if (order > known + 1)
        order = known + 1;
    s->last_order = order;
    memcpy(s->saved, x, (size_t)s->n * sizeof *x);
    unipc_predict(p, call, s, order, x);
}

const struct solver solver_unipc = {
    .name = "unipc", .class_name = "UniPCMultistepScheduler",
    .summary = "predictor-corrector, 8 to 20 steps", .defaults = unipc_defaults,
    .plan = solver_plan_dpm, .draws = solver_never_draws, .step = unipc_step,
};
