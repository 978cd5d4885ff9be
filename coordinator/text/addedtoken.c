#include "coordinator/text/addedtoken.h"

#include "coordinator/text/unicode.h"

#include <stdlib.h>

void added_free(struct added_set *s)
{
    trie_free(&s->trie);
    free(s->token);
    *s = (struct added_set){0};
}

int added_add(struct added_set *s, const char *text, size_t n, struct added_token token,
              struct err *err)
{
    if (s->trie.value == NULL)
        TRY(trie_init(&s->trie, err));
    if (s->n == s->cap) {
        int cap = s->cap == 0 ? 16 : 2 * s->cap;
        struct added_token *p = realloc(s->token, (size_t)cap * sizeof *p);
        if (p == NULL)
            return err_set(err, ERR_NOMEM, "vocabulary: no memory for %d added tokens", cap);
        s->token = p;
        s->cap = cap;
    }
    TRY(trie_add(&s->trie, text, n, s->n, err));
    s->token[s->n++] = token;
    return ERR_OK;
}

/* The character before s + at, -1 at the start. */
static int32_t char_before(const char *s, size_t at, size_t *begin)
{
    int32_t cp = -1;
    size_t i = at;
    while (i > 0 && ((uint8_t)s[--i] & 0xc0) == 0x80)
        ;
    if (at > 0)
        unicode_decode(s + i, at - i, &cp);
    *begin = i;
    return cp;
}

/* Whether [begin, end) stands alone: no word character on either side. */
static bool is_single_word(const char *s, size_t n, size_t begin, size_t end)
{
    size_t unused;
    int32_t before = char_before(s, begin, &unused), after = -1;
    unicode_decode(s + end, n - end, &after);
    return !(before >= 0 && unicode_is_word(before)) && !(after >= 0 && unicode_is_word(after));
}

static size_t strip_left(const char *s, size_t begin, size_t least)
{
    size_t at;
    while (begin > least && unicode_is_space(char_before(s, begin, &at)))
        begin = at;
    return begin < least ? least : begin;
}

static size_t strip_right(const char *s, size_t n, size_t end)
{
    int32_t cp;
    int len;
    while ((len = unicode_decode(s + end, n - end, &cp)) > 0 && unicode_is_space(cp))
        end += (size_t)len;
    return end;
}

/* Longest token that counts at s [n]. */
static const struct added_token *longest_at(const struct added_set *s, const char *text, size_t n,
                                            bool special, size_t *len)
{
    const struct added_token *found = NULL;
    uint32_t node = 0;
    for (size_t i = 0; i < n; i++) {
        node = trie_step(&s->trie, node, text[i]);
        if (node == 0)
            break;
        int32_t value = s->trie.value[node];
        if (value >= 0 && (special || !s->token[value].special)) {
            found = &s->token[value];
            *len = i + 1;
        }
    }
    return found;
}

bool added_next(const struct added_set *s, const char *text, size_t n, bool special, size_t *at,
                struct added_part *pending, struct added_part *part)
{
    if (pending->id >= 0) {
        *part = *pending;
        pending->id = -1;
        *at = part->end;
        return true;
    }
    size_t from = *at, len = 0;
    if (from >= n)
        return false;
    for (size_t i = from; s->n > 0 && i < n; i++) {
        if (s->trie.root[(uint8_t)text[i]] == 0)
            continue;
        const struct added_token *t = longest_at(s, text + i, n - i, special, &len);
        if (t == NULL)
            continue;
        if (t->single_word && !is_single_word(text, n, i, i + len)) {
            i += len - 1;
            continue;
        }
        size_t begin = t->lstrip ? strip_left(text, i, from) : i;
        size_t end = t->rstrip ? strip_right(text, n, i + len) : i + len;
        *pending = (struct added_part){begin, end, t->id};
        if (begin == from)
            return added_next(s, text, n, special, at, pending, part);
        *part = (struct added_part){from, begin, -1};
        *at = begin;
        return true;
    }
    *part = (struct added_part){from, n, -1};
    *at = n;
    return true;
}
