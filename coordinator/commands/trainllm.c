/* trainllm.c - `train llm`: a llama from text, or a model folder trained further. */
#include "coordinator/commands/trainargs.h"
#include "coordinator/commands/trainlist.h"

#include <stdio.h>

static const struct argp llm_argp = {
    .options = trainargs_options, .parser = trainargs_parse,
    .doc = "Trains a language model of llama's architecture on text files, JSONL (a text a line under "
           "\"text\", or a \"prompt\" and the \"completion\" that alone is learnt) or a folder of them, "
           "or on texts of the built-in world (--data scenes, which needs no tokenizer); or trains a "
           "model's folder further (--from). OUT/model is a Hugging Face folder with a GGUF file in it, "
           "for `muster generate`, transformers and llama.cpp.\v"
           "Keys for --set, with their defaults: layers=4, hidden=128, ffn=344, heads=4, kv_heads=2, "
           "tied=true, context=1024, rope_theta=10000, norm_eps=1e-5, init_std=0.02, length=128 "
           "(tokens of a row), separate=true (texts in a row do not see each other); lr=1e-3, warmup=200, "
           "lr_floor=0, clip=1, ema=0.999, decay=0.1, beta1=0.9, beta2=0.95.\n\n"
           "Example:\n"
           "  muster train llm --data scenes --steps 1000 --out my-model\n"
           "  muster train tokenizer --in texts --vocab 1024 --out my-tokenizer\n"
           "  mpirun -n 2 muster train llm --data texts --tokenizer my-tokenizer --out my-model"};

static const char *const defaults =
    "{\"steps\": 2000, \"batch\": 32, \"seed\": 0, \"length\": 128, \"separate\": true}";

/* A model's vocabulary may be padded, its tokenizer's may not be larger, or much smaller. */
static int check_vocabulary(const char *from, int entries, struct err *err)
{
    char path[4200];
    json_error_t why;
    snprintf(path, sizeof path, "%s/config.json", from);
    json_t *json = json_load_file(path, 0, &why);
    if (json == NULL)
        return err_set(err, ERR_IO, "--from %.150s: line %d: %.60s", path, why.line, why.text);
    const json_t *inner = json_object_get(json, "text_config"), *vocab = json_object_get(json, "vocab_size");
    if (vocab == NULL)
        vocab = json_object_get(inner, "vocab_size");
    json_int_t n = json_integer_value(vocab);
    bool known = json_is_integer(vocab);
    json_decref(json);
    if (known && (entries > n || entries < n - n / 8))
        return err_set(err, ERR_FORMAT, "the tokenizer has %d entries, the model of --from %.100s %lld: "
                       "another model's tokenizer", entries, from, (long long)n);
    return ERR_OK;
}

/* Rows of `length` ids; the tokenizer's size and special ids for a new model's configuration. */
static int want(json_t *config, struct batch_want *w, struct err *err)
{
    const json_t *length = json_object_get(config, "length");
    w->length = json_is_integer(length) && json_integer_value(length) < 1 << 20
                    ? (int)json_integer_value(length) : 0;
    if (w->length < 2)
        return err_set(err, ERR_INVAL, "length: a row has 2 to %d tokens", (1 << 20) - 1);
    const char *from = json_string_value(json_object_get(config, "from"));
    if (from != NULL)       /* the folder knows */
        return check_vocabulary(from, tokenizer_vocab_size(w->tokenizer), err);
    int failed = json_object_set_new(config, "vocab", json_integer(tokenizer_vocab_size(w->tokenizer)));
    failed |= json_object_set_new(config, "bos", json_integer(tokenizer_bos(w->tokenizer)));
    failed |= json_object_set_new(config, "eos", json_integer(tokenizer_eos(w->tokenizer)));
    return failed ? err_set(err, ERR_NOMEM, "no memory for a configuration") : ERR_OK;
}

static const struct train_kind kind = {.task = "llm", .tokenizer_place = "", .learns_tokenizer = true,
                                       .learns = BPETRAIN_BYTES, .learns_length = "context",
                                       .otherwise = 1024, .want = want};

static int run(void *options, struct comm *comm, struct err *err)
{
    return trainargs_run(options, &kind, defaults, comm, err);
}

const struct command train_llm = {
    .name = "train llm", .summary = "A language model, from text", .options_bytes = sizeof(struct train_args),
    .needs_workers = true, .argp = &llm_argp, .check = trainargs_check, .run = run};
