/* traintokenizer.c - `train tokenizer`: a vocabulary learnt from text files. */
#include "coordinator/commands/cli.h"
#include "coordinator/commands/trainlist.h"
#include "coordinator/commands/trainprogress.h"
#include "coordinator/text/bpetrain.h"
#include "coordinator/train/captiontokens.h"
#include "coordinator/train/textfiles.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { OPT_TYPE = 0x3000, OPT_VOCAB, OPT_IN, OPT_OUT, OPT_LENGTH, OPT_DATA };
enum { LENGTH_MAX = 1 << 20 };

struct options {
    struct err *err;
    int type;                   /* enum bpetrain_kind */
    int vocab, length;          /* 0: the default of the type */
    bool scenes;                /* the built-in world, not files */
    const char **in;            /* [n_in] */
    int n_in, cap_in;
    const char *out;
};

static const struct argp_option option_table[] = {
    {"type", OPT_TYPE, "TYPE", 0, "byte (byte-level BPE, for language models) or clip (for captions); "
     "default byte", 0},
    {"vocab", OPT_VOCAB, "N", 0, "Entries of the vocabulary, at most (default 1024)", 0},
    {"in", OPT_IN, "FILE", 0, "A .txt or .jsonl file, or a folder of them; may be repeated, and more files "
     "may follow", 0},
    {"data", OPT_DATA, "DATA", 0, "scenes (what the built-in world says: texts, or captions for clip), or as "
     "--in", 0},
    {"out", OPT_OUT, "FOLDER", 0, "The folder to write the tokenizer into; made if it is not there", 0},
    {"length", OPT_LENGTH, "N", 0, "Tokens that the model takes, for its configuration (default: byte 1024, "
     "clip 24)", 0},
    {0}};

static error_t add_input(struct options *o, const char *path)
{
    if (o->n_in == o->cap_in) {
        int cap = o->cap_in == 0 ? 8 : 2 * o->cap_in;
        const char **in = realloc(o->in, (size_t)cap * sizeof *in);
        if (in == NULL)
            return ENOMEM;
        o->in = in;
        o->cap_in = cap;
    }
    o->in[o->n_in++] = path;
    return 0;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    static const char *const types[] = {"byte", "clip", NULL};
    struct options *o = state->input;
    switch (key) {
    case OPT_TYPE: return cli_choice(o->err, "--type", arg, types, &o->type);
    case OPT_VOCAB: return cli_int(o->err, "--vocab", arg, BPETRAIN_BYTES_MIN, BPETRAIN_VOCAB_MAX, &o->vocab);
    case OPT_LENGTH: return cli_int(o->err, "--length", arg, 1, LENGTH_MAX, &o->length);
    case OPT_DATA:
        if (strcmp(arg, "scenes") == 0) {
            o->scenes = true;
            return 0;
        }
        return add_input(o, arg);
    case OPT_IN:
    case ARGP_KEY_ARG: return add_input(o, arg);
    case OPT_OUT: o->out = arg; return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp tokenizer_argp = {
    .options = option_table, .parser = parse, .args_doc = "[FILE...]",
    .doc = "Learns a vocabulary from text and writes it as a Hugging Face tokenizer.\v"
           "Example:\n"
           "  muster train tokenizer --data scenes --vocab 1024 --out my-tokenizer\n"
           "  muster train tokenizer --type byte --vocab 1024 --in corpus.jsonl --out my-model"};

static int check(void *options, struct err *err)
{
    struct options *o = options;
    if ((o->n_in == 0 && !o->scenes) || o->out == NULL)
        return err_set(err, ERR_INVAL, "train tokenizer wants --in and --out");
    if (o->n_in > 0 && o->scenes)
        return err_set(err, ERR_INVAL, "train tokenizer: files, or --data scenes, not both");
    o->vocab = o->vocab > 0 ? o->vocab : 1024;
    o->length = o->length > 0 ? o->length : o->type == BPETRAIN_CLIP ? 24 : 1024;
    if (o->type == BPETRAIN_CLIP && o->vocab < BPETRAIN_CLIP_MIN)
        return err_set(err, ERR_INVAL, "--vocab %d: the clip type has %d entries at least", o->vocab,
                       BPETRAIN_CLIP_MIN);
    return ERR_OK;
}

static void free_options(void *options) { free(((struct options *)options)->in); }

static int count_words(struct bpetrain *t, struct textfiles *f, struct err *err)
{
    struct trainprogress p = {0};
    const char *text;
    size_t n;
    TRY(textfiles_next(f, &text, &n, err));
    while (text != NULL) {
        TRY(bpetrain_add(t, text, n, err));
        trainprogress_show(&p, "reading", textfiles_share(f));
        TRY(textfiles_next(f, &text, &n, err));
    }
    trainprogress_show(&p, "learning", 1);
    return ERR_OK;
}

static int work(const struct options *o, struct bpetrain *t, struct textfiles *f, struct err *err)
{
    TRY(o->scenes ? captiontokens_count(t, (enum bpetrain_kind)o->type, 1, err) : count_words(t, f, err));
    int rc = bpetrain_learn(t, o->vocab, err);
    trainprogress_wipe();
    TRY(rc);
    if (mkdir(o->out, 0777) != 0 && errno != EEXIST)
        return err_set(err, ERR_OUTPUT, "%s: cannot be made: %s", o->out, strerror(errno));
    TRY(bpetrain_save(t, o->out, o->length, err));
    printf("%s: a vocabulary of %d\n", o->out, bpetrain_vocab(t));
    return cli_flush(err);
}

static int run(void *options, struct comm *comm, struct err *err)
{
    const struct options *o = options;
    struct bpetrain *t = NULL;
    struct textfiles *f = NULL;
    (void)comm;
    int rc = o->scenes ? ERR_OK : textfiles_open(&f, o->in, o->n_in, err);
    if (rc == ERR_OK)
        rc = bpetrain_open(&t, (enum bpetrain_kind)o->type, err);
    if (rc == ERR_OK)
        rc = work(o, t, f, err);
    bpetrain_close(t);
    textfiles_close(f);
    return rc;
}

const struct command train_tokenizer = {
    .name = "train tokenizer", .summary = "A vocabulary from text files",
    .options_bytes = sizeof(struct options), .argp = &tokenizer_argp, .check = check, .run = run,
    .free = free_options};
