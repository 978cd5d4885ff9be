/* The parts of a tokenizer.json around its model: normalizer, pre_tokenizer, decoder, post_processor.
 * Each is a node {"type": ..., ...}; a Sequence is a list of them. */
#include "coordinator/text/tokenizerparts.h"
#include "coordinator/text/unicode.h"

#include <stdlib.h>
#include <string.h>

static const char *type_of(const json_t *node)
{
    const char *type = json_string_value(json_object_get(node, "type"));
    return type != NULL ? type : "";
}

static bool flag(const json_t *node, const char *key, bool fallback)
{
    const json_t *v = json_object_get(node, key);
    return json_is_boolean(v) ? json_is_true(v) : fallback;
}

static int unknown_type(const char *part, const json_t *node, struct err *err)
{
    return err_set(err, ERR_FORMAT, "tokenizer.json: %s '%.60s' is not supported", part,
                   type_of(node));
}

typedef int part_reader(struct tokenizer *t, const json_t *node, struct err *err);

/* Reads node, or each node of a Sequence's list. */
static int read_each(struct tokenizer *t, const json_t *node, const char *list, part_reader *reader,
                     struct err *err)
{
    json_t *child;
    size_t i;
    if (node == NULL || json_is_null(node))
        return ERR_OK;
    if (strcmp(type_of(node), "Sequence") != 0)
        return reader(t, node, err);
    const json_t *children = json_object_get(node, list);
    if (children != NULL && !json_is_array(children))
        return err_set(err, ERR_FORMAT, "tokenizer.json: %s of a Sequence is no list", list);
    json_array_foreach((json_t *)(uintptr_t)children, i, child)
        TRY(read_each(t, child, list, reader, err));
    return ERR_OK;
}

/* A pattern is {"String": text} or {"Regex": text}. */
static int read_pattern(const json_t *node, const char **text, size_t *n, bool *regex,
                        struct err *err)
{
    const json_t *p = json_object_get(node, "pattern"), *s = json_object_get(p, "String");
    *regex = s == NULL;
    s = s != NULL ? s : json_object_get(p, "Regex");
    s = s != NULL || !json_is_string(p) ? s : p;
    if (!json_is_string(s))
        return err_set(err, ERR_FORMAT, "tokenizer.json: %.40s has no pattern", type_of(node));
    *text = json_string_value(s);
    *n = json_string_length(s);
    return ERR_OK;
}

/* --- normalizer */

static int decode_base64(const char *s, size_t n, uint8_t *out, size_t *n_out)
{
    uint32_t word = 0;
    int bits = 0;
    *n_out = 0;
    for (size_t i = 0; i < n && s[i] != '='; i++) {
        static const char digits[] =
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        const char *d = s[i] == '\0' ? NULL : strchr(digits, s[i]);
        if (d == NULL)
            return ERR_FORMAT;
        word = word << 6 | (uint32_t)(d - digits);
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            out[(*n_out)++] = (uint8_t)(word >> bits);
        }
    }
    return ERR_OK;
}

static int add_charsmap(struct tokenizer *t, const json_t *node, struct err *err)
{
    const json_t *text = json_object_get(node, "precompiled_charsmap");
    struct normalize_step step = {.kind = NORMALIZE_CHARSMAP};
    size_t n = json_string_length(text), n_blob;
    uint8_t *blob = malloc(n + 1);
    if (blob == NULL)
        return err_set(err, ERR_NOMEM, "tokenizer.json: no memory for precompiled_charsmap");
    int rc = decode_base64(n > 0 ? json_string_value(text) : "", n, blob, &n_blob);
    if (rc != ERR_OK)
        err_set(err, rc, "tokenizer.json: precompiled_charsmap is not base64");
    else
        rc = charsmap_open(&step.map, blob, n_blob, err);
    free(blob);
    return rc == ERR_OK ? normalizer_add(&t->normalizer, step, err) : rc;
}

static int add_replace(struct tokenizer *t, const json_t *node, struct err *err)
{
    struct normalize_step step = {.kind = NORMALIZE_REPLACE};
    const json_t *to = json_object_get(node, "content");
    const char *text;
    size_t n;
    bool regex;
    TRY(read_pattern(node, &text, &n, &regex, err));
    if (n == 0)
        return ERR_OK;
    TRY(regex ? pattern_new(&step.pattern, text, n, err)
              : pattern_new_literal(&step.pattern, text, n, err));
    int rc = textbuf_add(&step.text, json_string_value(to), json_string_length(to), err);
    if (rc != ERR_OK) {
        pattern_destroy(step.pattern);
        return rc;
    }
    return normalizer_add(&t->normalizer, step, err);
}

static int read_normalizer(struct tokenizer *t, const json_t *node, struct err *err)
{
    static const struct { const char *type; enum normalize_kind kind; } simple[] = {
        {"NFC", NORMALIZE_NFC}, {"NFD", NORMALIZE_NFD}, {"NFKC", NORMALIZE_NFKC},
        {"NFKD", NORMALIZE_NFKD}, {"Lowercase", NORMALIZE_LOWERCASE}, {"Nmt", NORMALIZE_NMT},
        {"StripAccents", NORMALIZE_STRIP_ACCENTS}, {"ByteLevel", NORMALIZE_BYTES},
        {"Strip", NORMALIZE_STRIP}, {"Prepend", NORMALIZE_PREPEND}};
    const char *type = type_of(node);
    struct normalize_step step = {.left = flag(node, "strip_left", true),
                                  .right = flag(node, "strip_right", true)};
    if (strcmp(type, "Replace") == 0)
        return add_replace(t, node, err);
    if (strcmp(type, "Precompiled") == 0)
        return add_charsmap(t, node, err);
    for (size_t i = 0; i < sizeof simple / sizeof *simple; i++) {
        const json_t *text = json_object_get(node, "prepend");
        if (strcmp(type, simple[i].type) != 0)
            continue;
        step.kind = simple[i].kind;
        if (step.kind == NORMALIZE_PREPEND)
            TRY(textbuf_add(&step.text, json_string_value(text), json_string_length(text), err));
        return normalizer_add(&t->normalizer, step, err);
    }
    return unknown_type("normalizer", node, err);
}

int tokjson_normalizer(struct tokenizer *t, const json_t *node, struct err *err)
{
    return read_each(t, node, "normalizers", read_normalizer, err);
}

/* --- pre_tokenizer */

#define GPT2_WORDS \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define PUNCTUATION "[\\p{P}$+<=>^`|~]"
/* Rust's \w has the joiners, which pattern.h's has not. */
#define RUST_WORDS "[\\w\\x{200c}\\x{200d}]+|[^\\w\\s\\x{200c}\\x{200d}]+"

static int read_behavior(const json_t *node, enum split_behavior fallback, enum split_behavior *b,
                         struct err *err)
{
    static const char *const name[] = {"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext",
                                       "Contiguous"};
    const json_t *v = json_object_get(node, "behavior");
    *b = fallback;
    if (v == NULL)
        return ERR_OK;
    for (int i = 0; i < 5; i++)
        if (json_is_string(v) && strcmp(json_string_value(v), name[i]) == 0) {
            *b = (enum split_behavior)i;
            return ERR_OK;
        }
    return err_set(err, ERR_FORMAT, "tokenizer.json: behavior of %.40s is not known", type_of(node));
}

static int add_split(struct tokenizer *t, const json_t *node, struct err *err)
{
    enum split_behavior behavior;
    const char *text;
    size_t n;
    bool regex, invert = flag(node, "invert", false);
    TRY(read_behavior(node, SPLIT_ISOLATED, &behavior, err));
    TRY(read_pattern(node, &text, &n, &regex, err));
    if (n == 0)
        return ERR_OK;
    return regex ? pretokenizer_add_split(&t->pretokenizer, text, n, behavior, invert, err)
                 : pretokenizer_add_literal(&t->pretokenizer, text, n, behavior, invert, err);
}

static int add_byte_level(struct tokenizer *t, const json_t *node, struct err *err)
{
    struct pretokenizer *p = &t->pretokenizer;
    if (flag(node, "add_prefix_space", true))
        TRY(pretokenizer_add_prefix(p, err));
    if (flag(node, "use_regex", true))
        TRY(pretokenizer_add_split(p, GPT2_WORDS, strlen(GPT2_WORDS), SPLIT_ISOLATED, false, err));
    return pretokenizer_add_bytes(p, err);
}

/* prepend_scheme, or what older files said instead. */
static enum meta_scheme scheme_of(const json_t *node)
{
    const char *s = json_string_value(json_object_get(node, "prepend_scheme"));
    if (s == NULL)
        return flag(node, "add_prefix_space", true) ? META_ALWAYS : META_NEVER;
    return strcmp(s, "never") == 0 ? META_NEVER : strcmp(s, "first") == 0 ? META_FIRST : META_ALWAYS;
}

static const char *replacement_of(const json_t *node)
{
    const char *s = json_string_value(json_object_get(node, "replacement"));
    return s != NULL ? s : UNICODE_META;
}

static int add_regex(struct tokenizer *t, const char *regex, enum split_behavior b, bool invert,
                     struct err *err)
{
    return pretokenizer_add_split(&t->pretokenizer, regex, strlen(regex), b, invert, err);
}

static int read_pretokenizer(struct tokenizer *t, const json_t *node, struct err *err)
{
    const char *type = type_of(node);
    enum split_behavior b;
    if (strcmp(type, "Split") == 0)
        return add_split(t, node, err);
    if (strcmp(type, "ByteLevel") == 0)
        return add_byte_level(t, node, err);
    if (strcmp(type, "Digits") == 0)
        return add_regex(t, flag(node, "individual_digits", false) ? "\\p{N}" : "\\p{N}+",
                         SPLIT_ISOLATED, false, err);
    if (strcmp(type, "Whitespace") == 0)
        return add_regex(t, RUST_WORDS, SPLIT_REMOVED, true, err);
    if (strcmp(type, "WhitespaceSplit") == 0)
        return add_regex(t, "\\s", SPLIT_REMOVED, false, err);
    if (strcmp(type, "Punctuation") == 0) {
        TRY(read_behavior(node, SPLIT_ISOLATED, &b, err));
        return add_regex(t, PUNCTUATION, b, false, err);
    }
    if (strcmp(type, "BertPreTokenizer") == 0) {
        TRY(add_regex(t, "\\s", SPLIT_REMOVED, false, err));
        return add_regex(t, PUNCTUATION, SPLIT_ISOLATED, false, err);
    }
    if (strcmp(type, "CharDelimiterSplit") == 0) {
        const json_t *d = json_object_get(node, "delimiter");
        return pretokenizer_add_literal(&t->pretokenizer, json_is_string(d) ? json_string_value(d) : "",
                                        json_string_length(d), SPLIT_REMOVED, false, err);
    }
    if (strcmp(type, "Metaspace") == 0)
        return pretokenizer_add_metaspace(&t->pretokenizer, replacement_of(node), scheme_of(node),
                                          flag(node, "split", true), err);
    return unknown_type("pre_tokenizer", node, err);
}

int tokjson_pretokenizer(struct tokenizer *t, const json_t *node, struct err *err)
{
    return read_each(t, node, "pretokenizers", read_pretokenizer, err);
}

/* --- decoder */

/* Copies a short text of the node. */
static int short_text(const json_t *node, const json_t *v, char *out, size_t cap, struct err *err)
{
    if (!json_is_string(v) || json_string_length(v) >= cap)
        return err_set(err, ERR_FORMAT, "tokenizer.json: a text of decoder %.40s is missing or too "
                       "long", type_of(node));
    memcpy(out, json_string_value(v), json_string_length(v) + 1);
    return ERR_OK;
}

static int add_decoder_replace(struct detokenizer *d, const json_t *node, struct err *err)
{
    const json_t *from = json_object_get(json_object_get(node, "pattern"), "String");
    if (d->n_replace == DETOKENIZER_REPLACE_MAX || from == NULL)
        return err_set(err, ERR_FORMAT, "tokenizer.json: decoder Replace is of a kind that is not "
                       "supported");
    int i = d->n_replace++;
    TRY(short_text(node, from, d->replace[i].from, sizeof d->replace[i].from, err));
    return short_text(node, json_object_get(node, "content"), d->replace[i].to,
                      sizeof d->replace[i].to, err);
}

static int add_decoder_strip(struct detokenizer *d, const json_t *node, struct err *err)
{
    int64_t start = json_integer_value(json_object_get(node, "start"));
    int64_t stop = json_integer_value(json_object_get(node, "stop"));
    if (start < 0 || stop < 0 || start > 1024 || stop > 1024)
        return err_set(err, ERR_FORMAT, "tokenizer.json: decoder Strip takes off too much");
    d->strip_start = (int)start;
    d->strip_stop = (int)stop;
    return short_text(node, json_object_get(node, "content"), d->strip, sizeof d->strip, err);
}

static int read_decoder(struct tokenizer *t, const json_t *node, struct err *err)
{
    struct detokenizer *d = &t->detokenizer;
    const char *type = type_of(node);
    if (strcmp(type, "ByteLevel") == 0)
        d->byte_level = true;
    else if (strcmp(type, "ByteFallback") == 0)
        d->byte_fallback = true;
    else if (strcmp(type, "Fuse") == 0)
        ;                       /* texts are always put together */
    else if (strcmp(type, "Replace") == 0)
        return add_decoder_replace(d, node, err);
    else if (strcmp(type, "Strip") == 0)
        return add_decoder_strip(d, node, err);
    else if (strcmp(type, "Metaspace") == 0) {
        d->meta_drop_first = scheme_of(node) != META_NEVER;
        const json_t *v = json_object_get(node, "replacement");
        return short_text(node, v, d->meta, sizeof d->meta, err);
    } else if (strcmp(type, "BPEDecoder") == 0)
        return short_text(node, json_object_get(node, "suffix"), d->suffix, sizeof d->suffix, err);
    else
        return unknown_type("decoder", node, err);
    return ERR_OK;
}

int tokjson_decoder(struct tokenizer *t, const json_t *node, struct err *err)
{
    t->detokenizer.blanks_between = node == NULL || json_is_null(node);
    return read_each(t, node, "decoders", read_decoder, err);
}

/* --- post_processor: ids in front of the text and behind it */

static int add_template_token(struct tokenizer *t, const json_t *node, const json_t *item,
                              bool before, struct err *err)
{
    const char *name = json_string_value(json_object_get(item, "id"));
    const json_t *special = json_object_get(node, "special_tokens"), *id;
    const json_t *ids = json_object_get(json_object_get(special, name != NULL ? name : ""), "ids");
    size_t i;
    if (json_array_size(ids) == 0)
        return err_set(err, ERR_FORMAT, "tokenizer.json: the template's token '%.60s' has no id",
                       name != NULL ? name : "");
    json_array_foreach((json_t *)ids, i, id)
        TRY(tokenizer_add_around(t, before, json_is_integer(id) ? json_integer_value(id) : -1, err));
    return ERR_OK;
}

static int read_template(struct tokenizer *t, const json_t *node, struct err *err)
{
    json_t *item;
    size_t i;
    bool before = true;
    json_array_foreach(json_object_get(node, "single"), i, item) {
        const json_t *special = json_object_get(item, "SpecialToken");
        if (special != NULL)
            TRY(add_template_token(t, node, special, before, err));
        else
            before = false;
    }
    return ERR_OK;
}

/* [text, id] */
static int add_pair(struct tokenizer *t, const json_t *pair, bool before, struct err *err)
{
    const json_t *id = json_array_get(pair, 1);
    return tokenizer_add_around(t, before, json_is_integer(id) ? json_integer_value(id) : -1, err);
}

static int read_postprocessor(struct tokenizer *t, const json_t *node, struct err *err)
{
    const char *type = type_of(node);
    if (strcmp(type, "ByteLevel") == 0)         /* only moves offsets */
        return ERR_OK;
    if (t->n_before + t->n_after > 0)
        return err_set(err, ERR_FORMAT, "tokenizer.json: two post_processors that add tokens");
    if (strcmp(type, "TemplateProcessing") == 0)
        return read_template(t, node, err);
    if (strcmp(type, "RobertaProcessing") == 0 || strcmp(type, "BertProcessing") == 0) {
        TRY(add_pair(t, json_object_get(node, "cls"), true, err));
        return add_pair(t, json_object_get(node, "sep"), false, err);
    }
    return unknown_type("post_processor", node, err);
}

int tokjson_postprocessor(struct tokenizer *t, const json_t *node, struct err *err)
{
    return read_each(t, node, "processors", read_postprocessor, err);
}
