#include "coordinator/text/unigram.h"

#include "coordinator/text/bpe.h"
#include "coordinator/text/unicode.h"

#include <float.h>
#include <stdlib.h>
#include <string.h>

/* An unknown character costs this much more than the rarest token. */
static const double unknown_penalty = 10;

static bool takes_part(const struct unigram *u, int32_t id)
{
    uint8_t type = u->vocab->token[id].type;
    if (u->sentencepiece)
        return type == VOCAB_NORMAL || type == VOCAB_USER;
    return type != VOCAB_NONE;
}

/* The scores of the rarest and the commonest token, and the trie of all. */
static int add_tokens(struct unigram *u, const double *score, struct err *err)
{
    double least = DBL_MAX, most = -DBL_MAX;
    for (int32_t id = 0; id < u->vocab->n; id++) {
        u->score[id] = score[id] == score[id] ? score[id] : -DBL_MAX;   /* NaN */
        if (!takes_part(u, id))
            continue;
        if (!u->sentencepiece || u->vocab->token[id].type == VOCAB_NORMAL) {
            least = u->score[id] < least ? u->score[id] : least;
            most = u->score[id] > most ? u->score[id] : most;
        }
        TRY(trie_add(&u->trie, vocab_text(u->vocab, id), u->vocab->token[id].len, id, err));
    }
    u->unknown_score = (least < DBL_MAX ? least : 0) - unknown_penalty;
    u->longest_score = most > -DBL_MAX ? most : 0;
    return ERR_OK;
}

int unigram_init(struct unigram *u, const struct vocab *vocab, const double *score, int32_t unknown,
                 bool sentencepiece, struct err *err)
{
    *u = (struct unigram){.vocab = vocab, .unknown = unknown, .sentencepiece = sentencepiece};
    TRY(trie_init(&u->trie, err));
    u->score = malloc(((size_t)vocab->n + 1) * sizeof *u->score);
    if (u->score == NULL) {
        unigram_free(u);
        return err_set(err, ERR_NOMEM, "vocabulary: no memory for its scores");
    }
    int rc = add_tokens(u, score, err);
    if (rc != ERR_OK)
        unigram_free(u);
    return rc;
}

void unigram_free(struct unigram *u)
{
    trie_free(&u->trie);
    free(u->score);
    *u = (struct unigram){0};
}

void unigram_scratch_free(struct unigram_scratch *s)
{
    free(s->node);
    *s = (struct unigram_scratch){0};
}

static int make_room(struct unigram_scratch *s, size_t nodes, struct err *err)
{
    if (nodes > s->cap) {
        struct unigram_node *p = realloc(s->node, nodes * sizeof *p);
        if (p == NULL)
            return err_set(err, ERR_NOMEM, "no memory to tokenise %zu bytes", nodes);
        s->node = p;
        s->cap = nodes;
    }
    for (size_t i = 0; i < nodes; i++)
        s->node[i].begin = SIZE_MAX;    /* not reached yet */
    s->node[0] = (struct unigram_node){.id = INT32_MIN};
    return ERR_OK;
}

/* A way to end at `node`, by a token from begin on. */
static void offer(const struct unigram *u, struct unigram_node *node, size_t begin, double before,
                  double score, int32_t id)
{
    double sum = u->sentencepiece ? (float)((float)score + (float)before) : score + before;
    if (node->begin == SIZE_MAX || sum > node->score)
        *node = (struct unigram_node){.score = sum, .begin = begin, .id = id};
}

static void search(const struct unigram *u, const char *s, size_t n, struct unigram_node *node)
{
    for (size_t i = 0; i < n;) {
        size_t len = (size_t)unicode_bytes(s[i]);
        bool single = false;
        uint32_t at = 0;
        for (size_t end = i; end < n && (at = trie_step(&u->trie, at, s[end])) != 0; end++) {
            int32_t id = u->trie.value[at];
            if (id < 0)
                continue;
            size_t bytes = end + 1 - i;
            bool user = u->sentencepiece && u->vocab->token[id].type == VOCAB_USER;
            double score = user ? (double)bytes * u->longest_score - 0.1 : u->score[id];
            offer(u, &node[end + 1], i, node[i].score, score, id);
            single = single || bytes == len;
        }
        if (!single)
            offer(u, &node[i + len], i, node[i].score, u->unknown_score, u->unknown);
        i += len;
    }
}

/* Text without a token: its bytes where all have one, else the unknown token. */
static int add_unknown(const struct unigram *u, const char *s, size_t n, struct token_list *out,
                       struct err *err)
{
    bool bytes = u->byte_fallback;
    for (size_t i = 0; bytes && i < n; i++)
        bytes = u->vocab->byte_id[(uint8_t)s[i]] >= 0;
    for (size_t i = 0; bytes && i < n; i++)
        TRY(token_list_add(out, u->vocab->byte_id[(uint8_t)s[i]], err));
    if (bytes)
        return ERR_OK;
    if (u->unknown < 0)
        return err_set(err, ERR_FORMAT, "vocabulary: no token for '%.*s' and none for unknown text",
                       n < 60 ? (int)n : 60, s);
    return token_list_add(out, u->unknown, err);
}

int unigram_encode(const struct unigram *u, const char *piece, size_t n,
                   struct unigram_scratch *scratch, struct token_list *out, struct err *err)
{
    TRY(make_room(scratch, n + 1, err));
    struct unigram_node *node = scratch->node;
    search(u, piece, n, node);
    /* The best path is known from its end: turn the links round, fusing unknown neighbours. */
    for (size_t end = n, begin; end > 0; end = begin) {
        begin = node[end].begin;
        while (node[end].id == u->unknown && begin > 0 && node[begin].id == u->unknown)
            begin = node[begin].begin;
        node[begin].end = end;
    }
    for (size_t i = 0, end; i < n; i = end) {
        end = node[i].end;
        if (node[end].id == u->unknown)
            TRY(add_unknown(u, piece + i, end - i, out, err));
        else
            TRY(token_list_add(out, node[end].id, err));
    }
    return ERR_OK;
}
