/* probecmd.c - one network of an image model run once, to be compared with others. The work is a job of
 * worker 0: tensors are not the coordinator's. */
#include "coordinator/commands/command.h"

#include "coordinator/commands/cli.h"
#include "coordinator/commands/commandlist.h"
#include "coordinator/commands/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPT_PART = 0x3000, OPT_IN, OPT_OUT, OPT_THREADS };

struct options {
    struct err *err;
    struct model_args model;
    const char *part, *in, *out;
};

static const struct argp_option option_table[] = {
    {"model", 'm', "PLACE", 0, "A diffusers folder, a folder of networks, or one .safetensors file", 0},
    {"part", OPT_PART, "NAME", 0, "transformer, vae, text_encoder, or a file's name without .safetensors "
                                  "(default: those that --in has inputs of)", 0},
    {"in", OPT_IN, "FILE", 0, "The .safetensors file with the inputs", 0},
    {"out", OPT_OUT, "FILE", 0, "The .safetensors file to write", 0},
    {"threads", OPT_THREADS, "N", 0, "Threads (default: the cores that the rank is bound to)", 0},
    {0}};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;
    switch (key) {
    case 'm': o->model.model = arg; return 0;
    case OPT_PART: o->part = arg; return 0;
    case OPT_IN: o->in = arg; return 0;
    case OPT_OUT: o->out = arg; return 0;
    case OPT_THREADS: return cli_int(o->err, "--threads", arg, 1, 1024, &o->model.threads);
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp probe_argp = {
    .options = option_table, .parser = parse,
    .doc = "Runs one network of an image model once and writes what comes out. Inputs go by name: of a "
           "denoiser in, t, context, pooled, mask, y; of a text encoder ids; of a VAE decode.in or "
           "encode.in; of a generator z, labels; of a discriminator image, labels; of an upscaler in. "
           "Several calls in a file carry a stem, as dit.1.in, dit.1.t and dit.2.in, and what comes out "
           "carries it, too.\v"
           "Example:\n"
           "  muster probe -m my-model --part transformer --in calls.safetensors --out answers.safetensors"};

static int check(void *options, struct err *err)
{
    const struct options *o = options;
    if (o->model.model == NULL || o->in == NULL || o->out == NULL)
        return err_set(err, ERR_INVAL, "probe wants -m, --in and --out");
    return ERR_OK;
}

/* A part's name and kind, then its numbers. */
static void report(const Muster__JobDone *d)
{
    for (size_t i = 0; i + 1 < d->n_results; i += 2) {
        int outputs, calls, left_out;
        unsigned long long parameters;
        double seconds;
        if (sscanf(d->results[i + 1]->value, "%d of %d, %d, %llu, %lf", &outputs, &calls, &left_out,
                   &parameters, &seconds) != 5)
            continue;
        printf("%s: %s, %llu parameters, %d outputs of %d calls in %.3f s\n", d->results[i]->key,
               d->results[i]->value, parameters, outputs, calls, seconds);
        if (left_out > 0)
            fprintf(stderr, "%s: %d calls miss an input and are left out\n", d->results[i]->key, left_out);
    }
}

static int work(const struct options *o, struct cluster *c, struct err *err)
{
    struct cluster_kernels k;
    Muster__JobDone *d;
    char path[MODEL_PATH_MAX], threads[16];
    TRY(model_args_path(&o->model, path, err));
    c->n_used = c->n_workers;
    memcpy(c->used, c->all, (size_t)c->n_workers * sizeof *c->used);
    TRY(cluster_kernels(c, &k, err));
    snprintf(threads, sizeof threads, "%d", o->model.threads);
    char *args[] = {path, (char *)(o->part != NULL ? o->part : ""), (char *)o->in, (char *)o->out,
                    (char *)(uintptr_t)k.isa, k.refused, (char *)(k.blas_tiles ? "1" : "0"), threads};
    TRY(cluster_job(c, "probe", args, (int)(sizeof args / sizeof *args), false, &d, err));
    report(d);
    return cli_flush(err);
}

static int run(void *options, struct comm *comm, struct err *err)
{
    struct cluster c;
    memset(&c, 0, sizeof c);
    int rc = cluster_open(&c, comm, err);
    if (rc == ERR_OK)
        rc = work(options, &c, err);
    cluster_close(&c, rc, err);
    return rc;
}

const struct command command_probe = {
    .name = "probe", .summary = "One network of an image model run once, tensors in and out",
    .options_bytes = sizeof(struct options), .needs_workers = true, .argp = &probe_argp,
    .check = check, .run = run};
