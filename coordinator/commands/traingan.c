/* traingan.c - `train gan`: a generator and its discriminator, told by captions or classes. */
#include "coordinator/commands/trainargs.h"
#include "coordinator/commands/trainlist.h"

#include <stdio.h>
#include <string.h>

static const struct argp gan_argp = {
    .options = trainargs_options, .parser = trainargs_parse,
    .doc = "Trains a residual GAN (or a DCGAN) on pictures. With a text encoder, of `train diffusion` "
           "say, its frozen pooled captions say what to paint; else class ids of the data do, or "
           "nothing.\v"
           "Keys for --set, with their defaults: text_encoder=none (a folder; its tokenizer is found "
           "beside it), arch=resnet (or dcgan), side=32, z=64, condition=64, classes=1, "
           "g=128-128-64-32, d=32-64-128-128, loss=hinge (or softplus), mismatch=0.5 (share of real "
           "pictures with wrong captions among the fakes), diversity=0 (weight of the mode-seeking term, "
           "for a generator that paints all seeds of a caption alike: 0.1, say; batches of 16, 32, ..); "
           "lr=2e-4, d_lr=4e-4, beta1=0, beta2=0.9, "
           "d_beta1=0, d_beta2=0.9, ema=0.999. There is no R1 penalty: the tape does not differentiate "
           "twice.\n\n"
           "Example:\n"
           "  mpirun -n 2 muster train gan --data scenes --set text_encoder=my-model/model/text_encoder "
           "--steps 12000 --out my-gan"};

static const char *const defaults =
    "{\"data\": \"scenes\", \"steps\": 12000, \"batch\": 32, \"seed\": 0, \"side\": 32}";

/* Captions of the length and in the tokens that the text encoder was trained with. */
static int want_captions(const char *text, struct batch_want *w, struct err *err)
{
    char path[4200];
    json_error_t why;
    snprintf(path, sizeof path, "%s/config.json", text);
    json_t *json = json_load_file(path, 0, &why);
    json_int_t length = json_integer_value(json_object_get(json, "max_position_embeddings"));
    json_int_t vocab = json_integer_value(json_object_get(json, "vocab_size"));
    bool read = json != NULL;
    json_decref(json);
    if (!read || length < 3 || length > 1 << 16)
        return err_set(err, ERR_IO, "text_encoder %.150s: %.80s", path,
                       read ? "max_position_embeddings is missing" : why.text);
    if (w->tokenizer == NULL)
        return err_set(err, ERR_INVAL, "text_encoder %.150s: there is no tokenizer beside it: --tokenizer "
                       "FOLDER", text);
    if (vocab != tokenizer_vocab_size(w->tokenizer))
        return err_set(err, ERR_FORMAT, "the tokenizer has %d entries, text_encoder %.100s %lld: another "
                       "model's tokenizer", tokenizer_vocab_size(w->tokenizer), text, (long long)vocab);
    w->length = (int)length;
    w->wrong_caption = true;
    return ERR_OK;
}

static int want(json_t *config, struct batch_want *w, struct err *err)
{
    const char *text = json_string_value(json_object_get(config, "text_encoder"));
    const json_t *side = json_object_get(config, "side");
    w->side = json_is_integer(side) && json_integer_value(side) <= 1024 ? (int)json_integer_value(side) : 32;
    const json_t *classes = json_object_get(config, "classes");
    if (text != NULL)
        return want_captions(text, w, err);
    w->classes = json_is_integer(classes) && json_integer_value(classes) <= 1 << 20
                     ? (int)json_integer_value(classes) : 0;
    return ERR_OK;
}

/* The folder beside a text encoder that holds its tokenizer; NULL when there is no encoder. */
static const char *tokenizer_beside(const json_t *config, char path[4200])
{
    const char *text = json_string_value(json_object_get(config, "text_encoder"));
    if (text == NULL)
        return NULL;
    size_t n = strlen(text);
    while (n > 1 && text[n - 1] == '/')
        n--;
    snprintf(path, 4200, "%.*s/../tokenizer", (int)n, text);
    return path;
}

static const struct train_kind kind = {.task = "gan", .tokenizer_place = "tokenizer",
                                       .tokenizer_beside = tokenizer_beside, .no_tokenizer = true,
                                       .want = want};

static int run(void *options, struct comm *comm, struct err *err)
{
    return trainargs_run(options, &kind, defaults, comm, err);
}

const struct command train_gan = {
    .name = "train gan", .summary = "A GAN, from pictures", .options_bytes = sizeof(struct train_args),
    .needs_workers = true, .argp = &gan_argp, .check = trainargs_check, .run = run};
