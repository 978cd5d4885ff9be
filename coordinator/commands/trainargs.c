#include "coordinator/commands/trainargs.h"

#include "coordinator/cluster/cluster.h"
#include "coordinator/commands/cli.h"
#include "coordinator/train/trainpreview.h"

#include <float.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { OPT_OUT = 0x3000, OPT_DATA, OPT_STEPS, OPT_BATCH, OPT_SEED, OPT_LR, OPT_WARMUP, OPT_DROPOUT,
       OPT_TOKENIZER, OPT_FROM, OPT_RESUME, OPT_CONFIG, OPT_SET, OPT_CHECKPOINT, OPT_PREVIEW, OPT_PREVIEWS,
       OPT_EVALUATE, OPT_LOG, OPT_F32, OPT_THREADS, OPT_COMPUTE };

const struct argp_option trainargs_options[] = {
    {"out", OPT_OUT, "FOLDER", 0, "Checkpoints, metrics and the finished model go there", 0},
    {"data", OPT_DATA, "DATA", 0, "scenes (the built-in world); PNGs with metadata.jsonl, or a folder "
     "for each class; text files", 0},
    {"steps", OPT_STEPS, "N", 0, "Steps of the whole run", 0},
    {"batch", OPT_BATCH, "N", 0, "Samples of a step, over all ranks", 0},
    {"seed", OPT_SEED, "N", 0, "Same seed, same weights, on 1, 2 or 4 ranks (default 0)", 0},
    {"lr", OPT_LR, "X", 0, "The highest learning rate", 0},
    {"warmup", OPT_WARMUP, "N", 0, "Steps up to it; behind them it falls along a cosine", 0},
    {"caption-dropout", OPT_DROPOUT, "X", 0, "Share of captions that are left empty, for guidance", 0},
    {"tokenizer", OPT_TOKENIZER, "FOLDER", 0, "Of `muster train tokenizer`", 0},
    {"from", OPT_FROM, "FOLDER", 0, "A model to go on from, instead of random weights", 0},
    {"resume", OPT_RESUME, 0, 0, "Goes on from the last checkpoint in --out, on any number of ranks", 0},
    {"config", OPT_CONFIG, "FILE", 0, "A JSON object of keys, as --set has them", 0},
    {"set", OPT_SET, "KEY=VALUE", 0, "A key of the model or its training; may be repeated", 0},
    {"checkpoint-every", OPT_CHECKPOINT, "N", 0, "Steps between checkpoints (default 1000; 0: at the end)",
     0},
    {"preview-every", OPT_PREVIEW, "N", 0, "Steps between previews (default 0: at the end)", 0},
    {"previews", OPT_PREVIEWS, "N", 0, "How many (default 8; 0: none)", 0},
    {"evaluate-every", OPT_EVALUATE, "N", 0, "Steps between losses of held-out samples (default 0: never)",
     0},
    {"log-every", OPT_LOG, "N", 0, "Steps between rows of metrics (default 10)", 0},
    {"f32", OPT_F32, 0, 0, "The finished model in float32, not bfloat16", 0},
    {"compute", OPT_COMPUTE, "TYPE", 0, "Matrix products in f32 (default) or bf16, with f32 sums; weights "
     "are f32 in both", 0},
    {"threads", OPT_THREADS, "N", 0, "Of each rank (default: the cores it is bound to)", 0},
    {0}};

static error_t parse_counts(int key, char *arg, struct train_args *a)
{
    int n = 0;
    int64_t *to = key == OPT_CHECKPOINT ? &a->run.checkpoint_every
                  : key == OPT_PREVIEW  ? &a->run.preview_every
                  : key == OPT_EVALUATE ? &a->run.evaluate_every
                                        : &a->run.log_every;
    const char *name = key == OPT_CHECKPOINT ? "--checkpoint-every"
                       : key == OPT_PREVIEW  ? "--preview-every"
                       : key == OPT_EVALUATE ? "--evaluate-every"
                                             : "--log-every";
    error_t rc = cli_int(a->err, name, arg, 0, INT_MAX, &n);
    *to = n;
    return rc;
}

static error_t parse_numbers(int key, char *arg, struct train_args *a)
{
    switch (key) {
    case OPT_STEPS: return cli_int(a->err, "--steps", arg, 1, INT_MAX, &a->steps);
    case OPT_BATCH: return cli_int(a->err, "--batch", arg, 1, 1 << 20, &a->batch);
    case OPT_WARMUP: a->warmup_given = true; return cli_int(a->err, "--warmup", arg, 0, INT_MAX, &a->warmup);
    case OPT_SEED: a->seed_given = true; return cli_u64(a->err, "--seed", arg, &a->seed);
    case OPT_LR: a->lr_given = true; return cli_float(a->err, "--lr", arg, 0, 100, &a->lr);
    case OPT_DROPOUT:
        a->dropout_given = true;
        return cli_float(a->err, "--caption-dropout", arg, 0, 1, &a->dropout);
    case OPT_PREVIEWS: return cli_int(a->err, "--previews", arg, 0, TRAINPREVIEW_MAX, &a->run.n_previews);
    case OPT_THREADS: return cli_int(a->err, "--threads", arg, 1, 4096, &a->run.threads);
    default: return parse_counts(key, arg, a);
    }
}

static error_t add_set(struct train_args *a, const char *text)
{
    if (strchr(text, '=') == NULL || text[0] == '=' || a->n_sets == TRAINARGS_SETS_MAX) {
        err_set(a->err, ERR_INVAL, "--set wants KEY=VALUE, at most %d times, not '%.60s'", TRAINARGS_SETS_MAX,
                text);
        return EINVAL;
    }
    a->set[a->n_sets++] = text;
    return 0;
}

error_t trainargs_parse(int key, char *arg, struct argp_state *state)
{
    static const char *const computes[] = {"f32", "bf16", NULL};
    struct train_args *a = state->input;
    switch (key) {
    case OPT_COMPUTE: return cli_choice(a->err, "--compute", arg, computes, &a->compute);
    case ARGP_KEY_INIT:
        a->compute = -1;
        a->run.checkpoint_every = 1000;
        a->run.log_every = 10;
        a->run.n_previews = 8;
        return 0;
    case OPT_OUT: a->run.out = arg; return 0;
    case OPT_DATA: a->data = arg; return 0;
    case OPT_TOKENIZER: a->run.tokenizer = arg; return 0;
    case OPT_FROM: a->from = arg; return 0;
    case OPT_RESUME: a->run.resume = true; return 0;
    case OPT_CONFIG: a->config_file = arg; return 0;
    case OPT_SET: return add_set(a, arg);
    case OPT_F32: a->run.f32_folder = true; return 0;
    case OPT_STEPS: case OPT_BATCH: case OPT_WARMUP: case OPT_SEED: case OPT_LR: case OPT_DROPOUT:
    case OPT_PREVIEWS: case OPT_THREADS: case OPT_CHECKPOINT: case OPT_PREVIEW: case OPT_EVALUATE:
    case OPT_LOG:
        return parse_numbers(key, arg, a);
    default: return ARGP_ERR_UNKNOWN;
    }
}

int trainargs_check(void *options, struct err *err)
{
    const struct train_args *a = options;
    if (a->run.out == NULL)
        return err_set(err, ERR_INVAL, "train wants --out FOLDER");
    size_t n = a->from != NULL ? strlen(a->from) : 0;
    if (n > 5 && strcmp(a->from + n - 5, ".gguf") == 0)
        return err_set(err, ERR_INVAL, "--from %.150s: training goes on from a Hugging Face folder, "
                       "and this is a GGUF file", a->from);
    if (a->seed > INT64_MAX)
        return err_set(err, ERR_INVAL, "--seed: at most %lld", (long long)INT64_MAX);
    return ERR_OK;
}

/* --- the configuration */

/* "width=192": a number, true or false, else a text. */
static int set_key(json_t *config, const char *text)
{
    char key[64];
    const char *value = strchr(text, '=') + 1;
    size_t n = (size_t)(value - 1 - text);
    if (n >= sizeof key)
        return -1;
    memcpy(key, text, n);
    key[n] = '\0';
    json_t *v = json_loads(value, JSON_DECODE_ANY, NULL);
    if (v == NULL || json_is_object(v) || json_is_array(v)) {
        json_decref(v);
        v = json_string(value);
    }
    return v == NULL ? -1 : json_object_set_new(config, key, v);
}

static int add_file(json_t *config, const char *path, struct err *err)
{
    json_error_t why;
    json_t *file = json_load_file(path, 0, &why);
    int rc = ERR_OK;
    if (!json_is_object(file))
        rc = err_set(err, ERR_IO, "--config %.100s: line %d: %.100s", path, file == NULL ? why.line : 1,
                     file == NULL ? why.text : "not a JSON object");
    else
        json_object_update(config, file);
    json_decref(file);
    return rc;
}

static int add_options(const struct train_args *a, json_t *config)
{
    int rc = 0;
    if (a->data != NULL)
        rc |= json_object_set_new(config, "data", json_string(a->data));
    if (a->from != NULL)
        rc |= json_object_set_new(config, "from", json_string(a->from));
    if (a->steps > 0)
        rc |= json_object_set_new(config, "steps", json_integer(a->steps));
    if (a->batch > 0)
        rc |= json_object_set_new(config, "batch", json_integer(a->batch));
    if (a->warmup_given)
        rc |= json_object_set_new(config, "warmup", json_integer(a->warmup));
    if (a->seed_given)
        rc |= json_object_set_new(config, "seed", json_integer((json_int_t)a->seed));
    if (a->lr_given)
        rc |= json_object_set_new(config, "lr", json_real(a->lr));
    if (a->compute >= 0)
        rc |= json_object_set_new(config, "compute", json_string(a->compute == 1 ? "bf16" : "f32"));
    if (a->dropout_given)
        rc |= json_object_set_new(config, "caption_dropout", json_real(a->dropout));
    for (int i = 0; i < a->n_sets; i++)
        rc |= set_key(config, a->set[i]);
    return rc;
}

int trainargs_config(const struct train_args *a, json_t **config, struct err *err)
{
    json_t *c = json_object();
    int rc = c == NULL ? err_set(err, ERR_NOMEM, "no memory for a configuration") : ERR_OK;
    if (rc == ERR_OK && a->config_file != NULL)
        rc = add_file(c, a->config_file, err);
    if (rc == ERR_OK && add_options(a, c) != 0)
        rc = err_set(err, ERR_INVAL, "an option or --set key whose text is too long or not UTF-8");
    if (rc != ERR_OK) {
        json_decref(c);
        c = NULL;
    }
    *config = c;
    return rc;
}

int trainargs_run(const struct train_args *a, const struct train_kind *kind, const char *defaults,
                  struct comm *comm, struct err *err)
{
    json_t *config;
    struct trainrun_options o = a->run;
    o.defaults = defaults;
    int rc = trainargs_config(a, &config, err);
    if (rc == ERR_OK) {
        rc = trainrun(comm, kind, config, &o, err);
        json_decref(config);
        return rc;
    }
    struct cluster c;       /* the workers must still be told to stop */
    struct err first = *err;
    cluster_open(&c, comm, &(struct err){0});
    cluster_close(&c, rc, &first);
    return rc;
}
