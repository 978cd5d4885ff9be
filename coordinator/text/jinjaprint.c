/* Values as text: str() and repr() of Python, and json.dumps. */
#include "coordinator/text/jinjavalue.h"
#include "coordinator/text/unicode.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* Shortest digits that read back as f; in Python's form: 21.5, 1e+16, 1e-05, 2.0. */
static void format_float(double f, char out[40])
{
    if (!isfinite(f)) {
        strcpy(out, isnan(f) ? "nan" : f < 0 ? "-inf" : "inf");
        return;
    }
    char digits[40];
    int precision = 1;
    for (; precision < 17; precision++) {
        snprintf(digits, sizeof digits, "%.*e", precision - 1, f);
        if (strtod(digits, NULL) == f)
            break;
    }
    snprintf(digits, sizeof digits, "%.*e", precision - 1, f);
    int exponent = atoi(strchr(digits, 'e') + 1);
    if (exponent >= -4 && exponent < 16) {
        int decimals = precision - 1 - exponent;
        snprintf(out, 40, "%.*f", decimals > 1 ? decimals : 1, f);
        return;
    }
    char *e = strchr(digits, 'e');
    *e = '\0';
    snprintf(out, 40, "%.30se%c%02d", digits, exponent < 0 ? '-' : '+', abs(exponent) % 1000);
}

/* Whether repr() shows the character as it is. */
static bool is_printable(int32_t cp)
{
    switch (utf8proc_category(cp)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP: return false;
    case UTF8PROC_CATEGORY_ZS: return cp == ' ';
    default: return true;
    }
}

static int repr_char(struct jinja_text *out, const char *s, int len, int32_t cp, char quote)
{
    char hex[16];
    const char *escape = cp == '\n' ? "\\n" : cp == '\r' ? "\\r" : cp == '\t' ? "\\t"
                       : cp == '\\' ? "\\\\" : NULL;
    if (escape != NULL)
        return jinja_text_add_str(out, escape);
    if (cp == quote)
        TRY(jinja_text_add(out, "\\", 1));
    if (is_printable(cp))
        return jinja_text_add(out, s, (size_t)len);
    snprintf(hex, sizeof hex, cp < 0x100 ? "\\x%02x" : cp < 0x10000 ? "\\u%04x" : "\\U%08x",
             (unsigned)cp);
    return jinja_text_add_str(out, hex);
}

static int repr_string(struct jinja_text *out, struct jinja_string s)
{
    bool single = s.n > 0 && memchr(s.p, '\'', s.n) != NULL;
    bool dbl = s.n > 0 && memchr(s.p, '"', s.n) != NULL;
    char quote = single && !dbl ? '"' : '\'';
    TRY(jinja_text_add(out, &quote, 1));
    for (size_t i = 0; i < s.n;) {
        int32_t cp = 0;
        int len = unicode_decode(s.p + i, s.n - i, &cp);
        len = len > 0 ? len : 1;
        TRY(repr_char(out, s.p + i, len, cp, quote));
        i += (size_t)len;
    }
    return jinja_text_add(out, &quote, 1);
}

static int repr_list(struct jinja_text *out, const struct jinja_value *v)
{
    bool tuple = v->kind == JINJA_TUPLE;
    TRY(jinja_text_add(out, tuple ? "(" : "[", 1));
    for (size_t i = 0; i < v->list->n; i++) {
        if (i > 0)
            TRY(jinja_text_add(out, ", ", 2));
        TRY(jinja_repr(out, &v->list->at[i]));
    }
    if (tuple && v->list->n == 1)
        TRY(jinja_text_add(out, ",", 1));
    return jinja_text_add(out, tuple ? ")" : "]", 1);
}

static int repr_dict(struct jinja_text *out, const struct jinja_dict *d)
{
    TRY(jinja_text_add(out, "{", 1));
    for (size_t i = 0; i < d->n; i++) {
        if (i > 0)
            TRY(jinja_text_add(out, ", ", 2));
        TRY(jinja_repr(out, &d->at[i].key));
        TRY(jinja_text_add(out, ": ", 2));
        TRY(jinja_repr(out, &d->at[i].value));
    }
    return jinja_text_add(out, "}", 1);
}

int jinja_repr(struct jinja_text *out, const struct jinja_value *v)
{
    char number[40];
    switch (v->kind) {
    case JINJA_UNDEFINED: return jinja_text_add_str(out, "Undefined");
    case JINJA_NONE: return jinja_text_add_str(out, "None");
    case JINJA_BOOL: return jinja_text_add_str(out, v->flag ? "True" : "False");
    case JINJA_INT:
        snprintf(number, sizeof number, "%lld", (long long)v->i);
        return jinja_text_add_str(out, number);
    case JINJA_FLOAT:
        format_float(v->f, number);
        return jinja_text_add_str(out, number);
    case JINJA_STRING: return repr_string(out, v->s);
    case JINJA_LIST:
    case JINJA_TUPLE: return repr_list(out, v);
    case JINJA_DICT: return repr_dict(out, v->dict);
    default:
        TRY(jinja_text_add_str(out, "<"));
        TRY(jinja_text_add_str(out, jinja_kind_name(v)));
        return jinja_text_add_str(out, ">");
    }
}

int jinja_print(struct jinja_text *out, const struct jinja_value *v)
{
    if (v->kind == JINJA_UNDEFINED)
        return ERR_OK;
    if (v->kind == JINJA_STRING)
        return jinja_text_add(out, v->s.p, v->s.n);
    return jinja_repr(out, v);
}

int jinja_to_string(struct jinja_heap *h, const struct jinja_value *v, struct jinja_string *out)
{
    struct jinja_text t = {.heap = h};
    if (v->kind == JINJA_STRING) {
        *out = v->s;
        return ERR_OK;
    }
    TRY(jinja_print(&t, v));
    *out = jinja_text_value(&t).s;
    return ERR_OK;
}

/* --- JSON */

static int json_escape(struct jinja_text *out, int32_t cp)
{
    char hex[16];
    static const char from[] = "\"\\\n\r\t\b\f", to[] = "\"\\nrtbf";
    const char *at = cp < 0x80 && cp > 0 ? strchr(from, cp) : NULL;
    if (at != NULL)
        snprintf(hex, sizeof hex, "\\%c", to[at - from]);
    else if (cp >= 0x10000)
        snprintf(hex, sizeof hex, "\\u%04x\\u%04x", (unsigned)(0xd7c0 + (cp >> 10)),
                 (unsigned)(0xdc00 | (cp & 0x3ff)));
    else
        snprintf(hex, sizeof hex, "\\u%04x", (unsigned)cp);
    return jinja_text_add_str(out, hex);
}

static int json_string_of(struct jinja_text *out, struct jinja_string s, bool ascii)
{
    TRY(jinja_text_add(out, "\"", 1));
    for (size_t i = 0, plain = 0; i < s.n || plain < i; ) {
        int32_t cp = -1;
        int len = i < s.n ? unicode_decode(s.p + i, s.n - i, &cp) : 0;
        len = len > 0 ? len : 1;
        bool escape = i >= s.n || (cp >= 0 && cp < ' ') || cp == '"' || cp == '\\' ||
                      (ascii && cp > 0x7f);
        if (!escape) {
            i += (size_t)len;
            continue;
        }
        TRY(jinja_text_add(out, s.p + plain, i - plain));
        if (i >= s.n)
            break;
        TRY(json_escape(out, cp));
        plain = i += (size_t)len;
    }
    return jinja_text_add(out, "\"", 1);
}

static int json_break(struct jinja_text *out, const struct jinja_json_style *st, int level)
{
    if (st->indent == NULL)
        return ERR_OK;
    TRY(jinja_text_add(out, "\n", 1));
    for (int i = 0; i < level; i++)
        TRY(jinja_text_add(out, st->indent->p, st->indent->n));
    return ERR_OK;
}

static int json_value(struct jinja_text *out, const struct jinja_value *v,
                      const struct jinja_json_style *st, int level);

static int json_list(struct jinja_text *out, const struct jinja_list *l,
                     const struct jinja_json_style *st, int level)
{
    TRY(jinja_text_add(out, "[", 1));
    for (size_t i = 0; i < l->n; i++) {
        if (i > 0)
            TRY(jinja_text_add(out, st->item.p, st->item.n));
        TRY(json_break(out, st, level + 1));
        TRY(json_value(out, &l->at[i], st, level + 1));
    }
    if (l->n > 0)
        TRY(json_break(out, st, level));
    return jinja_text_add(out, "]", 1);
}

/* A key is text, or a number, None or a bool that is written as text. */
static int json_key(struct jinja_text *out, const struct jinja_value *key,
                    const struct jinja_json_style *st)
{
    if (key->kind == JINJA_STRING)
        return json_string_of(out, key->s, st->ascii);
    if (!jinja_is_number(key) && key->kind != JINJA_NONE)
        return err_set(out->heap->err, ERR_FORMAT, "tojson: a key is a %s", jinja_kind_name(key));
    TRY(jinja_text_add(out, "\"", 1));
    TRY(json_value(out, key, st, 0));
    return jinja_text_add(out, "\"", 1);
}

static int by_key(const void *a, const void *b)
{
    const struct jinja_pair *const *x = a, *const *y = b;
    int order = 0;
    jinja_order(&(struct jinja_heap){0}, &(*x)->key, &(*y)->key, &order);
    return order;
}

/* The pairs in order of their keys, which must be all texts or all numbers. */
static int sort_pairs(struct jinja_heap *h, const struct jinja_dict *d,
                      const struct jinja_pair ***sorted)
{
    *sorted = jinja_take(h, (d->n + 1) * sizeof **sorted);
    if (*sorted == NULL)
        return h->err != NULL ? h->err->code : ERR_NOMEM;
    for (size_t i = 0; i < d->n; i++) {
        bool text = d->at[i].key.kind == JINJA_STRING;
        if (text != (d->at[0].key.kind == JINJA_STRING) || (!text && !jinja_is_number(&d->at[i].key)))
            return err_set(h->err, ERR_FORMAT, "tojson: keys of different kinds have no order");
        (*sorted)[i] = &d->at[i];
    }
    qsort(*sorted, d->n, sizeof **sorted, by_key);
    return ERR_OK;
}

static int json_dict(struct jinja_text *out, const struct jinja_dict *d,
                     const struct jinja_json_style *st, int level)
{
    const struct jinja_pair **sorted = NULL;
    if (st->sort_keys)
        TRY(sort_pairs(out->heap, d, &sorted));
    TRY(jinja_text_add(out, "{", 1));
    for (size_t i = 0; i < d->n; i++) {
        const struct jinja_pair *p = sorted != NULL ? sorted[i] : &d->at[i];
        if (i > 0)
            TRY(jinja_text_add(out, st->item.p, st->item.n));
        TRY(json_break(out, st, level + 1));
        TRY(json_key(out, &p->key, st));
        TRY(jinja_text_add(out, st->key.p, st->key.n));
        TRY(json_value(out, &p->value, st, level + 1));
    }
    if (d->n > 0)
        TRY(json_break(out, st, level));
    return jinja_text_add(out, "}", 1);
}

static int json_value(struct jinja_text *out, const struct jinja_value *v,
                      const struct jinja_json_style *st, int level)
{
    switch (v->kind) {
    case JINJA_NONE: return jinja_text_add_str(out, "null");
    case JINJA_BOOL: return jinja_text_add_str(out, v->flag ? "true" : "false");
    case JINJA_INT: return jinja_repr(out, v);
    case JINJA_FLOAT:
        if (isnan(v->f))
            return jinja_text_add_str(out, "NaN");
        if (isinf(v->f))
            return jinja_text_add_str(out, v->f < 0 ? "-Infinity" : "Infinity");
        return jinja_repr(out, v);
    case JINJA_STRING: return json_string_of(out, v->s, st->ascii);
    case JINJA_LIST:
    case JINJA_TUPLE: return json_list(out, v->list, st, level);
    case JINJA_DICT: return json_dict(out, v->dict, st, level);
    default:
        return err_set(out->heap->err, ERR_FORMAT, "tojson: %s cannot be written as JSON",
                       jinja_kind_name(v));
    }
}

int jinja_to_json(struct jinja_text *out, const struct jinja_value *v,
                  const struct jinja_json_style *style)
{
    return json_value(out, v, style, 0);
}
