/* Attributes, indices, slices, and going through values. */
#include "coordinator/text/jinjarun.h"
#include "coordinator/text/unicode.h"

#include <string.h>

/* Sixteen bytes of work for each item. */
enum { ITEM_COST = 16 };

/* --- characters of a string */

int64_t jinja_str_length(struct jinja_string s)
{
    int64_t n = 0;
    for (size_t i = 0; i < s.n; i++)
        n += ((uint8_t)s.p[i] & 0xc0) != 0x80;
    return n;
}

/* Bytes of the first n characters. */
static size_t bytes_of(struct jinja_string s, int64_t n)
{
    size_t i = 0;
    for (; n > 0 && i < s.n; n--)
        i += (size_t)unicode_bytes(s.p[i]);
    return i < s.n ? i : s.n;
}

static int characters(struct jinja_run *r, struct jinja_string s, struct jinja_list **out)
{
    struct jinja_value list;
    TRY(jinja_spend(r, ITEM_COST * s.n));
    TRY(jinja_new_list(&r->heap, JINJA_LIST, 0, &list));
    for (size_t i = 0, len; i < s.n; i += len) {
        len = (size_t)unicode_bytes(s.p[i]);
        TRY(jinja_list_add(&r->heap, &list, jinja_string(s.p + i, len)));
    }
    *out = list.list;
    return ERR_OK;
}

/* --- attributes */

static int loop_item(struct jinja_loop *l, int64_t at, struct jinja_value *out)
{
    if (at >= 0 && at < (int64_t)l->items->n)
        *out = l->items->at[at];
    return ERR_OK;
}

static int loop_attribute(struct jinja_loop *l, struct jinja_string name, struct jinja_value *out)
{
    int64_t i = (int64_t)l->index, n = (int64_t)l->items->n;
    const struct { const char *name; int64_t value; } number[] = {
        {"index", i + 1}, {"index0", i}, {"revindex", n - i}, {"revindex0", n - i - 1},
        {"length", n}, {"depth", l->depth + 1}, {"depth0", l->depth}};
    for (size_t k = 0; k < sizeof number / sizeof *number; k++)
        if (jinja_equals_text(name, number[k].name)) {
            *out = jinja_int(number[k].value);
            return ERR_OK;
        }
    if (jinja_equals_text(name, "first"))
        *out = jinja_bool(i == 0);
    else if (jinja_equals_text(name, "last"))
        *out = jinja_bool(i == n - 1);
    else if (jinja_equals_text(name, "previtem"))
        return loop_item(l, i - 1, out);
    else if (jinja_equals_text(name, "nextitem"))
        return loop_item(l, i + 1, out);
    return ERR_OK;
}

int jinja_attribute(struct jinja_run *r, const struct jinja_value *object, struct jinja_string name,
                    struct jinja_value *out)
{
    *out = jinja_undefined(name.p, name.n);
    if (object->kind == JINJA_UNDEFINED)
        return jinja_fail(r, "'%.*s' is undefined, it has no '%.*s'",
                          object->s.n < 60 ? (int)object->s.n : 60, object->s.p,
                          name.n < 60 ? (int)name.n : 60, name.p);
    if (object->kind == JINJA_LOOP)
        TRY(loop_attribute(object->loop, name, out));
    if (out->kind == JINJA_UNDEFINED && jinja_has_method(object, name)) {
        struct jinja_method *m = jinja_take(&r->heap, sizeof *m);
        if (m == NULL)
            return r->heap.err->code;
        *m = (struct jinja_method){*object, name};
        *out = (struct jinja_value){.kind = JINJA_METHOD, .method = m};
        return ERR_OK;
    }
    if (object->kind == JINJA_DICT || object->kind == JINJA_NAMESPACE) {
        const struct jinja_value *v = jinja_dict_find_text(object->dict, name);
        if (v != NULL)
            *out = *v;
    }
    return ERR_OK;
}

int jinja_item(struct jinja_run *r, const struct jinja_value *object,
               const struct jinja_value *index, struct jinja_value *out)
{
    int64_t i;
    *out = jinja_undefined("an item", 7);
    if (object->kind == JINJA_DICT) {
        const struct jinja_value *v = jinja_dict_find(object->dict, index);
        if (v != NULL) {
            *out = *v;
            return ERR_OK;
        }
    }
    if (jinja_whole(index, &i) && (jinja_is_seq(object) || object->kind == JINJA_STRING)) {
        bool text = object->kind == JINJA_STRING;
        if (text)
            TRY(jinja_spend(r, object->s.n));
        int64_t n = text ? jinja_str_length(object->s) : (int64_t)object->list->n;
        i += i < 0 ? n : 0;
        if (i < 0 || i >= n)
            return ERR_OK;
        size_t at = text ? bytes_of(object->s, i) : (size_t)i;
        *out = text ? jinja_string(object->s.p + at, (size_t)unicode_bytes(object->s.p[at]))
                    : object->list->at[at];
        return ERR_OK;
    }
    if (index->kind == JINJA_STRING || object->kind == JINJA_UNDEFINED)
        return jinja_attribute(r, object, index->kind == JINJA_STRING ? index->s : out->s, out);
    return ERR_OK;
}

int jinja_path(struct jinja_run *r, const struct jinja_value *object, const struct jinja_value *path,
               struct jinja_value *out)
{
    *out = *object;
    if (path->kind != JINJA_STRING) {
        struct jinja_value v = *out;
        return jinja_item(r, &v, path, out);
    }
    for (size_t i = 0; i <= path->s.n;) {
        const char *p = path->s.p + i, *dot = memchr(p, '.', path->s.n - i);
        size_t n = dot != NULL ? (size_t)(dot - p) : path->s.n - i;
        struct jinja_value v = *out, key = jinja_string(p, n);
        if (n > 0 && n < 10 && strspn(p, "0123456789") >= n) {
            key = jinja_int(0);
            for (size_t k = 0; k < n; k++)
                key.i = 10 * key.i + p[k] - '0';
        }
        TRY(jinja_item(r, &v, &key, out));
        i += n + 1;
    }
    return ERR_OK;
}

/* --- slices */

static int slice_part(struct jinja_run *r, const struct jinja_value *v, int64_t fallback,
                      int64_t *out)
{
    if (v->kind == JINJA_NONE) {
        *out = fallback;
        return ERR_OK;
    }
    return jinja_whole(v, out) ? ERR_OK
                               : jinja_fail(r, "a slice needs whole numbers, not a %s",
                                            jinja_kind_name(v));
}

/* Python's rule: from the end when negative, then into [least, most]. */
static int64_t clamp(int64_t i, int64_t n, int64_t least, int64_t most)
{
    i += i < 0 ? n : 0;
    return i < least ? least : i > most ? most : i;
}

struct span { int64_t from, to, step; };

static int slice_span(struct jinja_run *r, const struct jinja_value part[3], int64_t n,
                      struct span *s)
{
    const int64_t none = INT64_MAX;
    TRY(slice_part(r, &part[2], 1, &s->step));
    if (s->step == 0)
        return jinja_fail(r, "a slice's step is 0");
    TRY(slice_part(r, &part[0], none, &s->from));
    TRY(slice_part(r, &part[1], none, &s->to));
    if (s->step > 0) {
        s->from = s->from == none ? 0 : clamp(s->from, n, 0, n);
        s->to = s->to == none ? n : clamp(s->to, n, 0, n);
    } else {
        s->from = s->from == none ? n - 1 : clamp(s->from, n, -1, n - 1);
        s->to = s->to == none ? -1 : clamp(s->to, n, -1, n - 1);
    }
    if (s->step > n || s->step < -n)        /* one item at most; keeps the sums below small */
        s->step = s->step > 0 ? n + 1 : -n - 1;
    return ERR_OK;
}

int jinja_slice(struct jinja_run *r, const struct jinja_value *object,
                const struct jinja_value part[3], struct jinja_value *out)
{
    struct jinja_list *items;
    struct span s;
    bool text = object->kind == JINJA_STRING;
    if (object->kind == JINJA_UNDEFINED)
        return jinja_fail(r, "'%.*s' is undefined", object->s.n < 80 ? (int)object->s.n : 80,
                          object->s.p);
    if (!text && !jinja_is_seq(object)) {
        *out = jinja_undefined("a slice", 7);
        return ERR_OK;
    }
    int64_t n = text ? jinja_str_length(object->s) : (int64_t)object->list->n;
    TRY(slice_span(r, part, n, &s));
    if (text && s.step == 1) {
        size_t from = bytes_of(object->s, s.from), to = bytes_of(object->s, s.to);
        *out = jinja_string(object->s.p + from, to > from ? to - from : 0);
        return jinja_spend(r, to);
    }
    TRY(jinja_iterate(r, object, &items));
    TRY(jinja_new_list(&r->heap, text ? JINJA_LIST : object->kind, 0, out));
    for (int64_t i = s.from; s.step > 0 ? i < s.to : i > s.to; i += s.step)
        TRY(jinja_list_add(&r->heap, out, items->at[i]));
    TRY(jinja_spend(r, ITEM_COST * out->list->n));
    if (!text)
        return ERR_OK;
    struct jinja_text joined = {.heap = &r->heap};
    for (size_t i = 0; i < out->list->n; i++)
        TRY(jinja_text_add(&joined, out->list->at[i].s.p, out->list->at[i].s.n));
    *out = jinja_text_value(&joined);
    return ERR_OK;
}

/* --- going through */

static int keys_of(struct jinja_run *r, const struct jinja_dict *d, struct jinja_list **out)
{
    struct jinja_value list;
    TRY(jinja_spend(r, ITEM_COST * d->n));
    TRY(jinja_new_list(&r->heap, JINJA_LIST, d->n, &list));
    for (size_t i = 0; i < d->n; i++)
        TRY(jinja_list_add(&r->heap, &list, d->at[i].key));
    *out = list.list;
    return ERR_OK;
}

int jinja_iterate(struct jinja_run *r, const struct jinja_value *v, struct jinja_list **out)
{
    static struct jinja_list empty;
    switch (v->kind) {
    case JINJA_UNDEFINED: *out = &empty; return ERR_OK;
    case JINJA_LIST:
    case JINJA_TUPLE: *out = v->list; return ERR_OK;
    case JINJA_DICT: return keys_of(r, v->dict, out);
    case JINJA_STRING: return characters(r, v->s, out);
    default: return jinja_fail(r, "cannot go through a %s", jinja_kind_name(v));
    }
}

int jinja_length(struct jinja_run *r, const struct jinja_value *v, int64_t *n)
{
    switch (v->kind) {
    case JINJA_UNDEFINED: *n = 0; return ERR_OK;
    case JINJA_LIST:
    case JINJA_TUPLE: *n = (int64_t)v->list->n; return ERR_OK;
    case JINJA_DICT: *n = (int64_t)v->dict->n; return ERR_OK;
    case JINJA_STRING: *n = jinja_str_length(v->s); return jinja_spend(r, v->s.n);
    case JINJA_LOOP: *n = (int64_t)v->loop->items->n; return ERR_OK;
    default: return jinja_fail(r, "a %s has no length", jinja_kind_name(v));
    }
}

int jinja_contains(struct jinja_run *r, const struct jinja_value *container,
                   const struct jinja_value *item, bool *found)
{
    *found = false;
    switch (container->kind) {
    case JINJA_STRING:
        if (item->kind != JINJA_STRING)
            return jinja_fail(r, "'in' a text needs a text, not a %s", jinja_kind_name(item));
        *found = jinja_str_find(container->s, item->s) >= 0;
        return jinja_spend(r, container->s.n);
    case JINJA_DICT:
        *found = jinja_dict_find(container->dict, item) != NULL;
        return ERR_OK;
    case JINJA_LIST:
    case JINJA_TUPLE:
        for (size_t i = 0; i < container->list->n && !*found; i++)
            *found = jinja_equal(&container->list->at[i], item);
        return jinja_spend(r, ITEM_COST * container->list->n);
    case JINJA_UNDEFINED: return ERR_OK;
    default: return jinja_fail(r, "'in' a %s has no meaning", jinja_kind_name(container));
    }
}
