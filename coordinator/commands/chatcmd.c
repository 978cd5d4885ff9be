/* chatcmd.c - a conversation: on a terminal, or one message a line. */
#include "coordinator/commands/command.h"

#include "coordinator/cluster/interrupt.h"
#include "coordinator/commands/chatprompt.h"
#include "coordinator/commands/cli.h"
#include "coordinator/commands/commandlist.h"
#include "coordinator/commands/linereader.h"
#include "proto/atomicfile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The cache is made once, for the longest conversation; a model's own limit may be far too much. */
enum { CONTEXT_DEFAULT = 8192, ANSWER_DEFAULT = 1024, PROMPT_CHUNK = 512, TURN_US = 100000 };

struct options {
    struct err *err;
    struct model_args model;
    struct sampling_args sampling;
    const char *system;
};

static const struct argp_option option_table[] = {
    {NULL, 0, NULL, 0, "Conversation:", 0},
    {"system", 's', "TEXT", 0, "What the model is told before the first message", 0},
    {0}};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT: return sampling_args_begin(&o->sampling, &o->model, o->err, state);
    case 's': o->system = arg; return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp chat_argp = {
    .options = option_table, .parser = parse, .children = sampling_args_children,
    .doc = "A conversation with a language model, by its chat template. Messages are lines of stdin; on a "
           "terminal /help lists commands, ctrl-D ends, ctrl-C stops an answer. An answer has at most "
           "1024 tokens (-n), the conversation 8192 (--ctx).\v"
           "Example:\n"
           "  muster chat -m smollm2 -s \"You answer in one sentence.\"\n"
           "  echo \"Who are you?\" | mpirun -n 3 muster chat -m smollm2 --temp 0"};

struct talk {
    const struct options *o;
    struct session s;
    struct chat *chat;
    struct linereader in;
    json_t *messages;
    uint64_t sequence;
    int context;
    bool tty, over;
};

/* --- what was said */

static int no_memory(struct err *err) { return err_set(err, ERR_NOMEM, "no memory for a message"); }

static int say(struct talk *k, const char *role, const char *text, size_t n, struct err *err)
{
    json_t *content = json_stringn(text, n);
    if (content == NULL)
        return err_set(err, ERR_FORMAT, "the message of the %s is not UTF-8", role);
    json_t *message = json_pack("{s:s, s:o}", "role", role, "content", content);
    return message != NULL && json_array_append_new(k->messages, message) == 0 ? ERR_OK
                                                                              : no_memory(err);
}

static int begin_again(struct talk *k, struct err *err)
{
    json_decref(k->messages);
    if ((k->messages = json_array()) == NULL)
        return no_memory(err);
    const char *system = k->o->system;
    return system != NULL ? say(k, "system", system, strlen(system), err) : ERR_OK;
}

static void forget_after(struct talk *k, size_t n)
{
    while (json_array_size(k->messages) > n)
        json_array_remove(k->messages, json_array_size(k->messages) - 1);
}

static int save(const struct talk *k, const char *path, struct err *err)
{
    struct atomicfile f;
    char *text = json_dumps(k->messages, JSON_INDENT(1));
    if (text == NULL)
        return no_memory(err);
    int rc = atomicfile_open(&f, path, err);
    if (rc == ERR_OK) {
        rc = atomicfile_write(&f, text, strlen(text), err);
        if (rc == ERR_OK)
            rc = atomicfile_write(&f, "\n", 1, err);
        if (rc == ERR_OK)
            rc = atomicfile_commit(&f, err);
        atomicfile_abandon(&f);
    }
    free(text);
    return rc;
}

/* --- an answer */

struct answer { struct talk *k; struct textjob *job; bool stopped; };

static int print_piece(void *ctx, const char *text, size_t n, struct err *err)
{
    fwrite(text, 1, n, stdout);
    return cli_flush(err);
}

static int on_token(void *ctx, const struct lm_event *e, struct err *err)
{
    struct answer *a = ctx;
    if (e->token == NULL || a->stopped)
        return ERR_OK;
    return textjob_token(a->job, &a->k->s, e->token, print_piece, a, err);
}

/* Until the answer is there, or ctrl-C; what is under way then still comes back. */
static int hear(struct answer *a, struct err *err)
{
    struct lm *lm = &a->k->s.lm;
    while (!lm_idle(lm)) {
        TRY(lm_turn(lm, TURN_US, on_token, a, err));
        if (!a->stopped && interrupt_soft()) {
            a->stopped = true;
            lm_cancel(lm, a->k->sequence);
        }
    }
    putchar('\n');
    return cli_flush(err);
}

static int ask(struct talk *k, struct textjob *j, struct err *err)
{
    struct textjob_options how;
    struct answer a = {.k = k, .job = j};
    TRY(sampling_args_copy(&j->args, &k->o->sampling, err));
    TRY(chatprompt_render(k->chat, k->s.tokenizer, k->messages, NULL, j, &how, err));
    how.context = k->context;
    TRY(textjob_prepare(j, &k->s, how, "", err));
    j->keep = true;
    TRY(textjob_submit(j, &k->s, ++k->sequence, err));
    TRY(hear(&a, err));
    return say(k, "assistant", j->n_text > 0 ? j->text : "", j->n_text, err);
}

/* One turn. On a terminal a message that cannot be answered is taken back, and the talk goes on. */
static int turn(struct talk *k, const char *text, size_t n, struct err *err)
{
    struct textjob j = {0};
    size_t before = json_array_size(k->messages);
    int rc = say(k, "user", text, n, err);
    if (rc == ERR_OK)
        rc = ask(k, &j, err);
    textjob_free(&j);
    if (rc == ERR_FORMAT && k->tty) {
        fprintf(stderr, "%s; /reset begins a new conversation\n", err->msg);
        forget_after(k, before);
        err->code = ERR_OK;
        rc = ERR_OK;
    }
    return rc;
}

/* --- lines */

static void say_help(void)
{
    fputs("/reset      begin a new conversation\n"
          "/save FILE  write the messages as JSON, for generate --chat\n"
          "/quit       end (or ctrl-D)\n"
          "ctrl-C      stop the answer\n", stderr);
}

/* A file that cannot be written ends nothing on a terminal. */
static int save_command(const struct talk *k, const char *path, struct err *err)
{
    int rc = save(k, path, err);
    if (rc == ERR_OUTPUT && k->tty) {
        fprintf(stderr, "%s\n", err->msg);
        err->code = ERR_OK;
        rc = ERR_OK;
    }
    return rc;
}

static int take_line(struct talk *k, const char *line, size_t n, struct err *err)
{
    if (strspn(line, " \t\r") == n)
        return ERR_OK;
    if (line[0] != '/')
        return turn(k, line, n, err);
    if (strcmp(line, "/reset") == 0)
        return begin_again(k, err);
    if (strncmp(line, "/save ", 6) == 0 && line[6] != '\0')
        return save_command(k, line + 6, err);
    if (strcmp(line, "/quit") == 0)
        k->over = true;
    else if (strcmp(line, "/help") == 0)
        say_help();
    else
        fprintf(stderr, "%.40s is no command; /help lists them\n", line);
    return ERR_OK;
}

static void prompt(const struct talk *k)
{
    if (k->tty)
        fputs("> ", stdout);
    fflush(stdout);
}

/* While nobody types: a lost rank or a SIGTERM ends the wait. */
static int idle(void *ctx, struct err *err)
{
    struct talk *k = ctx;
    if (interrupt_soft()) {
        fputs("\n(/quit or ctrl-D ends)\n", stdout);
        prompt(k);
    }
    return lm_turn(&k->s.lm, 0, on_token, NULL, err);
}

static int converse(struct talk *k, struct err *err)
{
    TRY(begin_again(k, err));
    while (!k->over) {
        char *line;
        size_t n;
        prompt(k);
        TRY(linereader_next(&k->in, idle, k, &line, &n, err));
        if (line == NULL)
            break;
        TRY(take_line(k, line, n, err));
    }
    if (k->tty && !k->over)
        putchar('\n');
    return cli_flush(err);
}

static int open_talk(struct talk *k, struct comm *comm, struct options *o, struct err *err)
{
    TRY(session_open(&k->s, comm, &o->model, SESSION_TOKENIZER | SESSION_TENSORS, err));
    TRY(session_context(&k->s, &o->model, &k->context, err));
    if (o->model.context == 0 && k->context > CONTEXT_DEFAULT)
        k->context = CONTEXT_DEFAULT;
    if (!o->sampling.seed_given)
        o->sampling.seed = sampling_args_random_seed();
    if (o->sampling.n == 0)
        o->sampling.n = ANSWER_DEFAULT;
    TRY(chat_open(&k->chat, k->s.tokenizer, NULL, err));
    struct session_need need = {.sequences = 1, .longest = k->context,
                                .longest_prompt = k->context < PROMPT_CHUNK ? k->context : PROMPT_CHUNK};
    return session_load(&k->s, &o->model, &need, err);
}

static int run(void *options, struct comm *comm, struct err *err)
{
    struct talk k = {.o = options, .tty = isatty(STDIN_FILENO)};
    int rc = open_talk(&k, comm, options, err);
    if (rc == ERR_OK) {
        interrupt_softly(k.tty);
        rc = converse(&k, err);
        interrupt_softly(false);
    }
    rc = session_close(&k.s, rc, err);
    chat_close(k.chat);
    json_decref(k.messages);
    linereader_free(&k.in);
    return rc;
}

static void free_options(void *options) { sampling_args_free(&((struct options *)options)->sampling); }

const struct command command_chat = {
    .name = "chat", .summary = "A conversation, on a terminal or line by line",
    .options_bytes = sizeof(struct options), .needs_workers = true, .argp = &chat_argp, .run = run,
    .free = free_options};
