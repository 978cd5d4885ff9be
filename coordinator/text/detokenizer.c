#include "coordinator/text/detokenizer.h"

#include "coordinator/text/bytelevel.h"
#include "coordinator/text/unicode.h"

#include <string.h>

void detokenize_free(struct detokenize_state *s)
{
    textbuf_free(&s->bytes);
    textbuf_free(&s->out);
    textbuf_free(&s->text);
    textbuf_free(&s->spare);
    *s = (struct detokenize_state){0};
}

/* Finished text on its way out: the strip characters at its start and its end. */
static int emit(const struct detokenizer *d, struct detokenize_state *s, const char *p, size_t n,
                struct err *err)
{
    size_t len = strlen(d->strip), step;
    if (len == 0)
        return textbuf_add(&s->out, p, n, err);
    for (; n > 0; p += step, n -= step) {
        bool is_strip = n >= len && memcmp(p, d->strip, len) == 0;
        step = is_strip ? len : (size_t)unicode_bytes(*p);
        if (is_strip && s->stripped >= 0 && s->stripped < d->strip_start) {
            s->stripped++;
            continue;
        }
        s->stripped = -1;
        if (is_strip && s->held < d->strip_stop) {
            s->held++;
            continue;
        }
        for (; s->held > 0 && !is_strip; s->held--)
            TRY(textbuf_add(&s->out, d->strip, len, err));
        TRY(textbuf_add(&s->out, p, step, err));
    }
    return ERR_OK;
}

/* Bytes that may be parts of characters: whole characters go out, a part at the end waits. */
static int emit_bytes(const struct detokenizer *d, struct detokenize_state *s, bool all,
                      struct err *err)
{
    size_t wait = all ? 0 : unicode_partial(s->bytes.p, s->bytes.n), n = s->bytes.n - wait;
    if (n == 0)
        return ERR_OK;
    textbuf_clear(&s->text);
    TRY(textbuf_add_lossy(&s->text, s->bytes.p, n, !d->byte_level, err));
    memmove(s->bytes.p, s->bytes.p + n, wait);
    s->bytes.n = wait;
    return emit(d, s, s->text.p, s->text.n, err);
}

/* Appends text [n] with each `from` replaced by `to`. */
static int add_replaced(struct textbuf *out, const char *text, size_t n, const char *from,
                        const char *to, struct err *err)
{
    size_t len = strlen(from), done = 0;
    for (size_t i = 0; len > 0 && i + len <= n;) {
        if (memcmp(text + i, from, len) != 0) {
            i++;
            continue;
        }
        TRY(textbuf_add(out, text + done, i - done, err));
        TRY(textbuf_add(out, to, strlen(to), err));
        done = i += len;
    }
    return textbuf_add(out, text + done, n - done, err);
}

/* Replaces in s->text. */
static int replace_all(struct detokenize_state *s, const char *from, const char *to, struct err *err)
{
    textbuf_clear(&s->spare);
    TRY(add_replaced(&s->spare, s->text.p, s->text.n, from, to, err));
    struct textbuf done = s->spare;
    s->spare = s->text;
    s->text = done;
    return ERR_OK;
}

/* The text of one token into s->text, by the rules that look at it alone. */
static int token_text(const struct detokenizer *d, struct detokenize_state *s, const char *text,
                      size_t n, struct err *err)
{
    size_t suffix = strlen(d->suffix);
    textbuf_clear(&s->text);
    if (s->held_suffix || (d->blanks_between && s->n_tokens > 0))
        TRY(textbuf_add(&s->text, " ", 1, err));
    s->held_suffix = suffix > 0 && n >= suffix && memcmp(text + n - suffix, d->suffix, suffix) == 0;
    if (s->held_suffix)
        n -= suffix;
    if (d->meta[0] != '\0')
        TRY(add_replaced(&s->text, text, n, d->meta,
                         d->meta_drop_first && s->n_tokens == 0 ? "" : " ", err));
    else
        TRY(textbuf_add(&s->text, text, n, err));
    for (int i = 0; i < d->n_replace; i++)
        TRY(replace_all(s, d->replace[i].from, d->replace[i].to, err));
    return ERR_OK;
}

static int push_text(const struct detokenizer *d, struct detokenize_state *s, const char *text,
                     size_t n, struct err *err)
{
    TRY(token_text(d, s, text, n, err));
    return emit(d, s, s->text.p, s->text.n, err);
}

int detokenize_push(const struct detokenizer *d, const struct vocab *v, struct detokenize_state *s,
                    int32_t id, struct err *err)
{
    const struct vocab_token *t = &v->token[id];
    const char *text = vocab_text(v, id);
    bool added = t->type == VOCAB_CONTROL || t->type == VOCAB_USER || t->type == VOCAB_UNUSED;
    if (d->byte_level && !(d->raw_added && added)) {
        s->n_tokens++;
        TRY(bytelevel_add_bytes(&s->bytes, text, t->len, err));
        return emit_bytes(d, s, false, err);
    }
    if (d->byte_fallback && t->type == VOCAB_BYTE) {
        s->n_tokens++;
        TRY(textbuf_add(&s->bytes, (const char *)&t->byte, 1, err));
        return emit_bytes(d, s, false, err);
    }
    TRY(emit_bytes(d, s, true, err));
    if (d->spoken && t->type == VOCAB_CONTROL)
        return textbuf_add(&s->out, text, t->len, err);
    if (d->spoken && t->type == VOCAB_UNKNOWN)
        TRY(push_text(d, s, " \xe2\x81\x87 ", 5, err));
    else if (d->byte_level)
        TRY(emit(d, s, text, t->len, err));
    else
        TRY(push_text(d, s, text, t->len, err));
    s->n_tokens++;
    return ERR_OK;
}

int detokenize_finish(const struct detokenizer *d, struct detokenize_state *s, struct err *err)
{
    TRY(emit_bytes(d, s, true, err));
    s->held = 0;
    return ERR_OK;
}
