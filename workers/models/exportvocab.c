#include "workers/models/exportvocab.h"

#include "workers/models/exportpieces.h"
#include "workers/models/modelcheck.h"
#include "workers/models/textfile.h"
#include "workers/weights/gguf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_MAX = 128 << 20 };

/* The files beside a model that speak of its tokenizer; NULL where there is none. */
struct sources {
    const char *folder;
    json_t *tokenizer, *tokenizer_config, *config, *generation;
    char *spm, *jinja;
    size_t n_spm, n_jinja;
};

static int read_json(const char *folder, const char *name, json_t **out, struct err *err)
{
    char *text;
    size_t n;
    json_error_t e;
    TRY(textfile_read(folder, name, FILE_MAX, 0, &text, &n, err));
    if (!text)
        return ERR_OK;
    *out = json_loadb(text, n, JSON_ALLOW_NUL, &e);
    free(text);
    if (!json_is_object(*out))
        return err_set(err, ERR_FORMAT, "%.90s/%s: wrong JSON in line %d: %.80s", folder, name, e.line,
                       *out ? "not an object" : e.text);
    return ERR_OK;
}

static int read_sources(struct sources *s, const char *folder, struct err *err)
{
    s->folder = folder;
    TRY(read_json(folder, "tokenizer.json", &s->tokenizer, err));
    TRY(read_json(folder, "tokenizer_config.json", &s->tokenizer_config, err));
    TRY(read_json(folder, "config.json", &s->config, err));
    TRY(read_json(folder, "generation_config.json", &s->generation, err));
    TRY(textfile_read(folder, "tokenizer.model", FILE_MAX, 0, &s->spm, &s->n_spm, err));
    return textfile_read(folder, "chat_template.jinja", FILE_MAX, 0, &s->jinja, &s->n_jinja, err);
}

static void free_sources(struct sources *s)
{
    json_decref(s->tokenizer);
    json_decref(s->tokenizer_config);
    json_decref(s->config);
    json_decref(s->generation);
    free(s->spm);
    free(s->jinja);
}

static const char *where(const struct sources *s, const char *name, char buf[160])
{
    char path[160];
    snprintf(buf, 160, "%.*s/%s", 130, modelcheck_where(s->folder, path, sizeof path), name);
    return buf;
}

static int read_pieces(struct pieces *p, const struct sources *s, struct err *err)
{
    char at[160];
    if (s->tokenizer)
        TRY(exportpieces_json(p, s->tokenizer, where(s, "tokenizer.json", at), err));
    /* A byte-level BPE beside a tokenizer.model (Mistral's folders) is what transformers uses. */
    if (s->spm && (p->spm || !s->tokenizer))
        TRY(exportpieces_spm(p, (const uint8_t *)s->spm, s->n_spm, where(s, "tokenizer.model", at), err));
    else if (!s->tokenizer)
        return err_set(err, ERR_FORMAT, "%s is missing: a GGUF file holds its tokenizer",
                       where(s, "tokenizer.json", at));
    exportpieces_added(p, json_object_get(s->tokenizer, "added_tokens"),
                       json_object_get(s->tokenizer_config, "added_tokens_decoder"));
    return ERR_OK;
}

static int put_arrays(struct ggufwriter *w, const struct pieces *p, struct err *err)
{
    float *scores = malloc((size_t)p->n * sizeof *scores + 1);
    int32_t *kinds = malloc((size_t)p->n * sizeof *kinds + 1);
    if (!scores || !kinds) {
        free(scores);
        free(kinds);
        return err_set(err, ERR_NOMEM, "no memory for a vocabulary of %d", p->n);
    }
    ggufwriter_strings_begin(w, "tokenizer.ggml.tokens", (uint64_t)p->n);
    for (int i = 0; i < p->n; i++) {
        const struct piece *piece = &p->piece[i];
        char pad[24];
        snprintf(pad, sizeof pad, "[PAD%d]", i);        /* a row of the embedding without a token */
        ggufwriter_strings_add(w, piece->text ? piece->text : pad, piece->text ? piece->n : strlen(pad));
        scores[i] = piece->text ? piece->score : -10000.0f;
        kinds[i] = piece->text ? piece->kind : PIECE_UNUSED;
    }
    if (p->spm)
        ggufwriter_array(w, "tokenizer.ggml.scores", GGUF_F32, scores, (uint64_t)p->n);
    ggufwriter_array(w, "tokenizer.ggml.token_type", GGUF_I32, kinds, (uint64_t)p->n);
    free(scores);
    free(kinds);
    return ERR_OK;
}

static int put_merges(struct ggufwriter *w, const struct sources *s, struct err *err)
{
    const json_t *merges = json_object_get(json_object_get(s->tokenizer, "model"), "merges");
    ggufwriter_strings_begin(w, "tokenizer.ggml.merges", json_array_size(merges));
    for (size_t i = 0; i < json_array_size(merges); i++) {
        const json_t *m = json_array_get(merges, i);
        const char *a = json_string_value(json_array_get(m, 0)), *b = json_string_value(json_array_get(m, 1));
        char pair[1024], at[160];
        if (json_is_string(m)) {
            ggufwriter_strings_add(w, json_string_value(m), json_string_length(m));
        } else if (a && b && (size_t)snprintf(pair, sizeof pair, "%s %s", a, b) < sizeof pair) {
            ggufwriter_strings_add(w, pair, strlen(pair));
        } else {
            return err_set(err, ERR_FORMAT, "%s: model.merges[%zu] is no pair of texts",
                           where(s, "tokenizer.json", at), i);
        }
    }
    return ERR_OK;
}

/* --- special tokens */

/* "bos_token": its text in tokenizer_config.json, a string or an object. */
static const char *special_text(const struct sources *s, const char *name)
{
    char key[32];
    snprintf(key, sizeof key, "%s_token", name);
    const json_t *v = json_object_get(s->tokenizer_config, key);
    return json_string_value(json_is_object(v) ? json_object_get(v, "content") : v);
}

/* An id of config.json's or generation_config.json's "eos_token_id", which may be a list; -1: none. */
static int listed_id(const json_t *config, const char *name, size_t i)
{
    char key[32];
    snprintf(key, sizeof key, "%s_token_id", name);
    const json_t *v = json_object_get(config, key);
    if (!v)
        v = json_object_get(json_object_get(config, "text_config"), key);
    if (json_is_array(v))
        v = json_array_get(v, i);
    else if (i > 0)
        v = NULL;
    return json_is_integer(v) && json_integer_value(v) >= 0 && json_integer_value(v) < INT32_MAX
               ? (int)json_integer_value(v) : -1;
}

/* The token that a TemplateProcessing puts before (end false) or after the text, or NULL; *known: there
 * is a template. */
static const char *template_token(const json_t *processor, bool end, bool *known)
{
    const json_t *list = json_object_get(processor, "processors");
    const json_t *single = json_object_get(processor, "single");
    const char *text = NULL;
    for (size_t i = 0; i < json_array_size(list) && !text; i++)
        text = template_token(json_array_get(list, i), end, known);
    if (json_array_size(single) == 0)
        return text;
    *known = true;
    const json_t *item = json_array_get(single, end ? json_array_size(single) - 1 : 0);
    return json_string_value(json_object_get(json_object_get(item, "SpecialToken"), "id"));
}

/* tokenizer_config.json knows best; then config.json; then the template, for bos and eos. */
static int special_id(const struct sources *s, const struct pieces *p, const char *name)
{
    bool known, bos = strcmp(name, "bos") == 0, eos = strcmp(name, "eos") == 0;
    const char *text = special_text(s, name);
    int id = text ? exportpieces_find(p, text) : -1;
    if (id < 0)
        id = listed_id(s->config, name, 0);
    if (id < 0 && (bos || eos)) {
        text = template_token(json_object_get(s->tokenizer, "post_processor"), eos, &known);
        id = text ? exportpieces_find(p, text) : -1;
    }
    return id < p->n ? id : -1;
}

/* A second and third end of text, which GGUF knows as end of turn and end of message. */
static void put_more_ends(struct ggufwriter *w, const struct sources *s, const struct pieces *p, int eos)
{
    static const char *const keys[] = {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"};
    const json_t *const configs[] = {s->generation, s->config};
    int seen[3] = {eos, -1, -1}, n = 0;
    for (int c = 0; c < 2; c++)
        for (size_t i = 0; n < 2 && i < 64; i++) {
            int id = listed_id(configs[c], "eos", i);
            if (id < 0 || id >= p->n || id == seen[0] || id == seen[1])
                continue;
            ggufwriter_u32(w, keys[n], (uint32_t)id);
            seen[++n] = id;
        }
}

static bool adds(const struct sources *s, const struct pieces *p, bool end)
{
    bool known = false;
    bool by_template = template_token(json_object_get(s->tokenizer, "post_processor"), end, &known);
    const json_t *flag = json_object_get(s->tokenizer_config, end ? "add_eos_token" : "add_bos_token");
    if (known)
        return by_template;
    return json_is_boolean(flag) ? json_is_true(flag) : p->spm && !end;
}

static void put_specials(struct ggufwriter *w, const struct sources *s, const struct pieces *p)
{
    static const struct { const char *name, *key; } list[] = {
        {"bos", "tokenizer.ggml.bos_token_id"}, {"eos", "tokenizer.ggml.eos_token_id"},
        {"unk", "tokenizer.ggml.unknown_token_id"}, {"pad", "tokenizer.ggml.padding_token_id"}};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        int id = special_id(s, p, list[i].name);
        if (id >= 0)
            ggufwriter_u32(w, list[i].key, (uint32_t)id);
    }
    put_more_ends(w, s, p, special_id(s, p, "eos"));
    ggufwriter_bool(w, "tokenizer.ggml.add_bos_token", adds(s, p, false));
    ggufwriter_bool(w, "tokenizer.ggml.add_eos_token", adds(s, p, true));
    if (p->spm && !p->space_prefix)
        ggufwriter_bool(w, "tokenizer.ggml.add_space_prefix", false);
}

/* How its makers sample it. */
static void put_sampling(struct ggufwriter *w, const json_t *generation)
{
    static const struct { const char *name, *key; } list[] = {
        {"temperature", "general.sampling.temp"}, {"top_p", "general.sampling.top_p"}};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        const json_t *v = json_object_get(generation, list[i].name);
        if (json_is_number(v))
            ggufwriter_f32(w, list[i].key, (float)json_number_value(v));
    }
    const json_t *top_k = json_object_get(generation, "top_k");
    if (json_is_integer(top_k)) {
        struct meta_value v = {.kind = META_INT, .elem_type = GGUF_I32, .i = json_integer_value(top_k)};
        ggufwriter_copy(w, "general.sampling.top_k", &v);
    }
}

/* --- chat templates */

static void put_named_templates(struct ggufwriter *w, const json_t *list)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *e = json_array_get(list, i), *text = json_object_get(e, "template");
        const char *name = json_string_value(json_object_get(e, "name"));
        char key[96];
        if (!name || !json_is_string(text) || strlen(name) > 60)
            continue;
        bool plain = strcmp(name, "default") == 0;
        snprintf(key, sizeof key, "tokenizer.chat_template%s%s", plain ? "" : ".", plain ? "" : name);
        ggufwriter_string(w, key, json_string_value(text), json_string_length(text));
    }
}

static void put_chat(struct ggufwriter *w, const struct sources *s)
{
    const json_t *chat = json_object_get(s->tokenizer_config, "chat_template");
    if (s->jinja)
        ggufwriter_string(w, "tokenizer.chat_template", s->jinja, s->n_jinja);
    else if (json_is_string(chat))
        ggufwriter_string(w, "tokenizer.chat_template", json_string_value(chat), json_string_length(chat));
    else
        put_named_templates(w, chat);
}

static int write_all(struct ggufwriter *w, const struct sources *s, struct pieces *p, struct err *err)
{
    char at[160];
    TRY(read_pieces(p, s, err));
    const char *pre = p->spm ? "default" : exportpieces_pre(s->tokenizer);
    if (!pre)
        return err_set(err, ERR_FORMAT, "%s: GGUF has no name for its way to cut words, and llama.cpp could"
                       " not follow it: use the folder as it is", where(s, "tokenizer.json", at));
    const char *kind = p->spm ? "llama" : "gpt2";
    ggufwriter_string(w, "tokenizer.ggml.model", kind, strlen(kind));
    ggufwriter_string(w, "tokenizer.ggml.pre", pre, strlen(pre));
    TRY(put_arrays(w, p, err));
    if (!p->spm)
        TRY(put_merges(w, s, err));
    put_specials(w, s, p);
    put_chat(w, s);
    put_sampling(w, s->generation);
    return ERR_OK;
}

int exportvocab_write(struct ggufwriter *w, const char *folder, int vocab, struct err *err)
{
    struct sources s = {0};
    struct pieces p = {0};
    int rc = read_sources(&s, folder, err);
    if (rc == ERR_OK)
        rc = exportpieces_init(&p, vocab, err);
    if (rc == ERR_OK)
        rc = write_all(w, &s, &p, err);
    exportpieces_free(&p);
    free_sources(&s);
    return rc;
}
