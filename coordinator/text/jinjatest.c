/* Tests: x is defined, x is mapping, ... */
#include "coordinator/text/jinjarun.h"

#include <string.h>
#include <utf8proc.h>

/* Tests that look at the value alone. */
static bool simple_test(struct jinja_string name, const struct jinja_value *v, bool *yes)
{
    enum jinja_kind k = v->kind;
    bool number = jinja_is_number(v);
    const struct { const char *name; bool yes; } test[] = {
        {"defined", k != JINJA_UNDEFINED}, {"undefined", k == JINJA_UNDEFINED},
        {"none", k == JINJA_NONE}, {"string", k == JINJA_STRING}, {"mapping", k == JINJA_DICT},
        {"number", number}, {"boolean", k == JINJA_BOOL}, {"integer", k == JINJA_INT},
        {"float", k == JINJA_FLOAT}, {"true", k == JINJA_BOOL && v->flag},
        {"false", k == JINJA_BOOL && !v->flag},
        {"sequence", jinja_is_seq(v) || k == JINJA_STRING || k == JINJA_DICT || k == JINJA_UNDEFINED},
        {"iterable", jinja_is_seq(v) || k == JINJA_STRING || k == JINJA_DICT ||
                     k == JINJA_UNDEFINED || k == JINJA_LOOP},
        {"callable", k == JINJA_MACRO || k == JINJA_FUNCTION || k == JINJA_METHOD || k == JINJA_LOOP},
        {"escaped", false}};
    for (size_t i = 0; i < sizeof test / sizeof *test; i++)
        if (jinja_equals_text(name, test[i].name)) {
            *yes = test[i].yes;
            return true;
        }
    return false;
}

/* Comparisons by their many names; -1: none. */
static int comparison_op(struct jinja_string name)
{
    static const struct { const char *name; int op; } row[] = {
        {"eq", OP_EQ}, {"equalto", OP_EQ}, {"==", OP_EQ}, {"ne", OP_NE}, {"!=", OP_NE},
        {"lt", OP_LT}, {"lessthan", OP_LT}, {"<", OP_LT}, {"le", OP_LE}, {"<=", OP_LE},
        {"gt", OP_GT}, {"greaterthan", OP_GT}, {">", OP_GT}, {"ge", OP_GE}, {">=", OP_GE}};
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        if (jinja_equals_text(name, row[i].name))
            return row[i].op;
    return -1;
}

static int compare(struct jinja_run *r, int op, const struct jinja_value *a,
                   const struct jinja_value *b, bool *yes)
{
    int order;
    if (op == OP_EQ || op == OP_NE) {
        *yes = jinja_equal(a, b) == (op == OP_EQ);
        return ERR_OK;
    }
    TRY(jinja_order(&r->heap, a, b, &order));
    *yes = op == OP_LT ? order < 0 : op == OP_LE ? order <= 0 : op == OP_GT ? order > 0 : order >= 0;
    return ERR_OK;
}

/* The same object: equal, and of one kind. */
static bool same(const struct jinja_value *a, const struct jinja_value *b)
{
    if (a->kind != b->kind)
        return false;
    if (jinja_is_seq(a))
        return a->list == b->list;
    return a->kind == JINJA_DICT ? a->dict == b->dict : jinja_equal(a, b);
}

static int case_test(struct jinja_run *r, const struct jinja_value *v, bool upper, bool *yes)
{
    struct jinja_string s;
    struct jinja_value text, self;
    struct jinja_args none = {0};
    TRY(jinja_to_string(&r->heap, v, &s));
    self = jinja_string(s.p, s.n);
    TRY(jinja_method(r, &self, (struct jinja_string){upper ? "isupper" : "islower", 7}, &none, &text));
    *yes = text.flag;
    return ERR_OK;
}

static int divisible(struct jinja_run *r, const struct jinja_value *v, int64_t by, int64_t rest,
                     bool *yes)
{
    int64_t i;
    if (!jinja_whole(v, &i) || by == 0)
        return jinja_fail(r, "a test of divisibility needs whole numbers");
    int64_t left = by == -1 ? 0 : i % by;
    *yes = (left < 0 && by > 0 ? left + by : left) == rest;
    return ERR_OK;
}

int jinja_test(struct jinja_run *r, struct jinja_string name, const struct jinja_value *in,
               const struct jinja_args *args, bool *out)
{
    int op = comparison_op(name);
    if (simple_test(name, in, out))
        return ERR_OK;
    if (jinja_equals_text(name, "even") || jinja_equals_text(name, "odd"))
        return divisible(r, in, 2, name.n == 3, out);
    if (jinja_equals_text(name, "upper") || jinja_equals_text(name, "lower"))
        return case_test(r, in, name.p[0] == 'u', out);
    bool in_test = jinja_equals_text(name, "in"), same_test = jinja_equals_text(name, "sameas");
    bool by = jinja_equals_text(name, "divisibleby");
    if (op < 0 && !in_test && !same_test && !by)
        return jinja_fail(r, "no test is named '%.*s'", name.n < 60 ? (int)name.n : 60, name.p);
    if (args->n != 1)
        return jinja_fail(r, "test '%.*s' takes one argument", (int)name.n, name.p);
    if (in_test)
        return jinja_contains(r, &args->at[0], in, out);
    if (op >= 0)
        return compare(r, op, in, &args->at[0], out);
    int64_t d = 0;
    if (by)
        return jinja_whole(&args->at[0], &d) ? divisible(r, in, d, 0, out)
                                             : jinja_fail(r, "divisibleby takes a whole number");
    *out = same(in, &args->at[0]);
    return ERR_OK;
}
