/* logits.c - logits of given token ids as a file, to be compared with others. */
#include "coordinator/commands/command.h"

#include "coordinator/commands/cli.h"
#include "coordinator/commands/commandlist.h"
#include "coordinator/commands/session.h"
#include "proto/safewriter.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPT_IDS = 0x3000, OPT_AS, OPT_OUT };
enum { IDS_BYTES_MAX = 64 << 20 };

struct options {
    struct err *err;
    struct model_args model;
    const char *ids, *out;
    int as;                     /* 0 prompt, 1 generated */
};

static const struct argp_option option_table[] = {
    {NULL, 0, NULL, 0, "Input and output:", 0},
    {"ids", OPT_IDS, "IDS", 0, "Token ids like 5,9,2; - reads them from stdin", 0},
    {"as", OPT_AS, "ROLE", 0, "prompt (default): all at once; generated: one by one, as new tokens are", 0},
    {"out", OPT_OUT, "FILE", 0, "The .safetensors file: tensor \"logits\", F32 [ids, vocabulary]", 0},
    {0}};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    static const char *const roles[] = {"prompt", "generated", NULL};
    struct options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT: return model_args_begin(&o->model, o->err, state);
    case OPT_IDS: o->ids = arg; return 0;
    case OPT_AS: return cli_choice(o->err, "--as", arg, roles, &o->as);
    case OPT_OUT: o->out = arg; return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp logits_argp = {
    .options = option_table, .parser = parse, .children = model_args_child,
    .doc = "Writes the logits after each of some token ids to a file.\v"
           "Example:\n"
           "  muster logits -m llama.gguf --ids 1,403,407 --out logits.safetensors"};

static int check(void *options, struct err *err)
{
    const struct options *o = options;
    if (o->ids == NULL || o->out == NULL)
        return err_set(err, ERR_INVAL, "logits wants --ids and --out");
    return ERR_OK;
}

struct writer { struct safewriter file; int rows, vocab; };

static int write_header(struct writer *w, int rows, int vocab, struct err *err)
{
    int64_t shape[2] = {rows, vocab};
    w->vocab = vocab;
    TRY(safewriter_tensor(&w->file, "logits", "F32", 2, shape,
                          (uint64_t)rows * (uint64_t)vocab * sizeof(float), err));
    return safewriter_begin(&w->file, err);
}

/* One sequence alone is never interrupted: its rows come in order. */
static int on_logits(void *ctx, const struct lm_event *e, struct err *err)
{
    struct writer *w = ctx;
    if (e->logits == NULL)
        return ERR_OK;
    if (e->position != w->rows)
        return err_set(err, ERR_PEER, "logits of position %d came after %d rows", e->position, w->rows);
    w->rows += e->rows;
    return safewriter_write(&w->file, e->logits,
                            (size_t)e->rows * (size_t)w->vocab * sizeof *e->logits, err);
}

static int compute(const struct options *o, struct session *s, const int32_t *ids, int n,
                   struct writer *w, struct err *err)
{
    struct schedule_request r = {.sequence = 1, .prompt = ids, .n_prompt = n, .all_logits = true,
                                 .as_generated = o->as == 1};
    struct session_need need = {.sequences = 1, .longest = n, .longest_prompt = n};
    TRY(session_load(s, &o->model, &need, err));
    TRY(lm_submit(&s->lm, &r, err));
    TRY(write_header(w, n, (int)s->cluster.spec->vocab, err));
    return lm_run(&s->lm, on_logits, w, err);
}

static int check_ids(const struct options *o, const struct session *s, const int32_t *ids, int n,
                     struct err *err)
{
    int context, vocab = (int)s->cluster.spec->vocab;
    TRY(session_context(s, &o->model, &context, err));
    if (n < 1)
        return err_set(err, ERR_INVAL, "--ids: no ids");
    if (n > context)
        return err_set(err, ERR_FORMAT, "%d ids do not fit the context of %d", n, context);
    for (int i = 0; i < n; i++)
        if (ids[i] >= vocab)
            return err_set(err, ERR_INVAL, "token id %d is not in the vocabulary of %d", ids[i], vocab);
    return ERR_OK;
}

static int read_ids(const struct options *o, int32_t **ids, int *n, struct err *err)
{
    char *text = NULL;
    size_t bytes;
    if (strcmp(o->ids, "-") == 0)
        TRY(cli_read("-", IDS_BYTES_MAX, &text, &bytes, err));
    int rc = cli_ids(err, "--ids", text != NULL ? text : o->ids, ids, n) == 0 ? ERR_OK : err->code;
    free(text);
    return rc;
}

static int run(void *options, struct comm *comm, struct err *err)
{
    const struct options *o = options;
    struct session s;
    struct writer w = {.rows = 0};
    int32_t *ids = NULL;
    int n = 0;
    int rc = session_open(&s, comm, &o->model, SESSION_TENSORS, err);
    if (rc == ERR_OK)
        rc = read_ids(o, &ids, &n, err);
    if (rc == ERR_OK)
        rc = check_ids(o, &s, ids, n, err);
    if (rc == ERR_OK)
        rc = safewriter_open(&w.file, o->out, err);
    if (rc == ERR_OK)
        rc = compute(o, &s, ids, n, &w, err);
    if (rc == ERR_OK)
        rc = safewriter_close(&w.file, err);
    safewriter_abandon(&w.file);
    free(ids);
    return session_close(&s, rc, err);
}

const struct command command_logits = {
    .name = "logits", .summary = "Logits of given token ids, as a .safetensors file",
    .options_bytes = sizeof(struct options), .needs_workers = true, .argp = &logits_argp,
    .check = check, .run = run};
