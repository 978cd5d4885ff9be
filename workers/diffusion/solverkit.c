#include "workers/diffusion/solverkit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void solver_mix(float *out, int64_t n, int count, const double *coef, const float *const *src)
{
    for (int64_t i = 0; i < n; i++) {
        double sum = 0;
        for (int k = 0; k < count; k++)
            if (coef[k] != 0)
                sum += coef[k] * src[k][i];
        out[i] = (float)sum;
    }
}

void solver_clean_coefficients(enum prediction p, double alpha, double sigma, double ab[2])
{
    switch (p) {
    case PREDICT_EPSILON:
        ab[0] = 1 / alpha;
        ab[1] = -sigma / alpha;
        break;
    case PREDICT_V:
        ab[0] = alpha;
        ab[1] = -sigma;
        break;
    case PREDICT_SAMPLE:
        ab[0] = 0;
        ab[1] = 1;
        break;
    case PREDICT_FLOW:      /* v = noise - x0 with alpha + sigma = 1 */
        ab[0] = 1;
        ab[1] = -sigma;
        break;
    }
}

void solver_noise_coefficients(enum prediction p, double alpha, double sigma, double ab[2])
{
    switch (p) {
    case PREDICT_EPSILON:
        ab[0] = 0;
        ab[1] = 1;
        break;
    case PREDICT_V:
        ab[0] = sigma;
        ab[1] = alpha;
        break;
    case PREDICT_SAMPLE:
        ab[0] = 1 / sigma;
        ab[1] = -alpha / sigma;
        break;
    case PREDICT_FLOW:
        ab[0] = (1 - alpha) / sigma;
        ab[1] = alpha;
        break;
    }
}

static int compare_floats(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Dynamic thresholding (Saharia et al. 2205.11487): the q quantile of |x0|, at least 1, becomes 1. */
static void threshold_clean(const struct solver_config *c, float *x0, int64_t n, float *scratch)
{
    for (int64_t i = 0; i < n; i++)
        scratch[i] = fabsf(x0[i]);
    qsort(scratch, (size_t)n, sizeof *scratch, compare_floats);
    double at = c->threshold_ratio * (double)(n - 1);
    int64_t low = (int64_t)at, high = low + 1 < n ? low + 1 : low;
    double s = scratch[low] + (scratch[high] - (double)scratch[low]) * (at - (double)low);
    s = s > c->threshold_max ? c->threshold_max : s;
    s = s < 1 ? 1 : s;
    for (int64_t i = 0; i < n; i++) {
        double v = x0[i] > s ? s : x0[i] < -s ? -s : x0[i];
        x0[i] = (float)(v / s);
    }
}

void solver_limit_clean(const struct solver_config *c, float *x0, int64_t n, float *scratch)
{
    if (c->threshold) {
        threshold_clean(c, x0, n, scratch);
    } else if (c->clip) {
        float r = (float)c->clip_range;
        for (int64_t i = 0; i < n; i++)
            x0[i] = x0[i] > r ? r : x0[i] < -r ? -r : x0[i];
    }
}

float *solver_push_history(struct solver_state *s, int keep)
{
    float *oldest = s->history[SOLVER_HISTORY - 1];
    for (int i = SOLVER_HISTORY - 1; i > 0; i--)
        s->history[i] = s->history[i - 1];
    s->history[0] = oldest;
    if (s->n_history < keep)
        s->n_history++;
    return oldest;
}

int solver_plan_room(struct solver_plan *p, int calls, int sigmas, struct err *err)
{
    p->timestep = calloc((size_t)calls + 2, sizeof *p->timestep);
    p->sigma = calloc((size_t)sigmas + 2, sizeof *p->sigma);
    p->order = calloc((size_t)calls + 2, sizeof *p->order);
    if (p->timestep == NULL || p->sigma == NULL || p->order == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a plan of %d steps", calls);
    p->n_calls = calls;
    p->n_sigmas = sigmas;
    return ERR_OK;
}

double *solver_table_sigmas(const struct solver_plan *p, bool log_of, struct err *err)
{
    double *s = malloc((size_t)p->table.n * sizeof *s);
    if (s == NULL) {
        err_set(err, ERR_NOMEM, "no memory for %d noise levels", p->table.n);
        return NULL;
    }
    for (int i = 0; i < p->table.n; i++) {
        double abar = p->table.alpha_bar[i];
        if (p->config.zero_snr && i == p->table.n - 1)
            abar = 0x1p-24;     /* infinity would spread; this is sigma 4096 */
        s[i] = sqrt((1 - abar) / abar);
        if (log_of)
            s[i] = log(s[i]);
    }
    return s;
}

void solver_alpha_sigma(const struct solver_config *c, double level, double *alpha, double *sigma)
{
    if (c->sigmas == SIGMA_FLOW) {
        *alpha = 1 - level;
        *sigma = level;
    } else {
        *alpha = 1 / sqrt(level * level + 1);
        *sigma = level * *alpha;
    }
}

double solver_lambda(const struct solver_config *c, double level)
{
    double alpha, sigma;
    solver_alpha_sigma(c, level, &alpha, &sigma);
    return log(alpha) - log(sigma);
}

bool solver_never_draws(const struct solver_plan *p, int call)
{
    (void)p;
    (void)call;
    return false;
}
