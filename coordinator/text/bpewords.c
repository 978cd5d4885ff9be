#include "coordinator/text/bpewords.h"

#include <stdlib.h>
#include <string.h>

enum { WORDS_MAX = 1 << 28 };

void bpewords_free(struct bpewords *w)
{
    textbuf_free(&w->text);
    free(w->word);
    free(w->slot);
    memset(w, 0, sizeof *w);
}

/* FNV-1a, the high bits folded in. */
static uint32_t hash_of(const char *text, size_t n)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ (uint8_t)text[i]) * 16777619u;
    return h ^ h >> 15;
}

/* The slot that holds the text, or the empty one where it would go. */
static uint32_t slot_of(const struct bpewords *w, const char *text, size_t n, uint32_t hash)
{
    uint32_t at = hash & w->mask;
    for (;; at = (at + 1) & w->mask) {
        int32_t i = w->slot[at];
        if (i < 0 || (w->word[i].hash == hash && w->word[i].n == n &&
                      memcmp(bpewords_text(w, i), text, n) == 0))
            return at;
    }
}

/* Twice the room, at most half full. */
static int grow(struct bpewords *w, struct err *err)
{
    int32_t cap = w->cap == 0 ? 256 : 2 * w->cap;
    if (cap > WORDS_MAX)
        return err_set(err, ERR_LIMIT, "more than %d different words", WORDS_MAX);
    struct bpeword *word = realloc(w->word, (size_t)cap * sizeof *word);
    if (word == NULL)
        return err_set(err, ERR_NOMEM, "no memory for %d words", cap);
    w->word = word;
    int32_t *slot = malloc(2 * (size_t)cap * sizeof *slot);
    if (slot == NULL)
        return err_set(err, ERR_NOMEM, "no memory for %d words", cap);
    free(w->slot);
    w->slot = slot;
    w->cap = cap;
    w->mask = 2 * (uint32_t)cap - 1;
    memset(slot, 0xff, 2 * (size_t)cap * sizeof *slot);
    for (int32_t i = 0; i < w->n; i++) {
        uint32_t at = word[i].hash & w->mask;
        while (slot[at] >= 0)
            at = (at + 1) & w->mask;
        slot[at] = i;
    }
    return ERR_OK;
}

int bpewords_add(struct bpewords *w, const char *text, size_t n, int64_t times, int32_t *number,
                 struct err *err)
{
    if (n > UINT32_MAX)
        return err_set(err, ERR_LIMIT, "a word of %zu bytes", n);
    if (w->n == w->cap)
        TRY(grow(w, err));
    uint32_t hash = hash_of(text, n), at = slot_of(w, text, n, hash);
    int32_t i = w->slot[at];
    if (i < 0) {
        size_t begin = w->text.n;
        TRY(textbuf_add(&w->text, text, n, err));
        i = w->n++;
        w->word[i] = (struct bpeword){begin, (uint32_t)n, hash, 0};
        w->slot[at] = i;
    }
    w->word[i].count += times;
    if (number != NULL)
        *number = i;
    return ERR_OK;
}

int32_t bpewords_find(const struct bpewords *w, const char *text, size_t n)
{
    return w->n == 0 ? -1 : w->slot[slot_of(w, text, n, hash_of(text, n))];
}
