#include "coordinator/text/bpe.h"

#include "coordinator/text/unicode.h"

#include <stdlib.h>
#include <string.h>

/* --- ids */

int token_list_add(struct token_list *l, int32_t id, struct err *err)
{
    if (l->n == l->cap) {
        if (l->cap > INT32_MAX / 2)
            return err_set(err, ERR_LIMIT, "text of more than %d tokens", l->cap);
        int cap = l->cap == 0 ? 64 : 2 * l->cap;
        int32_t *p = realloc(l->id, (size_t)cap * sizeof *p);
        if (p == NULL)
            return err_set(err, ERR_NOMEM, "no memory for %d tokens", cap);
        l->id = p;
        l->cap = cap;
    }
    l->id[l->n++] = id;
    return ERR_OK;
}

void token_list_free(struct token_list *l)
{
    free(l->id);
    *l = (struct token_list){0};
}

/* Whether the text of a token holds a U+2581 behind another character. */
static bool has_inner_meta(const char *text, size_t n)
{
    for (size_t i = 1; i + UNICODE_META_BYTES <= n; i++)
        if (memcmp(text + i, UNICODE_META, UNICODE_META_BYTES) == 0 &&
            (i < UNICODE_META_BYTES ||
             memcmp(text + i - UNICODE_META_BYTES, UNICODE_META, UNICODE_META_BYTES) != 0))
            return true;
    return false;
}

/* End of the stretch that starts at `from` and can be encoded by itself. */
static size_t stretch_end(const char *piece, size_t n, size_t from, bool cut)
{
    if (!cut)
        return n;
    bool meta = true;           /* the character before is U+2581: never cut at the front */
    for (size_t i = from; i < n; i += (size_t)unicode_bytes(piece[i])) {
        bool here = piece[i] == UNICODE_META[0] && i + UNICODE_META_BYTES <= n &&
                    memcmp(piece + i, UNICODE_META, UNICODE_META_BYTES) == 0;
        if (here && !meta)
            return i;
        meta = here;
    }
    return n;
}

static int too_long(size_t n, struct err *err)
{
    return n > INT32_MAX ? err_set(err, ERR_LIMIT, "text of %zu bytes", n) : ERR_OK;
}

/* --- merges by rank */

static uint32_t merge_slot(const struct bpe *b, int32_t left, int32_t right)
{
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9e3779b97f4a7c15u;
    return (uint32_t)(h >> 33) & b->merge_mask;
}

static struct bpe_merge *find_merge(const struct bpe *b, int32_t left, int32_t right)
{
    uint32_t i = merge_slot(b, left, right);
    while (b->merge[i].left >= 0 && (b->merge[i].left != left || b->merge[i].right != right))
        i = (i + 1) & b->merge_mask;
    return &b->merge[i];
}

int bpe_init(struct bpe *b, const struct vocab *vocab, size_t n_merges, struct err *err)
{
    *b = (struct bpe){.vocab = vocab, .unknown = -1};
    if (n_merges > 4 * (size_t)VOCAB_MAX)
        return err_set(err, ERR_FORMAT, "vocabulary: %zu merges", n_merges);
    size_t slots = 1024;
    while (slots < 2 * n_merges)
        slots *= 2;
    b->merge = malloc(slots * sizeof *b->merge);
    if (b->merge == NULL)
        return err_set(err, ERR_NOMEM, "vocabulary: no memory for %zu merges", n_merges);
    memset(b->merge, 0xff, slots * sizeof *b->merge);
    b->merge_mask = (uint32_t)slots - 1;
    return ERR_OK;
}

void bpe_free(struct bpe *b)
{
    free(b->merge);
    *b = (struct bpe){0};
}

int bpe_add_merge(struct bpe *b, const char *left, size_t n_left, const char *right, size_t n_right,
                  struct err *err)
{
    int32_t l = vocab_find(b->vocab, left, n_left), r = vocab_find(b->vocab, right, n_right);
    size_t skip = strlen(b->prefix);
    struct textbuf join = {0};
    int rc = textbuf_add(&join, left, n_left, err);
    if (rc == ERR_OK && skip <= n_right)
        rc = textbuf_add(&join, right + skip, n_right - skip, err);
    int32_t merged = rc == ERR_OK ? vocab_find(b->vocab, join.p, join.n) : -1;
    textbuf_free(&join);
    TRY(rc);
    if (l < 0 || r < 0 || merged < 0)
        return err_set(err, ERR_FORMAT, "vocabulary: merge %u ('%.*s' '%.*s') is not of tokens",
                       b->n_merges, n_left < 60 ? (int)n_left : 60, left,
                       n_right < 60 ? (int)n_right : 60, right);
    struct bpe_merge *m = find_merge(b, l, r);
    if (m->left < 0)
        *m = (struct bpe_merge){l, r, b->n_merges, merged};
    b->n_merges++;
    return ERR_OK;
}

void bpe_finish(struct bpe *b)
{
    for (int32_t cp = 0; cp < 0x200; cp++) {
        char text[4];
        int n = unicode_encode(cp, text);
        b->char_id[cp] = vocab_find(b->vocab, text, (size_t)n);
    }
    b->cut_at_meta = b->prefix[0] == '\0' && b->suffix[0] == '\0' && !b->ignore_merges &&
                     vocab_find(b->vocab, UNICODE_META, UNICODE_META_BYTES) >= 0;
    for (uint32_t i = 0; i <= b->merge_mask && b->cut_at_meta; i++)
        if (b->merge[i].left >= 0) {
            int32_t id = b->merge[i].merged;
            b->cut_at_meta = !has_inner_meta(vocab_text(b->vocab, id), b->vocab->token[id].len);
        }
}

static uint32_t merge_rank_of(const void *context, const struct merge_symbol *x,
                              const struct merge_symbol *y, int32_t *merged)
{
    const struct bpe_merge *m = find_merge(context, x->id, y->id);
    *merged = m->merged;
    return m->left < 0 ? MERGE_NONE : m->rank;
}

/* Token of one character of a word, with the affixes that its place asks for. */
static int32_t symbol_id(const struct bpe *b, const char *s, size_t n, bool first, bool last)
{
    bool prefix = !first && b->prefix[0] != '\0', suffix = last && b->suffix[0] != '\0';
    if (!prefix && !suffix) {
        int32_t cp = n == 1 ? (uint8_t)s[0] : n == 2 ? (s[0] & 0x1f) << 6 | (s[1] & 0x3f) : 0x200;
        return cp < 0x200 ? b->char_id[cp] : vocab_find(b->vocab, s, n);
    }
    char text[sizeof b->prefix + sizeof b->suffix + 4];
    size_t len = 0;
    if (prefix)
        len = strlen(strcpy(text, b->prefix));
    memcpy(text + len, s, n);
    len += n;
    if (suffix)
        len += strlen(strcpy(text + len, b->suffix));
    return vocab_find(b->vocab, text, len);
}

/* Whether each byte of s [n] has a token. */
static bool has_bytes(const struct vocab *v, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (v->byte_id[(uint8_t)s[i]] < 0)
            return false;
    return true;
}

struct pending { uint32_t begin, len; };        /* unknown text that is not a symbol yet */

static int push_unknown(const struct bpe *b, struct merge_scratch *m, struct pending *u,
                        struct err *err)
{
    if (u->len > 0)
        TRY(merge_push(m, u->begin, u->len, b->unknown, err));
    u->len = 0;
    return ERR_OK;
}

/* The character at piece [at, at + len) becomes symbols. */
static int push_char(const struct bpe *b, const char *piece, size_t n, uint32_t at, uint32_t len,
                     struct merge_scratch *m, struct pending *u, struct err *err)
{
    int32_t id = symbol_id(b, piece + at, len, at == 0, at + len == n);
    if (id >= 0) {
        TRY(push_unknown(b, m, u, err));
        return merge_push(m, at, len, id, err);
    }
    if (b->byte_fallback && has_bytes(b->vocab, piece + at, len)) {
        for (uint32_t i = at; i < at + len; i++)
            TRY(merge_push(m, i, 1, b->vocab->byte_id[(uint8_t)piece[i]], err));
        return ERR_OK;
    }
    if (b->unknown < 0)
        return b->bytes_required
                   ? err_set(err, ERR_FORMAT, "vocabulary: no token for '%.*s' and none for unknown "
                             "text", (int)len, piece + at)
                   : ERR_OK;
    if (!b->fuse_unknown)
        TRY(push_unknown(b, m, u, err));
    if (u->len == 0)
        u->begin = at;
    u->len += len;
    return ERR_OK;
}

static int encode_stretch(const struct bpe *b, const char *piece, size_t n, struct merge_scratch *m,
                          struct token_list *out, struct err *err)
{
    struct pending unknown = {0};
    merge_clear(m);
    for (size_t i = 0; i < n;) {
        size_t len = (size_t)unicode_bytes(piece[i]);
        TRY(push_char(b, piece, n, (uint32_t)i, (uint32_t)len, m, &unknown, err));
        i += len;
    }
    TRY(push_unknown(b, m, &unknown, err));
    TRY(merge_run(m, merge_rank_of, b, err));
    for (int i = m->n > 0 ? 0 : -1; i >= 0; i = m->symbol[i].next)
        TRY(token_list_add(out, m->symbol[i].id, err));
    return ERR_OK;
}

int bpe_encode(const struct bpe *b, const char *piece, size_t n, struct merge_scratch *scratch,
               struct token_list *out, struct err *err)
{
    TRY(too_long(n, err));
    if (b->ignore_merges) {
        int32_t id = vocab_find(b->vocab, piece, n);
        if (id >= 0 && n > 0)
            return token_list_add(out, id, err);
    }
    for (size_t i = 0, end; i < n; i = end) {
        end = stretch_end(piece, n, i, b->cut_at_meta);
        TRY(encode_stretch(b, piece + i, end - i, scratch, out, err));
    }
    return ERR_OK;
}

/* --- merges by score */

struct scored { float score; int32_t id; };

static int by_score(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static bool can_be_made(const struct vocab_token *t)
{
    return t->type == VOCAB_NORMAL || t->type == VOCAB_USER;
}

int spm_init(struct spm *s, const struct vocab *vocab, const float *score, int32_t unknown,
             struct err *err)
{
    *s = (struct spm){.vocab = vocab, .unknown = unknown};
    size_t n = (size_t)vocab->n;
    struct scored *order = malloc((n + 1) * sizeof *order);
    s->rank = malloc((n + 1) * sizeof *s->rank);
    if (order == NULL || s->rank == NULL) {
        free(order);
        spm_free(s);
        return err_set(err, ERR_NOMEM, "vocabulary: no memory for %zu scores", n);
    }
    for (size_t i = 0; i < n; i++)      /* a NaN would make the order no order */
        order[i] = (struct scored){score[i] == score[i] ? score[i] : -1e30f, (int32_t)i};
    qsort(order, n, sizeof *order, by_score);
    s->cut_at_meta = vocab_find(vocab, UNICODE_META, UNICODE_META_BYTES) >= 0;
    for (size_t i = 0, rank = 0; i < n; i++) {
        int32_t id = order[i].id;
        if (i > 0 && order[i].score != order[i - 1].score)
            rank = i;
        s->rank[id] = can_be_made(&vocab->token[id]) ? (uint32_t)rank : MERGE_NONE;
        if (s->rank[id] != MERGE_NONE && has_inner_meta(vocab_text(vocab, id), vocab->token[id].len))
            s->cut_at_meta = false;
    }
    free(order);
    return ERR_OK;
}

void spm_free(struct spm *s)
{
    free(s->rank);
    *s = (struct spm){0};
}

struct spm_text { const struct spm *spm; const char *text; };

static uint32_t score_rank_of(const void *context, const struct merge_symbol *x,
                              const struct merge_symbol *y, int32_t *merged)
{
    const struct spm_text *c = context;
    *merged = vocab_find(c->spm->vocab, c->text + x->begin, x->len + y->len);
    return *merged < 0 ? MERGE_NONE : c->spm->rank[*merged];
}

/* A symbol that is no token: its bytes, else the unknown token (one for a run of them). */
static int add_unmade(const struct spm *s, const char *text, size_t n, bool after_unknown,
                      struct token_list *out, struct err *err)
{
    if (!has_bytes(s->vocab, text, n)) {
        if (s->unknown < 0)
            return err_set(err, ERR_FORMAT, "vocabulary: no token for '%.*s', its bytes or unknown "
                           "text", n < 60 ? (int)n : 60, text);
        return after_unknown ? ERR_OK : token_list_add(out, s->unknown, err);
    }
    for (size_t i = 0; i < n; i++)
        TRY(token_list_add(out, s->vocab->byte_id[(uint8_t)text[i]], err));
    return ERR_OK;
}

static int spm_stretch(const struct spm *s, const char *piece, size_t n, struct merge_scratch *m,
                       struct token_list *out, struct err *err)
{
    merge_clear(m);
    for (size_t i = 0; i < n;) {
        size_t len = (size_t)unicode_bytes(piece[i]);
        int32_t id = vocab_find(s->vocab, piece + i, len);
        if (id >= 0 && s->rank[id] == MERGE_NONE)
            id = -1;
        TRY(merge_push(m, (uint32_t)i, (uint32_t)len, id, err));
        i += len;
    }
    struct spm_text context = {s, piece};
    TRY(merge_run(m, score_rank_of, &context, err));
    for (int i = m->n > 0 ? 0 : -1; i >= 0; i = m->symbol[i].next) {
        const struct merge_symbol *x = &m->symbol[i];
        bool after_unknown = out->n > 0 && out->id[out->n - 1] == s->unknown && i > 0;
        if (x->id >= 0)
            TRY(token_list_add(out, x->id, err));
        else
            TRY(add_unmade(s, piece + x->begin, x->len, after_unknown, out, err));
    }
    return ERR_OK;
}

int spm_encode(const struct spm *s, const char *piece, size_t n, struct merge_scratch *scratch,
               struct token_list *out, struct err *err)
{
    TRY(too_long(n, err));
    for (size_t i = 0, end; i < n; i = end) {
        end = stretch_end(piece, n, i, s->cut_at_meta);
        TRY(spm_stretch(s, piece + i, end - i, scratch, out, err));
    }
    return ERR_OK;
}
