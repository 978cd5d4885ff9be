/* quantizecmd.c - a model file of another number type. The work is a job of worker 0: weights are not the
 * coordinator's. */
#include "coordinator/commands/command.h"

#include "coordinator/commands/cli.h"
#include "coordinator/commands/commandlist.h"
#include "coordinator/commands/session.h"

#include <stdio.h>
#include <stdlib.h>

enum { OPT_TYPE = 0x3000, OPT_OUT };

struct options { struct err *err; const char *model, *type, *out; };

static const struct argp_option option_table[] = {
    {"model", 'm', "MODEL", 0, "A .gguf file, a Hugging Face folder, or the name of a fetched model", 0},
    {"type", OPT_TYPE, "TYPE", 0, "f16, bf16, q8_0, q4_0, q4_k, ...", 0},
    {"out", OPT_OUT, "FILE", 0, "The .gguf file to write", 0},
    {0}};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;
    switch (key) {
    case 'm': o->model = arg; return 0;
    case OPT_TYPE: o->type = arg; return 0;
    case OPT_OUT: o->out = arg; return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp quantize_argp = {
    .options = option_table, .parser = parse,
    .doc = "Writes a GGUF file of another number type from a GGUF file or a Hugging Face folder.\v"
           "Example:\n"
           "  muster quantize -m llama-folder --type q4_k --out llama.q4_k.gguf"};

static int check(void *options, struct err *err)
{
    const struct options *o = options;
    if (o->model == NULL || o->type == NULL || o->out == NULL)
        return err_set(err, ERR_INVAL, "quantize wants -m, --type and --out");
    return ERR_OK;
}

static int work(const void *options, struct session *s, struct err *err)
{
    const struct options *o = options;
    struct model_args a = {.model = o->model};
    Muster__JobDone *done;
    TRY(model_args_path(&a, s->path, err));
    char *args[] = {s->path, (char *)o->out, (char *)o->type};
    TRY(session_job(s, "quantize", args, 3, &done, err));
    printf("%s: %s tensors, %.3f GB to %.3f GB\n", o->out, session_result(done, "tensors"),
           atof(session_result(done, "bytes_in")) * 1e-9, atof(session_result(done, "bytes_out")) * 1e-9);
    if (atoi(session_result(done, "fallback")) > 0)
        printf("%s matrices have rows that do not fit %s, and a larger type\n",
               session_result(done, "fallback"), o->type);
    return cli_flush(err);
}

static int run(void *options, struct comm *comm, struct err *err)
{
    return session_run(comm, work, options, err);
}

const struct command command_quantize = {
    .name = "quantize", .summary = "A model file of another number type",
    .options_bytes = sizeof(struct options), .needs_workers = true, .argp = &quantize_argp,
    .check = check, .run = run};
