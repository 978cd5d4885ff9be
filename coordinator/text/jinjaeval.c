/* Evaluates expressions. */
#include "coordinator/text/jinjarun.h"
#include "coordinator/text/unicode.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int jinja_fail(struct jinja_run *r, const char *fmt, ...)
{
    char what[200];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return err_set(r->heap.err, ERR_FORMAT, "chat template line %d: %s", r->line, what);
}

int jinja_spend(struct jinja_run *r, size_t n)
{
    size_t cost = 1 + n / 64;
    if (cost > (size_t)r->steps) {
        r->steps = 0;
        return err_set(r->heap.err, ERR_LIMIT, "chat template line %d: it takes more than %ld steps "
                       "(an endless loop?)", r->line, r->limits.steps);
    }
    r->steps -= (long)cost;
    return ERR_OK;
}

/* --- names */

static int eval_name(struct jinja_run *r, const struct jinja_scope *scope,
                     const struct jinja_node *n, struct jinja_value *out)
{
    for (; scope != NULL; scope = scope->parent)
        for (const struct jinja_var *v = scope->var; v != NULL; v = v->next)
            if (v->name.n == n->text.n && memcmp(v->name.p, n->text.p, n->text.n) == 0) {
                *out = v->value;
                return ERR_OK;
            }
    if (!jinja_find_global(n->text, out))
        *out = jinja_undefined(n->text.p, n->text.n);
    return ERR_OK;
}

/* --- literals */

static int eval_list(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *n,
                     struct jinja_value *out)
{
    TRY(jinja_new_list(&r->heap, n->kind == NODE_TUPLE ? JINJA_TUPLE : JINJA_LIST, 0, out));
    for (const struct jinja_node *item = n->a; item != NULL; item = item->next) {
        struct jinja_value v;
        TRY(jinja_eval(r, scope, item, &v));
        TRY(jinja_list_add(&r->heap, out, v));
    }
    return ERR_OK;
}

static int eval_dict(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *n,
                     struct jinja_value *out)
{
    TRY(jinja_new_dict(&r->heap, JINJA_DICT, out));
    for (const struct jinja_node *pair = n->a; pair != NULL; pair = pair->next) {
        struct jinja_value key, value;
        TRY(jinja_eval(r, scope, pair->a, &key));
        TRY(jinja_eval(r, scope, pair->b, &value));
        if (key.kind == JINJA_LIST || key.kind == JINJA_DICT)
            return jinja_fail(r, "a %s cannot be a key", jinja_kind_name(&key));
        TRY(jinja_dict_set(&r->heap, out->dict, key, value));
    }
    return ERR_OK;
}

/* --- access */

static int eval_access(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *n,
                       struct jinja_value *out)
{
    struct jinja_value object, index;
    TRY(jinja_eval(r, scope, n->a, &object));
    if (n->kind == NODE_ATTRIBUTE)
        return jinja_attribute(r, &object, n->text, out);
    TRY(jinja_eval(r, scope, n->b, &index));
    return jinja_item(r, &object, &index, out);
}

static int eval_slice(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *n,
                      struct jinja_value *out)
{
    struct jinja_value object, part[3];
    const struct jinja_node *node[3] = {n->b, n->c, n->d};
    TRY(jinja_eval(r, scope, n->a, &object));
    for (int i = 0; i < 3; i++) {
        part[i] = jinja_none();
        if (node[i] != NULL)
            TRY(jinja_eval(r, scope, node[i], &part[i]));
    }
    return jinja_slice(r, &object, part, out);
}

/* --- calls */

int jinja_eval_args(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *list,
                    struct jinja_args *out)
{
    size_t n = 0;
    *out = (struct jinja_args){0};
    for (const struct jinja_node *a = list; a != NULL; a = a->next)
        n++;
    if (n == 0)
        return ERR_OK;
    out->at = jinja_take(&r->heap, (n + 1) * sizeof *out->at);
    out->named = jinja_take(&r->heap, (n + 1) * sizeof *out->named);
    if (out->at == NULL || out->named == NULL)
        return r->heap.err->code;
    for (const struct jinja_node *a = list; a != NULL; a = a->next) {
        struct jinja_value v;
        TRY(jinja_eval(r, scope, a->a, &v));
        if (a->text.n > 0)
            out->named[out->n_named++] = (struct jinja_named){a->text, v};
        else
            out->at[out->n++] = v;
    }
    return ERR_OK;
}

static int eval_call(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *n,
                     struct jinja_value *out)
{
    struct jinja_value callee;
    struct jinja_args args;
    TRY(jinja_eval(r, scope, n->a, &callee));
    TRY(jinja_eval_args(r, scope, n->b, &args));
    r->line = n->line;
    return jinja_call(r, &callee, &args, out);
}

static int eval_filter(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *n,
                       struct jinja_value *out)
{
    struct jinja_value in;
    struct jinja_args args;
    TRY(jinja_eval(r, scope, n->a, &in));
    TRY(jinja_eval_args(r, scope, n->b, &args));
    r->line = n->line;
    return jinja_filter(r, n->text, &in, &args, out);
}

static int eval_test(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *n,
                     struct jinja_value *out)
{
    struct jinja_value in;
    struct jinja_args args;
    bool yes;
    TRY(jinja_eval(r, scope, n->a, &in));
    TRY(jinja_eval_args(r, scope, n->b, &args));
    r->line = n->line;
    TRY(jinja_test(r, n->text, &in, &args, &yes));
    *out = jinja_bool(yes);
    return ERR_OK;
}

/* --- operators */

static int whole_result(struct jinja_run *r, bool overflow, int64_t i, struct jinja_value *out)
{
    if (overflow)
        return jinja_fail(r, "a whole number grows beyond 64 bits");
    *out = jinja_int(i);
    return ERR_OK;
}

static int power(struct jinja_run *r, int64_t a, int64_t b, struct jinja_value *out)
{
    int64_t result = 1;
    bool overflow = false;
    if (b < 0) {
        *out = jinja_float(pow((double)a, (double)b));
        return ERR_OK;
    }
    if (a == 0 || a == 1 || a == -1)
        b = b > 1 ? 2 - b % 2 : b;              /* the same, soon done */
    for (; b > 0 && !overflow; b--)
        overflow = __builtin_mul_overflow(result, a, &result);
    return whole_result(r, overflow, result, out);
}

static int whole_arithmetic(struct jinja_run *r, int op, int64_t a, int64_t b,
                            struct jinja_value *out)
{
    int64_t v = 0;
    bool over = false;
    if ((op == OP_DIV || op == OP_FLOOR_DIV || op == OP_MOD) && b == 0)
        return jinja_fail(r, "division by zero");
    switch (op) {
    case OP_ADD: over = __builtin_add_overflow(a, b, &v); break;
    case OP_SUB: over = __builtin_sub_overflow(a, b, &v); break;
    case OP_MUL: over = __builtin_mul_overflow(a, b, &v); break;
    case OP_POW: return power(r, a, b, out);
    case OP_DIV: *out = jinja_float((double)a / (double)b); return ERR_OK;
    default:
        over = a == INT64_MIN && b == -1;
        if (!over) {
            int64_t rest = a % b;
            bool down = rest != 0 && (rest < 0) != (b < 0);     /* Python rounds down */
            v = op == OP_MOD ? rest + (down ? b : 0) : a / b - down;
        }
    }
    return whole_result(r, over, v, out);
}

static int real_arithmetic(struct jinja_run *r, int op, double a, double b, struct jinja_value *out)
{
    double v = 0;
    if ((op == OP_DIV || op == OP_FLOOR_DIV || op == OP_MOD) && b == 0)
        return jinja_fail(r, "division by zero");
    switch (op) {
    case OP_ADD: v = a + b; break;
    case OP_SUB: v = a - b; break;
    case OP_MUL: v = a * b; break;
    case OP_DIV: v = a / b; break;
    case OP_FLOOR_DIV: v = floor(a / b); break;
    case OP_POW: v = pow(a, b); break;
    default:
        v = fmod(a, b);
        if (v != 0 && (v < 0) != (b < 0))
            v += b;
    }
    *out = jinja_float(v);
    return ERR_OK;
}

static int join_strings(struct jinja_run *r, struct jinja_string a, struct jinja_string b,
                        struct jinja_value *out)
{
    char *p = jinja_take(&r->heap, a.n + b.n + 1);
    if (p == NULL)
        return r->heap.err->code;
    memcpy(p, a.p, a.n);
    memcpy(p + a.n, b.p, b.n);
    *out = jinja_string(p, a.n + b.n);
    return jinja_spend(r, a.n + b.n);
}

static int join_lists(struct jinja_run *r, const struct jinja_value *a, const struct jinja_value *b,
                      struct jinja_value *out)
{
    TRY(jinja_new_list(&r->heap, a->kind, a->list->n + b->list->n, out));
    for (size_t i = 0; i < a->list->n; i++)
        TRY(jinja_list_add(&r->heap, out, a->list->at[i]));
    for (size_t i = 0; i < b->list->n; i++)
        TRY(jinja_list_add(&r->heap, out, b->list->at[i]));
    return jinja_spend(r, 16 * out->list->n);
}

/* text * n, list * n */
static int repeat(struct jinja_run *r, const struct jinja_value *v, int64_t times,
                  struct jinja_value *out)
{
    struct jinja_text text = {.heap = &r->heap};
    if (v->kind != JINJA_STRING)
        TRY(jinja_new_list(&r->heap, v->kind, 0, out));
    for (int64_t i = 0; i < times; i++) {
        TRY(jinja_spend(r, v->kind == JINJA_STRING ? v->s.n : 16 * v->list->n));
        if (v->kind == JINJA_STRING)
            TRY(jinja_text_add(&text, v->s.p, v->s.n));
        else
            for (size_t k = 0; k < v->list->n; k++)
                TRY(jinja_list_add(&r->heap, out, v->list->at[k]));
    }
    if (v->kind == JINJA_STRING)
        *out = jinja_text_value(&text);
    return ERR_OK;
}

static int concat(struct jinja_run *r, const struct jinja_value *a, const struct jinja_value *b,
                  struct jinja_value *out)
{
    struct jinja_string x, y;
    TRY(jinja_to_string(&r->heap, a, &x));
    TRY(jinja_to_string(&r->heap, b, &y));
    return join_strings(r, x, y, out);
}

int jinja_binary(struct jinja_run *r, int op, const struct jinja_value *a,
                 const struct jinja_value *b, struct jinja_value *out)
{
    int64_t x, y;
    bool text_a = a->kind == JINJA_STRING || jinja_is_seq(a);
    bool text_b = b->kind == JINJA_STRING || jinja_is_seq(b);
    if (op == OP_CONCAT)
        return concat(r, a, b, out);
    if (jinja_whole(a, &x) && jinja_whole(b, &y))
        return whole_arithmetic(r, op, x, y, out);
    if (jinja_is_number(a) && jinja_is_number(b))
        return real_arithmetic(r, op, jinja_real(a), jinja_real(b), out);
    if (op == OP_ADD && a->kind == JINJA_STRING && b->kind == JINJA_STRING)
        return join_strings(r, a->s, b->s, out);
    if (op == OP_ADD && jinja_is_seq(a) && a->kind == b->kind)
        return join_lists(r, a, b, out);
    if (op == OP_MUL && text_a && jinja_whole(b, &y))
        return repeat(r, a, y, out);
    if (op == OP_MUL && text_b && jinja_whole(a, &x))
        return repeat(r, b, x, out);
    if (op == OP_MOD && a->kind == JINJA_STRING)
        return b->kind == JINJA_TUPLE ? jinja_str_format(r, a->s, b->list->at, b->list->n, out)
                                      : jinja_str_format(r, a->s, b, 1, out);
    for (int i = 0; i < 2; i++) {
        const struct jinja_value *v = i == 0 ? a : b;
        if (v->kind == JINJA_UNDEFINED)
            return jinja_fail(r, "'%.*s' is undefined", v->s.n < 80 ? (int)v->s.n : 80, v->s.p);
    }
    return jinja_fail(r, "no arithmetic between %s and %s", jinja_kind_name(a), jinja_kind_name(b));
}

static int compare(struct jinja_run *r, int op, const struct jinja_value *a,
                   const struct jinja_value *b, bool *yes)
{
    int order = 0;
    if (op == OP_EQ || op == OP_NE) {
        *yes = jinja_equal(a, b) == (op == OP_EQ);
        return ERR_OK;
    }
    if (op == OP_IN || op == OP_NOT_IN) {
        TRY(jinja_contains(r, b, a, yes));
        *yes = *yes == (op == OP_IN);
        return ERR_OK;
    }
    TRY(jinja_order(&r->heap, a, b, &order));
    *yes = op == OP_LT ? order < 0 : op == OP_LE ? order <= 0 : op == OP_GT ? order > 0 : order >= 0;
    return ERR_OK;
}

static int eval_compare(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *n,
                        struct jinja_value *out)
{
    struct jinja_value left, right;
    bool yes = true;
    TRY(jinja_eval(r, scope, n->a, &left));
    for (const struct jinja_node *o = n->b; o != NULL && yes; o = o->next) {
        TRY(jinja_eval(r, scope, o->a, &right));
        TRY(jinja_spend(r, left.kind == JINJA_STRING ? left.s.n : 0));
        TRY(compare(r, o->op, &left, &right, &yes));
        left = right;
    }
    *out = jinja_bool(yes);
    return ERR_OK;
}

static int eval_sign(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *n,
                     struct jinja_value *out)
{
    struct jinja_value v, zero = jinja_int(0);
    TRY(jinja_eval(r, scope, n->a, &v));
    if (v.kind == JINJA_FLOAT) {
        *out = jinja_float(n->kind == NODE_NEGATE ? -v.f : v.f);
        return ERR_OK;
    }
    return jinja_binary(r, n->kind == NODE_NEGATE ? OP_SUB : OP_ADD, &zero, &v, out);
}

/* and, or: the value that decided. */
static int eval_logic(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *n,
                      struct jinja_value *out)
{
    TRY(jinja_eval(r, scope, n->a, out));
    if (jinja_truth(out) == (n->kind == NODE_OR))
        return ERR_OK;
    return jinja_eval(r, scope, n->b, out);
}

static int eval_condition(struct jinja_run *r, struct jinja_scope *scope,
                          const struct jinja_node *n, struct jinja_value *out)
{
    struct jinja_value test;
    TRY(jinja_eval(r, scope, n->b, &test));
    if (jinja_truth(&test))
        return jinja_eval(r, scope, n->a, out);
    if (n->c != NULL)
        return jinja_eval(r, scope, n->c, out);
    *out = jinja_undefined("inline if without else", 22);
    return ERR_OK;
}

static int eval_binary(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *n,
                       struct jinja_value *out)
{
    struct jinja_value a, b;
    TRY(jinja_eval(r, scope, n->a, &a));
    TRY(jinja_eval(r, scope, n->b, &b));
    r->line = n->line;
    return jinja_binary(r, n->op, &a, &b, out);
}

static int eval_not(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *n,
                    struct jinja_value *out)
{
    struct jinja_value v;
    TRY(jinja_eval(r, scope, n->a, &v));
    *out = jinja_bool(!jinja_truth(&v));
    return ERR_OK;
}

static int dispatch(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *n,
                    struct jinja_value *out)
{
    switch (n->kind) {
    case NODE_CONST: *out = n->value; return ERR_OK;
    case NODE_NAME: return eval_name(r, scope, n, out);
    case NODE_LIST:
    case NODE_TUPLE: return eval_list(r, scope, n, out);
    case NODE_DICT: return eval_dict(r, scope, n, out);
    case NODE_ATTRIBUTE:
    case NODE_ITEM: return eval_access(r, scope, n, out);
    case NODE_SLICE: return eval_slice(r, scope, n, out);
    case NODE_CALL: return eval_call(r, scope, n, out);
    case NODE_FILTER: return eval_filter(r, scope, n, out);
    case NODE_TEST: return eval_test(r, scope, n, out);
    case NODE_NOT: return eval_not(r, scope, n, out);
    case NODE_NEGATE:
    case NODE_PLUS: return eval_sign(r, scope, n, out);
    case NODE_AND:
    case NODE_OR: return eval_logic(r, scope, n, out);
    case NODE_COMPARE: return eval_compare(r, scope, n, out);
    case NODE_BINARY: return eval_binary(r, scope, n, out);
    case NODE_CONDITION: return eval_condition(r, scope, n, out);
    default: return jinja_fail(r, "not an expression");
    }
}

int jinja_eval(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *n,
               struct jinja_value *out)
{
    TRY(jinja_spend(r, 0));
    if (++r->depth > r->limits.depth)
        return err_set(r->heap.err, ERR_LIMIT, "chat template line %d: nested more than %d deep (an "
                       "endless recursion?)", n->line, r->limits.depth);
    int rc = dispatch(r, scope, n, out);
    r->depth--;
    return rc;
}
