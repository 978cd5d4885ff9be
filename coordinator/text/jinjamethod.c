/* Methods of str, dict and list. Those that would change a value are not there, as in jinja2's immutable
 * sandbox. */
#include "coordinator/text/jinjarun.h"
#include "coordinator/text/unicode.h"

#include <string.h>
#include <utf8proc.h>

typedef int method_fn(struct jinja_run *r, const struct jinja_value *self,
                      const struct jinja_args *args, struct jinja_value *out);

/* --- str: splitting and joining */

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
            return add_part(r, list, s.p, jinja_str_strip(s, NULL, false, true).n);
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

/* --- str: stripping and case */

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

/* --- str: searching and replacing */

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

/* --- str: what its characters are */

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

/* --- dict */

/* which: k keys, v values, i pairs. */
static int dict_list(struct jinja_run *r, const struct jinja_dict *d, char which,
                     struct jinja_value *out)
{
    TRY(jinja_spend(r, 16 * d->n));
    TRY(jinja_new_list(&r->heap, JINJA_LIST, d->n, out));
    for (size_t i = 0; i < d->n; i++) {
        struct jinja_value item = which == 'k' ? d->at[i].key : d->at[i].value;
        if (which == 'i') {
            TRY(jinja_new_list(&r->heap, JINJA_TUPLE, 2, &item));
            TRY(jinja_list_add(&r->heap, &item, d->at[i].key));
            TRY(jinja_list_add(&r->heap, &item, d->at[i].value));
        }
        TRY(jinja_list_add(&r->heap, out, item));
    }
    return ERR_OK;
}

static int dict_items(struct jinja_run *r, const struct jinja_value *self,
                      const struct jinja_args *args, struct jinja_value *out)
{
    (void)args;
    return dict_list(r, self->dict, 'i', out);
}

static int dict_keys(struct jinja_run *r, const struct jinja_value *self,
                     const struct jinja_args *args, struct jinja_value *out)
{
    (void)args;
    return dict_list(r, self->dict, 'k', out);
}

static int dict_values(struct jinja_run *r, const struct jinja_value *self,
                       const struct jinja_args *args, struct jinja_value *out)
{
    (void)args;
    return dict_list(r, self->dict, 'v', out);
}

static int dict_get(struct jinja_run *r, const struct jinja_value *self,
                    const struct jinja_args *args, struct jinja_value *out)
{
    if (args->n < 1 || args->n > 2)
        return jinja_fail(r, "get() takes a key and a default");
    const struct jinja_value *v = jinja_dict_find(self->dict, &args->at[0]);
    *out = v != NULL ? *v : args->n == 2 ? args->at[1] : jinja_none();
    return jinja_spend(r, 16 * self->dict->n);
}

static int any_copy(struct jinja_run *r, const struct jinja_value *self,
                    const struct jinja_args *args, struct jinja_value *out)
{
    (void)r;
    (void)args;
    *out = *self;               /* nothing changes a value: a copy is the value */
    return ERR_OK;
}

/* --- list */

static int list_index(struct jinja_run *r, const struct jinja_value *self,
                      const struct jinja_args *args, struct jinja_value *out)
{
    for (size_t i = 0; args->n == 1 && i < self->list->n; i++)
        if (jinja_equal(&self->list->at[i], &args->at[0])) {
            *out = jinja_int((int64_t)i);
            return jinja_spend(r, 16 * i);
        }
    return jinja_fail(r, "index() of an item that is not there");
}

static int list_count(struct jinja_run *r, const struct jinja_value *self,
                      const struct jinja_args *args, struct jinja_value *out)
{
    int64_t n = 0;
    for (size_t i = 0; args->n == 1 && i < self->list->n; i++)
        n += jinja_equal(&self->list->at[i], &args->at[0]);
    *out = jinja_int(n);
    return jinja_spend(r, 16 * self->list->n);
}

static const struct { enum jinja_kind kind; const char *name; method_fn *run; } methods[] = {
    {JINJA_STRING, "split", str_split}, {JINJA_STRING, "rsplit", str_rsplit},
    {JINJA_STRING, "splitlines", str_splitlines}, {JINJA_STRING, "partition", str_partition},
    {JINJA_STRING, "rpartition", str_rpartition}, {JINJA_STRING, "join", str_join},
    {JINJA_STRING, "strip", str_strip}, {JINJA_STRING, "lstrip", str_lstrip},
    {JINJA_STRING, "rstrip", str_rstrip}, {JINJA_STRING, "upper", str_upper},
    {JINJA_STRING, "lower", str_lower}, {JINJA_STRING, "casefold", str_lower},
    {JINJA_STRING, "title", str_title}, {JINJA_STRING, "capitalize", str_capitalize},
    {JINJA_STRING, "swapcase", str_swapcase}, {JINJA_STRING, "startswith", str_startswith},
    {JINJA_STRING, "endswith", str_endswith}, {JINJA_STRING, "removeprefix", str_removeprefix},
    {JINJA_STRING, "removesuffix", str_removesuffix}, {JINJA_STRING, "replace", str_replace},
    {JINJA_STRING, "find", str_find}, {JINJA_STRING, "rfind", str_rfind},
    {JINJA_STRING, "index", str_index}, {JINJA_STRING, "count", str_count},
    {JINJA_STRING, "isdigit", str_isdigit}, {JINJA_STRING, "isnumeric", str_isdigit},
    {JINJA_STRING, "isdecimal", str_isdigit}, {JINJA_STRING, "isalpha", str_isalpha},
    {JINJA_STRING, "isalnum", str_isalnum}, {JINJA_STRING, "isspace", str_isspace},
    {JINJA_STRING, "isupper", str_isupper}, {JINJA_STRING, "islower", str_islower},
    {JINJA_DICT, "items", dict_items}, {JINJA_DICT, "keys", dict_keys},
    {JINJA_DICT, "values", dict_values}, {JINJA_DICT, "get", dict_get},
    {JINJA_DICT, "copy", any_copy}, {JINJA_LIST, "index", list_index},
    {JINJA_LIST, "count", list_count}, {JINJA_LIST, "copy", any_copy}};

static method_fn *find_method_of(const struct jinja_value *object, struct jinja_string name)
{
    enum jinja_kind kind = object->kind == JINJA_TUPLE ? JINJA_LIST : object->kind;
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (methods[i].kind == kind && jinja_equals_text(name, methods[i].name))
            return methods[i].run;
    return NULL;
}

bool jinja_has_method(const struct jinja_value *object, struct jinja_string name)
{
    return find_method_of(object, name) != NULL;
}

int jinja_method(struct jinja_run *r, const struct jinja_value *self, struct jinja_string name,
                 const struct jinja_args *args, struct jinja_value *out)
{
    method_fn *run = find_method_of(self, name);
    if (run == NULL)
        return jinja_fail(r, "a %s has no method '%.*s'", jinja_kind_name(self),
                          name.n < 60 ? (int)name.n : 60, name.p);
    return run(r, self, args, out);
}
