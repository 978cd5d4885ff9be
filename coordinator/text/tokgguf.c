/* Builds a tokenizer from the tokenizer.* keys of a GGUF file. */
#include "coordinator/text/ggufmeta.h"
#include "coordinator/text/prepattern.h"
#include "coordinator/text/tokenizerparts.h"
#include "coordinator/text/unicode.h"
#include "proto/log.h"

#include <stdlib.h>
#include <string.h>

#define KEY "tokenizer.ggml."

static int read_vocab(struct tokenizer *t, const struct ggufmeta *m, bool bytes, struct err *err)
{
    const struct ggufmeta_entry *tokens, *types;
    TRY(ggufmeta_array(m, KEY "tokens", GGUFMETA_STRING, &tokens, err));
    TRY(ggufmeta_array(m, KEY "token_type", GGUFMETA_I32, &types, err));
    if (tokens == NULL || tokens->n == 0)
        return err_set(err, ERR_FORMAT, "vocabulary: the file has no " KEY "tokens");
    if (tokens->n > VOCAB_MAX || (types != NULL && types->n != tokens->n))
        return err_set(err, ERR_FORMAT, "vocabulary: %llu tokens, %llu token types",
                       (unsigned long long)tokens->n,
                       (unsigned long long)(types != NULL ? types->n : 0));
    size_t at = 0;
    for (uint64_t i = 0; i < tokens->n; i++) {
        const char *text;
        size_t n;
        uint8_t type = types == NULL ? VOCAB_NORMAL : types->data[4 * i];
        ggufmeta_next_string(tokens, &at, &text, &n);
        if (type < VOCAB_NORMAL || type > VOCAB_BYTE)
            type = VOCAB_NORMAL;
        TRY(vocab_set(&t->vocab, (int64_t)i, text, n, (enum vocab_type)type, err));
    }
    return vocab_index(&t->vocab, bytes, err);
}

/* An id from the metadata; one outside the vocabulary is an error, 2^32 - 1 means none. The fallback
 * counts only if that token is no ordinary one. */
static int read_id(const struct tokenizer *t, const struct ggufmeta *m, const char *key,
                   int64_t fallback, int32_t *id, struct err *err)
{
    int64_t v;
    bool usual = vocab_has(&t->vocab, fallback) && t->vocab.token[fallback].type != VOCAB_NORMAL;
    TRY(ggufmeta_int(m, key, usual ? fallback : -1, &v, err));
    if (v == UINT32_MAX)
        v = -1;
    if (v != -1 && !vocab_has(&t->vocab, v))
        return err_set(err, ERR_FORMAT, "vocabulary: %s is %lld, but there are %d tokens", key,
                       (long long)v, t->vocab.n);
    *id = (int32_t)v;
    return ERR_OK;
}

/* Begin, end and unknown ids, and whether the first two are put around texts. */
static int read_ids(struct tokenizer *t, const struct ggufmeta *m, bool add_bos, bool add_eos,
                    bool classic, int32_t *unknown, struct err *err)
{
    int64_t bos, eos;
    TRY(read_id(t, m, KEY "bos_token_id", classic ? 1 : -1, &t->bos, err));
    TRY(read_id(t, m, KEY "eos_token_id", classic ? 2 : -1, &t->eos, err));
    TRY(read_id(t, m, KEY "unknown_token_id", classic ? 0 : -1, unknown, err));
    TRY(ggufmeta_int(m, KEY "add_bos_token", add_bos, &bos, err));
    TRY(ggufmeta_int(m, KEY "add_eos_token", add_eos, &eos, err));
    int32_t control[] = {t->bos, t->eos};
    for (int i = 0; i < 2; i++)         /* some files call them normal */
        if (control[i] >= 0 && t->vocab.token[control[i]].type == VOCAB_NORMAL)
            t->vocab.token[control[i]].type = VOCAB_CONTROL;
    if (bos && t->bos >= 0)
        TRY(tokenizer_add_around(t, true, t->bos, err));
    return eos && t->eos >= 0 ? tokenizer_add_around(t, false, t->eos, err) : ERR_OK;
}

/* Control tokens are found in the text when asked for; user-defined ones always: by BPE models in the
 * text, by SentencePiece ones in what the normalizer made of it. */
static int add_tokens(struct tokenizer *t, const struct ggufmeta *m, bool user_in_text,
                      struct err *err)
{
    const char *arch;
    size_t n;
    TRY(ggufmeta_string(m, "general.architecture", &arch, &n, err));
    /* No GGUF says so, but Phi-3's own special tokens take the blanks behind them. */
    bool phi3 = t->model == TOKENIZER_SPM && arch != NULL && n == 4 && memcmp(arch, "phi3", 4) == 0;
    for (int32_t id = 0; id < t->vocab.n; id++) {
        const struct vocab_token *v = &t->vocab.token[id];
        const char *text = vocab_text(&t->vocab, id);
        bool control = v->type == VOCAB_CONTROL || v->type == VOCAB_UNKNOWN;
        if (v->len == 0 || (!control && v->type != VOCAB_USER))
            continue;
        struct added_token a = {.id = id, .special = control};
        a.rstrip = phi3 && control && strcmp(text, "<unk>") != 0 && strcmp(text, "<s>") != 0 &&
                   strcmp(text, "<|endoftext|>") != 0;
        if (control || user_in_text)
            TRY(added_add(&t->raw, text, v->len, a, err));
        else
            TRY(trie_add(&t->user, text, v->len, id, err));
    }
    return ERR_OK;
}

/* --- byte-level BPE */

static int add_merges(struct tokenizer *t, const struct ggufmeta *m, struct err *err)
{
    const struct ggufmeta_entry *e;
    TRY(ggufmeta_array(m, KEY "merges", GGUFMETA_STRING, &e, err));
    if (e == NULL)
        return err_set(err, ERR_FORMAT, "vocabulary: the file has no " KEY "merges");
    TRY(bpe_init(&t->bpe, &t->vocab, (size_t)e->n, err));
    size_t at = 0;
    for (uint64_t i = 0; i < e->n; i++) {
        const char *text;
        size_t n;
        ggufmeta_next_string(e, &at, &text, &n);
        const char *blank = n < 3 ? NULL : memchr(text + 1, ' ', n - 2);
        if (blank == NULL)
            return err_set(err, ERR_FORMAT, "vocabulary: merge %llu is not two texts",
                           (unsigned long long)i);
        TRY(bpe_add_merge(&t->bpe, text, (size_t)(blank - text), blank + 1,
                          n - (size_t)(blank - text) - 1, err));
    }
    return ERR_OK;
}

static int find_pre(const struct ggufmeta *m, const struct prepattern **pre, struct err *err)
{
    const char *text;
    char name[40] = "";
    size_t n;
    TRY(ggufmeta_string(m, KEY "pre", &text, &n, err));
    memcpy(name, text != NULL ? text : "", n < sizeof name ? n : sizeof name - 1);
    *pre = prepattern_find(name);
    if (*pre == NULL)
        return err_set(err, ERR_FORMAT, "vocabulary: tokenizer.ggml.pre '%s' is not known; use the "
                       "model's Hugging Face folder", name);
    if (name[0] == '\0' || strcmp(name, "default") == 0)
        log_line(LOG_WARN, "tokenizer", "the file does not say how to cut text (tokenizer.ggml.pre); "
                 "output may be worse than the model can do");
    return ERR_OK;
}

static int build_bpe(struct tokenizer *t, const struct ggufmeta *m, struct err *err)
{
    const struct prepattern *pre;
    int32_t unknown;
    t->model = TOKENIZER_BPE;
    TRY(find_pre(m, &pre, err));
    TRY(read_vocab(t, m, false, err));
    TRY(read_ids(t, m, pre->add_bos, false, false, &unknown, err));
    TRY(add_tokens(t, m, true, err));
    TRY(add_merges(t, m, err));
    t->bpe.ignore_merges = pre->ignore_merges;
    t->bpe.bytes_required = true;
    bpe_finish(&t->bpe);
    if (pre->nfc)
        TRY(normalizer_add(&t->normalizer, (struct normalize_step){.kind = NORMALIZE_NFC}, err));
    for (int i = 0; i < PREPATTERN_PASSES_MAX && pre->pass[i] != NULL; i++)
        TRY(pretokenizer_add_split(&t->pretokenizer, pre->pass[i], strlen(pre->pass[i]),
                                   SPLIT_ISOLATED, false, err));
    t->detokenizer.byte_level = t->detokenizer.raw_added = true;
    return pretokenizer_add_bytes(&t->pretokenizer, err);
}

/* --- SentencePiece */

static int add_sentencepiece_rules(struct tokenizer *t, const struct ggufmeta *m, bool squeeze,
                                   struct err *err)
{
    int64_t prefix, extra;
    const struct ggufmeta_entry *map;
    TRY(ggufmeta_int(m, KEY "add_space_prefix", true, &prefix, err));
    TRY(ggufmeta_int(m, KEY "remove_extra_whitespaces", squeeze, &extra, err));
    map = ggufmeta_find(m, KEY "precompiled_charsmap");
    if (map != NULL && (!map->is_array || map->type > GGUFMETA_I8))
        return err_set(err, ERR_FORMAT, "vocabulary: " KEY "precompiled_charsmap is not bytes");
    struct normalize_step step = {.kind = NORMALIZE_SENTENCEPIECE, .prefix = prefix != 0,
                                  .squeeze = extra != 0, .user = &t->user};
    if (map != NULL)
        TRY(charsmap_open(&step.map, map->data, map->bytes, err));
    struct detokenizer *d = &t->detokenizer;
    d->byte_fallback = d->spoken = true;
    memcpy(d->meta, UNICODE_META, UNICODE_META_BYTES);
    if (prefix) {
        strcpy(d->strip, " ");
        d->strip_start = 1;
    }
    return normalizer_add(&t->normalizer, step, err);
}

static int read_scores(const struct tokenizer *t, const struct ggufmeta *m, float **score,
                       struct err *err)
{
    const struct ggufmeta_entry *e;
    TRY(ggufmeta_array(m, KEY "scores", GGUFMETA_F32, &e, err));
    if (e == NULL || e->n != (uint64_t)t->vocab.n)
        return err_set(err, ERR_FORMAT, "vocabulary: %d tokens, %llu scores", t->vocab.n,
                       (unsigned long long)(e != NULL ? e->n : 0));
    *score = malloc(e->bytes);
    if (*score == NULL)
        return err_set(err, ERR_NOMEM, "vocabulary: no memory for its scores");
    memcpy(*score, e->data, e->bytes);
    return ERR_OK;
}

static int build_spm(struct tokenizer *t, const struct ggufmeta *m, struct err *err)
{
    int32_t unknown;
    float *score = NULL;
    t->model = TOKENIZER_SPM;
    TRY(trie_init(&t->user, err));
    TRY(read_vocab(t, m, true, err));
    TRY(read_ids(t, m, true, false, true, &unknown, err));
    TRY(add_tokens(t, m, false, err));
    TRY(add_sentencepiece_rules(t, m, false, err));
    TRY(read_scores(t, m, &score, err));
    int rc = spm_init(&t->spm, &t->vocab, score, unknown, err);
    free(score);
    return rc;
}

static int build_unigram(struct tokenizer *t, const struct ggufmeta *m, struct err *err)
{
    int32_t unknown;
    float *score = NULL;
    t->model = TOKENIZER_UNIGRAM;
    TRY(trie_init(&t->user, err));
    TRY(read_vocab(t, m, true, err));
    TRY(read_ids(t, m, false, true, false, &unknown, err));
    TRY(add_tokens(t, m, false, err));
    TRY(add_sentencepiece_rules(t, m, true, err));
    TRY(read_scores(t, m, &score, err));
    double *wide = malloc((size_t)t->vocab.n * sizeof *wide);
    for (int i = 0; wide != NULL && i < t->vocab.n; i++)
        wide[i] = (double)score[i];
    int rc = wide == NULL ? err_set(err, ERR_NOMEM, "vocabulary: no memory for its scores")
                          : unigram_init(&t->unigram, &t->vocab, wide, unknown, true, err);
    t->unigram.byte_fallback = true;
    free(score);
    free(wide);
    return rc;
}

/* --- chat templates: tokenizer.chat_template and tokenizer.chat_template.NAME */

static int add_templates(struct tokenizer *t, const struct ggufmeta *m, struct err *err)
{
    static const char key[] = "tokenizer.chat_template";
    for (int i = 0; i < m->n; i++) {
        const struct ggufmeta_entry *e = &m->entry[i];
        size_t len = sizeof key - 1, at = 0, n;
        const char *text;
        if (e->is_array || e->type != GGUFMETA_STRING || e->key_len < len ||
            memcmp(e->key, key, len) != 0 || (e->key_len > len && e->key[len] != '.'))
            continue;
        ggufmeta_next_string(e, &at, &text, &n);
        size_t skip = e->key_len > len ? len + 1 : len;
        TRY(tokenizer_add_template(t, e->key + skip, e->key_len - skip, text, n, err));
    }
    return ERR_OK;
}

static int build_model(struct tokenizer *t, const struct ggufmeta *m, struct err *err)
{
    const char *model;
    size_t n;
    TRY(ggufmeta_string(m, KEY "model", &model, &n, err));
    if (model == NULL)
        return err_set(err, ERR_FORMAT, "vocabulary: the file has no " KEY "model");
    if (n == 5 && memcmp(model, "llama", 5) == 0)
        return build_spm(t, m, err);
    if (n == 4 && memcmp(model, "gpt2", 4) == 0)
        return build_bpe(t, m, err);
    if (n == 2 && memcmp(model, "t5", 2) == 0)
        return build_unigram(t, m, err);
    return err_set(err, ERR_FORMAT, "vocabulary: " KEY "model '%.*s' is not supported (llama, gpt2, "
                   "t5)", n < 40 ? (int)n : 40, model);
}

int tokgguf_build(struct tokenizer *t, const uint8_t *bytes, size_t n, struct err *err)
{
    struct ggufmeta m;
    TRY(ggufmeta_open(&m, bytes, n, err));
    int rc = build_model(t, &m, err);
    if (rc == ERR_OK)
        rc = add_templates(t, &m, err);
    ggufmeta_close(&m);
    return rc;
}
