/* solverkit.h - what the sampler rows are built of; private to workers/diffusion.
 * Ranks: pure arithmetic. */
#ifndef MUSTER_SOLVERKIT_H
#define MUSTER_SOLVERKIT_H

#include "workers/diffusion/solver.h"

/* out [n] = sum of coef[k] src[k][n], k < count, in double; out may be one of the sources. A source
 * whose coefficient is 0 may be NULL. */
void solver_mix(float *out, int64_t n, int count, const double *coef, const float *const *src);

/* x0 = a x + b out, for the plan's prediction at signal alpha and noise sigma (x = alpha x0 + sigma e);
 * the coefficients into ab. */
void solver_clean_coefficients(enum prediction p, double alpha, double sigma, double ab[2]);
/* The same for the noise e. */
void solver_noise_coefficients(enum prediction p, double alpha, double sigma, double ab[2]);

/* Clips or thresholds a predicted clean image [n] as the config says; scratch [n]. */
void solver_limit_clean(const struct solver_config *c, float *x0, int64_t n, float *scratch);

/* A free history slot becomes the newest; returns it for writing. Keeps at most `keep`. */
float *solver_push_history(struct solver_state *s, int keep);

/* Room for calls timesteps and sigmas. */
int solver_plan_room(struct solver_plan *p, int calls, int sigmas, struct err *err);
/* sqrt((1 - alpha_bar) / alpha_bar) of the table, and its log where asked; [table.n], malloc'd. */
double *solver_table_sigmas(const struct solver_plan *p, bool log_of, struct err *err);

/* alpha and sigma of a stored noise level. */
void solver_alpha_sigma(const struct solver_config *c, double level, double *alpha, double *sigma);
/* ln(alpha / sigma): +infinity at level 0. */
double solver_lambda(const struct solver_config *c, double level);

/* Planning of the families. */
int solver_plan_sigma_space(struct solver_plan *p, int n, struct err *err);     /* Euler, LMS */
int solver_plan_dpm(struct solver_plan *p, int n, struct err *err);             /* DPM, DEIS, UniPC */
bool solver_never_draws(const struct solver_plan *p, int call);

extern const struct solver solver_ddpm, solver_ddim, solver_pndm, solver_lcm, solver_tcd;
extern const struct solver solver_euler, solver_euler_a, solver_heun, solver_lms;
extern const struct solver solver_dpm_multi, solver_dpm_sde, solver_dpm_single, solver_deis;
extern const struct solver solver_unipc, solver_flow_euler, solver_flow_heun;

#endif
