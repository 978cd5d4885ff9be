/* jinjavalue.h - the values of a template at work, and the memory they live in.
 * Why:    templates speak Python: None, True, 1.5 and {'a': 1} print as Python prints them.
 * Owner:  everything is taken from one heap that dies with the rendering; strings may point into each
 *         other, into the template and into the caller's variables.
 * Errors: functions return an ERR_* code; the message is in heap->err.
 * Ranks:  not collective. */
#ifndef MUSTER_JINJAVALUE_H
#define MUSTER_JINJAVALUE_H

#include "proto/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* --- memory */

struct jinja_heap {
    struct jinja_block *block;  /* the newest; a list */
    size_t used, max;           /* bytes taken of how many at most */
    struct err *err;
};

void jinja_heap_init(struct jinja_heap *h, size_t max, struct err *err);
void jinja_heap_free(struct jinja_heap *h);
/* 16-byte aligned, not zeroed; NULL past the limit or without memory, with h->err set. */
void *jinja_take(struct jinja_heap *h, size_t bytes);

/* A text that grows on the heap. */
struct jinja_text { struct jinja_heap *heap; char *p; size_t n, cap; };
int jinja_text_add(struct jinja_text *t, const char *p, size_t n);
int jinja_text_add_str(struct jinja_text *t, const char *s);

/* --- values */

enum jinja_kind {
    JINJA_UNDEFINED, JINJA_NONE, JINJA_BOOL, JINJA_INT, JINJA_FLOAT, JINJA_STRING, JINJA_LIST,
    JINJA_TUPLE, JINJA_DICT, JINJA_NAMESPACE, JINJA_MACRO, JINJA_FUNCTION, JINJA_METHOD, JINJA_LOOP
};

struct jinja_string { const char *p; size_t n; };

struct jinja_value {
    enum jinja_kind kind;
    union {
        bool flag;
        int64_t i;
        double f;
        struct jinja_string s;          /* string; undefined: what was looked for */
        struct jinja_list *list;        /* list, tuple */
        struct jinja_dict *dict;        /* dict, namespace */
        const struct jinja_macro *macro;
        int function;                   /* enum jinja_function */
        const struct jinja_method *method;
        struct jinja_loop *loop;
    };
};

/* Lists and dicts nest `depth` deep, at most so deep that walking them cannot exhaust the stack; nothing
 * but a namespace changes once it is built, and nobody walks through one. */
enum { JINJA_NESTING_MAX = 2500 };
struct jinja_list { struct jinja_value *at; size_t n, cap; int depth; };
struct jinja_pair { struct jinja_value key, value; };
struct jinja_dict {
    struct jinja_pair *at; size_t n, cap;       /* in order of insertion */
    uint32_t *slot; size_t n_slots;             /* hash table of places + 1, of big dicts only */
    int depth;
};
struct jinja_method { struct jinja_value self; struct jinja_string name; };

static inline struct jinja_value jinja_none(void)
{
    return (struct jinja_value){.kind = JINJA_NONE};
}
static inline struct jinja_value jinja_bool(bool b)
{
    return (struct jinja_value){.kind = JINJA_BOOL, .flag = b};
}
static inline struct jinja_value jinja_int(int64_t i)
{
    return (struct jinja_value){.kind = JINJA_INT, .i = i};
}
static inline struct jinja_value jinja_float(double f)
{
    return (struct jinja_value){.kind = JINJA_FLOAT, .f = f};
}
static inline struct jinja_value jinja_string(const char *p, size_t n)
{
    return (struct jinja_value){.kind = JINJA_STRING, .s = {p, n}};
}
static inline struct jinja_value jinja_text_value(const struct jinja_text *t)
{
    return jinja_string(t->n > 0 ? t->p : "", t->n);
}
static inline struct jinja_value jinja_undefined(const char *p, size_t n)
{
    return (struct jinja_value){.kind = JINJA_UNDEFINED, .s = {p, n}};
}
static inline bool jinja_is_seq(const struct jinja_value *v)
{
    return v->kind == JINJA_LIST || v->kind == JINJA_TUPLE;
}
static inline bool jinja_is_number(const struct jinja_value *v)
{
    return v->kind == JINJA_BOOL || v->kind == JINJA_INT || v->kind == JINJA_FLOAT;
}
bool jinja_equals_text(struct jinja_string s, const char *text);

/* Python's name of the kind, for messages. */
const char *jinja_kind_name(const struct jinja_value *v);
bool jinja_truth(const struct jinja_value *v);
/* Whole number or bool; false when it is neither. */
bool jinja_whole(const struct jinja_value *v, int64_t *i);
double jinja_real(const struct jinja_value *v);
bool jinja_equal(const struct jinja_value *a, const struct jinja_value *b);
/* *order < 0, 0, > 0; ERR_FORMAT where Python has no order. */
int jinja_order(struct jinja_heap *h, const struct jinja_value *a, const struct jinja_value *b,
                int *order);

int jinja_new_list(struct jinja_heap *h, enum jinja_kind kind, size_t cap, struct jinja_value *out);
int jinja_list_add(struct jinja_heap *h, struct jinja_value *list, struct jinja_value item);
int jinja_new_dict(struct jinja_heap *h, enum jinja_kind kind, struct jinja_value *out);
/* The value of a key, NULL when it is not there. */
struct jinja_value *jinja_dict_find(const struct jinja_dict *d, const struct jinja_value *key);
struct jinja_value *jinja_dict_find_text(const struct jinja_dict *d, struct jinja_string key);
int jinja_dict_set(struct jinja_heap *h, struct jinja_dict *d, struct jinja_value key,
                   struct jinja_value value);

/* Strings of the tree are borrowed. */
int jinja_from_json(struct jinja_heap *h, const json_t *node, struct jinja_value *out);

/* Appends str(v), repr(v). */
int jinja_print(struct jinja_text *out, const struct jinja_value *v);
int jinja_repr(struct jinja_text *out, const struct jinja_value *v);
/* str(v) as a string value; a string is itself. */
int jinja_to_string(struct jinja_heap *h, const struct jinja_value *v, struct jinja_string *out);

/* json.dumps. indent NULL: one line. */
struct jinja_json_style {
    bool ascii, sort_keys;
    const struct jinja_string *indent;  /* one level of it */
    struct jinja_string item, key;      /* separators */
};
int jinja_to_json(struct jinja_text *out, const struct jinja_value *v,
                  const struct jinja_json_style *style);

#endif
