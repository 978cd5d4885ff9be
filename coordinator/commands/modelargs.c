#include "coordinator/commands/modelargs.h"

#include "coordinator/commands/cli.h"
#include "proto/wire.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { OPT_TP = 0x1000, OPT_PP, OPT_PLAN, OPT_SAVE_PLAN, OPT_THREADS, OPT_COMPUTE, OPT_WIRE,
       OPT_KV, OPT_CTX, OPT_BATCH, OPT_CHUNK, OPT_MEMORY, OPT_SHARES, OPT_DP };

static const struct argp_option options[] = {
    {NULL, 0, NULL, 0, "Model:", 1},
    {"model", 'm', "MODEL", 0, "A .gguf file, a Hugging Face folder, or the name of a fetched model "
                               "(default: the small one that ships)", 1},
    {"ctx", OPT_CTX, "N", 0, "Tokens of context of one sequence", 1},
    {"compute", OPT_COMPUTE, "HOW", 0, "default, or f32: dequantise, multiply and add in f32", 1},
    {"kv", OPT_KV, "TYPE", 0, "Keys and values in f32, f16 or q8_0 (default: f16; f32 under --compute "
                               "f32)",
     1},
    {NULL, 0, NULL, 0, "Layout:", 2},
    {"tp", OPT_TP, "N", 0, "Ranks that share every layer", 2},
    {"pp", OPT_PP, "N", 0, "Stages that hold different layers", 2},
    {"dp", OPT_DP, "N", 0, "Replicas of the model beside each other, which share the prompts out", 2},
    {"shares", OPT_SHARES, "LIST", 0, "How the ranks compare, in their order, as 3:1 (default: even, by "
                                      "measured speed where nodes differ much)", 2},
    {"plan", OPT_PLAN, "FILE", 0, "Use the layout in FILE", 2},
    {"save-plan", OPT_SAVE_PLAN, "FILE", 0, "Write the layout to FILE", 2},
    {"threads", OPT_THREADS, "N", 0, "Threads of each rank (default: the cores it is bound to)", 2},
    {"batch", OPT_BATCH, "N", 0, "Sequences at a time", 2},
    {"memory", OPT_MEMORY, "SIZE", 0, "Bytes that a rank may take, as 800M or 4G (default: what is free)",
     2},
    {"chunk", OPT_CHUNK, "N", 0, "Prompt tokens of one step at most", 2},
    {"wire", OPT_WIRE, "TYPE", 0, "Activations travel as f32 (default), bf16 or q8_0; then the output "
                                  "depends on the layout", 2},
    {0}};

/* Weights with colons between them. */
static error_t parse_shares(struct model_args *a, const char *text)
{
    const char *p = text;
    for (a->n_shares = 0; a->n_shares < MODEL_SHARES_MAX; p++) {
        char *end;
        double v = strtod(p, &end);
        if (end == p || !(v >= 1e-3 && v <= 1e6) || (*end != ':' && *end != '\0'))
            break;
        a->shares[a->n_shares++] = v;
        p = end;
        if (*end == '\0')
            return 0;
    }
    err_set(a->err, ERR_INVAL, "--shares wants one number for each rank, like 3:1, not '%.60s'", text);
    return EINVAL;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    static const char *const computes[] = {"default", "f32", NULL};
    static const char *const wires[] = {"f32", "bf16", "q8_0", NULL};
    static const char *const kvs[] = {"auto", "f32", "f16", "q8_0", NULL};
    struct model_args *a = state->input;
    switch (key) {
    case 'm': a->model = arg; return 0;
    case OPT_CTX: return cli_int(a->err, "--ctx", arg, 1, 1 << 24, &a->context);
    case OPT_COMPUTE: return cli_choice(a->err, "--compute", arg, computes, &a->compute);
    case OPT_KV: return cli_choice(a->err, "--kv", arg, kvs, &a->kv);
    case OPT_TP: return cli_int(a->err, "--tp", arg, 1, 64, &a->tp);
    case OPT_PP: return cli_int(a->err, "--pp", arg, 1, 256, &a->pp);
    case OPT_DP: return cli_int(a->err, "--dp", arg, 1, 256, &a->dp);
    case OPT_SHARES: return parse_shares(a, arg);
    case OPT_PLAN: a->plan_file = arg; return 0;
    case OPT_SAVE_PLAN: a->save_plan = arg; return 0;
    case OPT_THREADS: return cli_int(a->err, "--threads", arg, 1, 1024, &a->threads);
    case OPT_BATCH: return cli_int(a->err, "--batch", arg, 1, 1024, &a->batch);
    case OPT_CHUNK: return cli_int(a->err, "--chunk", arg, 1, 8192, &a->chunk);
    case OPT_MEMORY: return cli_bytes(a->err, "--memory", arg, &a->memory);
    case OPT_WIRE: return cli_choice(a->err, "--wire", arg, wires, &a->wire);
    default: return ARGP_ERR_UNKNOWN;
    }
}

const struct argp model_argp = {.options = options, .parser = parse};
const struct argp_child model_args_child[] = {{&model_argp, 0, NULL, 1}, {0}};

error_t model_args_begin(struct model_args *a, struct err *err, struct argp_state *state)
{
    a->err = err;
    state->child_inputs[0] = a;
    return 0;
}

int model_args_kv(const struct model_args *a)
{
    static const int ids[] = {[MODEL_KV_F32] = 0, [MODEL_KV_F16] = 1, [MODEL_KV_Q8_0] = 8};
    if (a->kv == MODEL_KV_AUTO)
        return ids[a->compute == MODEL_COMPUTE_F32 ? MODEL_KV_F32 : MODEL_KV_F16];
    return ids[a->kv];
}

static int exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0;
}

/* dir/name, dir/name.gguf into out; 1 when one is there. */
static int look_in(const char *dir, const char *name, char *out)
{
    static const char *const endings[] = {"", ".gguf"};
    for (int i = 0; i < 2; i++)
        if (dir[0] != '\0' &&
            snprintf(out, MODEL_PATH_MAX, "%s/%s%s", dir, name, endings[i]) < MODEL_PATH_MAX &&
            exists(out))
            return 1;
    return 0;
}

static void cache_dir(char *out, size_t cap)
{
    const char *own = getenv("MUSTER_CACHE"), *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (own != NULL && own[0] != '\0')
        snprintf(out, cap, "%s", own);
    else if (xdg != NULL && xdg[0] != '\0')
        snprintf(out, cap, "%s/muster", xdg);
    else
        snprintf(out, cap, "%s/.cache/muster", home != NULL ? home : "");
}

void model_args_shipped(char *out, size_t cap)
{
    const char *own = getenv("MUSTER_MODELS");
    char exe[MODEL_PATH_MAX];
    out[0] = '\0';
    if (own != NULL && own[0] != '\0') {
        snprintf(out, cap, "%s", own);
        return;
    }
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (n <= 0)
        return;
    exe[n] = '\0';
    static const char *const near[] = {"../share/muster/models", "../deploy/models"};
    char *slash = strrchr(exe, '/');
    if (slash == NULL)
        return;
    *slash = '\0';
    for (int i = 0; i < 2; i++) {
        int len = snprintf(out, cap, "%s/%s", exe, near[i]);
        if (len > 0 && (size_t)len < cap && exists(out))
            return;
    }
    out[0] = '\0';
}

int model_args_path(const struct model_args *a, char *out, struct err *err)
{
    return model_args_path_of(a, "scenes-language", "one", out, err);
}

int model_args_path_of(const struct model_args *a, const char *otherwise, const char *what, char *out,
                       struct err *err)
{
    char cache[MODEL_PATH_MAX / 2], shipped[MODEL_PATH_MAX / 2];
    cache_dir(cache, sizeof cache);
    model_args_shipped(shipped, sizeof shipped);
    if (a->model == NULL) {
        if (look_in(shipped, otherwise, out))
            return ERR_OK;
        return err_set(err, ERR_IO, "no default model (looked for %s in %s): name %s with -m", otherwise,
                       shipped[0] ? shipped : "../share/muster/models", what);
    }
    if (strlen(a->model) >= MODEL_PATH_MAX)
        return err_set(err, ERR_INVAL, "-m: the path is too long");
    snprintf(out, MODEL_PATH_MAX, "%s", a->model);
    if (exists(out))
        return ERR_OK;
    if (strchr(a->model, '/') == NULL &&
        (look_in(cache, a->model, out) || look_in(shipped, a->model, out)))
        return ERR_OK;
    if (strchr(a->model, '/') == NULL)
        return err_set(err, ERR_IO, "%s: no such model here or in %s; deploy/get-model.sh fetches some",
                       a->model, cache);
    return err_set(err, ERR_IO, "%s: no such file or folder", a->model);
}
