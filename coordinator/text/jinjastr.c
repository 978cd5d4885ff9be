#define _GNU_SOURCE     /* memmem */
/* Strings as Python handles them: case, stripping, searching, formatting. */
#include "coordinator/text/jinjarun.h"
#include "coordinator/text/unicode.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* --- case */

static bool is_letter(int32_t cp)
{
    utf8proc_category_t c = utf8proc_category(cp);
    return c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO;
}

static int add_cp(struct jinja_text *t, int32_t cp)
{
    char utf8[4];
    return jinja_text_add(t, utf8, (size_t)unicode_encode(cp, utf8));
}

static int add_upper(struct jinja_text *t, int32_t cp, bool title)
{
    if (cp == 0xdf)             /* sharp s is two letters in capitals */
        return jinja_text_add_str(t, title ? "Ss" : "SS");
    return add_cp(t, title ? utf8proc_totitle(cp) : utf8proc_toupper(cp));
}

static int add_lower(struct jinja_text *t, int32_t cp)
{
    TRY(add_cp(t, cp == 0x130 ? 'i' : utf8proc_tolower(cp)));
    return cp == 0x130 ? add_cp(t, 0x307) : ERR_OK;
}

/* kind: 'u' upper, 'l' lower, 'c' capitalize, 't' title (words of letters), 'w' title as jinja2's filter
 * does it (words start behind blanks, hyphens and opening brackets), 's' swapped. */
int jinja_str_case(struct jinja_run *r, struct jinja_string s, char kind, struct jinja_value *out)
{
    struct jinja_text t = {.heap = &r->heap};
    bool start = true;
    TRY(jinja_spend(r, 4 * s.n));
    for (size_t i = 0; i < s.n;) {
        int32_t cp = 0;
        int len = unicode_decode(s.p + i, s.n - i, &cp);
        i += len > 0 ? (size_t)len : 1;
        bool up = kind == 's' ? utf8proc_toupper(cp) != cp : kind == 'u' || (start && kind != 'l');
        TRY(up ? add_upper(&t, cp, kind == 'c' || kind == 't') : add_lower(&t, cp));
        if (kind == 'c')
            start = false;
        else if (kind == 't')
            start = !is_letter(cp);
        else if (kind == 'w')
            start = unicode_is_space(cp) || (cp < 0x80 && cp > 0 && strchr("-({[<", cp) != NULL);
    }
    *out = jinja_text_value(&t);
    return ERR_OK;
}

/* --- stripping, searching */

static bool in_set(int32_t cp, const struct jinja_string *chars)
{
    if (chars == NULL)
        return unicode_is_space(cp) || (cp >= 0x1c && cp <= 0x1f);
    for (size_t i = 0; i < chars->n;) {
        int32_t c = -1;
        int len = unicode_decode(chars->p + i, chars->n - i, &c);
        if (c == cp)
            return true;
        i += len > 0 ? (size_t)len : 1;
    }
    return false;
}

struct jinja_string jinja_str_strip(struct jinja_string s, const struct jinja_string *chars,
                                    bool left, bool right)
{
    int32_t cp;
    while (left && s.n > 0) {
        int len = unicode_decode(s.p, s.n, &cp);
        if (len == 0 || !in_set(cp, chars))
            break;
        s.p += len;
        s.n -= (size_t)len;
    }
    while (right && s.n > 0) {
        size_t begin = s.n - 1;
        while (begin > 0 && ((uint8_t)s.p[begin] & 0xc0) == 0x80)
            begin--;
        if (unicode_decode(s.p + begin, s.n - begin, &cp) == 0 || !in_set(cp, chars))
            break;
        s.n = begin;
    }
    return s;
}

int64_t jinja_str_find(struct jinja_string s, struct jinja_string what)
{
    if (what.n == 0)
        return 0;
    const char *at = s.n < what.n ? NULL : memmem(s.p, s.n, what.p, what.n);
    return at == NULL ? -1 : at - s.p;
}

int jinja_str_replace(struct jinja_run *r, struct jinja_string s, struct jinja_string from,
                      struct jinja_string to, int64_t count, struct jinja_value *out)
{
    struct jinja_text t = {.heap = &r->heap};
    size_t i = 0;
    TRY(jinja_spend(r, s.n));
    for (; count != 0 && i <= s.n; count--) {
        struct jinja_string rest = {s.p + i, s.n - i};
        int64_t at = jinja_str_find(rest, from);
        if (at < 0)
            break;
        TRY(jinja_text_add(&t, rest.p, (size_t)at));
        TRY(jinja_text_add(&t, to.p, to.n));
        TRY(jinja_spend(r, to.n));
        i += (size_t)at + from.n;
        if (from.n == 0) {      /* between all characters */
            size_t len = i < s.n ? (size_t)unicode_bytes(s.p[i]) : 0;
            TRY(jinja_text_add(&t, s.p + i, len));
            i += len > 0 ? len : 1;
        }
    }
    if (i < s.n)
        TRY(jinja_text_add(&t, s.p + i, s.n - i));
    *out = jinja_text_value(&t);
    return ERR_OK;
}

/* where: 'l' text at the left, 'r' at the right, 'c' in the middle. fill is one character. */
int jinja_str_pad(struct jinja_run *r, struct jinja_string s, int64_t width, char where,
                  struct jinja_string fill, struct jinja_value *out)
{
    struct jinja_text t = {.heap = &r->heap};
    int64_t more = width - jinja_str_length(s);
    more = more > 0 ? more : 0;
    int64_t left = where == 'l' ? 0 : where == 'r' ? more : more / 2 + (more & width & 1);
    if (jinja_str_length(fill) != 1)
        return jinja_fail(r, "padding with more than one character");
    for (int64_t i = 0; i <= more; i++) {
        TRY(jinja_spend(r, fill.n));
        if (i == left)
            TRY(jinja_text_add(&t, s.p, s.n));
        if (i < more)
            TRY(jinja_text_add(&t, fill.p, fill.n));
    }
    *out = jinja_text_value(&t);
    return ERR_OK;
}

/* --- lines */

static bool ends_line(int32_t cp)
{
    return (cp >= 10 && cp <= 13) || (cp >= 0x1c && cp <= 0x1e) || cp == 0x85 || cp == 0x2028 ||
           cp == 0x2029;
}

int jinja_str_lines(struct jinja_run *r, struct jinja_string s, bool keep, struct jinja_value *out)
{
    TRY(jinja_spend(r, s.n));
    TRY(jinja_new_list(&r->heap, JINJA_LIST, 0, out));
    for (size_t begin = 0, i = 0; i < s.n;) {
        int32_t cp = -1;
        int len = unicode_decode(s.p + i, s.n - i, &cp);
        size_t end = i + (len > 0 ? (size_t)len : 1);
        bool line = ends_line(cp);
        if (cp == '\r' && end < s.n && s.p[end] == '\n')
            end++;
        if (line || end >= s.n)
            TRY(jinja_list_add(&r->heap, out,
                               jinja_string(s.p + begin, (line && !keep ? i : end) - begin)));
        i = end;
        begin = line ? end : begin;
    }
    return ERR_OK;
}

/* --- % formatting */

/* One conversion: letter, flags and numbers in spec, e.g. "%05.2f". */
static int format_one(struct jinja_run *r, const char *spec, char letter, const struct jinja_value *v,
                      struct jinja_text *out)
{
    char text[400];
    struct jinja_string s;
    struct jinja_text repr = {.heap = &r->heap};
    if (letter == 's' || letter == 'r') {
        const char *digits = spec + 1 + strspn(spec + 1, "-+ #0");
        struct jinja_value padded;
        if (letter == 's')
            TRY(jinja_to_string(&r->heap, v, &s));
        else
            TRY(jinja_repr(&repr, v));
        TRY(jinja_str_pad(r, letter == 's' ? s : jinja_text_value(&repr).s, atoi(digits),
                          strchr(spec, '-') != NULL ? 'l' : 'r', (struct jinja_string){" ", 1}, &padded));
        return jinja_text_add(out, padded.s.p, padded.s.n);
    }
    if (!jinja_is_number(v))
        return jinja_fail(r, "%%%c needs a number, not a %s", letter, jinja_kind_name(v));
    double f = jinja_real(v);
    char full[48];
    size_t n = strlen(spec);
    if (strchr("dixX", letter) != NULL) {
        int64_t i = v->kind == JINJA_FLOAT ? 0 : (int64_t)f;
        if (v->kind == JINJA_FLOAT && !(fabs(f) < 9e18))
            return jinja_fail(r, "%%%c of a number that is not whole", letter);
        i = v->kind == JINJA_FLOAT ? (int64_t)f : v->kind == JINJA_INT ? v->i : i;
        snprintf(full, sizeof full, "%.*sll%c", (int)n, spec, letter);
        n = (size_t)snprintf(text, sizeof text, full, (long long)i);
    } else {
        snprintf(full, sizeof full, "%.*s%c", (int)n, spec, letter);
        n = (size_t)snprintf(text, sizeof text, full, f);
    }
    return jinja_text_add(out, text, n < sizeof text ? n : sizeof text - 1);
}

int jinja_str_format(struct jinja_run *r, struct jinja_string fmt, const struct jinja_value *args,
                     size_t n, struct jinja_value *out)
{
    struct jinja_text t = {.heap = &r->heap};
    size_t used = 0;
    TRY(jinja_spend(r, fmt.n));
    for (size_t i = 0; i < fmt.n;) {
        if (fmt.p[i] != '%') {
            TRY(jinja_text_add(&t, fmt.p + i++, 1));
            continue;
        }
        char spec[16] = "%";
        size_t k = 1;
        for (i++; i < fmt.n && strchr("-+ #0123456789.", fmt.p[i]) != NULL && fmt.p[i] != '\0'; i++)
            if (k < 6)          /* that is wide enough */
                spec[k++] = fmt.p[i];
        char letter = i < fmt.n ? fmt.p[i++] : '\0';
        if (letter == '%') {
            TRY(jinja_text_add(&t, "%", 1));
        } else if (letter == '\0' || strchr("sdixXfFeEgGr", letter) == NULL) {
            return jinja_fail(r, "a format with a conversion that is not known");
        } else if (used == n) {
            return jinja_fail(r, "not enough values for a format");
        } else {
            TRY(format_one(r, spec, letter, &args[used++], &t));
        }
    }
    if (used < n)
        return jinja_fail(r, "too many values for a format");
    *out = jinja_text_value(&t);
    return ERR_OK;
}
