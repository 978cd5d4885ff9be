/* Methods of str. */
#include "coordinator/text/jinjarun.h"
#include "coordinator/text/unicode.h"

#include <string.h>
#include <utf8proc.h>

/* --- splitting and joining */

static int add_part(struct jinja_run *r, struct jinja_value *list, const char *p, size_t n)
{
    TRY(jinja_spend(r, 16));
    return jinja_list_add(&r->heap, list, jinja_string(p, n));
}

/* At runs of blanks, at most `most` times (-1: no limit), from the left. */
static int split_blanks(struct jinja_run *r, struct jinja_string s, int64_t most,
                        struct jinja_value *list)
{
    while ((s = jinja_str_strip(s, NULL, true, false)).n > 0) {
        size_t i = 0;
        if (most-- == 0)
            return add_part(r, list, s.p, s.n);
        while (i < s.n) {
            struct jinja_string c = {s.p + i, (size_t)unicode_bytes(s.p[i])};
            if (jinja_str_strip(c, NULL, true, false).n == 0)
                break;
            i += c.n;
        }
        TRY(add_part(r, list, s.p, i));
        s.p += i;
        s.n -= i;
    }
    return ERR_OK;
}

static int split_at(struct jinja_run *r, struct jinja_string s, struct jinja_string sep, int64_t most,
                    struct jinja_value *list)
{
    int64_t at;
    while (most-- != 0 && (at = jinja_str_find(s, sep)) >= 0) {
        TRY(add_part(r, list, s.p, (size_t)at));
        s.p += (size_t)at + sep.n;
        s.n -= (size_t)at + sep.n;
    }
    return add_part(r, list, s.p, s.n);
}

/* Offset of the last `what` in s, -1. */
static int64_t find_last(struct jinja_string s, struct jinja_string what)
{
    if (what.n > s.n)
        return -1;
    for (size_t i = s.n - what.n + 1; i-- > 0;)
        if (memcmp(s.p + i, what.p, what.n) == 0)
            return (int64_t)i;
    return -1;
}

static int rsplit_at(struct jinja_run *r, struct jinja_string s, struct jinja_string sep,
                     int64_t most, struct jinja_value *list)
{
    int64_t at;
    while (most-- != 0 && (at = find_last(s, sep)) >= 0) {
        TRY(add_part(r, list, s.p + at + sep.n, s.n - (size_t)at - sep.n));
        s.n = (size_t)at;
    }
    TRY(add_part(r, list, s.p, s.n));
    for (size_t i = 0, k = list->list->n; i + 1 < k; i++) {
        struct jinja_value v = list->list->at[i];       /* found from the right: turn round */
        list->list->at[i] = list->list->at[--k];
        list->list->at[k] = v;
    }
    return ERR_OK;
}

static int split(struct jinja_run *r, const struct jinja_value *self, const struct jinja_args *args,
                 bool right, struct jinja_value *out)
{
    const struct jinja_value *sep = jinja_arg(args, 0, "sep");
    int64_t most;
    TRY(jinja_spend(r, self->s.n));
    TRY(jinja_arg_int(r, args, 1, "maxsplit", -1, &most));
    TRY(jinja_new_list(&r->heap, JINJA_LIST, 0, out));
    if (sep == NULL || sep->kind == JINJA_NONE) {
        if (right && most >= 0)
            return jinja_fail(r, "rsplit() at blanks with a limit is not supported");
        return split_blanks(r, self->s, most, out);
    }
    if (sep->kind != JINJA_STRING || sep->s.n == 0)
        return jinja_fail(r, "split() needs a text to split at");
    return right ? rsplit_at(r, self->s, sep->s, most, out)
                 : split_at(r, self->s, sep->s, most, out);
}

static int str_split(struct jinja_run *r, const struct jinja_value *self,
                     const struct jinja_args *args, struct jinja_value *out)
{
    return split(r, self, args, false, out);
}

static int str_rsplit(struct jinja_run *r, const struct jinja_value *self,
                      const struct jinja_args *args, struct jinja_value *out)
{
    return split(r, self, args, true, out);
}

static int str_splitlines(struct jinja_run *r, const struct jinja_value *self,
                          const struct jinja_args *args, struct jinja_value *out)
{
    return jinja_str_lines(r, self->s, jinja_arg_truth(args, 0, "keepends", false), out);
}

static int partition(struct jinja_run *r, const struct jinja_value *self,
                     const struct jinja_args *args, bool last, struct jinja_value *out)
{
    struct jinja_string sep, s = self->s;
    TRY(jinja_arg_string(r, args, 0, "sep", "", &sep));
    if (sep.n == 0)
        return jinja_fail(r, "partition() needs a text to split at");
    int64_t at = last ? find_last(s, sep) : jinja_str_find(s, sep);
    size_t a = at >= 0 ? (size_t)at : last ? 0 : s.n;
    size_t b = at >= 0 ? a + sep.n : a;
    TRY(jinja_new_list(&r->heap, JINJA_TUPLE, 3, out));
    TRY(add_part(r, out, s.p, a));
    TRY(add_part(r, out, s.p + a, b - a));
    return add_part(r, out, s.p + b, s.n - b);
}

static int str_partition(struct jinja_run *r, const struct jinja_value *self,
                         const struct jinja_args *args, struct jinja_value *out)
{
    return partition(r, self, args, false, out);
}

static int str_rpartition(struct jinja_run *r, const struct jinja_value *self,
                          const struct jinja_args *args, struct jinja_value *out)
{
    return partition(r, self, args, true, out);
}

static int str_join(struct jinja_run *r, const struct jinja_value *self,
                    const struct jinja_args *args, struct jinja_value *out)
{
    struct jinja_text t = {.heap = &r->heap};
    struct jinja_list *items;
    if (args->n != 1)
        return jinja_fail(r, "join() takes a list");
    TRY(jinja_iterate(r, &args->at[0], &items));
    for (size_t i = 0; i < items->n; i++) {
        if (items->at[i].kind != JINJA_STRING)
            return jinja_fail(r, "join() of a %s", jinja_kind_name(&items->at[i]));
        if (i > 0)
            TRY(jinja_text_add(&t, self->s.p, self->s.n));
        TRY(jinja_text_add(&t, items->at[i].s.p, items->at[i].s.n));
    }
    *out = jinja_text_value(&t);
    return jinja_spend(r, t.n + 16 * items->n);
}

/* --- stripping and case */

static int strip_method(struct jinja_run *r, const struct jinja_value *self,
                        const struct jinja_args *args, bool left, bool right,
                        struct jinja_value *out)
{
    const struct jinja_value *chars = jinja_arg(args, 0, "chars");
    bool given = chars != NULL && chars->kind != JINJA_NONE;
    if (given && chars->kind != JINJA_STRING)
        return jinja_fail(r, "strip() of a %s", jinja_kind_name(chars));
    struct jinja_string s = jinja_str_strip(self->s, given ? &chars->s : NULL, left, right);
    *out = jinja_string(s.p, s.n);
    return jinja_spend(r, (self->s.n - s.n) * (given ? 1 + chars->s.n : 1));
}

static int str_strip(struct jinja_run *r, const struct jinja_value *self,
                     const struct jinja_args *args, struct jinja_value *out)
{
    return strip_method(r, self, args, true, true, out);
}

static int str_lstrip(struct jinja_run *r, const struct jinja_value *self,
                      const struct jinja_args *args, struct jinja_value *out)
{
    return strip_method(r, self, args, true, false, out);
}

static int str_rstrip(struct jinja_run *r, const struct jinja_value *self,
                      const struct jinja_args *args, struct jinja_value *out)
{
    return strip_method(r, self, args, false, true, out);
}

#define CASE_METHOD(name, kind)                                                                    \
    static int name(struct jinja_run *r, const struct jinja_value *self,                           \
                    const struct jinja_args *args, struct jinja_value *out)                        \
    {                                                                                              \
        (void)args;                                                                                \
        return jinja_str_case(r, self->s, kind, out);                                              \
    }
CASE_METHOD(str_upper, 'u')
CASE_METHOD(str_lower, 'l')
CASE_METHOD(str_title, 't')
CASE_METHOD(str_capitalize, 'c')
CASE_METHOD(str_swapcase, 's')

/* --- searching and replacing */

static bool has_end(struct jinja_string s, struct jinja_string end, bool front)
{
    return s.n >= end.n && memcmp(front ? s.p : s.p + s.n - end.n, end.p, end.n) == 0;
}

/* startswith(text), startswith((text, text)) */
static int ends(struct jinja_run *r, const struct jinja_value *self, const struct jinja_args *args,
                bool front, struct jinja_value *out)
{
    const struct jinja_value *v = args->n == 1 ? &args->at[0] : NULL, *one = v;
    size_t n = 1;
    if (v != NULL && v->kind == JINJA_TUPLE) {
        one = v->list->at;
        n = v->list->n;
    }
    *out = jinja_bool(false);
    for (size_t i = 0; i < n; i++) {
        if (one == NULL || one[i].kind != JINJA_STRING)
            return jinja_fail(r, "startswith() and endswith() take a text or a tuple of texts");
        if (has_end(self->s, one[i].s, front))
            *out = jinja_bool(true);
    }
    return jinja_spend(r, 16 * n);
}

static int str_startswith(struct jinja_run *r, const struct jinja_value *self,
                          const struct jinja_args *args, struct jinja_value *out)
{
    return ends(r, self, args, true, out);
}

static int str_endswith(struct jinja_run *r, const struct jinja_value *self,
                        const struct jinja_args *args, struct jinja_value *out)
{
    return ends(r, self, args, false, out);
}

static int str_removeprefix(struct jinja_run *r, const struct jinja_value *self,
                            const struct jinja_args *args, struct jinja_value *out)
{
    struct jinja_string cut;
    TRY(jinja_arg_string(r, args, 0, "prefix", "", &cut));
    size_t n = has_end(self->s, cut, true) ? cut.n : 0;
    *out = jinja_string(self->s.p + n, self->s.n - n);
    return ERR_OK;
}

static int str_removesuffix(struct jinja_run *r, const struct jinja_value *self,
                            const struct jinja_args *args, struct jinja_value *out)
{
    struct jinja_string cut;
    TRY(jinja_arg_string(r, args, 0, "suffix", "", &cut));
    *out = jinja_string(self->s.p, self->s.n - (has_end(self->s, cut, false) ? cut.n : 0));
    return ERR_OK;
}

static int str_replace(struct jinja_run *r, const struct jinja_value *self,
                       const struct jinja_args *args, struct jinja_value *out)
{
    int64_t count;
    if (args->n < 2 || args->at[0].kind != JINJA_STRING || args->at[1].kind != JINJA_STRING)
        return jinja_fail(r, "replace() takes two texts");
    TRY(jinja_arg_int(r, args, 2, "count", -1, &count));
    return jinja_str_replace(r, self->s, args->at[0].s, args->at[1].s, count, out);
}

/* Index in characters of the first or last text; find() gives -1 where index() fails. */
static int find_method(struct jinja_run *r, const struct jinja_value *self,
                       const struct jinja_args *args, bool last, bool must, struct jinja_value *out)
{
    if (args->n != 1 || args->at[0].kind != JINJA_STRING)
        return jinja_fail(r, "find() takes one text");
    int64_t at = last ? find_last(self->s, args->at[0].s) : jinja_str_find(self->s, args->at[0].s);
    if (at < 0 && must)
        return jinja_fail(r, "index() of a text that is not there");
    *out = jinja_int(at < 0 ? -1 : jinja_str_length((struct jinja_string){self->s.p, (size_t)at}));
    return jinja_spend(r, self->s.n * (last ? 1 + args->at[0].s.n / 8 : 1));
}

static int str_find(struct jinja_run *r, const struct jinja_value *self,
                    const struct jinja_args *args, struct jinja_value *out)
{
    return find_method(r, self, args, false, false, out);
}

static int str_rfind(struct jinja_run *r, const struct jinja_value *self,
                     const struct jinja_args *args, struct jinja_value *out)
{
    return find_method(r, self, args, true, false, out);
}

static int str_index(struct jinja_run *r, const struct jinja_value *self,
                     const struct jinja_args *args, struct jinja_value *out)
{
    return find_method(r, self, args, false, true, out);
}

static int str_count(struct jinja_run *r, const struct jinja_value *self,
                     const struct jinja_args *args, struct jinja_value *out)
{
    struct jinja_string s = self->s, what;
    int64_t n = 0, at;
    TRY(jinja_arg_string(r, args, 0, "sub", "", &what));
    if (what.n == 0)
        n = jinja_str_length(s) + 1;
    while (what.n > 0 && (at = jinja_str_find(s, what)) >= 0) {
        s.p += (size_t)at + what.n;
        s.n -= (size_t)at + what.n;
        n++;
    }
    *out = jinja_int(n);
    return jinja_spend(r, self->s.n);
}

/* --- padding and formatting */

static int pad_method(struct jinja_run *r, const struct jinja_value *self,
                      const struct jinja_args *args, char where, struct jinja_value *out)
{
    struct jinja_string fill;
    int64_t width;
    TRY(jinja_arg_int(r, args, 0, "width", 0, &width));
    TRY(jinja_arg_string(r, args, 1, "fillchar", " ", &fill));
    return jinja_str_pad(r, self->s, width, where, fill, out);
}

static int str_ljust(struct jinja_run *r, const struct jinja_value *self,
                     const struct jinja_args *args, struct jinja_value *out)
{
    return pad_method(r, self, args, 'l', out);
}

static int str_rjust(struct jinja_run *r, const struct jinja_value *self,
                     const struct jinja_args *args, struct jinja_value *out)
{
    return pad_method(r, self, args, 'r', out);
}

static int str_center(struct jinja_run *r, const struct jinja_value *self,
                      const struct jinja_args *args, struct jinja_value *out)
{
    return pad_method(r, self, args, 'c', out);
}

static int str_zfill(struct jinja_run *r, const struct jinja_value *self,
                     const struct jinja_args *args, struct jinja_value *out)
{
    struct jinja_string zero = {"0", 1}, s = self->s, sign = {s.p, 0};
    struct jinja_value v;
    int64_t width;
    TRY(jinja_arg_int(r, args, 0, "width", 0, &width));
    if (s.n > 0 && (s.p[0] == '-' || s.p[0] == '+')) {
        sign.n = 1;
        s.p++;
        s.n--;
    }
    TRY(jinja_str_pad(r, s, width - (int64_t)sign.n, 'r', zero, &v));
    struct jinja_value head = jinja_string(sign.p, sign.n);
    return jinja_binary(r, OP_ADD, &head, &v, out);
}

/* "{} {0} {name}".format(...): no format specifications. */
static int str_format(struct jinja_run *r, const struct jinja_value *self,
                      const struct jinja_args *args, struct jinja_value *out)
{
    struct jinja_text t = {.heap = &r->heap};
    struct jinja_string s = self->s;
    size_t next = 0;
    TRY(jinja_spend(r, s.n));
    for (size_t i = 0; i < s.n;) {
        char c = s.p[i];
        bool twice = i + 1 < s.n && s.p[i + 1] == c;
        const char *end = c == '{' && !twice ? memchr(s.p + i, '}', s.n - i) : NULL;
        if (end == NULL) {
            TRY(jinja_text_add(&t, s.p + i, 1));
            i += (c == '{' || c == '}') && twice ? 2 : 1;
            continue;
        }
        struct jinja_string name = {s.p + i + 1, (size_t)(end - s.p) - i - 1};
        size_t place = name.n == 0 ? next++ : (size_t)-1;
        if (name.n > 0 && name.n < 6 && strspn(name.p, "0123456789") >= name.n)
            for (place = 0, i = 0; i < name.n; i++)
                place = 10 * place + (size_t)(name.p[i] - '0');
        const struct jinja_value *v = place < args->n ? &args->at[place] : NULL;
        for (size_t k = 0; k < args->n_named; k++)
            if (args->named[k].name.n == name.n && memcmp(args->named[k].name.p, name.p, name.n) == 0)
                v = &args->named[k].value;
        if (v == NULL)
            return jinja_fail(r, "format() has no value for '{%.*s}'",
                              name.n < 60 ? (int)name.n : 60, name.p);
        TRY(jinja_print(&t, v));
        i = (size_t)(end - s.p) + 1;
    }
    *out = jinja_text_value(&t);
    return ERR_OK;
}

/* --- what its characters are */

/* Whether all characters (at least one) are of the kind: d digits, a letters, n either, s blanks; u or l:
 * cased ones are of that case, and there is one. */
static bool all_are(struct jinja_string s, char kind)
{
    bool cased = false;
    for (size_t i = 0; i < s.n;) {
        int32_t cp = 0;
        int len = unicode_decode(s.p + i, s.n - i, &cp);
        i += len > 0 ? (size_t)len : 1;
        utf8proc_category_t c = utf8proc_category(cp);
        bool letter = c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO;
        bool digit = c == UTF8PROC_CATEGORY_ND;
        if ((kind == 'd' && !digit) || (kind == 'a' && !letter) || (kind == 'n' && !letter && !digit) ||
            (kind == 's' && !unicode_is_space(cp) && !(cp >= 0x1c && cp <= 0x1f)))
            return false;
        if ((kind == 'u' && c == UTF8PROC_CATEGORY_LL) || (kind == 'l' && c == UTF8PROC_CATEGORY_LU))
            return false;
        cased = cased || c == UTF8PROC_CATEGORY_LL || c == UTF8PROC_CATEGORY_LU;
    }
    return s.n > 0 && (cased || (kind != 'u' && kind != 'l'));
}

#define KIND_METHOD(name, kind)                                                                    \
    static int name(struct jinja_run *r, const struct jinja_value *self,                           \
                    const struct jinja_args *args, struct jinja_value *out)                        \
    {                                                                                              \
        (void)args;                                                                                \
        *out = jinja_bool(all_are(self->s, kind));                                                 \
        return jinja_spend(r, self->s.n);                                                          \
    }
KIND_METHOD(str_isdigit, 'd')
KIND_METHOD(str_isalpha, 'a')
KIND_METHOD(str_isalnum, 'n')
KIND_METHOD(str_isspace, 's')
KIND_METHOD(str_isupper, 'u')
KIND_METHOD(str_islower, 'l')

const struct jinja_method_row jinja_str_methods[] = {
    {"split", str_split}, {"rsplit", str_rsplit}, {"splitlines", str_splitlines},
    {"partition", str_partition}, {"rpartition", str_rpartition}, {"join", str_join},
    {"strip", str_strip}, {"lstrip", str_lstrip}, {"rstrip", str_rstrip}, {"upper", str_upper},
    {"lower", str_lower}, {"casefold", str_lower}, {"title", str_title},
    {"capitalize", str_capitalize}, {"swapcase", str_swapcase}, {"startswith", str_startswith},
    {"endswith", str_endswith}, {"removeprefix", str_removeprefix},
    {"removesuffix", str_removesuffix}, {"replace", str_replace}, {"find", str_find},
    {"rfind", str_rfind}, {"index", str_index}, {"count", str_count}, {"ljust", str_ljust},
    {"rjust", str_rjust}, {"center", str_center}, {"zfill", str_zfill}, {"format", str_format},
    {"isdigit", str_isdigit}, {"isnumeric", str_isdigit}, {"isdecimal", str_isdigit},
    {"isalpha", str_isalpha}, {"isalnum", str_isalnum}, {"isspace", str_isspace},
    {"isupper", str_isupper}, {"islower", str_islower}, {NULL, NULL}};
