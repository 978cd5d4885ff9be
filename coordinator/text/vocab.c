#include "coordinator/text/vocab.h"

#include <stdlib.h>
#include <string.h>

void vocab_free(struct vocab *v)
{
    free(v->token);
    free(v->slot);
    textbuf_free(&v->text);
    *v = (struct vocab){0};
}

static int make_room(struct vocab *v, int64_t id, struct err *err)
{
    if (id < 0 || id >= VOCAB_MAX)
        return err_set(err, ERR_FORMAT, "vocabulary: token id %lld is outside 0 .. %d",
                       (long long)id, VOCAB_MAX - 1);
    if (id >= v->cap) {
        int cap = v->cap < 256 ? 256 : v->cap;
        while (cap <= id)
            cap *= 2;
        struct vocab_token *token = realloc(v->token, (size_t)cap * sizeof *token);
        if (token == NULL)
            return err_set(err, ERR_NOMEM, "vocabulary: no memory for %d tokens", cap);
        memset(token + v->cap, 0, (size_t)(cap - v->cap) * sizeof *token);
        v->token = token;
        v->cap = cap;
    }
    if (id >= v->n)
        v->n = (int)id + 1;
    return ERR_OK;
}

int vocab_set(struct vocab *v, int64_t id, const char *text, size_t n, enum vocab_type type,
              struct err *err)
{
    TRY(make_room(v, id, err));
    struct vocab_token *t = &v->token[id];
    if (n >= VOCAB_TEXT_MAX)
        return err_set(err, ERR_FORMAT, "vocabulary: token %lld has %zu bytes of text",
                       (long long)id, n);
    if (t->type != VOCAB_NONE) {
        if (t->len != n || memcmp(vocab_text(v, (int32_t)id), text, n) != 0)
            return err_set(err, ERR_FORMAT, "vocabulary: id %lld belongs to '%.60s' and to '%.*s'",
                           (long long)id, vocab_text(v, (int32_t)id), n < 60 ? (int)n : 60, text);
        t->type = (uint8_t)type;
        return ERR_OK;
    }
    if (v->text.n + n + 1 > UINT32_MAX)
        return err_set(err, ERR_LIMIT, "vocabulary: more than 4 GiB of text");
    *t = (struct vocab_token){(uint32_t)v->text.n, (uint16_t)n, (uint8_t)type, 0};
    TRY(textbuf_add(&v->text, text, n, err));
    TRY(textbuf_add(&v->text, "", 1, err));
    if ((int)n > v->longest)
        v->longest = (int)n;
    return ERR_OK;
}

static uint32_t hash_text(const char *s, size_t n)
{
    uint64_t h = 0x9e3779b97f4a7c15u ^ n, w;
    for (; n >= 8; n -= 8, s += 8) {
        memcpy(&w, s, 8);
        h = (h ^ w) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
    }
    w = 0;
    memcpy(&w, s, n);
    h = (h ^ w) * 0xff51afd7ed558ccdu;
    return (uint32_t)(h >> 32) ^ (uint32_t)(h >> 17);
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The byte that "<0xNN>" stands for, -1: another text. */
static int byte_of(const char *s, size_t n)
{
    if (n != 6 || memcmp(s, "<0x", 3) != 0 || s[5] != '>')
        return -1;
    int high = hex_digit(s[3]), low = hex_digit(s[4]);
    return high < 0 || low < 0 ? -1 : 16 * high + low;
}

static void index_token(struct vocab *v, int32_t id)
{
    const struct vocab_token *t = &v->token[id];
    const char *text = vocab_text(v, id);
    uint32_t i = hash_text(text, t->len) & v->slot_mask;
    for (; v->slot[i] >= 0; i = (i + 1) & v->slot_mask) {
        const struct vocab_token *o = &v->token[v->slot[i]];
        if (o->len == t->len && memcmp(vocab_text(v, v->slot[i]), text, t->len) == 0)
            break;
    }
    v->slot[i] = id;
}

int vocab_index(struct vocab *v, bool bytes, struct err *err)
{
    uint32_t slots = 1024;
    while (slots < 2 * (uint32_t)v->n)
        slots *= 2;
    free(v->slot);
    v->slot = malloc(slots * sizeof *v->slot);
    if (v->slot == NULL)
        return err_set(err, ERR_NOMEM, "vocabulary: no memory for its index");
    memset(v->slot, 0xff, slots * sizeof *v->slot);
    v->slot_mask = slots - 1;
    memset(v->byte_id, 0xff, sizeof v->byte_id);
    for (int32_t id = 0; id < v->n; id++) {
        struct vocab_token *t = &v->token[id];
        if (t->type == VOCAB_NONE)
            continue;
        index_token(v, id);
        int b = bytes ? byte_of(vocab_text(v, id), t->len) : -1;
        if (b >= 0 && (t->type == VOCAB_NORMAL || t->type == VOCAB_BYTE)) {
            t->type = VOCAB_BYTE;
            t->byte = (uint8_t)b;
            v->byte_id[b] = id;
        } else if (t->type == VOCAB_BYTE) {
            t->type = VOCAB_NORMAL;     /* a byte token by type, but its text names no byte */
        }
    }
    return ERR_OK;
}

int32_t vocab_find(const struct vocab *v, const char *text, size_t n)
{
    if (n == 0 || n > (size_t)v->longest || v->slot == NULL)
        return -1;
    for (uint32_t i = hash_text(text, n) & v->slot_mask; v->slot[i] >= 0;
         i = (i + 1) & v->slot_mask) {
        const struct vocab_token *t = &v->token[v->slot[i]];
        if (t->len == n && memcmp(vocab_text(v, v->slot[i]), text, n) == 0)
            return v->slot[i];
    }
    return -1;
}
