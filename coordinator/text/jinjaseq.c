/* Filters on lists and dicts. */
#include "coordinator/text/jinjarun.h"

#include <stdlib.h>
#include <string.h>

#define FILTER(name)                                                                               \
    static int name(struct jinja_run *r, const struct jinja_value *in,                             \
                    const struct jinja_args *args, struct jinja_value *out)

enum { ITEM_COST = 16 };

FILTER(filter_length)
{
    int64_t n;
    (void)args;
    TRY(jinja_length(r, in, &n));
    *out = jinja_int(n);
    return ERR_OK;
}

FILTER(filter_list)
{
    struct jinja_list *items;
    (void)args;
    TRY(jinja_iterate(r, in, &items));
    *out = (struct jinja_value){.kind = JINJA_LIST, .list = items};
    return ERR_OK;
}

static int one_of(struct jinja_run *r, const struct jinja_value *in, bool last,
                  struct jinja_value *out)
{
    struct jinja_list *items;
    TRY(jinja_iterate(r, in, &items));
    *out = items->n > 0 ? items->at[last ? items->n - 1 : 0]
                        : jinja_undefined("the first or last item of nothing", 33);
    return ERR_OK;
}

FILTER(filter_first) { (void)args; return one_of(r, in, false, out); }
FILTER(filter_last) { (void)args; return one_of(r, in, true, out); }

FILTER(filter_reverse)
{
    struct jinja_list *items;
    struct jinja_text t = {.heap = &r->heap};
    (void)args;
    TRY(jinja_iterate(r, in, &items));
    TRY(jinja_new_list(&r->heap, JINJA_LIST, items->n, out));
    for (size_t i = items->n; i-- > 0;)
        TRY(jinja_list_add(&r->heap, out, items->at[i]));
    TRY(jinja_spend(r, ITEM_COST * items->n));
    if (in->kind != JINJA_STRING)
        return ERR_OK;
    for (size_t i = 0; i < out->list->n; i++)
        TRY(jinja_text_add(&t, out->list->at[i].s.p, out->list->at[i].s.n));
    *out = jinja_text_value(&t);
    return ERR_OK;
}

FILTER(filter_join)
{
    struct jinja_text t = {.heap = &r->heap};
    const struct jinja_value *attribute = jinja_arg(args, 1, "attribute");
    struct jinja_string between;
    struct jinja_list *items;
    TRY(jinja_arg_string(r, args, 0, "d", "", &between));
    TRY(jinja_iterate(r, in, &items));
    for (size_t i = 0; i < items->n; i++) {
        struct jinja_value v = items->at[i];
        if (attribute != NULL)
            TRY(jinja_path(r, &items->at[i], attribute, &v));
        if (i > 0)
            TRY(jinja_text_add(&t, between.p, between.n));
        TRY(jinja_print(&t, &v));
    }
    *out = jinja_text_value(&t);
    return jinja_spend(r, t.n + ITEM_COST * items->n);
}

FILTER(filter_items)
{
    struct jinja_args none = {0};
    (void)args;
    if (in->kind == JINJA_UNDEFINED)
        return jinja_new_list(&r->heap, JINJA_LIST, 0, out);
    if (in->kind != JINJA_DICT)
        return jinja_fail(r, "items of a %s", jinja_kind_name(in));
    return jinja_method(r, in, (struct jinja_string){"items", 5}, &none, out);
}

FILTER(filter_attr)
{
    struct jinja_string name;
    TRY(jinja_arg_string(r, args, 0, "name", "", &name));
    return jinja_attribute(r, in, name, out);
}

/* --- map, select, reject */

/* Arguments from the one at `from` on. */
static struct jinja_args rest_of(const struct jinja_args *args, size_t from)
{
    struct jinja_args rest = *args;
    rest.at += from;
    rest.n -= from;
    return rest;
}

static int map_one(struct jinja_run *r, const struct jinja_value *item, const struct jinja_args *args,
                   struct jinja_value *out)
{
    const struct jinja_value *attribute = args->n == 0 ? jinja_arg(args, 0, "attribute") : NULL;
    if (attribute == NULL) {
        if (args->n == 0 || args->at[0].kind != JINJA_STRING)
            return jinja_fail(r, "map takes the name of a filter or attribute=");
        struct jinja_args rest = rest_of(args, 1);
        return jinja_filter(r, args->at[0].s, item, &rest, out);
    }
    const struct jinja_value *other = jinja_arg(args, 1, "default");
    TRY(jinja_path(r, item, attribute, out));
    if (out->kind == JINJA_UNDEFINED && other != NULL)
        *out = *other;
    return ERR_OK;
}

FILTER(filter_map)
{
    struct jinja_list *items;
    TRY(jinja_iterate(r, in, &items));
    TRY(jinja_new_list(&r->heap, JINJA_LIST, items->n, out));
    for (size_t i = 0; i < items->n; i++) {
        struct jinja_value v;
        TRY(jinja_spend(r, ITEM_COST));
        TRY(map_one(r, &items->at[i], args, &v));
        TRY(jinja_list_add(&r->heap, out, v));
    }
    return ERR_OK;
}

/* Whether an item passes: the test named after the attribute (if there is one), or its truth. */
static int passes(struct jinja_run *r, const struct jinja_value *item, const struct jinja_args *args,
                  bool attribute, bool *yes)
{
    size_t at = attribute ? 1 : 0;
    struct jinja_value v = *item;
    if (attribute) {
        if (args->n == 0)
            return jinja_fail(r, "selectattr takes an attribute");
        TRY(jinja_path(r, item, &args->at[0], &v));
    }
    if (args->n <= at) {
        *yes = jinja_truth(&v);
        return ERR_OK;
    }
    if (args->at[at].kind != JINJA_STRING)
        return jinja_fail(r, "select takes the name of a test");
    struct jinja_args rest = rest_of(args, at + 1);
    return jinja_test(r, args->at[at].s, &v, &rest, yes);
}

static int choose(struct jinja_run *r, const struct jinja_value *in, const struct jinja_args *args,
                  bool attribute, bool wanted, struct jinja_value *out)
{
    struct jinja_list *items;
    TRY(jinja_iterate(r, in, &items));
    TRY(jinja_new_list(&r->heap, JINJA_LIST, 0, out));
    for (size_t i = 0; i < items->n; i++) {
        bool yes;
        TRY(jinja_spend(r, ITEM_COST));
        TRY(passes(r, &items->at[i], args, attribute, &yes));
        if (yes == wanted)
            TRY(jinja_list_add(&r->heap, out, items->at[i]));
    }
    return ERR_OK;
}

FILTER(filter_select) { return choose(r, in, args, false, true, out); }
FILTER(filter_reject) { return choose(r, in, args, false, false, out); }
FILTER(filter_selectattr) { return choose(r, in, args, true, true, out); }
FILTER(filter_rejectattr) { return choose(r, in, args, true, false, out); }

/* --- order */

/* What an item is sorted by: an attribute of it, a text in lower case unless case counts. */
static int sort_key(struct jinja_run *r, const struct jinja_value *item,
                    const struct jinja_value *attribute, bool fold, struct jinja_value *key)
{
    *key = *item;
    if (attribute != NULL && attribute->kind != JINJA_NONE)
        TRY(jinja_path(r, item, attribute, key));
    struct jinja_value v = *key;
    return fold && v.kind == JINJA_STRING ? jinja_str_case(r, v.s, 'l', key) : ERR_OK;
}

struct keyed { struct jinja_value key, item; };

/* Merges two sorted runs; of equals the first comes first, in either direction. */
static int merge(struct jinja_run *r, struct keyed *to, const struct keyed *a, size_t n_a,
                 const struct keyed *b, size_t n_b, bool down)
{
    while (n_a + n_b > 0) {
        int order = n_a == 0 ? 1 : -1;
        if (n_a > 0 && n_b > 0) {
            TRY(jinja_spend(r, ITEM_COST));
            TRY(jinja_order(&r->heap, &a->key, &b->key, &order));
            order = down ? -order : order;
        }
        if (order <= 0) {
            *to++ = *a++;
            n_a--;
        } else {
            *to++ = *b++;
            n_b--;
        }
    }
    return ERR_OK;
}

static int sort_keyed(struct jinja_run *r, struct keyed *k, size_t n, bool down)
{
    struct keyed *from = k, *to = jinja_take(&r->heap, (n + 1) * sizeof *to);
    if (to == NULL)
        return r->heap.err->code;
    for (size_t run = 1; run < n; run *= 2) {
        for (size_t i = 0; i < n; i += 2 * run) {
            size_t a = n - i < run ? n - i : run, b = n - i - a < run ? n - i - a : run;
            TRY(merge(r, to + i, from + i, a, from + i + a, b, down));
        }
        struct keyed *swap = from;
        from = to;
        to = swap;
    }
    if (from != k)
        memcpy(k, from, n * sizeof *k);
    return ERR_OK;
}

static int sorted_items(struct jinja_run *r, const struct jinja_list *items,
                        const struct jinja_value *attribute, bool fold, bool down,
                        struct keyed **out)
{
    struct keyed *k = jinja_take(&r->heap, (items->n + 1) * sizeof *k);
    if (k == NULL)
        return r->heap.err->code;
    for (size_t i = 0; i < items->n; i++) {
        k[i].item = items->at[i];
        TRY(sort_key(r, &items->at[i], attribute, fold, &k[i].key));
    }
    *out = k;
    return sort_keyed(r, k, items->n, down);
}

static int items_of(struct jinja_run *r, const struct keyed *k, size_t n, struct jinja_value *out)
{
    TRY(jinja_new_list(&r->heap, JINJA_LIST, n, out));
    for (size_t i = 0; i < n; i++)
        TRY(jinja_list_add(&r->heap, out, k[i].item));
    return ERR_OK;
}

FILTER(filter_sort)
{
    struct jinja_list *items;
    struct keyed *k;
    TRY(jinja_iterate(r, in, &items));
    TRY(sorted_items(r, items, jinja_arg(args, 2, "attribute"),
                     !jinja_arg_truth(args, 1, "case_sensitive", false),
                     jinja_arg_truth(args, 0, "reverse", false), &k));
    return items_of(r, k, items->n, out);
}

FILTER(filter_dictsort)
{
    struct jinja_value pairs, which = jinja_int(0);
    struct jinja_args none = {0};
    struct jinja_string by;
    struct keyed *k;
    TRY(filter_items(r, in, &none, &pairs));
    TRY(jinja_arg_string(r, args, 1, "by", "key", &by));
    which.i = jinja_equals_text(by, "value");
    TRY(sorted_items(r, pairs.list, &which, !jinja_arg_truth(args, 0, "case_sensitive", false),
                     jinja_arg_truth(args, 2, "reverse", false), &k));
    return items_of(r, k, pairs.list->n, out);
}

FILTER(filter_unique)
{
    struct jinja_list *items;
    struct jinja_value seen, key;
    bool fold = !jinja_arg_truth(args, 0, "case_sensitive", false), there;
    TRY(jinja_iterate(r, in, &items));
    TRY(jinja_new_list(&r->heap, JINJA_LIST, 0, out));
    TRY(jinja_new_list(&r->heap, JINJA_LIST, 0, &seen));
    for (size_t i = 0; i < items->n; i++) {
        TRY(sort_key(r, &items->at[i], jinja_arg(args, 1, "attribute"), fold, &key));
        TRY(jinja_contains(r, &seen, &key, &there));
        if (there)
            continue;
        TRY(jinja_list_add(&r->heap, &seen, key));
        TRY(jinja_list_add(&r->heap, out, items->at[i]));
    }
    return ERR_OK;
}

/* The smallest or greatest. */
static int extreme(struct jinja_run *r, const struct jinja_value *in, const struct jinja_args *args,
                   bool greatest, struct jinja_value *out)
{
    struct jinja_list *items;
    struct jinja_value best = {0}, key;
    bool fold = !jinja_arg_truth(args, 0, "case_sensitive", false);
    TRY(jinja_iterate(r, in, &items));
    *out = jinja_undefined("the least or greatest of nothing", 32);
    for (size_t i = 0; i < items->n; i++) {
        int order = -1;
        TRY(jinja_spend(r, ITEM_COST));
        TRY(sort_key(r, &items->at[i], jinja_arg(args, 1, "attribute"), fold, &key));
        if (i > 0)
            TRY(jinja_order(&r->heap, &key, &best, &order));
        if (i == 0 || (greatest ? order > 0 : order < 0)) {
            best = key;
            *out = items->at[i];
        }
    }
    return ERR_OK;
}

FILTER(filter_min) { return extreme(r, in, args, false, out); }
FILTER(filter_max) { return extreme(r, in, args, true, out); }

FILTER(filter_sum)
{
    struct jinja_list *items;
    const struct jinja_value *attribute = jinja_arg(args, 0, "attribute");
    const struct jinja_value *start = jinja_arg(args, 1, "start");
    TRY(jinja_iterate(r, in, &items));
    *out = start != NULL ? *start : jinja_int(0);
    for (size_t i = 0; i < items->n; i++) {
        struct jinja_value v = items->at[i], sum = *out;
        if (attribute != NULL && attribute->kind != JINJA_NONE)
            TRY(jinja_path(r, &items->at[i], attribute, &v));
        TRY(jinja_spend(r, ITEM_COST));
        TRY(jinja_binary(r, OP_ADD, &sum, &v, out));
    }
    return ERR_OK;
}

/* Pairs (value, items with it), in order of the value. */
FILTER(filter_groupby)
{
    struct jinja_list *items;
    struct keyed *k;
    struct jinja_value group = {0};
    const struct jinja_value *attribute = jinja_arg(args, 0, "attribute");
    bool fold = !jinja_arg_truth(args, 2, "case_sensitive", false);
    TRY(jinja_iterate(r, in, &items));
    TRY(sorted_items(r, items, attribute, fold, false, &k));
    TRY(jinja_new_list(&r->heap, JINJA_LIST, 0, out));
    for (size_t i = 0; i < items->n; i++) {
        if (i == 0 || !jinja_equal(&k[i].key, &k[i - 1].key)) {
            struct jinja_value pair, first;
            TRY(sort_key(r, &k[i].item, attribute, false, &first));
            TRY(jinja_new_list(&r->heap, JINJA_LIST, 0, &group));
            TRY(jinja_new_list(&r->heap, JINJA_TUPLE, 2, &pair));
            TRY(jinja_list_add(&r->heap, &pair, first));
            TRY(jinja_list_add(&r->heap, &pair, group));
            TRY(jinja_list_add(&r->heap, out, pair));
        }
        TRY(jinja_list_add(&r->heap, &group, k[i].item));
    }
    return ERR_OK;
}

/* Lists of `linecount` items, the last filled up with fill_with. */
FILTER(filter_batch)
{
    struct jinja_list *items;
    struct jinja_value line = {0};
    const struct jinja_value *fill = jinja_arg(args, 1, "fill_with");
    int64_t n;
    TRY(jinja_arg_int(r, args, 0, "linecount", 0, &n));
    if (n < 1 || n > 100000)
        return jinja_fail(r, "batch takes a number from 1 to 100000");
    TRY(jinja_iterate(r, in, &items));
    TRY(jinja_new_list(&r->heap, JINJA_LIST, 0, out));
    for (size_t i = 0; i < items->n; i++) {
        if (i % (size_t)n == 0) {
            TRY(jinja_new_list(&r->heap, JINJA_LIST, 0, &line));
            TRY(jinja_list_add(&r->heap, out, line));
        }
        TRY(jinja_spend(r, ITEM_COST));
        TRY(jinja_list_add(&r->heap, &line, items->at[i]));
    }
    while (fill != NULL && fill->kind != JINJA_NONE && items->n > 0 && (int64_t)line.list->n < n)
        TRY(jinja_list_add(&r->heap, &line, *fill));
    return ERR_OK;
}

/* So many lists of nearly one length, the longer ones first; fill_with makes up for it in the others. */
FILTER(filter_slice)
{
    struct jinja_list *items;
    const struct jinja_value *fill = jinja_arg(args, 1, "fill_with");
    int64_t n;
    size_t at = 0;
    TRY(jinja_arg_int(r, args, 0, "slices", 0, &n));
    if (n < 1 || n > 100000)
        return jinja_fail(r, "slice takes a number from 1 to 100000");
    TRY(jinja_iterate(r, in, &items));
    TRY(jinja_new_list(&r->heap, JINJA_LIST, 0, out));
    for (size_t i = 0; i < (size_t)n; i++) {
        struct jinja_value part;
        size_t longer = items->n % (size_t)n, end = at + items->n / (size_t)n + (i < longer);
        TRY(jinja_new_list(&r->heap, JINJA_LIST, 0, &part));
        TRY(jinja_list_add(&r->heap, out, part));
        for (; at < end; at++)
            TRY(jinja_list_add(&r->heap, &part, items->at[at]));
        TRY(jinja_spend(r, ITEM_COST));
        if (fill != NULL && fill->kind != JINJA_NONE && i >= longer)
            TRY(jinja_list_add(&r->heap, &part, *fill));
    }
    return ERR_OK;
}

const struct jinja_filter_row jinja_seq_filters[] = {
    {"length", filter_length}, {"count", filter_length}, {"list", filter_list},
    {"first", filter_first}, {"last", filter_last}, {"reverse", filter_reverse},
    {"join", filter_join}, {"items", filter_items}, {"attr", filter_attr}, {"map", filter_map},
    {"select", filter_select}, {"reject", filter_reject}, {"selectattr", filter_selectattr},
    {"rejectattr", filter_rejectattr}, {"sort", filter_sort}, {"dictsort", filter_dictsort},
    {"unique", filter_unique}, {"min", filter_min}, {"max", filter_max}, {"sum", filter_sum},
    {"groupby", filter_groupby}, {"batch", filter_batch}, {"slice", filter_slice},
    {NULL, NULL}};
