#include "coordinator/text/tokenizer.h"

#include "coordinator/text/tokenizerparts.h"
#include "coordinator/text/unicode.h"

#include <stdlib.h>
#include <string.h>

enum { CONTAINER_MAX = 256 << 20, ENTRY_NAME_MAX = 200 };

/* --- the container */

static uint64_t little(const uint8_t *p, int bytes)
{
    uint64_t v = 0;
    for (int i = bytes - 1; i >= 0; i--)
        v = v << 8 | p[i];
    return v;
}

/* The file at *at, which moves on. */
static int next_file(const uint8_t *p, size_t n, size_t *at, struct tokenizer_file *e,
                     struct err *err)
{
    size_t i = *at;
    uint64_t name_len = n - i < 4 ? UINT64_MAX : little(p + i, 4), len;
    if (name_len > ENTRY_NAME_MAX || n - i - 4 < name_len + 8)
        return err_set(err, ERR_FORMAT, "vocabulary: its container is cut off");
    e->name = (const char *)p + i + 4;
    e->name_len = (size_t)name_len;
    i += 4 + e->name_len;
    len = little(p + i, 8);
    i += 8;
    if (len > n - i)
        return err_set(err, ERR_FORMAT, "vocabulary: %.*s is cut off", (int)e->name_len, e->name);
    e->bytes = p + i;
    e->n = (size_t)len;
    *at = i + e->n;
    return ERR_OK;
}

int tokenizer_find_file(const struct tokenizer_container *c, const char *name,
                        struct tokenizer_file *file, struct err *err)
{
    *file = (struct tokenizer_file){0};
    struct tokenizer_file f;
    for (size_t at = 4; at < c->n;) {
        TRY(next_file(c->p, c->n, &at, &f, err));
        if (f.name_len == strlen(name) && memcmp(f.name, name, f.name_len) == 0)
            *file = f;
    }
    return ERR_OK;
}

static int build(struct tokenizer *t, const struct tokenizer_container *c, struct err *err)
{
    struct tokenizer_file gguf;
    if (c->n < 4 || c->n > CONTAINER_MAX || memcmp(c->p, "MTOK", 4) != 0)
        return err_set(err, ERR_FORMAT, "vocabulary: not a vocabulary container");
    TRY(tokenizer_find_file(c, "gguf", &gguf, err));
    if (gguf.bytes != NULL)
        return tokgguf_build(t, gguf.bytes, gguf.n, err);
    return tokfolder_build(t, c, err);
}

int tokenizer_open(struct tokenizer **t, const uint8_t *bytes, size_t n, struct err *err)
{
    *t = NULL;
    struct tokenizer *c = calloc(1, sizeof *c);
    if (c == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a tokenizer");
    c->bos = c->eos = -1;
    int rc = build(c, &(struct tokenizer_container){bytes, n}, err);
    if (rc != ERR_OK)
        tokenizer_close(c);
    else
        *t = c;
    return rc;
}

void tokenizer_close(struct tokenizer *t)
{
    if (t == NULL)
        return;
    bpe_free(&t->bpe);
    spm_free(&t->spm);
    unigram_free(&t->unigram);
    normalizer_free(&t->normalizer);
    pretokenizer_free(&t->pretokenizer);
    added_free(&t->raw);
    added_free(&t->normalized);
    trie_free(&t->user);
    vocab_free(&t->vocab);
    for (int i = 0; i < t->n_templates; i++) {
        free(t->template_[i].name);
        free(t->template_[i].text);
    }
    free(t);
}

/* --- what builders use */

int tokenizer_add_template(struct tokenizer *t, const char *name, size_t n_name, const char *text,
                           size_t n, struct err *err)
{
    char *name_copy = strndup(name, n_name), *text_copy = strndup(text, n);
    int at = 0;
    while (at < t->n_templates && name_copy != NULL && strcmp(t->template_[at].name, name_copy) != 0)
        at++;
    if (name_copy == NULL || text_copy == NULL || at == TOKENIZER_TEMPLATES_MAX) {
        free(name_copy);
        free(text_copy);
        return err_set(err, at == TOKENIZER_TEMPLATES_MAX ? ERR_FORMAT : ERR_NOMEM,
                       "vocabulary: too many chat templates");
    }
    if (at < t->n_templates) {
        free(t->template_[at].name);
        free(t->template_[at].text);
    } else {
        t->n_templates++;
    }
    t->template_[at].name = name_copy;
    t->template_[at].text = text_copy;
    return ERR_OK;
}

int tokenizer_add_around(struct tokenizer *t, bool before, int64_t id, struct err *err)
{
    int *n = before ? &t->n_before : &t->n_after;
    if (!vocab_has(&t->vocab, id) || *n == TOKENIZER_AROUND_MAX)
        return err_set(err, ERR_FORMAT, "vocabulary: cannot put token %lld around texts",
                       (long long)id);
    (before ? t->before : t->after)[(*n)++] = (int32_t)id;
    return ERR_OK;
}

/* --- questions */

int tokenizer_vocab_size(const struct tokenizer *t) { return t->vocab.n; }
int tokenizer_bos(const struct tokenizer *t) { return t->bos; }
int tokenizer_eos(const struct tokenizer *t) { return t->eos; }

bool tokenizer_is_control(const struct tokenizer *t, int id)
{
    return vocab_has(&t->vocab, id) && t->vocab.token[id].type == VOCAB_CONTROL;
}

const char *tokenizer_token_text(const struct tokenizer *t, int id)
{
    return vocab_has(&t->vocab, id) ? vocab_text(&t->vocab, id) : NULL;
}

int tokenizer_id(const struct tokenizer *t, const char *text)
{
    return vocab_find(&t->vocab, text, strlen(text));
}

const char *tokenizer_chat_template(const struct tokenizer *t, const char *name)
{
    if (name == NULL || strcmp(name, "default") == 0)
        name = "";
    for (int i = 0; i < t->n_templates; i++)
        if (strcmp(t->template_[i].name, name) == 0)
            return t->template_[i].text;
    return NULL;
}

/* --- text to ids */

/* What one call of encode works with. */
struct encoder {
    const struct tokenizer *t;
    bool special;
    struct token_list *out;
    struct pieces pieces, spare;
    struct textbuf text, spare_text;
    struct merge_scratch merge;
    struct unigram_scratch unigram;
    struct pattern_scratch *pattern;
};

/* SentencePiece: user-defined pieces stay whole, what is between them is merged. */
static int encode_spm(struct encoder *e, const char *s, size_t n, struct err *err)
{
    const struct tokenizer *t = e->t;
    size_t done = 0, len;
    for (size_t i = 0; i < n; i++) {
        if (t->user.root[(uint8_t)s[i]] == 0)
            continue;
        int32_t id = trie_longest(&t->user, s + i, n - i, &len);
        if (id < 0)
            continue;
        TRY(spm_encode(&t->spm, s + done, i - done, &e->merge, e->out, err));
        TRY(token_list_add(e->out, id, err));
        done = i + len;
        i = done - 1;
    }
    return spm_encode(&t->spm, s + done, n - done, &e->merge, e->out, err);
}

static int encode_piece(struct encoder *e, const char *s, size_t n, struct err *err)
{
    if (e->t->model == TOKENIZER_SPM)
        return encode_spm(e, s, n, err);
    if (e->t->model == TOKENIZER_UNIGRAM)
        return unigram_encode(&e->t->unigram, s, n, &e->unigram, e->out, err);
    return bpe_encode(&e->t->bpe, s, n, &e->merge, e->out, err);
}

/* Normalised text without added tokens: cut, then model. */
static int encode_plain(struct encoder *e, const char *s, size_t n, bool first, struct err *err)
{
    e->pieces.n = 0;
    textbuf_clear(&e->pieces.text);
    TRY(textbuf_add(&e->pieces.text, s, n, err));
    TRY(pieces_add(&e->pieces, 0, n, first, err));
    TRY(pretokenizer_run(&e->t->pretokenizer, &e->pieces, &e->spare, e->pattern, err));
    for (size_t i = 0; i < e->pieces.n; i++) {
        const struct piece *p = &e->pieces.at[i];
        TRY(encode_piece(e, e->pieces.text.p + p->begin, p->end - p->begin, err));
    }
    return ERR_OK;
}

/* Raw text without raw added tokens: normalise, find the added tokens of normalised text. */
static int encode_raw(struct encoder *e, const char *s, size_t n, bool first, struct err *err)
{
    textbuf_clear(&e->text);
    TRY(textbuf_add(&e->text, s, n, err));
    TRY(normalizer_run(&e->t->normalizer, &e->text, &e->spare_text, e->pattern, err));
    struct added_part part, pending = {.id = -1};
    size_t at = 0;
    while (added_next(&e->t->normalized, e->text.p, e->text.n, e->special, &at, &pending, &part)) {
        if (part.id >= 0)
            TRY(token_list_add(e->out, part.id, err));
        else
            TRY(encode_plain(e, e->text.p + part.begin, part.end - part.begin,
                             first && part.begin == 0, err));
    }
    return ERR_OK;
}

static int encode_text(struct encoder *e, const char *s, size_t n, struct err *err)
{
    struct added_part part, pending = {.id = -1};
    size_t at = 0;
    while (added_next(&e->t->raw, s, n, e->special, &at, &pending, &part)) {
        if (part.id >= 0)
            TRY(token_list_add(e->out, part.id, err));
        else
            TRY(encode_raw(e, s + part.begin, part.end - part.begin, part.begin == 0, err));
    }
    return ERR_OK;
}

static void encoder_free(struct encoder *e)
{
    pieces_free(&e->pieces);
    pieces_free(&e->spare);
    textbuf_free(&e->text);
    textbuf_free(&e->spare_text);
    merge_scratch_free(&e->merge);
    unigram_scratch_free(&e->unigram);
    pattern_scratch_destroy(e->pattern);
}

static int add_around(const int32_t *id, int n, bool wanted, struct token_list *out, struct err *err)
{
    for (int i = 0; wanted && i < n; i++)
        TRY(token_list_add(out, id[i], err));
    return ERR_OK;
}

int tokenizer_encode(const struct tokenizer *t, const char *text, size_t n,
                     struct tokenize_options opt, struct token_list *out, struct err *err)
{
    size_t bad = unicode_check(text, n);
    if (bad < n)
        return err_set(err, ERR_FORMAT, "text is not valid UTF-8 at byte %zu", bad);
    TRY(add_around(t->before, t->n_before, opt.add_special, out, err));
    struct encoder e = {.t = t, .special = opt.parse_special, .out = out};
    TRY(pattern_scratch_new(&e.pattern, err));
    int rc = encode_text(&e, text, n, err);
    encoder_free(&e);
    TRY(rc);
    return add_around(t->after, t->n_after, opt.add_special, out, err);
}

/* --- ids to text */

struct token_stream {
    const struct tokenizer *t;
    bool skip_special;
    struct detokenize_state state;
};

static int stream_id(struct token_stream *s, int32_t id, struct err *err)
{
    const struct vocab *v = &s->t->vocab;
    if (s->skip_special && v->token[id].type == VOCAB_CONTROL)
        return ERR_OK;
    return detokenize_push(&s->t->detokenizer, v, &s->state, id, err);
}

static int check_id(const struct tokenizer *t, int32_t id, struct err *err)
{
    if (!vocab_has(&t->vocab, id))
        return err_set(err, ERR_INVAL, "token id %d is not in the vocabulary of %d", id, t->vocab.n);
    return ERR_OK;
}

int tokenizer_decode(const struct tokenizer *t, const int32_t *ids, int n_ids, bool skip_special,
                     char **text, size_t *n, struct err *err)
{
    struct token_stream s = {.t = t, .skip_special = skip_special};
    int rc = ERR_OK;
    for (int i = 0; i < n_ids && rc == ERR_OK; i++) {
        rc = check_id(t, ids[i], err);
        if (rc == ERR_OK)
            rc = stream_id(&s, ids[i], err);
    }
    if (rc == ERR_OK)
        rc = detokenize_finish(&t->detokenizer, &s.state, err);
    if (rc == ERR_OK)
        rc = textbuf_take(&s.state.out, text, n, err);
    detokenize_free(&s.state);
    return rc;
}

int token_stream_open(struct token_stream **s, const struct tokenizer *t, const int32_t *prompt,
                      int n_prompt, bool skip_special, struct err *err)
{
    *s = NULL;
    struct token_stream *c = calloc(1, sizeof *c);
    if (c == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a stream of tokens");
    c->t = t;
    c->skip_special = skip_special;
    for (int i = 0; i < n_prompt; i++) {
        const char *unused;
        size_t n;
        int rc = token_stream_push(c, prompt[i], &unused, &n, err);
        if (rc != ERR_OK) {
            token_stream_close(c);
            return rc;
        }
    }
    *s = c;
    return ERR_OK;
}

int token_stream_push(struct token_stream *s, int32_t id, const char **text, size_t *n,
                      struct err *err)
{
    textbuf_clear(&s->state.out);
    if (id < 0)
        TRY(check_id(s->t, id, err));
    if (vocab_has(&s->t->vocab, id))    /* a model's rows beyond the vocabulary have no text */
        TRY(stream_id(s, id, err));
    *text = s->state.out.n > 0 ? s->state.out.p : "";
    *n = s->state.out.n;
    return ERR_OK;
}

int token_stream_finish(struct token_stream *s, const char **text, size_t *n, struct err *err)
{
    textbuf_clear(&s->state.out);
    TRY(detokenize_finish(&s->t->detokenizer, &s->state, err));
    *text = s->state.out.n > 0 ? s->state.out.p : "";
    *n = s->state.out.n;
    return ERR_OK;
}

void token_stream_close(struct token_stream *s)
{
    if (s == NULL)
        return;
    detokenize_free(&s->state);
    free(s);
}
