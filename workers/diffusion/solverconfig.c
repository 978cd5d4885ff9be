/* scheduler_config.json -> solver_config: one row a key. */
#include "workers/diffusion/solver.h"

#include <stddef.h>
#include <string.h>

enum kind { INT, DOUBLE, BOOL, CHOICE, SIGMAS, INTS };

struct choice { const char *name; int value; };

static const struct choice beta_names[] = {{"linear", BETA_LINEAR},
                                           {"scaled_linear", BETA_SCALED_LINEAR},
                                           {"squaredcos_cap_v2", BETA_COSINE},
                                           {NULL, 0}};
static const struct choice prediction_names[] = {{"epsilon", PREDICT_EPSILON},
                                                 {"v_prediction", PREDICT_V},
                                                 {"sample", PREDICT_SAMPLE},
                                                 {"flow_prediction", PREDICT_FLOW},
                                                 {NULL, 0}};
static const struct choice spacing_names[] = {{"linspace", SPACING_LINSPACE},
                                              {"leading", SPACING_LEADING},
                                              {"trailing", SPACING_TRAILING},
                                              {NULL, 0}};
static const struct choice algorithm_names[] = {{"dpmsolver++", DPM_PLUS},
                                                {"dpmsolver", DPM_PLAIN},
                                                {"sde-dpmsolver++", DPM_PLUS_SDE},
                                                {"sde-dpmsolver", DPM_PLAIN_SDE},
                                                {"deis", DPM_PLAIN},
                                                {NULL, 0}};
static const struct choice variant_names[] = {{"midpoint", VARIANT_MIDPOINT}, {"heun", VARIANT_HEUN},
                                              {"bh1", VARIANT_BH1},           {"bh2", VARIANT_BH2},
                                              {"logrho", VARIANT_MIDPOINT},   {NULL, 0}};
static const struct choice variance_names[] = {{"fixed_small", VARIANCE_SMALL},
                                               {"fixed_small_log", VARIANCE_SMALL},
                                               {"fixed_large", VARIANCE_LARGE},
                                               {"learned_range", VARIANCE_LEARNED_RANGE},
                                               {NULL, 0}};
static const struct choice final_names[] = {{"zero", false}, {"sigma_min", true}, {NULL, 0}};
static const struct choice interpolation_names[] = {{"linear", false}, {"log_linear", true}, {NULL, 0}};
static const struct choice time_names[] = {{"discrete", false}, {"continuous", true}, {NULL, 0}};
static const struct choice shift_names[] = {{"exponential", false}, {"linear", true}, {NULL, 0}};

struct row {
    const char *key;
    enum kind kind;
    size_t offset, bytes;
    const struct choice *choices;
    int sigmas;                 /* SIGMAS: the spacing that a true value chooses */
};

#define AT(field) offsetof(struct solver_config, field), sizeof(((struct solver_config *)0)->field)

static const struct row rows[] = {
    {"num_train_timesteps", INT, AT(train_steps)},
    {"beta_schedule", CHOICE, AT(beta_kind), beta_names},
    {"beta_start", DOUBLE, AT(beta_start)},
    {"beta_end", DOUBLE, AT(beta_end)},
    {"rescale_betas_zero_snr", BOOL, AT(zero_snr)},
    {"prediction_type", CHOICE, AT(prediction), prediction_names},
    {"timestep_spacing", CHOICE, AT(spacing), spacing_names},
    {"steps_offset", INT, AT(steps_offset)},
    {"use_karras_sigmas", SIGMAS, AT(sigmas), NULL, SIGMA_KARRAS},
    {"use_exponential_sigmas", SIGMAS, AT(sigmas), NULL, SIGMA_EXPONENTIAL},
    {"use_beta_sigmas", SIGMAS, AT(sigmas), NULL, SIGMA_BETA},
    {"use_lu_lambdas", SIGMAS, AT(sigmas), NULL, SIGMA_LU},
    {"use_flow_sigmas", SIGMAS, AT(sigmas), NULL, SIGMA_FLOW},
    {"sigma_min", DOUBLE, AT(sigma_min)},
    {"sigma_max", DOUBLE, AT(sigma_max)},
    {"final_sigmas_type", CHOICE, AT(final_sigma_min), final_names},
    {"interpolation_type", CHOICE, AT(log_linear), interpolation_names},
    {"timestep_type", CHOICE, AT(continuous_time), time_names},
    {"s_churn", DOUBLE, AT(churn)},
    {"s_tmin", DOUBLE, AT(churn_min)},
    {"s_tmax", DOUBLE, AT(churn_max)},
    {"s_noise", DOUBLE, AT(churn_noise)},
    {"solver_order", INT, AT(order)},
    {"order", INT, AT(order)},
    {"algorithm_type", CHOICE, AT(algorithm), algorithm_names},
    {"solver_type", CHOICE, AT(variant), variant_names},
    {"lower_order_final", BOOL, AT(lower_order_final)},
    {"euler_at_final", BOOL, AT(euler_at_final)},
    {"predict_x0", BOOL, AT(predict_x0)},
    {"disable_corrector", INTS, AT(no_corrector)},
    {"clip_sample", BOOL, AT(clip)},
    {"clip_sample_range", DOUBLE, AT(clip_range)},
    {"thresholding", BOOL, AT(threshold)},
    {"dynamic_thresholding_ratio", DOUBLE, AT(threshold_ratio)},
    {"sample_max_value", DOUBLE, AT(threshold_max)},
    {"set_alpha_to_one", BOOL, AT(alpha_to_one)},
    {"use_clipped_model_output", BOOL, AT(use_clipped_output)},
    {"skip_prk_steps", BOOL, AT(skip_prk)},
    {"eta", DOUBLE, AT(eta)},
    {"variance_type", CHOICE, AT(variance), variance_names},
    {"original_inference_steps", INT, AT(original_steps)},
    {"timestep_scaling", DOUBLE, AT(timestep_scaling)},
    {"strength", DOUBLE, AT(strength)},
    {"shift", DOUBLE, AT(shift)},
    {"flow_shift", DOUBLE, AT(shift)},
    {"shift_terminal", DOUBLE, AT(shift_terminal)},
    {"use_dynamic_shifting", BOOL, AT(dynamic_shift)},
    {"time_shift_type", CHOICE, AT(shift_linear), shift_names},
    {"invert_sigmas", BOOL, AT(invert)},
    {"stochastic_sampling", BOOL, AT(stochastic)},
    {"mu", DOUBLE, AT(mu)},
};

static int put_choice(const struct row *r, uint8_t *at, const json_t *v, struct err *err)
{
    const char *name = json_string_value(v);
    for (const struct choice *c = r->choices; name != NULL && c->name != NULL; c++) {
        if (strcmp(c->name, name) == 0) {
            int value = c->value;
            bool flag = value != 0;
            memcpy(at, r->bytes == sizeof flag ? (void *)&flag : (void *)&value, r->bytes);
            return ERR_OK;
        }
    }
    return err_set(err, ERR_FORMAT, "%s %s is unknown here", r->key, name != NULL ? name : "(no text)");
}

static int put_ints(struct solver_config *c, const struct row *r, const json_t *v, struct err *err)
{
    size_t n = json_array_size(v), room = sizeof c->no_corrector / sizeof *c->no_corrector;
    if (!json_is_array(v) || n > room)
        return err_set(err, ERR_FORMAT, "%s must be a list of at most %zu numbers", r->key, room);
    for (size_t i = 0; i < n; i++)
        c->no_corrector[i] = (int)json_integer_value(json_array_get(v, i));
    c->n_no_corrector = (int)n;
    return ERR_OK;
}

static int put(struct solver_config *c, const struct row *r, const json_t *v, struct err *err)
{
    uint8_t *at = (uint8_t *)c + r->offset;
    switch (r->kind) {
    case INT: {
        json_int_t wide = json_integer_value(v);
        if (!json_is_integer(v) || wide < -1000000 || wide > 1000000)
            return err_set(err, ERR_FORMAT, "%s must be a whole number of reasonable size", r->key);
        int value = (int)wide;
        memcpy(at, &value, sizeof value);
        c->original_given |= strcmp(r->key, "original_inference_steps") == 0;
        return ERR_OK;
    }
    case DOUBLE: {
        double value = json_number_value(v);
        if (!json_is_number(v))
            return err_set(err, ERR_FORMAT, "%s must be a number", r->key);
        memcpy(at, &value, sizeof value);
        return ERR_OK;
    }
    case BOOL: {
        bool value = json_is_true(v);
        if (!json_is_boolean(v))
            return err_set(err, ERR_FORMAT, "%s must be true or false", r->key);
        memcpy(at, &value, sizeof value);
        return ERR_OK;
    }
    case SIGMAS:
        if (json_is_true(v))
            c->sigmas = (enum sigma_kind)r->sigmas;
        return ERR_OK;
    case CHOICE: return put_choice(r, at, v, err);
    case INTS: return put_ints(c, r, v, err);
    }
    return ERR_OK;
}

int solver_config_read(struct solver_config *c, const json_t *object, struct err *err)
{
    if (!json_is_object(object))
        return err_set(err, ERR_FORMAT, "a sampler's settings must be a JSON object");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const json_t *v = json_object_get(object, rows[i].key);
        if (v != NULL && !json_is_null(v))
            TRY(put(c, &rows[i], v, err));
    }
    return ERR_OK;
}
