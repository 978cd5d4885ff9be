#include "coordinator/commands/imagineargs.h"

#include "coordinator/commands/cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPT_PROMPTS = 0x4000, OPT_NEGATIVE, OPT_SEED, OPT_SIZE, OPT_STEPS, OPT_SAMPLER, OPT_GUIDANCE,
       OPT_RESCALE, OPT_SPACING, OPT_SIGMAS, OPT_SHIFT, OPT_ETA, OPT_NAME, OPT_SHARDS, OPT_RESUME,
       OPT_TIME_LIMIT, OPT_DRY_RUN, OPT_GRID, OPT_LIKE, OPT_INIT, OPT_STRENGTH, OPT_MASK, OPT_VARY,
       OPT_TO, OPT_TO_SEED, OPT_PROMPT_IDS, OPT_PARALLEL, OPT_THREADS, OPT_BATCH, OPT_CLASS,
       OPT_TRUNCATION, OPT_EDIT, OPT_TP, OPT_PP, OPT_COMPUTE };

static const struct argp_option options[] = {
    {NULL, 0, NULL, 0, "Pictures:", 1},
    {NULL, 'n', "N", 0, "How many of the prompt (default: 1); picture k has seed + k", 1},
    {"prompts", OPT_PROMPTS, "FILE", 0, "Prompts, a JSON object on each line: prompt, negative, "
     "seed, n, size, "
     "steps, sampler, guidance, ...; lists of prompts, seeds or guidances are combined", 1},
    {"negative", OPT_NEGATIVE, "TEXT", 0, "What guidance leads away from", 1},
    {"seed", OPT_SEED, "N", 0, "Of the first picture (default: drawn, and written down)", 1},
    {"size", OPT_SIZE, "WxH", 0, "In pixels (default: what the model was trained for)", 1},
    {"class", OPT_CLASS, "N", 0, "Of a model that takes classes", 1},
    {"prompt-ids", OPT_PROMPT_IDS, "LIST", 0, "Token ids in place of a prompt, without begin and end", 1},
    {"like", OPT_LIKE, "PICTURE", 0, "Take all settings from a picture that imagine made", 1},
    {NULL, 0, NULL, 0, "Sampling:", 2},
    {"steps", OPT_STEPS, "N", 0, "Calls of the sampler (default: 20, or the model's)", 2},
    {"sampler", OPT_SAMPLER, "NAME", 0, "As euler, dpmpp_2m, ddim, flow_euler (default: the model's)", 2},
    {"guidance", OPT_GUIDANCE, "X", 0, "How much the prompt counts; 1: no guidance (default: 5, "
     "or the model's)",
     2},
    {"rescale", OPT_RESCALE, "X", 0, "Brings guided answers back to the spread of unguided ones, "
     "0 to 1", 2},
    {"spacing", OPT_SPACING, "NAME", 0, "Timesteps: linspace, leading, trailing", 2},
    {"sigmas", OPT_SIGMAS, "NAME", 0, "Noise levels: table, karras, exponential, beta, lu", 2},
    {"shift", OPT_SHIFT, "X", 0, "Of a flow model's noise levels", 2},
    {"eta", OPT_ETA, "X", 0, "Share of fresh noise in each step, for samplers that have it", 2},
    {"compute", OPT_COMPUTE, "TYPE", 0, "Matrix products in f32 (default) or bf16, with f32 sums: "
     "faster, and other bytes, which the pictures' records say", 2},
    {"truncation", OPT_TRUNCATION, "X", 0, "GAN: redraw latent numbers beyond X", 2},
    {NULL, 0, NULL, 0, "From other pictures:", 3},
    {"init", OPT_INIT, "PNG", 0, "Begin with this picture", 3},
    {"strength", OPT_STRENGTH, "X", 0, "How much of it is painted anew, 0 to 1 (default: 0.6)", 3},
    {"mask", OPT_MASK, "PNG", 0, "Paint anew only where this is white", 3},
    {"vary", OPT_VARY, "X", 0, "n variations of the seed's picture, 0 to 1 far from it", 3},
    {"to", OPT_TO, "PROMPT", 0, "A strip of n pictures from the prompt to this one", 3},
    {"edit", OPT_EDIT, "A -> B", 0, "Moves as from caption A to B (as 'a red car -> a blue car'): the whole "
     "way, or with -n 2 and more a strip", 3},
    {"to-seed", OPT_TO_SEED, "N", 0, "A strip of n pictures from the seed to this one", 3},
    {NULL, 0, NULL, 0, "Output:", 4},
    {"out", 'o', "FOLDER", 0, "Where pictures go; NAME.png for a single one (default: named after "
     "prompt and "
     "seed)", 4},
    {"name", OPT_NAME, "TEMPLATE", 0, "File names from {index}, {seed}, {line}, {k}, {prompt} (default: "
     "{index}.png)", 4},
    {"shards", OPT_SHARDS, "N", OPTION_ARG_OPTIONAL, "Tar files of N pictures (default: 1000) in "
     "place of a file "
     "each", 4},
    {"grid", OPT_GRID, "COLUMNS", OPTION_ARG_OPTIONAL, "Also a contact sheet, grid.png", 4},
    {"resume", OPT_RESUME, NULL, 0, "Go on with the batch in -o", 4},
    {"time-limit", OPT_TIME_LIMIT, "TIME", 0, "Come to an end in good order after this long: 90, "
     "1:30:00, 2h", 4},
    {"dry-run", OPT_DRY_RUN, NULL, 0, "Say what would be made and how long it would take", 4},
    {NULL, 0, NULL, 0, "Model and layout:", 5},
    {"model", 'm', "MODEL", 0, "A folder with model_index.json, or the name of one (default: the one that "
     "ships)", 5},
    {"batch", OPT_BATCH, "N", 0, "Pictures in the making at a time on each replica (default: 8)", 5},
    {"guidance-parallel", OPT_PARALLEL, NULL, 0, "Two ranks share a picture: with and without the "
     "prompt", 5},
    {"tp", OPT_TP, "N", 0, "Ranks that share every layer of the denoiser (default: 1)", 5},
    {"pp", OPT_PP, "N", 0, "Stages of ranks that hold different layers (default: 1)", 5},
    {"threads", OPT_THREADS, "N", 0, "Threads of each rank (default: the cores it is bound to)", 5},
    {0}};

static error_t seed_of(struct imagine_args *a, const char *option, const char *text, int64_t *out)
{
    uint64_t v;
    error_t e = cli_u64(a->err, option, text, &v);
    if (e != 0)
        return e;
    if (v > (uint64_t)INT64_MAX - 1000000000) {
        err_set(a->err, ERR_INVAL, "%s %s: at most %lld", option, text, (long long)INT64_MAX - 1000000000);
        return EINVAL;
    }
    *out = (int64_t)v;
    return 0;
}

static error_t number_of(struct imagine_args *a, const char *option, const char *text, double low,
                         double high, double *out)
{
    char *end;
    double v = strtod(text, &end);
    if (end == text || *end != '\0' || !(v >= low && v <= high)) {
        err_set(a->err, ERR_INVAL, "%s wants a number from %g to %g, not '%.60s'", option, low, high, text);
        return EINVAL;
    }
    *out = v;
    return 0;
}

static error_t text_of(struct imagine_args *a, char **out, const char *text)
{
    return picturejob_set_text(out, text, a->err) == ERR_OK ? 0 : ENOMEM;
}

static error_t size_of(struct imagine_args *a, const char *text)
{
    if (picturejob_size(text, &a->job.width, &a->job.height) == ERR_OK)
        return 0;
    err_set(a->err, ERR_INVAL, "--size wants WIDTHxHEIGHT, not '%.60s'", text);
    return EINVAL;
}

/* "a red car -> a blue car" */
static error_t edit_of(struct imagine_args *a, const char *text)
{
    const char *arrow = strstr(text, "->");
    size_t n = arrow != NULL ? (size_t)(arrow - text) : 0;
    while (n > 0 && text[n - 1] == ' ')
        n--;
    const char *to = arrow != NULL ? arrow + 2 + strspn(arrow + 2, " ") : "";
    if (n == 0 || *to == '\0') {
        err_set(a->err, ERR_INVAL, "--edit wants 'A -> B', two captions, not '%.60s'", text);
        return EINVAL;
    }
    char *from = strndup(text, n);
    error_t e = from == NULL ? ENOMEM : text_of(a, &a->job.from, from);
    free(from);
    return e != 0 ? e : text_of(a, &a->job.to, to);
}

static error_t compute_of(struct imagine_args *a, const char *text)
{
    int choice;
    error_t e = cli_choice(a->err, "--compute", text, picturejob_computes, &choice);
    return e != 0 ? e : text_of(a, &a->job.compute, text);
}

/* Seconds, [H:]M:S, or numbers with h, m, s. */
static error_t time_of(struct imagine_args *a, const char *text)
{
    double total = 0, part = 0;
    const char *p = text;
    bool colons = strchr(text, ':') != NULL, good = text[0] != '\0';
    while (*p != '\0' && good) {
        char *end;
        double v = strtod(p, &end);
        good = end != p && v >= 0 && v < 1e9;
        part = v;
        p = end;
        if (colons) {
            total = total * 60 + part;
            good &= *p == ':' ? p[1] != '\0' : *p == '\0';
        } else {
            total += part * (*p == 'h' ? 3600 : *p == 'm' ? 60 : 1);
            good &= *p == 'h' || *p == 'm' || *p == 's' || *p == '\0';
        }
        p += *p != '\0';
    }
    if (!good || total <= 0) {
        err_set(a->err, ERR_INVAL, "--time-limit wants seconds, H:M:S or 2h30m, not '%.60s'", text);
        return EINVAL;
    }
    a->time_limit_s = total;
    return 0;
}

static error_t parse_sampling(int key, char *arg, struct imagine_args *a)
{
    struct picturejob *j = &a->job;
    switch (key) {
    case OPT_STEPS: return cli_int(a->err, "--steps", arg, 1, 10000, &j->steps);
    case OPT_SAMPLER: return text_of(a, &j->sampler, arg);
    case OPT_GUIDANCE: return number_of(a, "--guidance", arg, 0, 1000, &j->guidance);
    case OPT_RESCALE: return number_of(a, "--rescale", arg, 0, 1, &j->rescale);
    case OPT_SPACING: return text_of(a, &j->spacing, arg);
    case OPT_SIGMAS: return text_of(a, &j->sigmas, arg);
    case OPT_SHIFT: return number_of(a, "--shift", arg, 1e-3, 1000, &j->shift);
    case OPT_ETA: return number_of(a, "--eta", arg, 0, 1, &j->eta);
    case OPT_TRUNCATION: return number_of(a, "--truncation", arg, 1e-3, 100, &j->truncation);
    case OPT_COMPUTE: return compute_of(a, arg);
    case OPT_INIT: return text_of(a, &j->init, arg);
    case OPT_STRENGTH: return number_of(a, "--strength", arg, 0, 1, &j->strength);
    case OPT_MASK: return text_of(a, &j->mask, arg);
    case OPT_VARY: return number_of(a, "--vary", arg, 0, 1, &j->vary);
    case OPT_TO: return text_of(a, &j->to, arg);
    case OPT_EDIT: return edit_of(a, arg);
    case OPT_TO_SEED: return seed_of(a, "--to-seed", arg, &j->seed_to);
    default: return ARGP_ERR_UNKNOWN;
    }
}

static error_t parse_output(int key, char *arg, struct imagine_args *a)
{
    switch (key) {
    case 'o': a->out = arg; return 0;
    case OPT_NAME: a->name = arg; return 0;
    case OPT_SHARDS:
        a->shard_pictures = 1000;
        return arg != NULL ? cli_int(a->err, "--shards", arg, 1, 1000000, &a->shard_pictures) : 0;
    case OPT_GRID:
        a->grid = true;
        return arg != NULL ? cli_int(a->err, "--grid", arg, 1, 256, &a->columns) : 0;
    case OPT_RESUME: a->resume = true; return 0;
    case OPT_TIME_LIMIT: return time_of(a, arg);
    case OPT_DRY_RUN: a->dry_run = true; return 0;
    case 'm': a->model.model = arg; return 0;
    case OPT_BATCH: return cli_int(a->err, "--batch", arg, 1, IMAGINE_SLOTS_MAX, &a->model.batch);
    case OPT_PARALLEL: a->guidance_parallel = true; return 0;
    case OPT_TP: return cli_int(a->err, "--tp", arg, 1, IMAGINE_TP_MAX, &a->model.tp);
    case OPT_PP: return cli_int(a->err, "--pp", arg, 1, IMAGINE_PP_MAX, &a->model.pp);
    case OPT_THREADS: return cli_int(a->err, "--threads", arg, 1, 1024, &a->model.threads);
    default: return parse_sampling(key, arg, a);
    }
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct imagine_args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        picturejob_init(&a->job);
        a->begun = true;
        return 0;
    case ARGP_KEY_ARG:
        if (a->job.prompt != NULL) {
            err_set(a->err, ERR_INVAL, "one prompt, in quotes; '%.60s' is another", arg);
            return EINVAL;
        }
        return text_of(a, &a->job.prompt, arg);
    case 'n': return cli_int(a->err, "-n", arg, 1, 100000000, &a->job.n);
    case OPT_PROMPTS: a->prompts = arg; return 0;
    case OPT_NEGATIVE: return text_of(a, &a->job.negative, arg);
    case OPT_SEED: return seed_of(a, "--seed", arg, &a->job.seed);
    case OPT_SIZE: return size_of(a, arg);
    case OPT_CLASS: return cli_int(a->err, "--class", arg, 0, 1 << 30, &a->job.label);
    case OPT_PROMPT_IDS: return text_of(a, &a->job.ids, arg);
    case OPT_LIKE: a->like = arg; return 0;
    default: return parse_output(key, arg, a);
    }
}

const struct argp imagine_argp = {
    .options = options, .parser = parse, .args_doc = "PROMPT",
    .doc = "Makes pictures of a prompt, shared out over the ranks, each as reproducible as its seed.\v"
           "Example:\n"
           "  mpirun -n 2 muster imagine \"a blue car on a green field\" -n 64 --grid -o cars"};

int imagineargs_check(void *options_, struct err *err)
{
    struct imagine_args *a = options_;
    struct picturejob *j = &a->job;
    int sources = (j->prompt != NULL || j->ids != NULL) + (a->prompts != NULL) + a->resume;
    if (sources > 1)
        return err_set(err, ERR_INVAL, "one of PROMPT, --prompts and --resume is enough");
    if (a->resume && a->out == NULL)
        return err_set(err, ERR_INVAL, "--resume wants -o: the folder to go on with");
    if (sources == 0 && a->like == NULL && j->label < 0 && j->n == 1 && a->model.model == NULL)
        return err_set(err, ERR_INVAL, "a prompt is wanted, or --prompts FILE");
    if (j->mask != NULL && j->init == NULL)
        return err_set(err, ERR_INVAL, "--mask goes with --init: there is nothing to keep");
    if (j->strength > 0 && j->init == NULL && a->prompts == NULL)
        return err_set(err, ERR_INVAL, "--strength goes with --init");
    j->strip = j->to != NULL || j->seed_to >= 0;
    if (j->from != NULL && j->n == 1 && j->seed_to < 0) {
        j->strip = false;
        j->prompt_mix = 1;
    }
    if (j->strip && (j->n < 2 || j->vary > 0))
        return err_set(err, ERR_INVAL, "a strip (--to, --edit, --to-seed) wants -n 2 or more, and no --vary");
    return ERR_OK;
}

void imagineargs_free(void *options_)
{
    struct imagine_args *a = options_;
    if (a->begun)
        picturejob_free(&a->job);
}
