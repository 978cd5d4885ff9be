/* Filters on texts and numbers, and the table of all filters. */
#include "coordinator/text/jinjarun.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILTER(name)                                                                               \
    static int name(struct jinja_run *r, const struct jinja_value *in,                             \
                    const struct jinja_args *args, struct jinja_value *out)

static int give(struct jinja_string s, struct jinja_value *out)
{
    *out = jinja_string(s.p, s.n);
    return ERR_OK;
}

FILTER(filter_string)
{
    struct jinja_string s;
    (void)args;
    TRY(jinja_to_string(&r->heap, in, &s));
    return give(s, out);
}

FILTER(filter_safe)
{
    return filter_string(r, in, args, out);
}

static int change_case(struct jinja_run *r, const struct jinja_value *in, char kind,
                       struct jinja_value *out)
{
    struct jinja_string s;
    TRY(jinja_to_string(&r->heap, in, &s));
    return jinja_str_case(r, s, kind, out);
}

FILTER(filter_upper) { (void)args; return change_case(r, in, 'u', out); }
FILTER(filter_lower) { (void)args; return change_case(r, in, 'l', out); }
FILTER(filter_capitalize) { (void)args; return change_case(r, in, 'c', out); }
FILTER(filter_title) { (void)args; return change_case(r, in, 'w', out); }

FILTER(filter_trim)
{
    struct jinja_string s, chars;
    const struct jinja_value *given = jinja_arg(args, 0, "chars");
    bool all = given == NULL || given->kind == JINJA_NONE;
    TRY(jinja_to_string(&r->heap, in, &s));
    TRY(jinja_arg_string(r, args, 0, "chars", "", &chars));
    TRY(jinja_spend(r, s.n));
    return give(jinja_str_strip(s, all ? NULL : &chars, true, true), out);
}

FILTER(filter_replace)
{
    struct jinja_string s, from, to;
    int64_t count;
    TRY(jinja_to_string(&r->heap, in, &s));
    if (jinja_arg(args, 0, "old") == NULL || jinja_arg(args, 1, "new") == NULL)
        return jinja_fail(r, "replace takes two texts");
    TRY(jinja_arg_string(r, args, 0, "old", "", &from));
    TRY(jinja_arg_string(r, args, 1, "new", "", &to));
    TRY(jinja_arg_int(r, args, 2, "count", -1, &count));
    return jinja_str_replace(r, s, from, to, count, out);
}

/* One level: a number of blanks or the text itself. */
static int indent_text(struct jinja_run *r, const struct jinja_value *v, int64_t fallback,
                       struct jinja_string *out)
{
    struct jinja_text t = {.heap = &r->heap};
    int64_t n = fallback;
    if (v != NULL && v->kind == JINJA_STRING) {
        *out = v->s;
        return ERR_OK;
    }
    if (v != NULL && !jinja_whole(v, &n))
        return jinja_fail(r, "indent is a %s", jinja_kind_name(v));
    if (n > 1000)
        return jinja_fail(r, "indent of more than 1000");
    for (; n > 0; n--)
        TRY(jinja_text_add(&t, " ", 1));
    return jinja_to_string(&r->heap, &(struct jinja_value){.kind = JINJA_STRING,
                           .s = jinja_text_value(&t).s}, out);
}

FILTER(filter_indent)
{
    struct jinja_text t = {.heap = &r->heap};
    struct jinja_string s, indent;
    struct jinja_value lines;
    bool first = jinja_arg_truth(args, 1, "first", false);
    bool blank = jinja_arg_truth(args, 2, "blank", false);
    TRY(jinja_to_string(&r->heap, in, &s));
    TRY(indent_text(r, jinja_arg(args, 0, "width"), 4, &indent));
    TRY(jinja_str_lines(r, s, false, &lines));
    /* A last line end starts one more, empty line. */
    if (s.n == 0 || s.p[s.n - 1] == '\n')
        TRY(jinja_list_add(&r->heap, &lines, jinja_string("", 0)));
    for (size_t i = 0; i < lines.list->n; i++) {
        struct jinja_string line = lines.list->at[i].s;
        if (i > 0)
            TRY(jinja_text_add(&t, "\n", 1));
        if (i == 0 ? first : blank || line.n > 0)
            TRY(jinja_text_add(&t, indent.p, indent.n));
        TRY(jinja_text_add(&t, line.p, line.n));
    }
    *out = jinja_text_value(&t);
    return jinja_spend(r, t.n);
}

FILTER(filter_format)
{
    struct jinja_string s;
    TRY(jinja_to_string(&r->heap, in, &s));
    return jinja_str_format(r, s, args->at, args->n, out);
}

FILTER(filter_escape)
{
    static const struct { char c; const char *to; } entity[] = {
        {'&', "&amp;"}, {'<', "&lt;"}, {'>', "&gt;"}, {'"', "&#34;"}, {'\'', "&#39;"}};
    struct jinja_text t = {.heap = &r->heap};
    struct jinja_string s;
    (void)args;
    TRY(jinja_to_string(&r->heap, in, &s));
    for (size_t i = 0; i < s.n; i++) {
        const char *to = NULL;
        for (size_t k = 0; k < sizeof entity / sizeof *entity; k++)
            to = s.p[i] == entity[k].c ? entity[k].to : to;
        TRY(to != NULL ? jinja_text_add_str(&t, to) : jinja_text_add(&t, s.p + i, 1));
    }
    *out = jinja_text_value(&t);
    return jinja_spend(r, 4 * s.n);
}

FILTER(filter_center)
{
    struct jinja_string s;
    int64_t width;
    TRY(jinja_to_string(&r->heap, in, &s));
    TRY(jinja_arg_int(r, args, 0, "width", 80, &width));
    return jinja_str_pad(r, s, width, 'c', (struct jinja_string){" ", 1}, out);
}

FILTER(filter_wordcount)
{
    struct jinja_value words, self;
    struct jinja_args none = {0};
    TRY(filter_string(r, in, args, &self));
    TRY(jinja_method(r, &self, (struct jinja_string){"split", 5}, &none, &words));
    *out = jinja_int((int64_t)words.list->n);
    return ERR_OK;
}

/* separators=(",", ":") */
static int json_separators(struct jinja_run *r, const struct jinja_value *v,
                           struct jinja_json_style *st)
{
    if (v == NULL || v->kind == JINJA_NONE)
        return ERR_OK;
    if (!jinja_is_seq(v) || v->list->n != 2 || v->list->at[0].kind != JINJA_STRING ||
        v->list->at[1].kind != JINJA_STRING)
        return jinja_fail(r, "tojson: separators are two texts");
    st->item = v->list->at[0].s;
    st->key = v->list->at[1].s;
    return ERR_OK;
}

FILTER(filter_tojson)
{
    struct jinja_text t = {.heap = &r->heap};
    const struct jinja_value *indent = jinja_arg(args, 1, "indent");
    struct jinja_string level;
    struct jinja_json_style st = {.ascii = jinja_arg_truth(args, 0, "ensure_ascii", false),
                                  .sort_keys = jinja_arg_truth(args, 3, "sort_keys", false),
                                  .item = {", ", 2}, .key = {": ", 2}};
    if (indent != NULL && indent->kind != JINJA_NONE) {
        TRY(indent_text(r, indent, 0, &level));
        st.indent = &level;
        st.item.n = 1;          /* a line end follows the comma */
    }
    TRY(json_separators(r, jinja_arg(args, 2, "separators"), &st));
    TRY(jinja_to_json(&t, in, &st));
    *out = jinja_text_value(&t);
    return jinja_spend(r, t.n);
}

/* --- numbers */

FILTER(filter_int)
{
    const struct jinja_value *fallback = jinja_arg(args, 0, "default");
    struct jinja_value zero = jinja_int(0);
    char text[64], *end;
    if (in->kind == JINJA_UNDEFINED)
        return jinja_fail(r, "int of something undefined");
    *out = fallback != NULL ? *fallback : zero;
    if (in->kind == JINJA_FLOAT && fabs(in->f) < 9e18)
        *out = jinja_int((int64_t)in->f);
    else if (in->kind == JINJA_INT || in->kind == JINJA_BOOL)
        jinja_whole(in, &out->i), out->kind = JINJA_INT;
    if (in->kind != JINJA_STRING)
        return ERR_OK;
    struct jinja_string s = jinja_str_strip(in->s, NULL, true, true);
    int64_t base;
    TRY(jinja_arg_int(r, args, 1, "base", 10, &base));
    if (s.n == 0 || s.n >= sizeof text || base < 2 || base > 36)
        return ERR_OK;
    memcpy(text, s.p, s.n);
    text[s.n] = '\0';
    errno = 0;
    int64_t i = strtoll(text, &end, (int)base);
    if (*end == '\0' && errno == 0) {
        *out = jinja_int(i);
        return ERR_OK;
    }
    double f = strtod(text, &end);
    if (*end == '\0' && fabs(f) < 9e18)
        *out = jinja_int((int64_t)f);
    return ERR_OK;
}

FILTER(filter_float)
{
    const struct jinja_value *fallback = jinja_arg(args, 0, "default");
    char text[64], *end;
    if (in->kind == JINJA_UNDEFINED)
        return jinja_fail(r, "float of something undefined");
    *out = fallback != NULL ? *fallback : jinja_float(0);
    if (jinja_is_number(in))
        *out = jinja_float(jinja_real(in));
    if (in->kind != JINJA_STRING)
        return ERR_OK;
    struct jinja_string s = jinja_str_strip(in->s, NULL, true, true);
    if (s.n == 0 || s.n >= sizeof text)
        return ERR_OK;
    memcpy(text, s.p, s.n);
    text[s.n] = '\0';
    double f = strtod(text, &end);
    if (*end == '\0')
        *out = jinja_float(f);
    return ERR_OK;
}

FILTER(filter_abs)
{
    struct jinja_value zero = jinja_int(0);
    (void)args;
    if (in->kind == JINJA_FLOAT) {
        *out = jinja_float(fabs(in->f));
        return ERR_OK;
    }
    int64_t i;
    if (!jinja_whole(in, &i))
        return jinja_fail(r, "abs of a %s", jinja_kind_name(in));
    return jinja_binary(r, i < 0 ? OP_SUB : OP_ADD, &zero, in, out);
}

FILTER(filter_round)
{
    struct jinja_string method;
    int64_t precision;
    char text[400];
    TRY(jinja_arg_int(r, args, 0, "precision", 0, &precision));
    TRY(jinja_arg_string(r, args, 1, "method", "common", &method));
    if (!jinja_is_number(in) || precision < 0 || precision > 15)
        return jinja_fail(r, "round takes a number and a precision of 0 to 15");
    double f = jinja_real(in), scale = pow(10, (double)precision);
    if (jinja_equals_text(method, "ceil"))
        f = ceil(f * scale) / scale;
    else if (jinja_equals_text(method, "floor"))
        f = floor(f * scale) / scale;
    else {
        snprintf(text, sizeof text, "%.*f", (int)precision, f); /* to even on a tie, as Python */
        f = strtod(text, NULL);
    }
    *out = jinja_float(f);
    return ERR_OK;
}

FILTER(filter_default)
{
    const struct jinja_value *other = jinja_arg(args, 0, "default_value");
    bool falsy = jinja_arg_truth(args, 1, "boolean", false);
    (void)r;
    *out = *in;
    if (in->kind == JINJA_UNDEFINED || (falsy && !jinja_truth(in)))
        *out = other != NULL ? *other : jinja_string("", 0);
    return ERR_OK;
}

/* --- the table */

static const struct jinja_filter_row text_filters[] = {
    {"string", filter_string}, {"safe", filter_safe}, {"upper", filter_upper},
    {"lower", filter_lower}, {"capitalize", filter_capitalize}, {"title", filter_title},
    {"trim", filter_trim}, {"replace", filter_replace}, {"indent", filter_indent},
    {"format", filter_format}, {"escape", filter_escape}, {"e", filter_escape},
    {"wordcount", filter_wordcount}, {"center", filter_center},
    {"tojson", filter_tojson}, {"int", filter_int},
    {"float", filter_float}, {"abs", filter_abs}, {"round", filter_round},
    {"default", filter_default}, {"d", filter_default}, {NULL, NULL}};

int jinja_filter(struct jinja_run *r, struct jinja_string name, const struct jinja_value *in,
                 const struct jinja_args *args, struct jinja_value *out)
{
    const struct jinja_filter_row *tables[] = {text_filters, jinja_seq_filters};
    for (int t = 0; t < 2; t++)
        for (const struct jinja_filter_row *f = tables[t]; f->name != NULL; f++)
            if (jinja_equals_text(name, f->name))
                return f->run(r, in, args, out);
    return jinja_fail(r, "no filter is named '%.*s'", name.n < 60 ? (int)name.n : 60, name.p);
}
