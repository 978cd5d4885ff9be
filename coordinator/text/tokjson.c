/* Builds a tokenizer from the tree of a tokenizer.json: its model and its added tokens. The parts around
 * the model are in tokjsonparts.c. */
#include "coordinator/text/tokenizerparts.h"

#include <stdlib.h>
#include <string.h>

/* A short text of the model, "" when it has none. */
static int affix(const json_t *model, const char *key, char *out, size_t cap, struct err *err)
{
    const json_t *v = json_object_get(model, key);
    out[0] = '\0';
    if (v == NULL || json_is_null(v))
        return ERR_OK;
    if (!json_is_string(v) || json_string_length(v) >= cap)
        return err_set(err, ERR_FORMAT, "tokenizer.json: model.%s is not a short text", key);
    memcpy(out, json_string_value(v), json_string_length(v) + 1);
    return ERR_OK;
}

/* --- BPE */

static int read_bpe_vocab(struct tokenizer *t, const json_t *vocab, bool bytes, struct err *err)
{
    const char *text;
    json_t *id;
    if (!json_is_object(vocab) || json_object_size(vocab) == 0)
        return err_set(err, ERR_FORMAT, "tokenizer.json: model.vocab is not a table of ids");
    json_object_foreach((json_t *)vocab, text, id) {
        if (!json_is_integer(id))
            return err_set(err, ERR_FORMAT, "tokenizer.json: the id of '%.60s' is not a number", text);
        TRY(vocab_set(&t->vocab, json_integer_value(id), text, strlen(text), VOCAB_NORMAL, err));
    }
    return vocab_index(&t->vocab, bytes, err);
}

/* A merge is "left right" or ["left", "right"]. */
static int read_merge(struct bpe *b, const json_t *merge, struct err *err)
{
    const json_t *l = json_array_get(merge, 0), *r = json_array_get(merge, 1);
    if (json_is_string(l) && json_is_string(r))
        return bpe_add_merge(b, json_string_value(l), json_string_length(l), json_string_value(r),
                             json_string_length(r), err);
    const char *text = json_string_value(merge), *blank = text == NULL ? NULL : strchr(text, ' ');
    if (blank == NULL)
        return err_set(err, ERR_FORMAT, "tokenizer.json: merge %u is not two texts", b->n_merges);
    return bpe_add_merge(b, text, (size_t)(blank - text), blank + 1, strlen(blank + 1), err);
}

static int32_t find_unknown(const struct tokenizer *t, const json_t *model)
{
    const json_t *v = json_object_get(model, "unk_token");
    return json_is_string(v) ? vocab_find(&t->vocab, json_string_value(v), json_string_length(v)) : -1;
}

static int read_bpe(struct tokenizer *t, const json_t *model, struct err *err)
{
    bool bytes = json_is_true(json_object_get(model, "byte_fallback"));
    const json_t *merges = json_object_get(model, "merges");
    json_t *merge;
    size_t i;
    t->model = TOKENIZER_BPE;
    TRY(read_bpe_vocab(t, json_object_get(model, "vocab"), bytes, err));
    if (!json_is_array(merges))
        return err_set(err, ERR_FORMAT, "tokenizer.json: model.merges is not a list");
    struct bpe *b = &t->bpe;
    TRY(bpe_init(b, &t->vocab, json_array_size(merges), err));
    TRY(affix(model, "continuing_subword_prefix", b->prefix, sizeof b->prefix, err));
    TRY(affix(model, "end_of_word_suffix", b->suffix, sizeof b->suffix, err));
    json_array_foreach(merges, i, merge)
        TRY(read_merge(b, merge, err));
    b->byte_fallback = bytes;
    b->fuse_unknown = json_is_true(json_object_get(model, "fuse_unk"));
    b->ignore_merges = json_is_true(json_object_get(model, "ignore_merges"));
    return ERR_OK;
}

/* --- Unigram */

/* A row is [text, score]. */
static int read_unigram_rows(struct tokenizer *t, const json_t *vocab, double *score, struct err *err)
{
    json_t *row;
    size_t i;
    json_array_foreach((json_t *)vocab, i, row) {
        const json_t *text = json_array_get(row, 0), *value = json_array_get(row, 1);
        if (!json_is_string(text) || !json_is_number(value))
            return err_set(err, ERR_FORMAT, "tokenizer.json: model.vocab[%zu] is not a text and a "
                           "score", i);
        score[i] = json_number_value(value);
        TRY(vocab_set(&t->vocab, (int64_t)i, json_string_value(text), json_string_length(text),
                      VOCAB_NORMAL, err));
    }
    return ERR_OK;
}

static int read_unigram(struct tokenizer *t, const json_t *model, struct err *err)
{
    const json_t *vocab = json_object_get(model, "vocab"), *unk = json_object_get(model, "unk_id");
    size_t n = json_array_size(vocab);
    int64_t unknown = json_is_integer(unk) ? json_integer_value(unk) : -1;
    bool bytes = json_is_true(json_object_get(model, "byte_fallback"));
    t->model = TOKENIZER_UNIGRAM;
    if (n == 0 || n > VOCAB_MAX || unknown >= (int64_t)n)
        return err_set(err, ERR_FORMAT, "tokenizer.json: model.vocab has %zu rows, unk_id is %lld", n,
                       (long long)unknown);
    double *score = malloc(n * sizeof *score);
    if (score == NULL)
        return err_set(err, ERR_NOMEM, "tokenizer.json: no memory for %zu scores", n);
    int rc = read_unigram_rows(t, vocab, score, err);
    if (rc == ERR_OK)
        rc = vocab_index(&t->vocab, bytes, err);
    if (rc == ERR_OK)
        rc = unigram_init(&t->unigram, &t->vocab, score, unknown < 0 ? -1 : (int32_t)unknown, false,
                          err);
    t->unigram.byte_fallback = bytes;
    free(score);
    return rc;
}

/* --- added tokens */

static bool flag(const json_t *node, const char *key)
{
    return json_is_true(json_object_get(node, key));
}

/* What the normalizer makes of a token's text. */
static int add_normalized(struct tokenizer *t, const char *text, size_t n, struct added_token a,
                          struct err *err)
{
    struct textbuf buf = {0}, spare = {0};
    struct pattern_scratch *scratch = NULL;
    int rc = pattern_scratch_new(&scratch, err);
    if (rc == ERR_OK)
        rc = textbuf_add(&buf, text, n, err);
    if (rc == ERR_OK)
        rc = normalizer_run(&t->normalizer, &buf, &spare, scratch, err);
    if (rc == ERR_OK && buf.n > 0)
        rc = added_add(&t->normalized, buf.p, buf.n, a, err);
    pattern_scratch_destroy(scratch);
    textbuf_free(&buf);
    textbuf_free(&spare);
    return rc;
}

static int read_added_token(struct tokenizer *t, const json_t *node, struct err *err)
{
    const json_t *content = json_object_get(node, "content"), *id = json_object_get(node, "id");
    if (!json_is_string(content) || !json_is_integer(id))
        return err_set(err, ERR_FORMAT, "tokenizer.json: an added token has no content or no id");
    const char *text = json_string_value(content);
    size_t n = json_string_length(content);
    int64_t at = vocab_find(&t->vocab, text, n);
    if (n == 0)
        return ERR_OK;
    struct added_token a = {.special = flag(node, "special"), .lstrip = flag(node, "lstrip"),
                            .rstrip = flag(node, "rstrip"), .single_word = flag(node, "single_word")};
    at = at >= 0 ? at : json_integer_value(id);         /* the model's own id counts */
    TRY(vocab_set(&t->vocab, at, text, n, a.special ? VOCAB_CONTROL : VOCAB_USER, err));
    a.id = (int32_t)at;
    if (flag(node, "normalized"))
        return add_normalized(t, text, n, a, err);
    return added_add(&t->raw, text, n, a, err);
}

static int read_added(struct tokenizer *t, const json_t *list, struct err *err)
{
    json_t *node;
    size_t i;
    if (list != NULL && !json_is_null(list) && !json_is_array(list))
        return err_set(err, ERR_FORMAT, "tokenizer.json: added_tokens is no list");
    json_array_foreach((json_t *)list, i, node)
        TRY(read_added_token(t, node, err));
    return vocab_index(&t->vocab, t->bpe.byte_fallback || t->unigram.byte_fallback ||
                       t->detokenizer.byte_fallback, err);
}

static int read_model(struct tokenizer *t, const json_t *model, struct err *err)
{
    const char *type = json_string_value(json_object_get(model, "type"));
    if (type == NULL)           /* older files do not say */
        type = json_is_array(json_object_get(model, "merges")) ? "BPE"
             : json_is_array(json_object_get(model, "vocab"))  ? "Unigram" : "";
    if (strcmp(type, "BPE") == 0)
        return read_bpe(t, model, err);
    if (strcmp(type, "Unigram") == 0)
        return read_unigram(t, model, err);
    return err_set(err, ERR_FORMAT, "tokenizer.json: model type '%.40s' is not supported (BPE, "
                   "Unigram)", type);
}

int tokjson_build(struct tokenizer *t, const json_t *root, struct err *err)
{
    const json_t *model = json_object_get(root, "model");
    TRY(read_model(t, model, err));
    TRY(tokjson_normalizer(t, json_object_get(root, "normalizer"), err));
    TRY(tokjson_pretokenizer(t, json_object_get(root, "pre_tokenizer"), err));
    TRY(tokjson_decoder(t, json_object_get(root, "decoder"), err));
    TRY(read_added(t, json_object_get(root, "added_tokens"), err));
    if (t->model == TOKENIZER_BPE) {
        t->bpe.unknown = find_unknown(t, model);
        bpe_finish(&t->bpe);
    }
    return tokjson_postprocessor(t, json_object_get(root, "post_processor"), err);
}
