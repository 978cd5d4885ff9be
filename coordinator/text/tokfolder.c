/* Builds a tokenizer from the files of a Hugging Face folder. tokenizer.json says all but the names of
 * the begin and end tokens and the chat templates; folders with only vocab.json and merges.txt are put
 * in its form first, by the rules of their tokenizer_class. */
#include "coordinator/text/tokenizerparts.h"

#include <stdlib.h>
#include <string.h>

/* --- files */

/* The tree of a file; *tree NULL when the file is not there. The caller owns the tree. */
static int load_tree(const struct tokenizer_container *c, const char *name, json_t **tree,
                     struct err *err)
{
    struct tokenizer_file f;
    json_error_t why;
    *tree = NULL;
    TRY(tokenizer_find_file(c, name, &f, err));
    if (f.bytes == NULL)
        return ERR_OK;
    *tree = json_loadb((const char *)f.bytes, f.n, JSON_ALLOW_NUL, &why);
    if (*tree == NULL)
        return err_set(err, ERR_FORMAT, "%s: line %d: %.120s", name, why.line, why.text);
    if (!json_is_object(*tree)) {
        json_decref(*tree);
        *tree = NULL;
        return err_set(err, ERR_FORMAT, "%s is not a JSON object", name);
    }
    return ERR_OK;
}

struct folder { json_t *tokenizer, *config, *special, *generation; };

static void folder_free(struct folder *f)
{
    json_decref(f->tokenizer);
    json_decref(f->config);
    json_decref(f->special);
    json_decref(f->generation);
}

/* --- vocab.json and merges.txt as a tokenizer.json */

/* A token is named by its text or by {"content": text, ...}. */
static const json_t *token_name(const json_t *tree, const char *key)
{
    const json_t *v = json_object_get(tree, key);
    if (json_is_object(v))
        v = json_object_get(v, "content");
    return json_is_string(v) ? v : NULL;
}

static int read_merges(const struct tokenizer_container *c, json_t **list, struct err *err)
{
    struct tokenizer_file f;
    TRY(tokenizer_find_file(c, "merges.txt", &f, err));
    if (f.bytes == NULL)
        return err_set(err, ERR_FORMAT, "vocabulary: the folder has vocab.json and no merges.txt");
    *list = json_array();
    for (size_t i = 0; i < f.n;) {
        const char *line = (const char *)f.bytes + i, *end = memchr(line, '\n', f.n - i);
        size_t n = end != NULL ? (size_t)(end - line) : f.n - i;
        bool comment = i == 0 && n >= 8 && memcmp(line, "#version", 8) == 0;
        i += n + 1;
        while (n > 0 && (line[n - 1] == '\r' || line[n - 1] == ' '))
            n--;
        if (n == 0 || comment)
            continue;
        if (json_array_append_new(*list, json_stringn(line, n)) != 0)
            return err_set(err, ERR_FORMAT, "merges.txt: not UTF-8 at byte %zu",
                           (size_t)((const uint8_t *)line - f.bytes));
    }
    return ERR_OK;
}

/* The tokens that tokenizer_config.json or special_tokens_map.json names, as added tokens. */
static json_t *list_added(const struct folder *f, const json_t *vocab)
{
    static const char *const key[] = {"bos_token", "eos_token", "unk_token", "pad_token",
                                      "sep_token", "cls_token", "mask_token"};
    json_t *list = json_array(), *row;
    const char *id;
    json_object_foreach(json_object_get(f->config, "added_tokens_decoder"), id, row) {
        json_t *copy = json_deep_copy(row);
        json_object_set_new(copy, "id", json_integer(atoll(id)));
        json_array_append_new(list, copy);
    }
    for (size_t i = 0; json_array_size(list) == 0 && i < sizeof key / sizeof *key; i++)
        for (int k = 0; k < 2; k++) {
            const json_t *name = token_name(k == 0 ? f->config : f->special, key[i]);
            const json_t *at = name == NULL ? NULL : json_object_get(vocab, json_string_value(name));
            if (at != NULL)
                json_array_append_new(list, json_pack("{s:O, s:O, s:b}", "id", at, "content", name,
                                                      "special", 1));
        }
    return list;
}

#define CLIP_WORDS \
    "<\\|startoftext\\|>|<\\|endoftext\\|>|'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+"
#define QWEN2_WORDS \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" \
    "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

/* What a tokenizer_class does around the merges. */
json_t *tokfolder_rules(const char *class, bool prefix_space)
{
    if (strncmp(class, "CLIP", 4) == 0)
        return json_pack(
            "{s:{s:s, s:[{s:s}, {s:s, s:{s:s}, s:s}, {s:s}]},"
            " s:{s:s, s:[{s:s, s:{s:s}, s:s, s:b}, {s:s, s:b, s:b}]}}",
            "normalizer", "type", "Sequence", "normalizers", "type", "NFC", "type", "Replace",
            "pattern", "Regex", "\\s+", "content", " ", "type", "Lowercase", "pre_tokenizer", "type",
            "Sequence", "pretokenizers", "type", "Split", "pattern", "Regex", CLIP_WORDS, "behavior",
            "Removed", "invert", 1, "type", "ByteLevel", "add_prefix_space", 0, "use_regex", 1);
    if (strncmp(class, "Qwen2", 5) == 0)
        return json_pack("{s:{s:s}, s:{s:s, s:[{s:s, s:{s:s}, s:s}, {s:s, s:b, s:b}]}}", "normalizer",
                         "type", "NFC", "pre_tokenizer", "type", "Sequence", "pretokenizers", "type",
                         "Split", "pattern", "Regex", QWEN2_WORDS, "behavior", "Isolated", "type",
                         "ByteLevel", "add_prefix_space", 0, "use_regex", 0);
    return json_pack("{s:{s:s, s:b}}", "pre_tokenizer", "type", "ByteLevel", "add_prefix_space",
                     prefix_space);
}

/* CLIP and Roberta put their begin and end tokens around the text. */
static int add_clip_ends(json_t *root, const struct folder *f, const json_t *vocab, struct err *err)
{
    json_t *pair[2] = {NULL, NULL};
    static const char *const key[2] = {"bos_token", "eos_token"};
    for (int i = 0; i < 2; i++) {
        const json_t *name = token_name(f->config, key[i]);
        name = name != NULL ? name : token_name(f->special, key[i]);
        const json_t *id = name == NULL ? NULL : json_object_get(vocab, json_string_value(name));
        pair[i] = id == NULL ? NULL : json_pack("[O, O]", name, id);
    }
    if (pair[0] == NULL || pair[1] == NULL) {
        json_decref(pair[0]);
        json_decref(pair[1]);
        return err_set(err, ERR_FORMAT, "tokenizer_config.json: bos_token or eos_token is not in the "
                       "vocabulary");
    }
    json_object_set_new(root, "post_processor", json_pack("{s:s, s:o, s:o}", "type",
                        "RobertaProcessing", "cls", pair[0], "sep", pair[1]));
    return ERR_OK;
}

/* The tree of the tokenizer.json that this folder might have had. Takes merges. */
static int compose(struct folder *f, json_t *vocab, json_t *merges, struct err *err)
{
    const char *class = json_string_value(json_object_get(f->config, "tokenizer_class"));
    bool prefix = json_is_true(json_object_get(f->config, "add_prefix_space"));
    class = class != NULL ? class : "";
    bool clip = strncmp(class, "CLIP", 4) == 0;
    json_t *root = tokfolder_rules(class, prefix);
    const json_t *unk = clip ? token_name(f->config, "unk_token") : NULL;
    json_t *model = json_pack("{s:s, s:O, s:o}", "type", "BPE", "vocab", vocab, "merges", merges);
    if (root == NULL || model == NULL) {
        json_decref(root);
        json_decref(model);
        return err_set(err, ERR_NOMEM, "vocabulary: no memory for its files");
    }
    if (clip)
        json_object_set_new(model, "end_of_word_suffix", json_string("</w>"));
    if (unk != NULL)
        json_object_set(model, "unk_token", (json_t *)unk);
    json_object_set_new(root, "model", model);
    json_object_set_new(root, "decoder", json_pack("{s:s}", "type", "ByteLevel"));
    json_object_set_new(root, "added_tokens", list_added(f, vocab));
    f->tokenizer = root;
    return clip || strncmp(class, "Roberta", 7) == 0 ? add_clip_ends(root, f, vocab, err) : ERR_OK;
}

static int compose_from_files(struct folder *f, const struct tokenizer_container *c, struct err *err)
{
    json_t *vocab, *merges = NULL;
    TRY(load_tree(c, "vocab.json", &vocab, err));
    if (vocab == NULL)
        return err_set(err, ERR_FORMAT, "vocabulary: the folder has neither tokenizer.json nor "
                       "vocab.json nor spiece.model");
    int rc = read_merges(c, &merges, err);
    if (rc == ERR_OK)
        rc = compose(f, vocab, merges, err);
    else
        json_decref(merges);
    json_decref(vocab);
    return rc;
}

/* --- begin, end, templates */

static int32_t id_of(const struct tokenizer *t, const struct folder *f, const char *name,
                     const char *id_key)
{
    const json_t *text = token_name(f->config, name), *id;
    text = text != NULL ? text : token_name(f->special, name);
    if (text != NULL)
        return vocab_find(&t->vocab, json_string_value(text), json_string_length(text));
    id = json_object_get(f->generation, id_key);
    id = json_is_array(id) ? json_array_get(id, 0) : id;
    if (json_is_integer(id) && vocab_has(&t->vocab, json_integer_value(id)))
        return (int32_t)json_integer_value(id);
    return -1;
}

/* A template is a text, or a list of {"name", "template"}. */
static int add_templates(struct tokenizer *t, const json_t *node, struct err *err)
{
    json_t *row;
    size_t i;
    if (json_is_string(node))
        return tokenizer_add_template(t, "", 0, json_string_value(node), json_string_length(node),
                                      err);
    json_array_foreach(node, i, row) {
        const json_t *name = json_object_get(row, "name"), *text = json_object_get(row, "template");
        if (!json_is_string(name) || !json_is_string(text))
            continue;
        bool is_default = strcmp(json_string_value(name), "default") == 0;
        TRY(tokenizer_add_template(t, json_string_value(name),
                                   is_default ? 0 : json_string_length(name),
                                   json_string_value(text), json_string_length(text), err));
    }
    return ERR_OK;
}

static int build_tree(struct tokenizer *t, struct folder *f, const struct tokenizer_container *c,
                      struct err *err)
{
    if (f->tokenizer == NULL)
        TRY(compose_from_files(f, c, err));
    return tokjson_build(t, f->tokenizer, err);
}

static int build(struct tokenizer *t, struct folder *f, const struct tokenizer_container *c,
                 struct err *err)
{
    struct tokenizer_file jinja, pieces;
    TRY(load_tree(c, "tokenizer_config.json", &f->config, err));
    TRY(load_tree(c, "special_tokens_map.json", &f->special, err));
    TRY(load_tree(c, "generation_config.json", &f->generation, err));
    TRY(load_tree(c, "tokenizer.json", &f->tokenizer, err));
    TRY(tokenizer_find_file(c, "spiece.model", &pieces, err));
    if (f->tokenizer == NULL && pieces.bytes != NULL)
        TRY(tokspiece_build(t, pieces.bytes, pieces.n, err));
    else
        TRY(build_tree(t, f, c, err));
    t->bos = id_of(t, f, "bos_token", "bos_token_id");
    t->eos = id_of(t, f, "eos_token", "eos_token_id");
    TRY(add_templates(t, json_object_get(f->config, "chat_template"), err));
    TRY(tokenizer_find_file(c, "chat_template.jinja", &jinja, err));
    return jinja.bytes == NULL ? ERR_OK
                               : tokenizer_add_template(t, "", 0, (const char *)jinja.bytes, jinja.n,
                                                        err);
}

int tokfolder_build(struct tokenizer *t, const struct tokenizer_container *c, struct err *err)
{
    struct folder f = {0};
    int rc = build(t, &f, c, err);
    folder_free(&f);
    return rc;
}
