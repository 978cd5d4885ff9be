#include "coordinator/text/pretokenizer.h"

#include "coordinator/text/bytelevel.h"
#include "coordinator/text/unicode.h"

#include <string.h>

void pretokenizer_free(struct pretokenizer *p)
{
    for (int i = 0; i < p->n; i++)
        pattern_destroy(p->step[i].pattern);
    *p = (struct pretokenizer){0};
}

static int add_step(struct pretokenizer *p, struct pretoken_step step, struct err *err)
{
    if (p->n == PRETOKENIZER_STEPS_MAX) {
        pattern_destroy(step.pattern);
        return err_set(err, ERR_FORMAT, "vocabulary: more than %d steps of cutting text",
                       PRETOKENIZER_STEPS_MAX);
    }
    p->step[p->n++] = step;
    return ERR_OK;
}

int pretokenizer_add_split(struct pretokenizer *p, const char *regex, size_t n,
                           enum split_behavior behavior, bool invert, struct err *err)
{
    struct pretoken_step s = {.kind = PRETOKEN_SPLIT, .behavior = behavior, .invert = invert};
    TRY(pattern_new(&s.pattern, regex, n, err));
    return add_step(p, s, err);
}

int pretokenizer_add_literal(struct pretokenizer *p, const char *text, size_t n,
                             enum split_behavior behavior, bool invert, struct err *err)
{
    struct pretoken_step s = {.kind = PRETOKEN_SPLIT, .behavior = behavior, .invert = invert};
    TRY(pattern_new_literal(&s.pattern, text, n, err));
    return add_step(p, s, err);
}

int pretokenizer_add_metaspace(struct pretokenizer *p, const char *meta, enum meta_scheme scheme,
                               bool split, struct err *err)
{
    struct pretoken_step s = {.kind = PRETOKEN_METASPACE, .scheme = scheme};
    int32_t cp;
    size_t n = strlen(meta);
    if (n == 0 || (size_t)unicode_decode(meta, n, &cp) != n)
        return err_set(err, ERR_FORMAT, "vocabulary: Metaspace replacement '%.20s' is not one "
                       "character", meta);
    memcpy(s.meta, meta, n);
    TRY(add_step(p, s, err));
    return split ? pretokenizer_add_literal(p, meta, n, SPLIT_MERGED_WITH_NEXT, false, err) : ERR_OK;
}

int pretokenizer_add_prefix(struct pretokenizer *p, struct err *err)
{
    return add_step(p, (struct pretoken_step){.kind = PRETOKEN_PREFIX_SPACE}, err);
}

int pretokenizer_add_bytes(struct pretokenizer *p, struct err *err)
{
    return add_step(p, (struct pretoken_step){.kind = PRETOKEN_BYTES}, err);
}

/* One piece's segments on their way to out. */
struct segments {
    struct pieces *out;
    const struct piece *piece;
    enum split_behavior behavior;
    size_t first_out;           /* index in out of the piece's first part */
    bool previous_match;
};

static int add_segment(struct segments *s, size_t begin, size_t end, bool match, struct err *err)
{
    bool previous = s->previous_match, join = false;
    switch (s->behavior) {
    case SPLIT_REMOVED:
        if (match)
            return ERR_OK;
        break;
    case SPLIT_ISOLATED: break;
    case SPLIT_MERGED_WITH_PREVIOUS: join = match && !previous; break;
    case SPLIT_MERGED_WITH_NEXT: join = !match && previous; break;
    case SPLIT_CONTIGUOUS: join = match == previous; break;
    }
    s->previous_match = match;
    if (join && s->out->n > s->first_out) {
        s->out->at[s->out->n - 1].end = end;
        return ERR_OK;
    }
    return pieces_add(s->out, begin, end, s->piece->first && begin == s->piece->begin, err);
}

/* Cuts one piece: the pattern sees the piece alone. */
static int split_piece(const struct pretoken_step *step, const char *text, const struct piece *piece,
                       struct pieces *out, struct pattern_scratch *scratch, struct err *err)
{
    struct segments s = {out, piece, step->behavior, out->n, false};
    const char *t = text + piece->begin;
    size_t n = piece->end - piece->begin, done = 0, from = 0, begin, end;
    bool found;
    while (from <= n) {
        TRY(pattern_next(step->pattern, scratch, t, n, from, &found, &begin, &end, err));
        if (!found)
            break;
        if (begin > done)
            TRY(add_segment(&s, piece->begin + done, piece->begin + begin, step->invert, err));
        if (end > begin)
            TRY(add_segment(&s, piece->begin + begin, piece->begin + end, !step->invert, err));
        done = end;
        from = end > begin ? end : end < n ? end + (size_t)unicode_bytes(t[end]) : n + 1;
    }
    if (done < n)
        TRY(add_segment(&s, piece->begin + done, piece->end, step->invert, err));
    return ERR_OK;
}

static int split_all(const struct pretoken_step *step, struct pieces *t, struct pieces *out,
                     struct pattern_scratch *scratch, struct err *err)
{
    for (size_t i = 0; i < t->n; i++)
        TRY(split_piece(step, t->text.p, &t->at[i], out, scratch, err));
    struct textbuf text = t->text;      /* the text stays; only the cuts are new */
    t->text = out->text;
    out->text = text;
    return ERR_OK;
}

static int write_metaspace(const struct pretoken_step *step, const char *s, size_t n, bool first,
                           struct textbuf *out, struct err *err)
{
    size_t len = strlen(step->meta);
    bool front = step->scheme == META_ALWAYS || (step->scheme == META_FIRST && first);
    bool has = s[0] == ' ' || (n >= len && memcmp(s, step->meta, len) == 0);
    if (front && !has)
        TRY(textbuf_add(out, step->meta, len, err));
    for (size_t i = 0; i < n;) {
        const char *blank = memchr(s + i, ' ', n - i);
        size_t end = blank == NULL ? n : (size_t)(blank - s);
        TRY(textbuf_add(out, s + i, end - i, err));
        if (blank != NULL)
            TRY(textbuf_add(out, step->meta, len, err));
        i = end + 1;
    }
    return ERR_OK;
}

static int rewrite_piece(const struct pretoken_step *step, const char *s, size_t n, bool first,
                         struct textbuf *out, struct err *err)
{
    if (step->kind == PRETOKEN_BYTES)
        return bytelevel_add(out, s, n, err);
    if (step->kind == PRETOKEN_METASPACE)
        return write_metaspace(step, s, n, first, out, err);
    if (s[0] != ' ')
        TRY(textbuf_add(out, " ", 1, err));
    return textbuf_add(out, s, n, err);
}

static int rewrite_all(const struct pretoken_step *step, const struct pieces *t, struct pieces *out,
                       struct err *err)
{
    for (size_t i = 0; i < t->n; i++) {
        const struct piece *p = &t->at[i];
        size_t begin = out->text.n;
        TRY(rewrite_piece(step, t->text.p + p->begin, p->end - p->begin, p->first, &out->text, err));
        TRY(pieces_add(out, begin, out->text.n, p->first, err));
    }
    return ERR_OK;
}

int pretokenizer_run(const struct pretokenizer *p, struct pieces *t, struct pieces *spare,
                     struct pattern_scratch *scratch, struct err *err)
{
    for (int i = 0; i < p->n; i++) {
        spare->n = 0;
        textbuf_clear(&spare->text);
        if (p->step[i].kind == PRETOKEN_SPLIT)
            TRY(split_all(&p->step[i], t, spare, scratch, err));
        else
            TRY(rewrite_all(&p->step[i], t, spare, err));
        struct pieces done = *spare;
        *spare = *t;
        *t = done;
    }
    return ERR_OK;
}
