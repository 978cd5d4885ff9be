/* perplexity.c - how well a model foretells a text: windows over it, each token scored once.
 * Why:    what a number type or another arithmetic costs is best said by the text's perplexity. */
#include "coordinator/commands/command.h"

#include "coordinator/commands/cli.h"
#include "coordinator/commands/commandlist.h"
#include "coordinator/commands/session.h"
#include "coordinator/commands/textwindow.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPT_STRIDE = 0x3000, OPT_JSON, OPT_PARSE_SPECIAL, OPT_NO_ADD_SPECIAL };
enum { TEXT_BYTES_MAX = 1 << 30, CONTEXT_DEFAULT = 2048 };

struct options {
    struct err *err;
    struct model_args model;
    const char *file;
    int stride;
    bool json, parse_special, no_add_special;
};

static const struct argp_option option_table[] = {
    {NULL, 0, NULL, 0, "Text and windows:", 0},
    {"file", 'f', "FILE", 0, "The text (default: from stdin)", 0},
    {"stride", OPT_STRIDE, "N", 0, "Tokens from the begin of one window to that of the next; a window is "
                                   "as long as --ctx says (default: half of it)", 0},
    {"json", OPT_JSON, NULL, 0, "Print one JSON object", 0},
    {"parse-special", OPT_PARSE_SPECIAL, NULL, 0, "Special tokens written in the text count as such", 0},
    {"no-add-special", OPT_NO_ADD_SPECIAL, NULL, 0, "Begin no window with a begin-of-text token", 0},
    {0}};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT: return model_args_begin(&o->model, o->err, state);
    case 'f': o->file = arg; return 0;
    case OPT_STRIDE: return cli_int(o->err, "--stride", arg, 1, 1 << 24, &o->stride);
    case OPT_JSON: o->json = true; return 0;
    case OPT_PARSE_SPECIAL: o->parse_special = true; return 0;
    case OPT_NO_ADD_SPECIAL: o->no_add_special = true; return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp perplexity_argp = {
    .options = option_table, .parser = parse, .children = model_args_child,
    .doc = "Prints the perplexity of a text: exp of the mean negative log likelihood (NLL) of its tokens, "
           "each with at least --ctx minus --stride tokens before it (in the first window: with all that "
           "there are). Every window begins with the model's begin-of-text token if it has one. +- is the "
           "standard error, as if tokens were independent.\v"
           "Example:\n"
           "  mpirun -n 2 muster perplexity -m llama.gguf -f text.txt --ctx 1024 --stride 512"};

static int check(void *options, struct err *err)
{
    const struct options *o = options;
    if (o->model.context > 0 && o->stride >= o->model.context)
        return err_set(err, ERR_INVAL, "--stride %d: it must be less than --ctx, %d", o->stride,
                       o->model.context);
    return ERR_OK;
}

/* The text's tokens, and what stands before them in every window. */
struct scored_text {
    struct token_list ids;
    int32_t lead;                       /* begin-of-text token, where windows.lead is 1 */
    struct textwindows windows;
    int n_windows, context;
    float *logprob;                     /* [ids.n]; NaN where none came */
};

/* --- the text */

/* The token that the tokenizer begins a text with. */
static int find_lead(const struct session *s, struct scored_text *t, struct err *err)
{
    struct token_list ids = {0};
    int rc = tokenizer_encode(s->tokenizer, "", 0, (struct tokenize_options){.add_special = true}, &ids,
                              err);
    if (rc == ERR_OK && ids.n > 0 && ids.id[0] == tokenizer_bos(s->tokenizer)) {
        t->lead = ids.id[0];
        t->windows.lead = 1;
    }
    token_list_free(&ids);
    return rc;
}

static int read_text(const struct options *o, const struct session *s, struct scored_text *t,
                     struct err *err)
{
    char *text = NULL;
    size_t n;
    const char *path = o->file != NULL ? o->file : "-", *name = strcmp(path, "-") ? path : "stdin";
    TRY(cli_read(path, TEXT_BYTES_MAX, &text, &n, err));
    int rc = tokenizer_encode(s->tokenizer, text, n,
                              (struct tokenize_options){.parse_special = o->parse_special}, &t->ids, err);
    free(text);
    if (rc == ERR_INVAL)
        rc = err->code = ERR_FORMAT;
    if (rc != ERR_OK)
        return err_prefix(err, "%s", name);
    if (!o->no_add_special)
        TRY(find_lead(s, t, err));
    t->windows.n = t->ids.n;
    if (textwindow_scored(&t->windows) == 0)
        return err_set(err, ERR_FORMAT, "%s: a text of %d tokens has nothing to foretell", name, t->ids.n);
    for (int i = 0; i < t->ids.n; i++)
        if (t->ids.id[i] >= (int)s->cluster.spec->vocab)
            return err_set(err, ERR_FORMAT, "%s: token id %d is not in the model's vocabulary of %d", name,
                           t->ids.id[i], (int)s->cluster.spec->vocab);
    return ERR_OK;
}

static int cut_windows(const struct options *o, const struct session *s, struct scored_text *t,
                       struct err *err)
{
    TRY(session_context(s, &o->model, &t->context, err));
    if (o->model.context == 0 && (t->context > CONTEXT_DEFAULT || t->context < 1))
        t->context = CONTEXT_DEFAULT;
    t->windows.stride = o->stride > 0 ? o->stride : (t->context + 1) / 2;
    t->windows.width = t->context - t->windows.lead;
    if (t->context < 2 || t->windows.stride >= t->context)
        return err_set(err, ERR_INVAL, "--stride %d: it must be less than the %d tokens of a window",
                       t->windows.stride, t->context);
    t->n_windows = textwindow_count(&t->windows);
    t->logprob = malloc((size_t)t->ids.n * sizeof *t->logprob);
    if (t->logprob == NULL)
        return err_set(err, ERR_NOMEM, "no memory for the scores of %d tokens", t->ids.n);
    for (int i = 0; i < t->ids.n; i++)
        t->logprob[i] = NAN;
    return ERR_OK;
}

/* --- windows through the model */

/* Windows under way: a few more than the slots, so that none is idle. A sequence's name is its window's
 * number times n_lanes plus its lane. */
struct feed {
    struct session *s;
    struct scored_text *t;
    int next, done, n_lanes;
    int32_t *tokens;                    /* [n_lanes, context] */
};

static int submit(struct feed *f, int lane, struct err *err)
{
    const struct scored_text *t = f->t;
    struct textwindow w = textwindow_at(&t->windows, f->next);
    int32_t *tokens = f->tokens + (size_t)lane * (size_t)t->context;
    int n = 0;
    if (t->windows.lead > 0)
        tokens[n++] = t->lead;
    memcpy(tokens + n, t->ids.id + w.begin, sizeof *tokens * (size_t)(w.end - w.begin - 1));
    n += w.end - w.begin - 1;
    struct schedule_request r = {
        .sequence = (uint64_t)f->next * (uint64_t)f->n_lanes + (uint64_t)lane, .prompt = tokens,
        .n_prompt = n, .targets = t->ids.id + w.end - w.scored, .n_targets = w.scored};
    f->next++;
    return lm_submit(&f->s->lm, &r, err);
}

static int on_event(void *ctx, const struct lm_event *e, struct err *err)
{
    struct feed *f = ctx;
    struct scored_text *t = f->t;
    int window = (int)(e->sequence / (uint64_t)f->n_lanes), lane = (int)(e->sequence % (uint64_t)f->n_lanes);
    if (e->logprobs != NULL) {
        struct textwindow w = textwindow_at(&t->windows, window);
        int first = w.begin + e->position - t->windows.lead + 1;
        if (first < w.end - w.scored || e->rows > w.end - first)
            return err_set(err, ERR_PEER, "%d scores came from token %d on in window %d", e->rows, first,
                           window);
        memcpy(t->logprob + first, e->logprobs, sizeof *t->logprob * (size_t)e->rows);
    }
    if (e->token == NULL)
        return ERR_OK;
    f->done++;
    session_progress(f->s, "window %d of %d", f->done, t->n_windows);
    return f->next < t->n_windows ? submit(f, lane, err) : ERR_OK;
}

static int compute(const struct options *o, struct session *s, struct scored_text *t, double *seconds,
                   struct err *err)
{
    struct session_need need = {.sequences = t->n_windows, .longest = t->context};
    int all = t->ids.n + t->windows.lead;
    need.longest = need.longest_prompt = all < t->context ? all : t->context;
    TRY(session_load(s, &o->model, &need, err));
    struct feed f = {.s = s, .t = t, .n_lanes = (s->load.slots + 1) * s->lm.n_replicas};
    f.tokens = malloc((size_t)f.n_lanes * (size_t)t->context * sizeof *f.tokens);
    if (f.tokens == NULL)
        return err_set(err, ERR_NOMEM, "no memory for %d windows", f.n_lanes);
    int64_t begun = comm_now_us(s->cluster.comm);
    int rc = ERR_OK;
    for (int lane = 0; lane < f.n_lanes && f.next < t->n_windows && rc == ERR_OK; lane++)
        rc = submit(&f, lane, err);
    if (rc == ERR_OK)
        rc = lm_run(&s->lm, on_event, &f, err);
    *seconds = (double)(comm_now_us(s->cluster.comm) - begun) * 1e-6;
    session_progress(s, "%s", "");
    free(f.tokens);
    return rc;
}

/* --- the result */

struct result { int n; double nll, nll_error, perplexity, perplexity_error; };

/* Mean and standard error in the text's order, so that the sum does not depend on who was first. */
static int sum_up(const struct scored_text *t, struct result *r, struct err *err)
{
    double sum = 0, squares = 0;
    int first = t->ids.n - textwindow_scored(&t->windows);
    r->n = t->ids.n - first;
    for (int i = first; i < t->ids.n; i++) {
        if (!isfinite(t->logprob[i]))
            return err_set(err, ERR_FORMAT, "the model gives token %d of the text the log probability %g: "
                           "are its weights whole?", i, (double)t->logprob[i]);
        sum -= (double)t->logprob[i];
    }
    r->nll = sum / r->n;
    for (int i = first; i < t->ids.n; i++)
        squares += (-(double)t->logprob[i] - r->nll) * (-(double)t->logprob[i] - r->nll);
    r->nll_error = r->n > 1 ? sqrt(squares / ((double)r->n - 1) / r->n) : 0;
    r->perplexity = exp(r->nll);
    r->perplexity_error = r->perplexity * r->nll_error;
    return ERR_OK;
}

static int print_json(const struct session *s, const struct scored_text *t, const struct result *r,
                      double seconds, struct err *err)
{
    json_t *j = json_pack("{s:s%, s:s, s:f, s:f, s:f, s:f, s:i, s:i, s:i, s:i, s:b, s:f, s:f}",
                          "model", s->path, strlen(s->path), "compute", s->load.f32 ? "f32" : "default",
                          "nll", r->nll, "nll_error", r->nll_error, "perplexity", r->perplexity,
                          "perplexity_error", r->perplexity_error, "tokens", r->n, "windows", t->n_windows,
                          "ctx", t->context, "stride", t->windows.stride, "bos", t->windows.lead,
                          "seconds", seconds, "tokens_per_s", (double)s->lm.prompt_rows / seconds);
    char *text = j != NULL ? json_dumps(j, JSON_REAL_PRECISION(10)) : NULL;
    json_decref(j);
    if (text == NULL)
        return err_set(err, ERR_NOMEM, "no memory for the result (is the model's path UTF-8?)");
    printf("%s\n", text);
    free(text);
    return cli_flush(err);
}

static int print(const struct options *o, const struct session *s, const struct scored_text *t,
                 const struct result *r, double seconds, struct err *err)
{
    seconds = seconds > 1e-6 ? seconds : 1e-6;
    if (o->json)
        return print_json(s, t, r, seconds, err);
    printf("perplexity %.4f +- %.4f, mean NLL %.6f +- %.6f\n", r->perplexity, r->perplexity_error, r->nll,
           r->nll_error);
    printf("%d tokens in %d window%s of %d, stride %d\n", r->n, t->n_windows, t->n_windows > 1 ? "s" : "",
           t->context, t->windows.stride);
    printf("%llu tokens read in %.2f s, %.1f tokens/s\n", (unsigned long long)s->lm.prompt_rows, seconds,
           (double)s->lm.prompt_rows / seconds);
    return cli_flush(err);
}

static int run(void *options, struct comm *comm, struct err *err)
{
    const struct options *o = options;
    struct session s;
    struct scored_text t = {.lead = -1};
    struct result r = {.n = 0};
    double seconds = 0;
    int rc = session_open(&s, comm, &o->model, SESSION_TENSORS | SESSION_TOKENIZER, err);
    if (rc == ERR_OK)
        rc = read_text(o, &s, &t, err);
    if (rc == ERR_OK)
        rc = cut_windows(o, &s, &t, err);
    if (rc == ERR_OK)
        rc = compute(o, &s, &t, &seconds, err);
    if (rc == ERR_OK)
        rc = sum_up(&t, &r, err);
    if (rc == ERR_OK)
        rc = print(o, &s, &t, &r, seconds, err);
    token_list_free(&t.ids);
    free(t.logprob);
    return session_close(&s, rc, err);
}

const struct command command_perplexity = {
    .name = "perplexity", .summary = "How well a model foretells a text, with an error bar",
    .options_bytes = sizeof(struct options), .needs_workers = true, .argp = &perplexity_argp,
    .check = check, .run = run};
