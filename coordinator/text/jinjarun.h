/* jinjarun.h - a template at work: names, calls and limits.
 * Why:    evaluator, filters, tests and methods are files of their own and share this.
 * Owner:  a run and all it makes live in its heap.
 * Errors: functions return an ERR_* code; the message is in run->heap.err.
 * Ranks:  not collective. */
#ifndef MUSTER_JINJARUN_H
#define MUSTER_JINJARUN_H

#include "coordinator/text/jinjanode.h"

struct jinja_var { struct jinja_string name; struct jinja_value value; struct jinja_var *next; };
struct jinja_scope { struct jinja_scope *parent; struct jinja_var *var; };

struct jinja_macro {
    struct jinja_string name;
    const struct jinja_node *parameters, *body;
    struct jinja_scope *scope;          /* where it was written */
};

struct jinja_loop {
    const struct jinja_node *node;      /* its NODE_FOR */
    const struct jinja_list *items;
    size_t index;
    int depth;                          /* of a recursive loop, from 0 */
    struct jinja_scope *scope;          /* around it */
    struct jinja_value changed; bool has_changed;
};

/* Arguments of a call, a filter or a test (there without what stands before | or is). */
struct jinja_named { struct jinja_string name; struct jinja_value value; };
struct jinja_args { struct jinja_value *at; size_t n; struct jinja_named *named; size_t n_named; };

struct jinja_run {
    struct jinja_heap heap;
    struct jinja_limits limits;
    long steps;                 /* still allowed */
    int depth;
    int line;                   /* of the statement at work */
    struct jinja_text *out;     /* where output goes */
    const struct tm *now;
};

enum jinja_function { FUNCTION_RANGE, FUNCTION_DICT, FUNCTION_NAMESPACE, FUNCTION_RAISE,
                      FUNCTION_STRFTIME };

/* The message of a failure, with the line. */
int jinja_fail(struct jinja_run *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Takes steps for looking at so many bytes or items. */
int jinja_spend(struct jinja_run *r, size_t n);

int jinja_eval(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *n,
               struct jinja_value *out);
int jinja_exec(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *list);
/* Runs statements; what they write is *out. */
int jinja_capture(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *list,
                  struct jinja_value *out);
int jinja_eval_args(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *list,
                    struct jinja_args *out);
int jinja_call(struct jinja_run *r, const struct jinja_value *callee, const struct jinja_args *args,
               struct jinja_value *out);
/* Items of a recursive loop, one level down. */
int jinja_run_loop(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *n,
                   const struct jinja_value *items, int depth);

int jinja_new_scope(struct jinja_run *r, struct jinja_scope *parent, struct jinja_scope **out);
int jinja_set(struct jinja_run *r, struct jinja_scope *scope, struct jinja_string name,
              struct jinja_value value);
/* Assigns to a name, an attribute of a namespace, or each of a tuple. */
int jinja_assign(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *target,
                 const struct jinja_value *value);

/* obj.name and obj[index] as jinja2 finds them. */
int jinja_attribute(struct jinja_run *r, const struct jinja_value *object, struct jinja_string name,
                    struct jinja_value *out);
int jinja_item(struct jinja_run *r, const struct jinja_value *object,
               const struct jinja_value *index, struct jinja_value *out);
int jinja_slice(struct jinja_run *r, const struct jinja_value *object,
                const struct jinja_value part[3], struct jinja_value *out);
/* "a.b.0" step by step. */
int jinja_path(struct jinja_run *r, const struct jinja_value *object, const struct jinja_value *path,
               struct jinja_value *out);
/* What a for loop goes through, as a list. */
int jinja_iterate(struct jinja_run *r, const struct jinja_value *v, struct jinja_list **out);
int jinja_length(struct jinja_run *r, const struct jinja_value *v, int64_t *n);
int jinja_contains(struct jinja_run *r, const struct jinja_value *container,
                   const struct jinja_value *item, bool *found);
int jinja_binary(struct jinja_run *r, int op, const struct jinja_value *a,
                 const struct jinja_value *b, struct jinja_value *out);

/* Argument by place (from 0) or name; NULL when it was not given. */
const struct jinja_value *jinja_arg(const struct jinja_args *args, size_t place, const char *name);
int jinja_arg_int(struct jinja_run *r, const struct jinja_args *args, size_t place, const char *name,
                  int64_t fallback, int64_t *out);
bool jinja_arg_truth(const struct jinja_args *args, size_t place, const char *name, bool fallback);
/* str() of the argument. */
int jinja_arg_string(struct jinja_run *r, const struct jinja_args *args, size_t place,
                     const char *name, const char *fallback, struct jinja_string *out);

int jinja_filter(struct jinja_run *r, struct jinja_string name, const struct jinja_value *in,
                 const struct jinja_args *args, struct jinja_value *out);
int jinja_test(struct jinja_run *r, struct jinja_string name, const struct jinja_value *in,
               const struct jinja_args *args, bool *out);
typedef int jinja_method_fn(struct jinja_run *r, const struct jinja_value *self,
                            const struct jinja_args *args, struct jinja_value *out);
struct jinja_method_row { const char *name; jinja_method_fn *run; };
extern const struct jinja_method_row jinja_str_methods[];       /* ends with a NULL name */

/* Whether a method of that name exists on the object. */
bool jinja_has_method(const struct jinja_value *object, struct jinja_string name);
int jinja_method(struct jinja_run *r, const struct jinja_value *self, struct jinja_string name,
                 const struct jinja_args *args, struct jinja_value *out);
int jinja_global(struct jinja_run *r, int function, const struct jinja_args *args,
                 struct jinja_value *out);
bool jinja_find_global(struct jinja_string name, struct jinja_value *out);

/* Filters by kind: text in jinjafilter.c, sequences in jinjaseq.c. */
typedef int jinja_filter_fn(struct jinja_run *r, const struct jinja_value *in,
                            const struct jinja_args *args, struct jinja_value *out);
struct jinja_filter_row { const char *name; jinja_filter_fn *run; };
extern const struct jinja_filter_row jinja_seq_filters[];       /* ends with a NULL name */

/* Strings, shared by filters and methods. Python's rules throughout. */
int jinja_str_case(struct jinja_run *r, struct jinja_string s, char kind, struct jinja_value *out);
struct jinja_string jinja_str_strip(struct jinja_string s, const struct jinja_string *chars,
                                    bool left, bool right);
int jinja_str_replace(struct jinja_run *r, struct jinja_string s, struct jinja_string from,
                      struct jinja_string to, int64_t count, struct jinja_value *out);
int jinja_str_format(struct jinja_run *r, struct jinja_string fmt, const struct jinja_value *args,
                     size_t n, struct jinja_value *out);
int jinja_str_pad(struct jinja_run *r, struct jinja_string s, int64_t width, char where,
                  struct jinja_string fill, struct jinja_value *out);
int jinja_str_lines(struct jinja_run *r, struct jinja_string s, bool keep, struct jinja_value *out);
/* Index of `what` in s, -1; and how many characters s has. */
int64_t jinja_str_find(struct jinja_string s, struct jinja_string what);
int64_t jinja_str_length(struct jinja_string s);

#endif
