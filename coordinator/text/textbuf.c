#include "coordinator/text/textbuf.h"

#include "coordinator/text/unicode.h"

#include <stdlib.h>
#include <string.h>

void textbuf_free(struct textbuf *b)
{
    free(b->p);
    *b = (struct textbuf){0};
}

int textbuf_reserve(struct textbuf *b, size_t more, struct err *err)
{
    if (more <= b->cap - b->n)
        return ERR_OK;
    size_t cap = b->cap < 64 ? 64 : b->cap;
    while (cap - b->n < more) {
        if (cap > SIZE_MAX / 4)
            return err_set(err, ERR_LIMIT, "text of more than %zu bytes", cap);
        cap *= 2;
    }
    char *p = realloc(b->p, cap);
    if (p == NULL)
        return err_set(err, ERR_NOMEM, "no memory for %zu bytes of text", cap);
    b->p = p;
    b->cap = cap;
    return ERR_OK;
}

int textbuf_add(struct textbuf *b, const char *p, size_t n, struct err *err)
{
    if (n == 0)
        return ERR_OK;
    TRY(textbuf_reserve(b, n, err));
    memcpy(b->p + b->n, p, n);
    b->n += n;
    return ERR_OK;
}

int textbuf_add_cp(struct textbuf *b, int32_t cp, struct err *err)
{
    TRY(textbuf_reserve(b, 4, err));
    b->n += (size_t)unicode_encode(cp, b->p + b->n);
    return ERR_OK;
}

/* Bytes of the longest start of a character at s [n], at least 1: what one U+FFFD stands for. */
static size_t maximal_part(const char *s, size_t n)
{
    size_t len = 1;
    while (len < n && len < 4 && unicode_partial(s, len) == len &&
           ((uint8_t)s[len] & 0xc0) == 0x80 && unicode_partial(s, len + 1) == len + 1)
        len++;
    return len;
}

int textbuf_add_lossy(struct textbuf *b, const char *s, size_t n, bool each_byte, struct err *err)
{
    while (n > 0) {
        size_t good = unicode_check(s, n);
        TRY(textbuf_add(b, s, good, err));
        s += good;
        n -= good;
        if (n > 0) {
            size_t bad = each_byte ? 1 : maximal_part(s, n);
            TRY(textbuf_add_cp(b, UNICODE_REPLACEMENT, err));
            s += bad;
            n -= bad;
        }
    }
    return ERR_OK;
}

int textbuf_take(struct textbuf *b, char **text, size_t *n, struct err *err)
{
    TRY(textbuf_reserve(b, 1, err));
    b->p[b->n] = '\0';
    *text = b->p;
    *n = b->n;
    *b = (struct textbuf){0};
    return ERR_OK;
}

void pieces_free(struct pieces *p)
{
    textbuf_free(&p->text);
    free(p->at);
    *p = (struct pieces){0};
}

int pieces_add(struct pieces *p, size_t begin, size_t end, bool first, struct err *err)
{
    if (begin >= end)
        return ERR_OK;
    if (p->n == p->cap) {
        size_t cap = p->cap == 0 ? 64 : 2 * p->cap;
        struct piece *at = realloc(p->at, cap * sizeof *at);
        if (at == NULL)
            return err_set(err, ERR_NOMEM, "no memory for %zu pieces of text", cap);
        p->at = at;
        p->cap = cap;
    }
    p->at[p->n++] = (struct piece){begin, end, first};
    return ERR_OK;
}
