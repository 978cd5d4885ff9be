/* tokenize.c - text to token ids, and back. */
#include "coordinator/commands/command.h"

#include "coordinator/commands/cli.h"
#include "coordinator/commands/commandlist.h"
#include "coordinator/commands/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPT_DECODE = 0x3000, OPT_NO_ADD_SPECIAL, OPT_PARSE_SPECIAL };
enum { TEXT_BYTES_MAX = 1 << 30 };

struct options {
    struct err *err;
    const char *model, *prompt;
    bool decode, no_add_special, parse_special;
};

static const struct argp_option option_table[] = {
    {"model", 'm', "MODEL", 0, "A .gguf file, a Hugging Face folder, or the name of a fetched model", 0},
    {"prompt", 'p', "TEXT", 0, "The text (default: from stdin)", 0},
    {"decode", OPT_DECODE, NULL, 0, "Turn a JSON array of ids from stdin back into text", 0},
    {"no-add-special", OPT_NO_ADD_SPECIAL, NULL, 0, "Add no begin-of-text token or the like", 0},
    {"parse-special", OPT_PARSE_SPECIAL, NULL, 0,
     "Special tokens written in the text count as such; with --decode they are written out", 0},
    {0}};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;
    switch (key) {
    case 'm': o->model = arg; return 0;
    case 'p': o->prompt = arg; return 0;
    case OPT_DECODE: o->decode = true; return 0;
    case OPT_NO_ADD_SPECIAL: o->no_add_special = true; return 0;
    case OPT_PARSE_SPECIAL: o->parse_special = true; return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp tokenize_argp = {
    .options = option_table, .parser = parse,
    .doc = "Prints the token ids of a text as one JSON array, or the text of ids.\v"
           "Example:\n"
           "  muster tokenize -m llama.gguf -p \"Once upon a time\" |\n"
           "      muster tokenize -m llama.gguf --decode"};

static int encode(const struct options *o, const struct session *s, const char *text, size_t n,
                  struct err *err)
{
    struct token_list ids = {0};
    struct tokenize_options t = {.add_special = !o->no_add_special, .parse_special = o->parse_special};
    int rc = tokenizer_encode(s->tokenizer, text, n, t, &ids, err);
    if (rc == ERR_INVAL)
        rc = err->code = ERR_FORMAT;    /* text that is not text is bad input, not bad usage */
    if (rc == ERR_OK) {
        putchar('[');
        for (int i = 0; i < ids.n; i++)
            printf("%s%d", i > 0 ? ", " : "", ids.id[i]);
        printf("]\n");
        rc = cli_flush(err);
    }
    token_list_free(&ids);
    return rc;
}

/* The text as it is: no newline of ours behind it. */
static int decode(const struct options *o, const struct session *s, const char *text, struct err *err)
{
    int32_t *ids;
    int n_ids;
    char *out;
    size_t n;
    if (cli_ids(err, "--decode", text, &ids, &n_ids) != 0)
        return err->code;
    int rc = tokenizer_decode(s->tokenizer, ids, n_ids, !o->parse_special, &out, &n, err);
    if (rc == ERR_OK) {
        fwrite(out, 1, n, stdout);
        rc = cli_flush(err);
        free(out);
    }
    free(ids);
    return rc;
}

static int work(const struct options *o, const struct session *s, struct err *err)
{
    char *text = NULL;
    size_t n;
    if (o->prompt != NULL)
        return o->decode ? decode(o, s, o->prompt, err)
                         : encode(o, s, o->prompt, strlen(o->prompt), err);
    TRY(cli_read("-", TEXT_BYTES_MAX, &text, &n, err));
    int rc = o->decode ? decode(o, s, text, err) : encode(o, s, text, n, err);
    free(text);
    return rc;
}

static int run(void *options, struct comm *comm, struct err *err)
{
    const struct options *o = options;
    struct model_args args = {.model = o->model};
    struct session s;
    int rc = session_open(&s, comm, &args, SESSION_TOKENIZER, err);
    if (rc == ERR_OK)
        rc = work(o, &s, err);
    return session_close(&s, rc, err);
}

const struct command command_tokenize = {
    .name = "tokenize", .summary = "Text to token ids, and back",
    .options_bytes = sizeof(struct options), .needs_workers = true, .argp = &tokenize_argp,
    .run = run};
