#include "coordinator/text/normalizer.h"

#include "coordinator/text/bytelevel.h"
#include "coordinator/text/unicode.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* Marks in a row that are put in order together. Ordering takes the square of the run, and a hostile
 * text has a million; text of any language has a handful. */
enum { MARKS_MAX = 200 };

static void free_step(struct normalize_step *s)
{
    pattern_destroy(s->pattern);
    textbuf_free(&s->text);
    charsmap_close(&s->map);
}

void normalizer_free(struct normalizer *n)
{
    for (int i = 0; i < n->n; i++)
        free_step(&n->step[i]);
    *n = (struct normalizer){0};
}

int normalizer_add(struct normalizer *n, struct normalize_step step, struct err *err)
{
    if (n->n == NORMALIZER_STEPS_MAX) {
        free_step(&step);
        return err_set(err, ERR_FORMAT, "vocabulary: more than %d normalizers", NORMALIZER_STEPS_MAX);
    }
    n->step[n->n++] = step;
    return ERR_OK;
}

/* --- normal forms */

/* End of the stretch of s [n] from `from` that normalises by itself: an ASCII character is never
 * changed by what is before it. */
static size_t form_stretch(const char *s, size_t n, size_t from)
{
    int marks = 0;
    for (size_t i = from; i < n;) {
        int32_t cp;
        int len = unicode_decode(s + i, n - i, &cp);
        if (i > from && cp < 0x80)
            return i;
        marks = utf8proc_get_property(cp)->combining_class != 0 ? marks + 1 : 0;
        if (marks > MARKS_MAX)
            return i;
        i += (size_t)len;
    }
    return n;
}

static int add_form(struct textbuf *out, const char *s, size_t n, int options, struct err *err)
{
    utf8proc_uint8_t *done = NULL;
    utf8proc_ssize_t len = utf8proc_map((const utf8proc_uint8_t *)s, (utf8proc_ssize_t)n, &done,
                                        (utf8proc_option_t)options);
    if (len < 0)
        return err_set(err, ERR_NOMEM, "normal form of text: %s", utf8proc_errmsg(len));
    int rc = textbuf_add(out, (const char *)done, (size_t)len, err);
    free(done);
    return rc;
}

static int normal_form(struct textbuf *out, const char *s, size_t n, enum normalize_kind kind,
                       struct err *err)
{
    bool compose = kind == NORMALIZE_NFC || kind == NORMALIZE_NFKC;
    int options = UTF8PROC_STABLE | (compose ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) |
                  (kind == NORMALIZE_NFKC || kind == NORMALIZE_NFKD ? UTF8PROC_COMPAT : 0);
    for (size_t i = 0; i < n;) {
        size_t ascii = i;
        while (ascii < n && (uint8_t)s[ascii] < 0x80)
            ascii++;
        if (ascii == n)
            return textbuf_add(out, s + i, n - i, err);
        size_t from = ascii > i ? ascii - 1 : i, end = form_stretch(s, n, from);
        TRY(textbuf_add(out, s + i, from - i, err));
        TRY(add_form(out, s + from, end - from, options, err));
        i = end;
    }
    return ERR_OK;
}

/* --- character by character */

static int add_lower(struct textbuf *out, int32_t cp, struct err *err)
{
    if (cp != 0x130)            /* the one character whose lower case is two */
        return textbuf_add_cp(out, utf8proc_tolower(cp), err);
    TRY(textbuf_add_cp(out, 'i', err));
    return textbuf_add_cp(out, 0x307, err);
}

/* What SentencePiece's NMT rules drop, and what they make a blank. */
static bool nmt_drops(int32_t cp)
{
    return (cp >= 1 && cp <= 8) || cp == 11 || (cp >= 14 && cp <= 31) || cp == 0x7f || cp == 0x8f ||
           cp == 0x9f;
}

static bool nmt_blanks(int32_t cp)
{
    return cp == 9 || cp == 10 || cp == 12 || cp == 13 || cp == 0x1680 ||
           (cp >= 0x200b && cp <= 0x200f) || cp == 0x2028 || cp == 0x2029 || cp == 0x2581 ||
           cp == 0xfeff || cp == 0xfffd;
}

static int each_character(struct textbuf *out, const char *s, size_t n, enum normalize_kind kind,
                          struct err *err)
{
    for (size_t i = 0; i < n;) {
        int32_t cp = 0;
        i += (size_t)unicode_decode(s + i, n - i, &cp);
        if (kind == NORMALIZE_LOWERCASE) {
            TRY(add_lower(out, cp, err));
        } else if (kind == NORMALIZE_STRIP_ACCENTS) {
            if (utf8proc_category(cp) != UTF8PROC_CATEGORY_MN)
                TRY(textbuf_add_cp(out, cp, err));
        } else if (!nmt_drops(cp)) {
            TRY(textbuf_add_cp(out, nmt_blanks(cp) ? ' ' : cp, err));
        }
    }
    return ERR_OK;
}

static int strip(struct textbuf *out, const char *s, size_t n, bool left, bool right,
                 struct err *err)
{
    size_t begin = 0, end = 0;
    bool seen = false;
    for (size_t i = 0; i < n;) {
        int32_t cp = 0;
        size_t len = (size_t)unicode_decode(s + i, n - i, &cp);
        bool blank = unicode_is_space(cp);
        if (!seen && blank && left)
            begin = i + len;
        if (!blank || !right)
            end = i + len;
        seen = seen || !blank;
        i += len;
    }
    return end > begin ? textbuf_add(out, s + begin, end - begin, err) : ERR_OK;
}

static int replace(struct textbuf *out, const char *s, size_t n, const struct normalize_step *step,
                   struct pattern_scratch *scratch, struct err *err)
{
    size_t done = 0, from = 0, begin, end;
    bool found = false;
    while (from <= n) {
        TRY(pattern_next(step->pattern, scratch, s, n, from, &found, &begin, &end, err));
        if (!found)
            break;
        TRY(textbuf_add(out, s + done, begin - done, err));
        TRY(textbuf_add(out, step->text.p, step->text.n, err));
        done = end;
        from = end > begin ? end : end < n ? end + (size_t)unicode_bytes(s[end]) : n + 1;
    }
    return textbuf_add(out, s + done, n - done, err);
}

/* --- charsmap */

static size_t grapheme_end(const char *s, size_t n, size_t from)
{
    int32_t cp = 0, next = 0, state = 0;
    size_t i = from + (size_t)unicode_decode(s + from, n - from, &cp);
    while (i < n) {
        size_t len = (size_t)unicode_decode(s + i, n - i, &next);
        if (utf8proc_grapheme_break_stateful(cp, next, &state))
            break;
        cp = next;
        i += len;
    }
    return i;
}

static int add_mapped_chars(struct textbuf *out, const struct charsmap *map, const char *s, size_t n,
                            struct err *err)
{
    for (size_t i = 0; i < n;) {
        size_t len = (size_t)unicode_bytes(s[i]), used, n_to;
        const char *to = charsmap_find(map, s + i, len, false, &used, &n_to);
        if (to != NULL)
            TRY(textbuf_add(out, to, n_to, err));
        else
            TRY(textbuf_add(out, s + i, len, err));
        i += len;
    }
    return ERR_OK;
}

/* As the tokenizers library does it: a whole grapheme of up to 5 bytes becomes what its shortest known
 * prefix maps to, even if that leaves some of it out. */
static int map_graphemes(struct textbuf *out, const struct charsmap *map, const char *s, size_t n,
                         struct err *err)
{
    for (size_t i = 0, end; i < n; i = end) {
        end = grapheme_end(s, n, i);
        size_t used, n_to;
        const char *to = end - i < 6 ? charsmap_find(map, s + i, end - i, false, &used, &n_to) : NULL;
        if (to != NULL)
            TRY(textbuf_add(out, to, n_to, err));
        else
            TRY(add_mapped_chars(out, map, s + i, end - i, err));
    }
    return ERR_OK;
}

/* The next piece of text for SentencePiece: a user-defined piece, a mapped prefix or a character. */
static const char *next_prefix(const struct normalize_step *step, const char *s, size_t n,
                               size_t *used, size_t *n_to)
{
    if (step->user != NULL && trie_longest(step->user, s, n, used) >= 0) {
        *n_to = *used;
        return s;
    }
    const char *to = charsmap_find(&step->map, s, n, true, used, n_to);
    if (to == NULL) {
        *n_to = *used = (size_t)unicode_bytes(*s);
        to = s;
    }
    return to;
}

static int sentencepiece(struct textbuf *out, const char *s, size_t n,
                         const struct normalize_step *step, struct err *err)
{
    bool blank_before = step->squeeze, any = false;
    for (size_t i = 0, used, len; i < n; i += used) {
        const char *to = next_prefix(step, s + i, n - i, &used, &len);
        bool user = to == s + i && used > (size_t)unicode_bytes(*to);   /* stays as it is */
        while (blank_before && !user && len > 0 && *to == ' ') {
            to++;
            len--;
        }
        if (len == 0)
            continue;
        if (!any && step->prefix)
            TRY(textbuf_add(out, UNICODE_META, UNICODE_META_BYTES, err));
        any = true;
        for (size_t k = 0; k < len; k++)
            if (to[k] == ' ' && !user)
                TRY(textbuf_add(out, UNICODE_META, UNICODE_META_BYTES, err));
            else
                TRY(textbuf_add(out, to + k, 1, err));
        blank_before = step->squeeze && to[len - 1] == ' ';
    }
    while (step->squeeze && out->n >= UNICODE_META_BYTES &&
           memcmp(out->p + out->n - UNICODE_META_BYTES, UNICODE_META, UNICODE_META_BYTES) == 0)
        out->n -= UNICODE_META_BYTES;
    return ERR_OK;
}

/* --- the list */

static int run_step(const struct normalize_step *step, const char *s, size_t n, struct textbuf *out,
                    struct pattern_scratch *scratch, struct err *err)
{
    switch (step->kind) {
    case NORMALIZE_NFC:
    case NORMALIZE_NFD:
    case NORMALIZE_NFKC:
    case NORMALIZE_NFKD: return normal_form(out, s, n, step->kind, err);
    case NORMALIZE_LOWERCASE:
    case NORMALIZE_STRIP_ACCENTS:
    case NORMALIZE_NMT: return each_character(out, s, n, step->kind, err);
    case NORMALIZE_STRIP: return strip(out, s, n, step->left, step->right, err);
    case NORMALIZE_PREPEND:
        TRY(textbuf_add(out, step->text.p, n > 0 ? step->text.n : 0, err));
        return textbuf_add(out, s, n, err);
    case NORMALIZE_REPLACE: return replace(out, s, n, step, scratch, err);
    case NORMALIZE_BYTES: return bytelevel_add(out, s, n, err);
    case NORMALIZE_CHARSMAP: return map_graphemes(out, &step->map, s, n, err);
    case NORMALIZE_SENTENCEPIECE: return sentencepiece(out, s, n, step, err);
    }
    return ERR_OK;
}

int normalizer_run(const struct normalizer *n, struct textbuf *t, struct textbuf *spare,
                   struct pattern_scratch *scratch, struct err *err)
{
    for (int i = 0; i < n->n; i++) {
        textbuf_clear(spare);
        TRY(run_step(&n->step[i], t->p, t->n, spare, scratch, err));
        struct textbuf done = *spare;
        *spare = *t;
        *t = done;
    }
    return ERR_OK;
}
