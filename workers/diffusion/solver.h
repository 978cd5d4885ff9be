/* solver.h - the samplers of diffusion models: rows of one table.
 * Why:    a sampler is a plan (which timesteps, which noise levels) and a step: a pure function of
 *         (plan, state of one image, model output). Images of a batch each carry their own.
 * Source: Ho et al. 2020 (DDPM), Song et al. 2010.02502 (DDIM), Karras et al. 2206.00364 (Euler, Heun),
 *         Liu et al. 2202.09778 (PNDM), Lu et al. 2211.01095 (DPM-Solver++), Zhao et al. 2302.04867
 *         (UniPC), Zhang & Chen 2204.13902 (DEIS), Luo et al. 2310.04378 (LCM), Zheng et al. 2402.19159
 *         (TCD), Esser et al. 2403.03206 (flow matching).
 * Numbers: coefficients in double, state in f32, sums of terms in double.
 * Ranks:  not collective. */
#ifndef MUSTER_SOLVER_H
#define MUSTER_SOLVER_H

#include "workers/diffusion/noisetable.h"
#include "workers/diffusion/spacing.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum { SOLVER_STEPS_MAX = 10000, SOLVER_HISTORY = 4 };

enum prediction { PREDICT_EPSILON, PREDICT_V, PREDICT_SAMPLE, PREDICT_FLOW };
enum dpm_algorithm { DPM_PLUS, DPM_PLAIN, DPM_PLUS_SDE, DPM_PLAIN_SDE };
enum solver_variant { VARIANT_MIDPOINT, VARIANT_HEUN, VARIANT_BH1, VARIANT_BH2 };
enum variance_kind { VARIANCE_SMALL, VARIANCE_LARGE, VARIANCE_LEARNED_RANGE };

/* Settings of a sampler. Names follow scheduler_config.json; see solver_config_read. */
struct solver_config {
    int train_steps;
    enum beta_kind beta_kind;
    double beta_start, beta_end;
    bool zero_snr;
    enum prediction prediction;
    enum spacing spacing;
    int steps_offset;
    enum sigma_kind sigmas;
    double sigma_min, sigma_max;        /* of the spacing; 0: from the table */
    bool final_sigma_min;               /* the last sigma is the table's smallest, not 0 */
    bool log_linear, continuous_time;   /* Euler */
    double churn, churn_min, churn_max, churn_noise;
    int order;                          /* of multistep solvers; LMS 1..4 */
    enum dpm_algorithm algorithm;
    enum solver_variant variant;
    bool lower_order_final, euler_at_final, predict_x0;
    int no_corrector[8], n_no_corrector;
    bool clip, threshold;               /* of the predicted clean image */
    double clip_range, threshold_ratio, threshold_max;
    bool alpha_to_one, use_clipped_output, skip_prk;
    double eta;
    enum variance_kind variance;
    int original_steps;                 /* LCM, TCD: the schedule that was distilled */
    bool original_given;
    double strength, timestep_scaling;
    double shift, shift_terminal;       /* flow */
    bool dynamic_shift, shift_linear, invert, stochastic;
    double mu;
    int n_custom;                       /* timesteps or sigmas given by the caller */
    bool custom_sigmas;
    const double *custom;               /* [n_custom], borrowed */
};

struct solver_plan;
struct solver_state;

struct solver {
    const char *name, *class_name, *summary;
    bool sigma_space;                   /* the model sees x / sqrt(sigma^2 + 1) */
    bool flow;                          /* x_s = (1 - s) x0 + s noise */
    void (*defaults)(struct solver_config *c);
    int (*plan)(struct solver_plan *p, int n, struct err *err);
    bool (*draws)(const struct solver_plan *p, int call);
    void (*step)(const struct solver_plan *p, int call, struct solver_state *s, const float *out,
                 float *x, const float *noise);
};

/* NULL-terminated. */
extern const struct solver *const solver_table[];
const struct solver *solver_find(const char *name);         /* by name or class name; NULL */
void solver_names(char *out, size_t cap);                   /* "ddpm, ddim, ..." for messages */

struct solver_plan {
    const struct solver *solver;
    struct solver_config config;
    struct noise_table table;
    int n_steps, n_calls, n_sigmas;     /* calls: model evaluations */
    double *timestep;                   /* [n_calls] what the model is told */
    double *sigma;                      /* [n_sigmas] where the solver has noise levels, else 0 of them */
    int *order;                         /* [n_calls] single-step solvers */
    double final_alpha_bar;
    double init_scale;                  /* x = unit noise times this */
};

/* Defaults of a sampler as its class has them. */
struct solver_config solver_config_default(const struct solver *s);
/* Settings from a scheduler_config.json object; unknown keys are skipped, bad values named. */
int solver_config_read(struct solver_config *c, const json_t *object, struct err *err);

/* ERR_INVAL names the setting. solver_plan_free accepts a zeroed plan. */
int solver_plan_init(struct solver_plan *p, const struct solver *s, const struct solver_config *c,
                     int n_steps, struct err *err);
void solver_plan_free(struct solver_plan *p);

/* What one image carries from step to step; memory [solver_state_floats(n)] is the caller's. */
struct solver_state {
    int64_t n;                          /* numbers of the image */
    int first_call, calls;              /* begun at call first_call (image to image); calls done */
    int n_history, last_order;
    float *history[SOLVER_HISTORY];     /* [n] each, newest first */
    float *saved, *scratch;             /* [n] */
};
int64_t solver_state_floats(int64_t n);
void solver_state_init(struct solver_state *s, int64_t n, int first_call, float *memory);

/* Times x before the model sees it at `call`. */
double solver_input_scale(const struct solver_plan *p, int call);
/* Does the step at `call` use noise? A caller may pass NULL where it does not. */
bool solver_draws_noise(const struct solver_plan *p, int call);
/* x [n] = clean image noised with unit noise to where `call` begins. */
void solver_add_noise(const struct solver_plan *p, int call, const float *clean, const float *noise,
                      float *x, int64_t n);
/* The first call when only the last `strength` part of the steps is run (SDEdit). */
int solver_first_call(const struct solver_plan *p, double strength);

/* One step in place: x [n], out [n] the model's answer ([2 n] with learned variance, the variance
 * second), noise [n] unit normal or NULL. */
void solver_step(const struct solver_plan *p, int call, struct solver_state *s, const float *out,
                 float *x, const float *noise);

#endif
