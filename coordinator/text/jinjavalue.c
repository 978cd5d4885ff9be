#include "coordinator/text/jinjavalue.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- memory */

enum { BLOCK_BYTES = 64 << 10 };

struct jinja_block { struct jinja_block *older; size_t used, cap; };

void jinja_heap_init(struct jinja_heap *h, size_t max, struct err *err)
{
    *h = (struct jinja_heap){.max = max, .err = err};
}

void jinja_heap_free(struct jinja_heap *h)
{
    for (struct jinja_block *b = h->block, *older; b != NULL; b = older) {
        older = b->older;
        free(b);
    }
    h->block = NULL;
}

static size_t align16(size_t n) { return (n + 15) & ~(size_t)15; }

void *jinja_take(struct jinja_heap *h, size_t bytes)
{
    const size_t head = align16(sizeof(struct jinja_block));
    size_t need = align16(bytes);
    if (need < bytes || need > h->max - h->used) {
        err_set(h->err, ERR_LIMIT, "chat template: it needs more than %zu MB of memory", h->max >> 20);
        return NULL;
    }
    h->used += need;
    if (h->block == NULL || need > h->block->cap - h->block->used) {
        size_t cap = need > BLOCK_BYTES / 4 ? need : BLOCK_BYTES;
        struct jinja_block *b = malloc(head + cap);
        if (b == NULL) {
            err_set(h->err, ERR_NOMEM, "no memory for a template at work");
            return NULL;
        }
        *b = (struct jinja_block){h->block, 0, cap};
        /* A block for one big thing goes behind the newest, which still has room. */
        if (cap == need && h->block != NULL) {
            b->older = h->block->older;
            h->block->older = b;
            b->used = need;
            return (char *)b + head;
        }
        h->block = b;
    }
    void *p = (char *)h->block + head + h->block->used;
    h->block->used += need;
    return p;
}

int jinja_text_add(struct jinja_text *t, const char *p, size_t n)
{
    if (n > t->cap - t->n) {
        size_t cap = t->cap < 64 ? 128 : 2 * t->cap;
        while (cap - t->n < n)
            cap *= 2;
        char *more = jinja_take(t->heap, cap);
        if (more == NULL)
            return t->heap->err != NULL ? t->heap->err->code : ERR_NOMEM;
        if (t->n > 0)
            memcpy(more, t->p, t->n);
        t->p = more;
        t->cap = cap;
    }
    if (n > 0)
        memcpy(t->p + t->n, p, n);
    t->n += n;
    return ERR_OK;
}

int jinja_text_add_str(struct jinja_text *t, const char *s)
{
    return jinja_text_add(t, s, strlen(s));
}

/* The code of the error that jinja_take has set. */
static int no_room(const struct jinja_heap *h)
{
    return h->err != NULL && h->err->code != ERR_OK ? h->err->code : ERR_NOMEM;
}

/* --- questions */

bool jinja_equals_text(struct jinja_string s, const char *text)
{
    return strlen(text) == s.n && memcmp(s.p, text, s.n) == 0;
}

const char *jinja_kind_name(const struct jinja_value *v)
{
    static const char *const name[] = {"Undefined", "None", "bool", "int", "float", "str", "list",
                                       "tuple", "dict", "Namespace", "Macro", "function", "method",
                                       "loop"};
    return name[v->kind];
}

bool jinja_truth(const struct jinja_value *v)
{
    switch (v->kind) {
    case JINJA_UNDEFINED:
    case JINJA_NONE: return false;
    case JINJA_BOOL: return v->flag;
    case JINJA_INT: return v->i != 0;
    case JINJA_FLOAT: return v->f != 0;
    case JINJA_STRING: return v->s.n > 0;
    case JINJA_LIST:
    case JINJA_TUPLE: return v->list->n > 0;
    case JINJA_DICT: return v->dict->n > 0;
    default: return true;
    }
}

bool jinja_whole(const struct jinja_value *v, int64_t *i)
{
    if (v->kind != JINJA_INT && v->kind != JINJA_BOOL)
        return false;
    *i = v->kind == JINJA_INT ? v->i : v->flag;
    return true;
}

double jinja_real(const struct jinja_value *v)
{
    return v->kind == JINJA_FLOAT ? v->f : v->kind == JINJA_INT ? (double)v->i : v->flag;
}

static bool same_string(struct jinja_string a, struct jinja_string b)
{
    return a.n == b.n && (a.p == b.p || memcmp(a.p, b.p, a.n) == 0);
}

static bool equal_dicts(const struct jinja_dict *a, const struct jinja_dict *b)
{
    if (a->n != b->n)
        return false;
    for (size_t i = 0; i < a->n; i++) {
        const struct jinja_value *other = jinja_dict_find(b, &a->at[i].key);
        if (other == NULL || !jinja_equal(&a->at[i].value, other))
            return false;
    }
    return true;
}

bool jinja_equal(const struct jinja_value *a, const struct jinja_value *b)
{
    if (jinja_is_number(a) && jinja_is_number(b)) {
        int64_t x, y;
        if (jinja_whole(a, &x) && jinja_whole(b, &y))
            return x == y;
        return jinja_real(a) == jinja_real(b);
    }
    if (a->kind != b->kind)
        return false;
    switch (a->kind) {
    case JINJA_UNDEFINED:
    case JINJA_NONE: return true;
    case JINJA_STRING: return same_string(a->s, b->s);
    case JINJA_LIST:
    case JINJA_TUPLE:
        for (size_t i = 0; i < a->list->n && a->list->n == b->list->n; i++)
            if (!jinja_equal(&a->list->at[i], &b->list->at[i]))
                return false;
        return a->list->n == b->list->n;
    case JINJA_DICT: return equal_dicts(a->dict, b->dict);
    case JINJA_FUNCTION: return a->function == b->function;
    default: return a->dict == b->dict;         /* the same thing */
    }
}

static int order_strings(struct jinja_string a, struct jinja_string b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int d = n > 0 ? memcmp(a.p, b.p, n) : 0;    /* UTF-8 sorts as its characters do */
    return d != 0 ? d : a.n < b.n ? -1 : a.n > b.n;
}

int jinja_order(struct jinja_heap *h, const struct jinja_value *a, const struct jinja_value *b,
                int *order)
{
    int64_t x, y;
    if (jinja_whole(a, &x) && jinja_whole(b, &y)) {
        *order = x < y ? -1 : x > y;
        return ERR_OK;
    }
    if (jinja_is_number(a) && jinja_is_number(b)) {
        double p = jinja_real(a), q = jinja_real(b);
        *order = p < q ? -1 : p > q;
        return ERR_OK;
    }
    if (a->kind == JINJA_STRING && b->kind == JINJA_STRING) {
        *order = order_strings(a->s, b->s);
        return ERR_OK;
    }
    if (jinja_is_seq(a) && a->kind == b->kind) {
        size_t n = a->list->n < b->list->n ? a->list->n : b->list->n;
        for (size_t i = 0; i < n; i++) {
            if (jinja_equal(&a->list->at[i], &b->list->at[i]))
                continue;
            return jinja_order(h, &a->list->at[i], &b->list->at[i], order);
        }
        *order = a->list->n < b->list->n ? -1 : a->list->n > b->list->n;
        return ERR_OK;
    }
    return err_set(h->err, ERR_FORMAT, "%s and %s have no order", jinja_kind_name(a),
                   jinja_kind_name(b));
}

/* --- lists and dicts */

/* What holds v nests at least this deep. */
static int nest(const struct jinja_heap *h, const struct jinja_value *v, int *depth)
{
    int inner = jinja_is_seq(v) ? v->list->depth : v->kind == JINJA_DICT ? v->dict->depth : 0;
    if (inner >= *depth)
        *depth = inner + 1;
    return *depth <= JINJA_NESTING_MAX
               ? ERR_OK
               : err_set(h->err, ERR_LIMIT, "the template nests values more than %d deep",
                         JINJA_NESTING_MAX);
}

int jinja_new_list(struct jinja_heap *h, enum jinja_kind kind, size_t cap, struct jinja_value *out)
{
    struct jinja_list *l = jinja_take(h, sizeof *l);
    if (l == NULL)
        return no_room(h);
    *l = (struct jinja_list){0};
    if (cap > 0) {
        l->at = cap > SIZE_MAX / sizeof *l->at ? NULL : jinja_take(h, cap * sizeof *l->at);
        if (l->at == NULL)
            return no_room(h);
        l->cap = cap;
    }
    *out = (struct jinja_value){.kind = kind, .list = l};
    return ERR_OK;
}

int jinja_list_add(struct jinja_heap *h, struct jinja_value *list, struct jinja_value item)
{
    struct jinja_list *l = list->list;
    TRY(nest(h, &item, &l->depth));
    if (l->n == l->cap) {
        size_t cap = l->cap < 4 ? 8 : 2 * l->cap;
        struct jinja_value *at = jinja_take(h, cap * sizeof *at);
        if (at == NULL)
            return no_room(h);
        if (l->n > 0)
            memcpy(at, l->at, l->n * sizeof *at);
        l->at = at;
        l->cap = cap;
    }
    l->at[l->n++] = item;
    return ERR_OK;
}

int jinja_new_dict(struct jinja_heap *h, enum jinja_kind kind, struct jinja_value *out)
{
    struct jinja_dict *d = jinja_take(h, sizeof *d);
    if (d == NULL)
        return no_room(h);
    *d = (struct jinja_dict){0};
    *out = (struct jinja_value){.kind = kind, .dict = d};
    return ERR_OK;
}

/* Small dicts are searched; from this size on they have a hash table. */
enum { HASHED_FROM = 12 };

/* Equal keys have equal hashes: 1, 1.0 and True are equal. */
static size_t hash_key(const struct jinja_value *key)
{
    uint64_t h = 0xcbf29ce484222325u;
    double f;
    if (key->kind == JINJA_STRING) {
        for (size_t i = 0; i < key->s.n; i++)
            h = (h ^ (uint8_t)key->s.p[i]) * 0x100000001b3u;
    } else if (jinja_is_number(key)) {
        f = jinja_real(key) + 0.0;      /* -0 is 0 */
        memcpy(&h, &f, sizeof h);
        h *= 0x9e3779b97f4a7c15u;
    }
    return (size_t)(h ^ h >> 32);
}

static void put_slot(struct jinja_dict *d, size_t place)
{
    size_t i = hash_key(&d->at[place].key) & (d->n_slots - 1);
    while (d->slot[i] != 0)
        i = (i + 1) & (d->n_slots - 1);
    d->slot[i] = (uint32_t)place + 1;
}

/* Brings the table up to date after a pair was added, at most half full. */
static int index_dict(struct jinja_heap *h, struct jinja_dict *d)
{
    if (d->n < HASHED_FROM)
        return ERR_OK;
    if (d->n_slots >= 2 * d->n) {
        put_slot(d, d->n - 1);
        return ERR_OK;
    }
    size_t slots = 64;
    while (slots < 4 * d->n)
        slots *= 2;
    d->slot = d->n < UINT32_MAX / 4 ? jinja_take(h, slots * sizeof *d->slot) : NULL;
    if (d->slot == NULL)
        return no_room(h);
    memset(d->slot, 0, slots * sizeof *d->slot);
    d->n_slots = slots;
    for (size_t i = 0; i < d->n; i++)
        put_slot(d, i);
    return ERR_OK;
}

struct jinja_value *jinja_dict_find(const struct jinja_dict *d, const struct jinja_value *key)
{
    if (d->n < HASHED_FROM) {
        for (size_t i = 0; i < d->n; i++)
            if (jinja_equal(&d->at[i].key, key))
                return &d->at[i].value;
        return NULL;
    }
    for (size_t i = hash_key(key);; i++) {
        uint32_t place = d->slot[i & (d->n_slots - 1)];
        if (place == 0)
            return NULL;
        if (jinja_equal(&d->at[place - 1].key, key))
            return &d->at[place - 1].value;
    }
}

struct jinja_value *jinja_dict_find_text(const struct jinja_dict *d, struct jinja_string key)
{
    struct jinja_value k = jinja_string(key.p, key.n);
    return jinja_dict_find(d, &k);
}

int jinja_dict_set(struct jinja_heap *h, struct jinja_dict *d, struct jinja_value key,
                   struct jinja_value value)
{
    struct jinja_value *old = jinja_dict_find(d, &key);
    TRY(nest(h, &key, &d->depth));
    TRY(nest(h, &value, &d->depth));
    if (old != NULL) {
        *old = value;
        return ERR_OK;
    }
    if (d->n == d->cap) {
        size_t cap = d->cap < 4 ? 8 : 2 * d->cap;
        struct jinja_pair *at = jinja_take(h, cap * sizeof *at);
        if (at == NULL)
            return no_room(h);
        if (d->n > 0)
            memcpy(at, d->at, d->n * sizeof *at);
        d->at = at;
        d->cap = cap;
    }
    d->at[d->n++] = (struct jinja_pair){key, value};
    return index_dict(h, d);
}

/* --- from JSON */

static int from_array(struct jinja_heap *h, const json_t *node, struct jinja_value *out)
{
    json_t *item;
    size_t i;
    TRY(jinja_new_list(h, JINJA_LIST, json_array_size(node), out));
    json_array_foreach(node, i, item) {
        struct jinja_value v;
        TRY(jinja_from_json(h, item, &v));
        TRY(jinja_list_add(h, out, v));
    }
    return ERR_OK;
}

static int from_object(struct jinja_heap *h, const json_t *node, struct jinja_value *out)
{
    TRY(jinja_new_dict(h, JINJA_DICT, out));
    for (void *it = json_object_iter((json_t *)node); it != NULL;
         it = json_object_iter_next((json_t *)node, it)) {
        const char *key = json_object_iter_key(it);
        struct jinja_value v;
        TRY(jinja_from_json(h, json_object_iter_value(it), &v));
        TRY(jinja_dict_set(h, out->dict, jinja_string(key, strlen(key)), v));
    }
    return ERR_OK;
}

int jinja_from_json(struct jinja_heap *h, const json_t *node, struct jinja_value *out)
{
    switch (node == NULL ? JSON_NULL : json_typeof(node)) {
    case JSON_OBJECT: return from_object(h, node, out);
    case JSON_ARRAY: return from_array(h, node, out);
    case JSON_STRING: *out = jinja_string(json_string_value(node), json_string_length(node)); break;
    case JSON_INTEGER: *out = jinja_int(json_integer_value(node)); break;
    case JSON_REAL: *out = jinja_float(json_real_value(node)); break;
    case JSON_TRUE: *out = jinja_bool(true); break;
    case JSON_FALSE: *out = jinja_bool(false); break;
    case JSON_NULL: *out = jinja_none(); break;
    }
    return ERR_OK;
}
