/* traindiffusion.c - `train diffusion`: pictures from captions, by denoising. */
#include "coordinator/commands/trainargs.h"
#include "coordinator/commands/trainlist.h"
#include "coordinator/scenes/scenetext.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct argp diffusion_argp = {
    .options = trainargs_options, .parser = trainargs_parse,
    .doc = "Trains a text-conditional diffusion transformer and its text encoder; the folder OUT/model opens "
           "in diffusers and transformers.\v"
           "Keys for --set, with their defaults: layout=mmdit (or pixart), side=32, patch=4, layers=4, "
           "width=128, heads=4, text_layers=2, text_width=96, text_heads=4, length=24, objective=flow (or "
           "epsilon, v), schedule=cosine (or linear, scaled_linear), times=normal (or uniform), shift=3, "
           "super=false (true: 32 to 64), residual=4 (super: gain of what bicubic enlargement lacks, "
           "which is then learnt; 0: whole pictures), guidance=3, "
           "preview_steps=20; lr=1e-3, warmup=200, lr_floor=0, clip=1, ema=0.999, decay=0.01, "
           "beta1=0.9, beta2=0.999. With --from, layers above those of the folder's model are "
           "added to it: what it has learnt stays, and the new ones learn from there.\n\n"
           "Example:\n"
           "  mpirun -n 2 muster train diffusion --data scenes --steps 20000 --out my-model\n"
           "  muster train diffusion --from my-model/model --set layers=6 --out my-deeper-model"};

static const char *const defaults =
    "{\"data\": \"scenes\", \"steps\": 10000, \"batch\": 16, \"seed\": 0, \"caption_dropout\": 0.1}";

static int read_json(const char *folder, const char *name, json_t **json, struct err *err)
{
    char path[4200];
    json_error_t why;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    *json = json_load_file(path, 0, &why);
    return *json != NULL ? ERR_OK : err_set(err, ERR_IO, "--from %.150s: line %d: %.60s", path, why.line,
                                            why.text);
}

/* A whole number of a folder's configuration; 0 when there is none. */
static int folder_number(const char *folder, const char *name, const char *key, int *out, struct err *err)
{
    json_t *json;
    TRY(read_json(folder, name, &json, err));
    json_int_t v = json_integer_value(json_object_get(json, key));
    json_decref(json);
    if (v < 1 || v > 1 << 16)
        return err_set(err, ERR_FORMAT, "--from %.100s/%s: %s is missing", folder, name, key);
    *out = (int)v;
    return ERR_OK;
}

static int number(const json_t *config, const char *key, int otherwise)
{
    const json_t *v = json_object_get(config, key);
    return json_is_integer(v) ? (int)json_integer_value(v) : otherwise;
}

/* Into the finished folder: `imagine` warns of other words. */
static int name_words(json_t *config, struct err *err)
{
    const char *data = json_string_value(json_object_get(config, "data"));
    if (data == NULL || strcmp(data, "scenes") != 0)
        return ERR_OK;
    json_t *list = json_array();
    for (const char *const *w = scene_caption_words(); *w != NULL; w++)
        json_array_append_new(list, json_string(*w));
    return json_object_set_new(config, "words", list) == 0
               ? ERR_OK : err_set(err, ERR_NOMEM, "no memory for words");
}

/* Sizes of a sample; ids of the tokenizer for the text encoder's configuration. */
static int want(json_t *config, struct batch_want *w, struct err *err)
{
    const char *from = json_string_value(json_object_get(config, "from"));
    int vocab;
    TRY(name_words(config, err));
    w->small = json_is_true(json_object_get(config, "super"));
    w->side = number(config, "side", w->small ? 64 : 32);
    w->length = number(config, "length", 24);
    if (from != NULL) {
        TRY(folder_number(from, "transformer/config.json", "sample_size", &w->side, err));
        TRY(folder_number(from, "text_encoder/config.json", "max_position_embeddings", &w->length, err));
        TRY(folder_number(from, "text_encoder/config.json", "vocab_size", &vocab, err));
        if (vocab != tokenizer_vocab_size(w->tokenizer))
            return err_set(err, ERR_FORMAT, "the tokenizer has %d entries, the text encoder of --from %.100s "
                           "%d: another model's tokenizer", tokenizer_vocab_size(w->tokenizer), from, vocab);
        return ERR_OK;
    }
    int eos = tokenizer_eos(w->tokenizer), bos = tokenizer_bos(w->tokenizer);
    json_object_set_new(config, "vocab", json_integer(tokenizer_vocab_size(w->tokenizer)));
    json_object_set_new(config, "eos", json_integer(eos >= 0 ? eos : 0));
    json_object_set_new(config, "bos", json_integer(bos >= 0 ? bos : eos >= 0 ? eos : 0));
    return ERR_OK;
}

static const struct train_kind kind = {.task = "diffusion", .tokenizer_place = "tokenizer",
                                       .learns_tokenizer = true, .learns = BPETRAIN_CLIP,
                                       .learns_length = "length", .otherwise = 24, .want = want};

static int run(void *options, struct comm *comm, struct err *err)
{
    return trainargs_run(options, &kind, defaults, comm, err);
}

const struct command train_diffusion = {
    .name = "train diffusion", .summary = "A diffusion transformer, from pictures with captions",
    .options_bytes = sizeof(struct train_args), .needs_workers = true, .argp = &diffusion_argp,
    .check = trainargs_check, .run = run};
