#include "coordinator/commands/samplingargs.h"

#include "coordinator/commands/cli.h"
#include "coordinator/commands/modelargs.h"

#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

enum { OPT_TEMP = 0x2000, OPT_TOP_K, OPT_TOP_P, OPT_MIN_P, OPT_TYPICAL_P, OPT_REPEAT, OPT_PRESENCE,
       OPT_FREQUENCY, OPT_NGRAM, OPT_SEED, OPT_STOP, OPT_BIAS, OPT_IGNORE_EOS };

static const struct argp_option options[] = {
    {NULL, 0, NULL, 0, "Sampling:", 3},
    {"n-predict", 'n', "N", 0, "Most new tokens (default 128)", 3},
    {"temp", OPT_TEMP, "T", 0, "Temperature (default 0.8); 0 takes the most likely token", 3},
    {"seed", OPT_SEED, "N", 0, "Seed: the same one gives the same text (default: random, printed)", 3},
    {"top-k", OPT_TOP_K, "K", 0, "Only the K most likely tokens", 3},
    {"top-p", OPT_TOP_P, "P", 0, "Only the most likely tokens that add up to P", 3},
    {"min-p", OPT_MIN_P, "P", 0, "Only tokens at least P times as likely as the most likely one", 3},
    {"typical-p", OPT_TYPICAL_P, "P", 0, "Only the most typical tokens that add up to P", 3},
    {"repeat-penalty", OPT_REPEAT, "X", 0, "Divide the logits of tokens that occurred (1: off)", 3},
    {"presence-penalty", OPT_PRESENCE, "X", 0, "Subtract X from the logits of generated tokens", 3},
    {"frequency-penalty", OPT_FREQUENCY, "X", 0, "Subtract X for each time a token was generated", 3},
    {"no-repeat-ngram", OPT_NGRAM, "N", 0, "Never generate the same N tokens in a row twice", 3},
    {"logit-bias", OPT_BIAS, "ID=X", 0, "Add X (also -inf) to the logit of token ID; repeatable", 3},
    {"stop", OPT_STOP, "TEXT", 0, "End before TEXT; repeatable", 3},
    {"ignore-eos", OPT_IGNORE_EOS, NULL, 0, "Go on past the end-of-sequence token", 3},
    {0}};

void sampling_args_init(struct sampling_args *a)
{
    memset(a, 0, sizeof *a);
    a->temperature = 0.8f;
    a->top_p = a->typical_p = a->repeat_penalty = 1;
}

void sampling_args_free(struct sampling_args *a)
{
    for (int i = 0; i < a->n_stop; i++)
        free(a->stop[i]);
    free(a->bias_token);
    free(a->bias_value);
    memset(a, 0, sizeof *a);
}

static int add_stop(struct sampling_args *a, const char *text, size_t n, struct err *err)
{
    if (n == 0 || memchr(text, 0, n) != NULL)
        return err_set(err, ERR_INVAL, "a stop text is empty or holds a zero byte");
    if (a->n_stop == SAMPLING_STOPS_MAX)
        return err_set(err, ERR_INVAL, "at most %d stop texts", SAMPLING_STOPS_MAX);
    if ((a->stop[a->n_stop] = strndup(text, n)) == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a stop text");
    a->n_stop++;
    return ERR_OK;
}

static int add_bias(struct sampling_args *a, uint32_t token, float value, struct err *err)
{
    if (a->n_bias == SAMPLING_BIAS_MAX)
        return err_set(err, ERR_INVAL, "at most %d logit biases", SAMPLING_BIAS_MAX);
    if (a->bias_token == NULL) {
        a->bias_token = malloc(SAMPLING_BIAS_MAX * sizeof *a->bias_token);
        a->bias_value = malloc(SAMPLING_BIAS_MAX * sizeof *a->bias_value);
    }
    if (a->bias_token == NULL || a->bias_value == NULL)
        return err_set(err, ERR_NOMEM, "no memory for logit biases");
    a->bias_token[a->n_bias] = token;
    a->bias_value[a->n_bias++] = value;
    return ERR_OK;
}

static error_t parse_bias(struct sampling_args *a, const char *arg)
{
    char id[32];
    const char *eq = strchr(arg, '=');
    int token;
    float value;
    if (eq == NULL || (size_t)(eq - arg) >= sizeof id) {
        err_set(a->err, ERR_INVAL, "--logit-bias wants ID=VALUE, not '%s'", arg);
        return EINVAL;
    }
    snprintf(id, sizeof id, "%.*s", (int)(eq - arg), arg);
    error_t rc = cli_int(a->err, "--logit-bias ID", id, 0, INT_MAX, &token);
    if (rc == 0)
        rc = cli_float(a->err, "--logit-bias VALUE", eq + 1, -INFINITY, FLT_MAX, &value);
    return rc != 0 ? rc : add_bias(a, (uint32_t)token, value, a->err) != ERR_OK ? EINVAL : 0;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct sampling_args *a = state->input;
    switch (key) {
    case 'n': return cli_int(a->err, "-n", arg, 1, 1 << 24, &a->n);
    case OPT_TEMP: return cli_float(a->err, "--temp", arg, 0, FLT_MAX, &a->temperature);
    case OPT_TOP_K: return cli_int(a->err, "--top-k", arg, 0, INT_MAX, &a->top_k);
    case OPT_TOP_P: return cli_float(a->err, "--top-p", arg, FLT_MIN, 1, &a->top_p);
    case OPT_MIN_P: return cli_float(a->err, "--min-p", arg, 0, 1, &a->min_p);
    case OPT_TYPICAL_P: return cli_float(a->err, "--typical-p", arg, FLT_MIN, 1, &a->typical_p);
    case OPT_REPEAT:
        return cli_float(a->err, "--repeat-penalty", arg, FLT_MIN, FLT_MAX, &a->repeat_penalty);
    case OPT_PRESENCE:
        return cli_float(a->err, "--presence-penalty", arg, -100, 100, &a->presence_penalty);
    case OPT_FREQUENCY:
        return cli_float(a->err, "--frequency-penalty", arg, -100, 100, &a->frequency_penalty);
    case OPT_NGRAM: return cli_int(a->err, "--no-repeat-ngram", arg, 0, 1024, &a->no_repeat_ngram);
    case OPT_SEED: a->seed_given = true; return cli_u64(a->err, "--seed", arg, &a->seed);
    case OPT_STOP: return add_stop(a, arg, strlen(arg), a->err) == ERR_OK ? 0 : EINVAL;
    case OPT_BIAS: return parse_bias(a, arg);
    case OPT_IGNORE_EOS: a->ignore_eos = true; return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

const struct argp sampling_argp = {.options = options, .parser = parse};
const struct argp_child sampling_args_children[] = {{&sampling_argp, 0, NULL, 3}, {&model_argp, 0, NULL, 1},
                                                    {0}};

error_t sampling_args_begin(struct sampling_args *a, struct model_args *model, struct err *err,
                            struct argp_state *state)
{
    sampling_args_init(a);
    a->err = model->err = err;
    state->child_inputs[0] = a;
    state->child_inputs[1] = model;
    return 0;
}

int sampling_args_copy(struct sampling_args *to, const struct sampling_args *from, struct err *err)
{
    *to = *from;
    to->bias_token = NULL;
    to->bias_value = NULL;
    to->n_bias = to->n_stop = 0;
    int rc = ERR_OK;
    for (int i = 0; i < from->n_stop && rc == ERR_OK; i++)
        rc = add_stop(to, from->stop[i], strlen(from->stop[i]), err);
    for (int i = 0; i < from->n_bias && rc == ERR_OK; i++)
        rc = add_bias(to, from->bias_token[i], from->bias_value[i], err);
    if (rc != ERR_OK)
        sampling_args_free(to);
    return rc;
}

/* --- JSON */

static int json_bad(const char *where, const char *key, const char *wants, struct err *err)
{
    return err_set(err, ERR_FORMAT, "%s: \"%s\" wants %s", where, key, wants);
}

static int json_float(const json_t *line, const char *key, float low, float high, const char *where,
                      float *out, struct err *err)
{
    const json_t *v = json_object_get(line, key);
    if (v == NULL || json_is_null(v))
        return ERR_OK;
    double x = json_number_value(v);
    if (!json_is_number(v) || !(x >= (double)low && x <= (double)high)) {
        char wants[64];
        snprintf(wants, sizeof wants, "a number from %g to %g", (double)low, (double)high);
        return json_bad(where, key, wants, err);
    }
    *out = (float)x;
    return ERR_OK;
}

static int json_int(const json_t *line, const char *key, int low, int high, const char *where,
                    int *out, struct err *err)
{
    const json_t *v = json_object_get(line, key);
    if (v == NULL || json_is_null(v))
        return ERR_OK;
    json_int_t x = json_integer_value(v);
    if (!json_is_integer(v) || x < low || x > high) {
        char wants[64];
        snprintf(wants, sizeof wants, "a whole number from %d to %d", low, high);
        return json_bad(where, key, wants, err);
    }
    *out = (int)x;
    return ERR_OK;
}

static int json_stop(struct sampling_args *a, const json_t *v, const char *where, struct err *err)
{
    if (v == NULL || json_is_null(v))
        return ERR_OK;
    for (int i = 0; i < a->n_stop; i++)
        free(a->stop[i]);
    a->n_stop = 0;
    if (json_is_string(v))
        return add_stop(a, json_string_value(v), json_string_length(v), err);
    if (!json_is_array(v))
        return json_bad(where, "stop", "a text or an array of texts", err);
    for (size_t i = 0; i < json_array_size(v); i++) {
        const json_t *s = json_array_get(v, i);
        if (!json_is_string(s))
            return json_bad(where, "stop", "a text or an array of texts", err);
        TRY(add_stop(a, json_string_value(s), json_string_length(s), err));
    }
    return ERR_OK;
}

static int json_bias(struct sampling_args *a, const json_t *v, const char *where, struct err *err)
{
    if (v == NULL || json_is_null(v))
        return ERR_OK;
    if (!json_is_object(v))
        return json_bad(where, "logit_bias", "an object {\"id\": number}", err);
    a->n_bias = 0;
    const char *key;
    json_t *x;
    json_object_foreach((json_t *)v, key, x) {
        char *end;
        long id = strtol(key, &end, 10);
        if (*key == '\0' || *end != '\0' || id < 0 || id > INT_MAX || !json_is_number(x))
            return json_bad(where, "logit_bias", "an object {\"id\": number}", err);
        TRY(add_bias(a, (uint32_t)id, (float)json_number_value(x), err));
    }
    return ERR_OK;
}

int sampling_args_json(struct sampling_args *a, const json_t *line, const char *where,
                       struct err *err)
{
    TRY(json_int(line, "n", 1, 1 << 24, where, &a->n, err));
    TRY(json_float(line, "temperature", 0, FLT_MAX, where, &a->temperature, err));
    TRY(json_int(line, "top_k", 0, INT_MAX, where, &a->top_k, err));
    TRY(json_float(line, "top_p", FLT_MIN, 1, where, &a->top_p, err));
    TRY(json_float(line, "min_p", 0, 1, where, &a->min_p, err));
    TRY(json_float(line, "typical_p", FLT_MIN, 1, where, &a->typical_p, err));
    TRY(json_float(line, "repeat_penalty", FLT_MIN, FLT_MAX, where, &a->repeat_penalty, err));
    TRY(json_float(line, "presence_penalty", -100, 100, where, &a->presence_penalty, err));
    TRY(json_float(line, "frequency_penalty", -100, 100, where, &a->frequency_penalty, err));
    TRY(json_int(line, "no_repeat_ngram", 0, 1024, where, &a->no_repeat_ngram, err));
    TRY(json_stop(a, json_object_get(line, "stop"), where, err));
    TRY(json_bias(a, json_object_get(line, "logit_bias"), where, err));
    const json_t *seed = json_object_get(line, "seed"), *eos = json_object_get(line, "ignore_eos");
    if (seed != NULL && !json_is_null(seed)) {
        if (!json_is_integer(seed))
            return json_bad(where, "seed", "a whole number", err);
        a->seed = (uint64_t)json_integer_value(seed);
        a->seed_given = true;
    }
    if (eos != NULL && !json_is_boolean(eos))
        return json_bad(where, "ignore_eos", "true or false", err);
    if (eos != NULL)
        a->ignore_eos = json_is_true(eos);
    return ERR_OK;
}

void sampling_args_message(const struct sampling_args *a, Muster__Sampling *m, Muster__Bias *bias,
                           Muster__Bias **list)
{
    muster__sampling__init(m);
    m->temperature = a->temperature;
    m->top_k = (uint32_t)a->top_k;
    m->top_p = a->top_p;
    m->min_p = a->min_p;
    m->typical_p = a->typical_p;
    m->repeat_penalty = a->repeat_penalty;
    m->presence_penalty = a->presence_penalty;
    m->frequency_penalty = a->frequency_penalty;
    m->no_repeat_ngram = (uint32_t)a->no_repeat_ngram;
    m->seed = a->seed;
    for (int i = 0; i < a->n_bias; i++) {
        muster__bias__init(&bias[i]);
        bias[i].token = a->bias_token[i];
        bias[i].value = a->bias_value[i];
        list[i] = &bias[i];
    }
    m->n_bias = (size_t)a->n_bias;
    m->bias = list;
}

uint64_t sampling_args_random_seed(void)
{
    uint64_t seed;
    if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed)
        seed = (uint64_t)time(NULL) * 0x9E3779B97F4A7C15u;
    return seed >> 32;      /* short enough to type again */
}
