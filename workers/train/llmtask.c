/* llmtask.c - training a language model: the decoder's own layers (decoderlearn.h), next-token loss, a
 * Hugging Face folder in and out.
 * Batch:  ids i32 [n, length]; targets i32 [n, length] where not every token counts: target i is predicted
 *         from position i - 1, a negative one is passed over. Without targets the ids are their own.
 * Files:  a folder that training goes on from keeps its configuration; a new model is a llama. */
#include "proto/atomicfile.h"
#include "workers/models/decoderlearn.h"
#include "workers/models/hfconfig.h"
#include "workers/models/learnweights.h"
#include "workers/models/quantize.h"
#include "workers/models/textfile.h"
#include "workers/train/traindraw.h"
#include "workers/train/trainer.h"
#include "workers/train/trainfolder.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NOT_COUNTED = -100, CONFIG_BYTES = 8 << 20 };

struct llm {
    struct model_config c;
    json_t *config;             /* of the folder */
    struct decoderlearn *d;     /* on the weights that learn */
    bool separate;              /* texts that share a row do not see each other */
    char *copies[3];            /* text of the files that go along, as in `along`; NULL: not there */
};

/* Small files of a folder that stay true when its weights change. */
static const char *const along[3] = {"generation_config.json", "tokenizer.json", "tokenizer_config.json"};

/* --- a new model */

static void put_int(json_t *j, const char *key, int64_t v) { json_object_set_new(j, key, json_integer(v)); }

/* config.json of a llama by the keys of c. */
static json_t *new_config(struct trainconfig *c)
{
    json_t *j = json_object(), *ropes = json_object();
    json_object_set_new(j, "architectures", json_pack("[s]", "LlamaForCausalLM"));
    json_object_set_new(j, "model_type", json_string("llama"));
    json_object_set_new(j, "hidden_act", json_string("silu"));
    json_object_set_new(j, "attention_bias", json_false());
    json_object_set_new(j, "mlp_bias", json_false());
    int64_t hidden = trainconfig_int(c, "hidden", 128, 1, 1 << 20);
    int64_t heads = trainconfig_int(c, "heads", 4, 1, 4096);
    put_int(j, "hidden_size", hidden);
    put_int(j, "num_attention_heads", heads);
    put_int(j, "head_dim", trainconfig_int(c, "head_dim", hidden / heads, 1, 1024));
    put_int(j, "num_key_value_heads", trainconfig_int(c, "kv_heads", heads > 1 ? heads / 2 : 1, 1, 4096));
    put_int(j, "num_hidden_layers", trainconfig_int(c, "layers", 4, 1, 1024));
    put_int(j, "intermediate_size", trainconfig_int(c, "ffn", 344, 1, 1 << 22));
    put_int(j, "vocab_size", trainconfig_int(c, "vocab", 1024, 1, 1 << 24));
    put_int(j, "max_position_embeddings", trainconfig_int(c, "context", 1024, 1, 1 << 30));
    int64_t bos = trainconfig_int(c, "bos", -1, -1, 1 << 24);
    int64_t eos = trainconfig_int(c, "eos", -1, -1, 1 << 24);
    json_object_set_new(j, "bos_token_id", bos >= 0 ? json_integer(bos) : json_null());
    json_object_set_new(j, "eos_token_id", eos >= 0 ? json_integer(eos) : json_null());
    json_object_set_new(j, "rms_norm_eps", json_real(trainconfig_real(c, "norm_eps", 1e-5, 1e-12, 1)));
    json_object_set_new(j, "initializer_range", json_real(trainconfig_real(c, "init_std", 0.02, 0, 10)));
    json_object_set_new(j, "tie_word_embeddings", json_boolean(trainconfig_flag(c, "tied", true)));
    double theta = trainconfig_real(c, "rope_theta", 10000, 1, 1e12);
    json_object_set_new(j, "rope_theta", json_real(theta));     /* where libraries looked before */
    json_object_set_new(ropes, "rope_theta", json_real(theta));
    json_object_set_new(ropes, "rope_type", json_string("default"));
    json_object_set_new(j, "rope_parameters", ropes);
    return j;
}

static int parse_config(struct llm *l, struct err *err)
{
    char *text = json_dumps(l->config, JSON_REAL_PRECISION(17));
    if (text == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a configuration");
    int rc = hfconfig_parse(&l->c, text, strlen(text), NULL, 0, "the new model", err);
    free(text);
    return rc;
}

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);
    return n >= m && strcmp(name + n - m, end) == 0;
}

/* Norms are ones, biases zeros, matrices normal; what adds to the stream starts smaller the deeper the
 * model is (Radford et al. 2019). */
static void draw_weights(const struct llm *l, struct params *w, uint64_t seed, double deviation)
{
    double branch = deviation / sqrt(2.0 * l->c.n_layers);
    for (int i = 0; i < w->n; i++) {
        struct param *p = &w->p[i];
        bool into = ends_with(p->name, "o_proj.weight") || ends_with(p->name, "down_proj.weight");
        if (p->n_dims == 2)
            traindraw_weights_normal(seed, (uint32_t)i, into ? branch : deviation, p->data, p->n);
        for (int64_t k = 0; p->n_dims == 1 && k < p->n; k++)
            p->data[k] = ends_with(p->name, "norm.weight") ? 1 : 0;
    }
}

/* --- a model to go on from */

/* The files that go along, where there are none yet. */
static int read_along(struct llm *l, const char *folder, struct err *err)
{
    for (size_t i = 0; i < sizeof along / sizeof *along; i++) {
        size_t n;
        if (l->copies[i] == NULL)
            TRY(textfile_read(folder, along[i], 64 << 20, 0, &l->copies[i], &n, err));
    }
    return ERR_OK;
}

static int read_folder(struct llm *l, struct params *w, const char *from, struct err *err)
{
    struct tensorfile t;
    TRY(tensorfile_open(&t, from, err));
    int rc = model_config_read(&l->c, &t, from, err);
    if (rc == ERR_OK && strcmp(l->c.format, "hf") != 0)
        rc = err_set(err, ERR_FORMAT, "%.150s: training goes on from a Hugging Face folder, and this is "
                     "a GGUF file", from);
    if (rc == ERR_OK)
        rc = params_load(w, &t, err);
    tensorfile_close(&t);
    TRY(rc);
    TRY(read_along(l, from, err));
    return trainfolder_read_json(from, "config.json", &l->config, err);
}

/* --- life */

static void destroy(struct train_task *t)
{
    struct llm *l = t->state;
    if (l == NULL)
        return;
    decoderlearn_destroy(l->d);
    model_config_free(&l->c);
    json_decref(l->config);
    for (size_t i = 0; i < sizeof along / sizeof *along; i++)
        free(l->copies[i]);
    free(l);
    t->state = NULL;
}

static int make_decoder(const struct llm *l, struct decoderlearn **d, struct params *w, const char *name,
                        struct err *err)
{
    TRY(decoderlearn_new(d, &l->c, w, name, err));
    if (l->separate)
        decoderlearn_separate(*d);
    return ERR_OK;
}

static int create(struct train_task *t, struct trainconfig *c, struct err *err)
{
    struct llm *l = calloc(1, sizeof *l);
    struct params *w = &t->set[0].params;
    if (l == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a language model");
    t->state = l;
    t->set[0].prefix = "";
    t->n_sets = t->n_groups = 1;
    t->group[0] = (struct train_group){.name = "", .adam = {1e-3, 0.9, 0.95, 1e-8, 0.1}, .clip = 1,
                                       .ema = 0.999, .warmup = 200};
    train_group_read(&t->group[0], c, NULL);
    trainconfig_int(c, "length", 128, 2, 1 << 20);      /* the coordinator's: rows come as they are */
    l->separate = trainconfig_flag(c, "separate", false);
    const char *tokenizer = trainconfig_text(c, "tokenizer", NULL);
    if (tokenizer != NULL)
        TRY(read_along(l, tokenizer, err));
    if (c->from != NULL) {
        TRY(read_folder(l, w, c->from, err));
    } else {
        l->config = new_config(c);
        TRY(parse_config(l, err));
        TRY(learnweights_add(&l->c, w, err));
        draw_weights(l, w, c->seed, json_real_value(json_object_get(l->config, "initializer_range")));
    }
    return make_decoder(l, &l->d, w, c->from != NULL ? c->from : "the new model", err);
}

/* --- steps */

/* labels [n length] in nn's memory: what each position has to say. */
static int32_t *labels_of(struct nn *nn, const int32_t *targets, int64_t n, int64_t length)
{
    int32_t *labels = nn_take(nn, (size_t)(n * length) * sizeof *labels);
    for (int64_t i = 0; i < n * length; i++)
        labels[i] = (i + 1) % length == 0 || targets[i + 1] < 0 ? NOT_COUNTED : targets[i + 1];
    return labels;
}

static int check_targets(const struct llm *l, const struct train_tensor *t, struct err *err)
{
    const int32_t *v = t->data;
    for (int64_t i = 0; i < t->shape[0] * t->shape[1]; i++)
        if (v[i] >= l->c.vocab)
            return err_set(err, ERR_FORMAT, "token %d is not in a vocabulary of %d (another tokenizer?)",
                           v[i], l->c.vocab);
    return ERR_OK;
}

static int step(struct train_task *t, struct trainer *tr, const struct train_batch *b,
                struct train_metrics *out, struct err *err)
{
    struct llm *l = t->state;
    struct nn_tensor *logits;
    const struct train_tensor *ids = train_batch_find(b, "ids", WIRE_I32, 2, err);
    const struct train_tensor *targets = train_batch_find(b, "targets", WIRE_I32, 2, NULL);
    if (ids == NULL)
        return err_set(err, ERR_PEER, "a batch without ids");
    targets = targets != NULL ? targets : ids;
    int64_t length = ids->shape[1];
    if (targets->shape[1] != length || length < 2)
        return err_set(err, ERR_PEER, "a batch of rows of %lld tokens with %lld targets", (long long)length,
                       (long long)targets->shape[1]);
    TRY(check_targets(l, targets, err));
    TRY(decoderlearn_forward(l->d, &tr->nn, ids->data, b->n, (int)length, &logits, err));
    struct nn_tensor *loss = nn_cross_entropy(&tr->nn, logits,
                                              labels_of(&tr->nn, targets->data, b->n, length), true);
    train_metric(out, "loss", loss->data[0]);
    if (b->evaluate)
        return ERR_OK;
    nn_backward(&tr->nn, loss, 1);
    return trainer_update(tr, 0, loss->data[0], out, err);
}

/* --- previews: the first quarter of each row, continued greedily */

static int32_t most_likely(const float *logits, int vocab)
{
    int best = 0;
    for (int i = 1; i < vocab; i++)
        best = logits[i] > logits[best] ? i : best;
    return best;
}

/* One more token for each of n rows of `have` tokens. */
static int extend(const struct llm *l, struct decoderlearn *d, struct nn *nn, struct params *w,
                  const int32_t *rows, int n, int length, int have, int32_t *next, struct err *err)
{
    struct nn_tensor *logits;
    nn_reset(nn);
    params_begin(w);
    int32_t *ids = nn_take(nn, (size_t)n * (size_t)have * sizeof *ids);
    for (int i = 0; i < n; i++)
        memcpy(ids + (int64_t)i * have, rows + (int64_t)i * length, (size_t)have * sizeof *ids);
    TRY(decoderlearn_forward(d, nn, ids, n, have, &logits, err));
    for (int i = 0; i < n; i++)
        next[i] = most_likely(logits->data + ((int64_t)(i + 1) * have - 1) * l->c.vocab, l->c.vocab);
    return ERR_OK;
}

static int continue_rows(const struct llm *l, struct nn *nn, struct params *w, int32_t *rows, int n,
                         int length, struct err *err)
{
    struct decoderlearn *d;
    TRY(make_decoder(l, &d, w, "the averages", err));
    int32_t next[NN_PARTS_MAX];
    int rc = ERR_OK;
    for (int have = (length + 3) / 4; have < length && rc == ERR_OK; have++) {
        rc = extend(l, d, nn, w, rows, n, length, have, next, err);
        for (int i = 0; i < n && rc == ERR_OK; i++)
            rows[(int64_t)i * length + have] = next[i];
    }
    decoderlearn_destroy(d);
    return rc;
}

static int sample(struct train_task *t, struct trainer *tr, const struct train_weights *w,
                  const struct train_batch *b, struct train_tensor *out, struct err *err)
{
    const struct llm *l = t->state;
    const struct train_tensor *ids = train_batch_find(b, "ids", WIRE_I32, 2, err);
    if (ids == NULL || b->n > NN_PARTS_MAX)
        return err_set(err, ERR_PEER, "a preview of %d rows without ids", b->n);
    size_t bytes = (size_t)(ids->shape[0] * ids->shape[1]) * sizeof(int32_t);
    int32_t *rows = malloc(bytes + 1);
    if (rows == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a preview");
    memcpy(rows, ids->data, bytes);
    int rc = continue_rows(l, &tr->nn, w->set[0], rows, b->n, (int)ids->shape[1], err);
    nn_reset(&tr->nn);
    *out = *ids;
    out->data = memcpy(nn_take(&tr->nn, bytes), rows, bytes);
    free(rows);
    return rc;
}

/* --- the folder */

static int write_text(const char *dir, const char *name, const char *text, struct err *err)
{
    struct atomicfile f = {0};
    char path[4200];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    if (text == NULL)
        return ERR_OK;
    TRY(atomicfile_open(&f, path, err));
    int rc = atomicfile_write(&f, text, strlen(text), err);
    if (rc == ERR_OK)
        rc = atomicfile_commit(&f, err);
    atomicfile_abandon(&f);
    return rc;
}

/* The same model as one file, for which it needs its tokenizer. */
static int write_gguf(const char *dir, enum dtype type, struct err *err)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/tokenizer.json", dir);
    if (access(path, F_OK) != 0)
        return ERR_OK;
    snprintf(path, sizeof path, "%s/model.gguf", dir);
    return quantize_file(dir, path, type == DT_BF16 ? "bf16" : "f32", NULL, NULL, NULL, err);
}

static int save(struct train_task *t, const struct train_weights *w, const char *dir, enum dtype type,
                struct err *err)
{
    const struct llm *l = t->state;
    json_t *config = json_deep_copy(l->config);
    if (config == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a configuration");
    const char *name = type == DT_BF16 ? "bfloat16" : "float32";
    json_object_set_new(config, "dtype", json_string(name));
    json_object_set_new(config, "torch_dtype", json_string(name));      /* where libraries looked before */
    int rc = trainfolder_json(dir, "config.json", config, err);
    json_decref(config);
    TRY(rc);
    TRY(trainfolder_weights(dir, "model.safetensors", w->set[0], type, NULL, err));
    for (size_t i = 0; i < sizeof along / sizeof *along; i++)
        TRY(write_text(dir, along[i], l->copies[i], err));
    return write_gguf(dir, type, err);
}

const struct train_task_row train_task_llm = {"llm", create, step, sample, save, destroy};
