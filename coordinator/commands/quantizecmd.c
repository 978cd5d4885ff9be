/* quantizecmd.c - a model file of another number type. The work is a job of worker 0: weights are not the
 * coordinator's. */
#include "coordinator/commands/command.h"

#include "coordinator/commands/cli.h"
#include "coordinator/commands/commandlist.h"
#include "coordinator/commands/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

static void show_progress(void *ctx, const char *what, double share)
{
    session_progress(ctx, "%s %.0f%%", what, share * 100);
}

static const char *result(const Muster__JobDone *done, const char *key)
{
    for (size_t i = 0; i < done->n_results; i++)
        if (strcmp(done->results[i]->key, key) == 0)
            return done->results[i]->value;
    return "0";
}

static int work(const struct options *o, struct session *s, struct err *err)
{
    struct model_args a = {.model = o->model};
    Muster__JobDone *done;
    TRY(model_args_path(&a, s->path, err));
    char *args[] = {s->path, (char *)o->out, (char *)o->type};
    TRY(cluster_job(&s->cluster, "quantize", args, 3, false, &done, err));
    session_progress(s, "%s", "");
    printf("%s: %s tensors, %.3f GB to %.3f GB\n", o->out, result(done, "tensors"),
           atof(result(done, "bytes_in")) * 1e-9, atof(result(done, "bytes_out")) * 1e-9);
    if (atoi(result(done, "fallback")) > 0)
        printf("%s matrices have rows that do not fit %s, and a larger type\n",
               result(done, "fallback"), o->type);
    return cli_flush(err);
}

static int run(void *options, struct comm *comm, struct err *err)
{
    struct session s;
    memset(&s, 0, sizeof s);
    s.tty = isatty(2);
    int rc = cluster_open(&s.cluster, comm, err);
    s.cluster.progress = show_progress;
    s.cluster.progress_ctx = &s;
    if (rc == ERR_OK)
        rc = work(options, &s, err);
    return session_close(&s, rc, err);
}

const struct command command_quantize = {
    .name = "quantize", .summary = "A model file of another number type",
    .options_bytes = sizeof(struct options), .needs_workers = true, .argp = &quantize_argp,
    .check = check, .run = run};
