/* generate.c - continues a prompt on the terminal, or many from a file as one batch. */
#include "coordinator/commands/command.h"

#include "coordinator/commands/chatprompt.h"
#include "coordinator/commands/cli.h"
#include "coordinator/commands/commandlist.h"
#include "coordinator/commands/promptfile.h"
#include "coordinator/commands/textjob.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OPT_PROMPTS = 0x3000, OPT_OUT, OPT_PROMPT_IDS, OPT_PRINT_IDS, OPT_NO_ECHO, OPT_PARSE_SPECIAL,
       OPT_NO_ADD_SPECIAL, OPT_CHAT };
enum { PROMPT_BYTES_MAX = 256 << 20 };

struct options {
    struct err *err;
    struct model_args model;
    struct sampling_args sampling;
    const char *prompt, *file, *prompts, *out, *prompt_ids, *chat;
    bool print_ids, no_echo, parse_special, no_add_special;
};

static const struct argp_option option_table[] = {
    {NULL, 0, NULL, 0, "Prompt and output:", 0},
    {"prompt", 'p', "TEXT", 0, "Text to continue (default: from stdin)", 0},
    {"file", 'f', "FILE", 0, "Text to continue, from a file; - is stdin", 0},
    {"prompt-ids", OPT_PROMPT_IDS, "IDS", 0, "Token ids to continue, like 5,9,2", 0},
    {"chat", OPT_CHAT, "FILE", 0, "Answer a conversation: JSON [{\"role\", \"content\"}, ...] or "
                                  "{\"messages\", \"tools\"}, as the model's chat template wants it; "
                                  "prints the answer only; - is stdin", 0},
    {"prompts", OPT_PROMPTS, "FILE", 0, "Many prompts, one JSON object a line: {\"id\", \"prompt\" or "
                                        "\"prompt_ids\", \"n\", \"seed\", \"temperature\", ...}", 0},
    {"out", OPT_OUT, "FILE", 0, "Where the continuations of --prompts go (default: stdout)", 0},
    {"print-ids", OPT_PRINT_IDS, NULL, 0, "Print the new token ids as a JSON array, not text", 0},
    {"no-echo", OPT_NO_ECHO, NULL, 0, "Do not print the prompt", 0},
    {"parse-special", OPT_PARSE_SPECIAL, NULL, 0, "Special tokens written in the prompt count as such",
     0},
    {"no-add-special", OPT_NO_ADD_SPECIAL, NULL, 0, "Put no begin-of-text token before the prompt", 0},
    {0}};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT: return sampling_args_begin(&o->sampling, &o->model, o->err, state);
    case 'p': o->prompt = arg; return 0;
    case 'f': o->file = arg; return 0;
    case OPT_PROMPT_IDS: o->prompt_ids = arg; return 0;
    case OPT_CHAT: o->chat = arg; return 0;
    case OPT_PROMPTS: o->prompts = arg; return 0;
    case OPT_OUT: o->out = arg; return 0;
    case OPT_PRINT_IDS: o->print_ids = true; return 0;
    case OPT_NO_ECHO: o->no_echo = true; return 0;
    case OPT_PARSE_SPECIAL: o->parse_special = true; return 0;
    case OPT_NO_ADD_SPECIAL: o->no_add_special = true; return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp generate_argp = {
    .options = option_table, .parser = parse, .children = sampling_args_children,
    .doc = "Continues a prompt with a language model.\v"
           "Example:\n"
           "  mpirun -n 2 muster generate -m llama.gguf -p \"Once upon a time\" -n 200 --temp 0"};

static int check(void *options, struct err *err)
{
    const struct options *o = options;
    int sources = (o->prompt != NULL) + (o->file != NULL) + (o->prompt_ids != NULL) +
                  (o->prompts != NULL) + (o->chat != NULL);
    if (sources > 1)
        return err_set(err, ERR_INVAL, "one of -p, -f, --prompt-ids, --chat and --prompts is enough");
    if (o->out != NULL && o->prompts == NULL)
        return err_set(err, ERR_INVAL, "--out goes with --prompts");
    if (o->chat != NULL && (o->parse_special || o->no_add_special))
        return err_set(err, ERR_INVAL, "--chat: the chat template says which special tokens there are; "
                       "leave %s out", o->parse_special ? "--parse-special" : "--no-add-special");
    return ERR_OK;
}

/* --- one prompt */

/* Where the text of a single prompt goes. */
struct printer {
    const struct options *o;
    struct session *s;
    struct textjob *job;
    bool begun;
};

static int put(const char *text, size_t n, struct err *err)
{
    if (n > 0 && fwrite(text, 1, n, stdout) != n)
        return cli_flush(err);
    return cli_flush(err);
}

static int print_piece(void *ctx, const char *text, size_t n, struct err *err)
{
    struct printer *p = ctx;
    return p->o->print_ids ? ERR_OK : put(text, n, err);
}

/* The prompt as it was given, or the text of its ids. */
static int echo(struct printer *p, struct err *err)
{
    p->begun = true;
    if (p->o->no_echo || p->o->print_ids || p->o->chat != NULL)
        return ERR_OK;
    if (p->job->prompt_text != NULL)
        return put(p->job->prompt_text, p->job->prompt_bytes, err);
    char *text;
    size_t n;
    TRY(tokenizer_decode(p->s->tokenizer, p->job->prompt.id, p->job->prompt.n, true, &text, &n, err));
    int rc = put(text, n, err);
    free(text);
    return rc;
}

static int on_single(void *ctx, const struct lm_event *e, struct err *err)
{
    struct printer *p = ctx;
    if (e->token == NULL)
        return ERR_OK;
    if (!p->begun) {
        session_progress(p->s, "%s", "");
        TRY(echo(p, err));
    }
    return textjob_token(p->job, p->s, e->token, print_piece, p, err);
}

static int print_end(const struct printer *p, struct err *err)
{
    if (p->o->print_ids) {
        putchar('[');
        for (int i = 0; i < p->job->n_got; i++)
            printf("%s%d", i > 0 ? ", " : "", p->job->got[i]);
        putchar(']');
    }
    putchar('\n');
    return cli_flush(err);
}

/* The prompt's text or ids into the job. */
static int take_prompt(const struct options *o, struct textjob *j, struct err *err)
{
    TRY(sampling_args_copy(&j->args, &o->sampling, err));
    if (o->prompt_ids != NULL)
        return cli_ids(err, "--prompt-ids", o->prompt_ids, &j->prompt.id, &j->prompt.n) == 0
                   ? ERR_OK : ERR_INVAL;
    if (o->prompt == NULL)
        return cli_read(o->file != NULL ? o->file : "-", PROMPT_BYTES_MAX, &j->prompt_text,
                        &j->prompt_bytes, err);
    j->prompt_bytes = strlen(o->prompt);
    j->prompt_text = strdup(o->prompt);
    return j->prompt_text != NULL ? ERR_OK : err_set(err, ERR_NOMEM, "no memory for the prompt");
}

/* Without a seed of their own, people get one that they can use again. */
static void choose_seed(struct options *o)
{
    if (o->sampling.seed_given)
        return;
    o->sampling.seed = sampling_args_random_seed();
    if (o->sampling.temperature > 0)
        fprintf(stderr, "seed %llu\n", (unsigned long long)o->sampling.seed);
}

static struct textjob_options job_options(const struct options *o, int context)
{
    return (struct textjob_options){.add_special = !o->no_add_special,
                                    .parse_special = o->parse_special, .context = context};
}

/* The conversation of --chat into the job. */
static int take_chat(const struct options *o, const struct session *s, struct textjob *j,
                     struct textjob_options *how, struct err *err)
{
    json_t *root;
    const json_t *messages, *tools;
    struct chat *chat;
    TRY(sampling_args_copy(&j->args, &o->sampling, err));
    TRY(chatprompt_read(o->chat, &root, &messages, &tools, err));
    int rc = chat_open(&chat, s->tokenizer, NULL, err);
    if (rc == ERR_OK) {
        rc = chatprompt_render(chat, s->tokenizer, messages, tools, j, how, err);
        chat_close(chat);
    }
    json_decref(root);
    return rc;
}

static int run_single(const struct options *o, struct session *s, int context, struct textjob *j,
                      struct err *err)
{
    struct textjob_options how = job_options(o, context);
    TRY(o->chat != NULL ? take_chat(o, s, j, &how, err) : take_prompt(o, j, err));
    how.context = context;
    TRY(textjob_prepare(j, s, how, "", err));
    struct session_need need = {.sequences = 1, .longest = j->prompt.n + j->n_generate,
                                .longest_prompt = j->prompt.n};
    TRY(session_load(s, &o->model, &need, err));
    TRY(textjob_submit(j, s, 1, err));
    struct printer p = {.o = o, .s = s, .job = j};
    session_progress(s, "reading the prompt: %d tokens", j->prompt.n);
    TRY(lm_run(&s->lm, on_single, &p, err));
    return print_end(&p, err);
}

/* --- many prompts */

struct batch { struct session *s; struct promptfile file; int done; };

static int on_batch(void *ctx, const struct lm_event *e, struct err *err)
{
    struct batch *b = ctx;
    if (e->token == NULL)
        return ERR_OK;
    struct textjob *j = &b->file.job[e->sequence];
    TRY(textjob_token(j, b->s, e->token, NULL, NULL, err));
    if (j->finish != FINISH_NONE)
        session_progress(b->s, "%d of %d done", ++b->done, b->file.n);
    return ERR_OK;
}

static int run_batch(const struct options *o, struct session *s, int context, struct batch *b,
                     struct err *err)
{
    struct session_need need = {0};
    TRY(promptfile_read(&b->file, o->prompts, &o->sampling, err));
    for (int i = 0; i < b->file.n; i++) {
        struct textjob *j = &b->file.job[i];
        char where[64];
        snprintf(where, sizeof where, "%.40s line %d", o->prompts, b->file.line[i]);
        TRY(textjob_prepare(j, s, job_options(o, context), where, err));
        int all = j->prompt.n + j->n_generate;
        need.longest = all > need.longest ? all : need.longest;
        need.longest_prompt = j->prompt.n > need.longest_prompt ? j->prompt.n : need.longest_prompt;
        need.sequences++;
    }
    if (need.sequences > 0) {
        TRY(session_load(s, &o->model, &need, err));
        for (int i = 0; i < b->file.n; i++)
            TRY(textjob_submit(&b->file.job[i], s, (uint64_t)i, err));
        TRY(lm_run(&s->lm, on_batch, b, err));
    }
    session_progress(s, "%s", "");
    return promptfile_write(&b->file, o->out != NULL ? o->out : "-", err);
}

static int run(void *options, struct comm *comm, struct err *err)
{
    struct options *o = options;
    struct session s;
    struct textjob single = {0};
    struct batch batch = {.s = &s};
    int context = 0;
    int rc = session_open(&s, comm, &o->model, SESSION_TOKENIZER | SESSION_TENSORS, err);
    if (rc == ERR_OK)
        rc = session_context(&s, &o->model, &context, err);
    if (rc == ERR_OK) {
        choose_seed(o);
        rc = o->prompts != NULL ? run_batch(o, &s, context, &batch, err)
                                : run_single(o, &s, context, &single, err);
    }
    rc = session_close(&s, rc, err);
    textjob_free(&single);
    promptfile_free(&batch.file);
    return rc;
}

static void free_options(void *options) { sampling_args_free(&((struct options *)options)->sampling); }

const struct command command_generate = {
    .name = "generate", .summary = "Continues a prompt, or many as one batch",
    .options_bytes = sizeof(struct options), .needs_workers = true, .argp = &generate_argp,
    .check = check, .run = run, .free = free_options};
