/* kl.c - how far two files of logits are apart. The work is a job of worker 0, which reads tensors. */
#include "coordinator/commands/command.h"

#include "coordinator/commands/cli.h"
#include "coordinator/commands/commandlist.h"
#include "coordinator/commands/session.h"

#include <stdio.h>
#include <stdlib.h>

enum { OPT_JSON = 0x3000 };

struct options { struct err *err; const char *base, *other; bool json; };

static const struct argp_option option_table[] = {
    {"json", OPT_JSON, NULL, 0, "Print one JSON object", 0},
    {0}};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;
    switch (key) {
    case OPT_JSON: o->json = true; return 0;
    case ARGP_KEY_ARG:
        if (o->other != NULL)
            return ARGP_ERR_UNKNOWN;
        *(o->base == NULL ? &o->base : &o->other) = arg;
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp kl_argp = {
    .options = option_table, .parser = parse, .args_doc = "BASE OTHER",
    .doc = "Compares two files that `muster logits` wrote for the same token ids, say of a model in f32 and "
           "of the same model quantised: the Kullback-Leibler divergence of OTHER from BASE, row by row, in "
           "nats. +- is the standard error over the rows.\v"
           "Example:\n"
           "  muster kl llama.f32.safetensors llama.q4_k.safetensors"};

static int check(void *options, struct err *err)
{
    const struct options *o = options;
    if (o->other == NULL)
        return err_set(err, ERR_INVAL, "kl wants two .safetensors files of logits");
    return ERR_OK;
}

static double result(const Muster__JobDone *done, const char *key) { return atof(session_result(done, key)); }

static int work(const void *options, struct session *s, struct err *err)
{
    const struct options *o = options;
    char *args[] = {(char *)o->base, (char *)o->other};
    Muster__JobDone *d;
    TRY(session_job(s, "kl", args, 2, &d, err));
    if (o->json) {
        printf("{\"rows\": %.0f, \"vocabulary\": %.0f, \"kl\": %.9g, \"kl_error\": %.9g, \"kl_max\": %.9g, "
               "\"kl_max_row\": %.0f, \"same_top\": %.9g, \"same_top_error\": %.9g}\n", result(d, "rows"),
               result(d, "vocabulary"), result(d, "mean"), result(d, "error"), result(d, "max"),
               result(d, "max_row"), result(d, "same"), result(d, "same_error"));
        return cli_flush(err);
    }
    printf("mean KL divergence %.9f +- %.9f, largest %.6f in row %.0f\n", result(d, "mean"),
           result(d, "error"), result(d, "max"), result(d, "max_row"));
    printf("same most likely token in %.3f%% +- %.3f%% of %.0f rows, vocabulary %.0f\n",
           100 * result(d, "same"), 100 * result(d, "same_error"), result(d, "rows"),
           result(d, "vocabulary"));
    return cli_flush(err);
}

static int run(void *options, struct comm *comm, struct err *err)
{
    return session_run(comm, work, options, err);
}

const struct command command_kl = {
    .name = "kl", .summary = "KL divergence between two files of logits",
    .options_bytes = sizeof(struct options), .needs_workers = true, .argp = &kl_argp,
    .check = check, .run = run};
