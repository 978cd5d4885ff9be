/* probecmd.c - one network of an image model run once, to be compared with others. The work is a job of the
 * workers: tensors are not the coordinator's. */
#include "coordinator/commands/command.h"

#include "coordinator/commands/cli.h"
#include "coordinator/commands/commandlist.h"
#include "coordinator/commands/imagineargs.h"
#include "coordinator/commands/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPT_PART = 0x3000, OPT_IN, OPT_OUT, OPT_THREADS, OPT_TP, OPT_PP };

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
    {"tp", OPT_TP, "N", 0, "Ranks that share every layer of a denoiser that can be shared (default: 1)", 0},
    {"pp", OPT_PP, "N", 0, "Stages of ranks that hold different layers of it (default: 1)", 0},
    {"threads", OPT_THREADS, "N", 0, "Threads of each rank (default: the cores it is bound to)", 0},
    {0}};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;
    switch (key) {
    case 'm': o->model.model = arg; return 0;
    case OPT_PART: o->part = arg; return 0;
    case OPT_IN: o->in = arg; return 0;
    case OPT_OUT: o->out = arg; return 0;
    case OPT_TP: return cli_int(o->err, "--tp", arg, 1, IMAGINE_TP_MAX, &o->model.tp);
    case OPT_PP: return cli_int(o->err, "--pp", arg, 1, IMAGINE_PP_MAX, &o->model.pp);
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
           "carries it, too. The transformers of SD3, PixArt and DiT are run by tp x pp ranks where that is "
           "asked for, with the same bytes; other networks by the first rank.\v"
           "Example:\n"
           "  muster probe -m my-model --part transformer --in calls.safetensors --out answers.safetensors\n"
           "  mpirun -n 4 muster probe -m my-model --in calls.safetensors --out answers.safetensors --tp 2 "
           "--pp 2"};

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
        int outputs, calls, left_out, ranks;
        unsigned long long parameters;
        double seconds;
        if (sscanf(d->results[i + 1]->value, "%d of %d, %d, %llu, %lf, %d", &outputs, &calls, &left_out,
                   &parameters, &seconds, &ranks) != 6)
            continue;
        printf("%s: %s, %llu parameters, %d outputs of %d calls in %.3f s", d->results[i]->key,
               d->results[i]->value, parameters, outputs, calls, seconds);
        if (ranks > 1)
            printf(" by %d ranks", ranks);
        putchar('\n');
        if (left_out > 0)
            fprintf(stderr, "%s: %d calls miss an input and are left out\n", d->results[i]->key, left_out);
    }
}

static int work(const struct options *o, struct cluster *c, struct err *err)
{
    struct cluster_kernels k;
    Muster__JobDone *d;
    char path[MODEL_PATH_MAX], threads[16], tp_text[16], pp_text[16];
    int tp = o->model.tp > 0 ? o->model.tp : 1, pp = o->model.pp > 0 ? o->model.pp : 1;
    TRY(model_args_path(&o->model, path, err));
    if (tp * pp > c->n_workers)
        return err_set(err, ERR_INVAL, "--tp %d --pp %d wants %d ranks, there are %d", tp, pp, tp * pp,
                       c->n_workers);
    c->n_used = c->n_workers;
    memcpy(c->used, c->all, (size_t)c->n_workers * sizeof *c->used);
    TRY(cluster_kernels(c, &k, err));
    snprintf(threads, sizeof threads, "%d", o->model.threads);
    snprintf(tp_text, sizeof tp_text, "%d", tp);
    snprintf(pp_text, sizeof pp_text, "%d", pp);
    char *args[] = {path, (char *)(o->part != NULL ? o->part : ""), (char *)o->in, (char *)o->out,
                    (char *)(uintptr_t)k.isa, k.refused, (char *)(k.blas_tiles ? "1" : "0"), threads,
                    tp_text, pp_text};
    TRY(cluster_job(c, "probe", args, (int)(sizeof args / sizeof *args), tp * pp > 1, &d, err));
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
