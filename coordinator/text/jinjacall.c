/* Calls: macros, loops, methods and the global functions. */
#include "coordinator/text/jinjarun.h"

#include <string.h>

/* --- arguments */

const struct jinja_value *jinja_arg(const struct jinja_args *args, size_t place, const char *name)
{
    if (place < args->n)
        return &args->at[place];
    for (size_t i = 0; i < args->n_named; i++)
        if (jinja_equals_text(args->named[i].name, name))
            return &args->named[i].value;
    return NULL;
}

int jinja_arg_int(struct jinja_run *r, const struct jinja_args *args, size_t place, const char *name,
                  int64_t fallback, int64_t *out)
{
    const struct jinja_value *v = jinja_arg(args, place, name);
    *out = fallback;
    if (v == NULL || v->kind == JINJA_NONE || jinja_whole(v, out))
        return ERR_OK;
    return jinja_fail(r, "argument '%s' is a %s, not a whole number", name, jinja_kind_name(v));
}

bool jinja_arg_truth(const struct jinja_args *args, size_t place, const char *name, bool fallback)
{
    const struct jinja_value *v = jinja_arg(args, place, name);
    return v == NULL ? fallback : jinja_truth(v);
}

int jinja_arg_string(struct jinja_run *r, const struct jinja_args *args, size_t place,
                     const char *name, const char *fallback, struct jinja_string *out)
{
    const struct jinja_value *v = jinja_arg(args, place, name);
    if (v != NULL)
        return jinja_to_string(&r->heap, v, out);
    *out = (struct jinja_string){fallback, strlen(fallback)};
    return ERR_OK;
}

/* --- macros */

/* The parameter's value: by place, by name, its default, or undefined. */
static int bind_parameter(struct jinja_run *r, struct jinja_scope *scope,
                          const struct jinja_node *p, size_t place, const struct jinja_args *args)
{
    struct jinja_value v = jinja_undefined(p->text.p, p->text.n);
    bool given = place < args->n;
    if (given)
        v = args->at[place];
    for (size_t i = 0; i < args->n_named; i++) {
        const struct jinja_string *name = &args->named[i].name;
        if (name->n != p->text.n || memcmp(name->p, p->text.p, name->n) != 0)
            continue;
        if (given)
            return jinja_fail(r, "argument '%.*s' is given twice",
                              name->n < 60 ? (int)name->n : 60, name->p);
        v = args->named[i].value;
        given = true;
    }
    if (!given && p->a != NULL)
        TRY(jinja_eval(r, scope, p->a, &v));
    return jinja_set(r, scope, p->text, v);
}

static bool is_parameter(const struct jinja_macro *m, struct jinja_string name)
{
    for (const struct jinja_node *p = m->parameters; p != NULL; p = p->next)
        if (p->text.n == name.n && memcmp(p->text.p, name.p, name.n) == 0)
            return true;
    return false;
}

static int call_macro(struct jinja_run *r, const struct jinja_macro *m, const struct jinja_args *args,
                      struct jinja_value *out)
{
    struct jinja_scope *scope;
    size_t n = 0;
    TRY(jinja_new_scope(r, m->scope, &scope));
    for (size_t i = 0; i < args->n_named; i++) {
        const struct jinja_named *a = &args->named[i];
        if (is_parameter(m, a->name))
            continue;
        if (!jinja_equals_text(a->name, "caller"))
            return jinja_fail(r, "macro %.*s has no parameter '%.*s'",
                              m->name.n < 60 ? (int)m->name.n : 60, m->name.p,
                              a->name.n < 60 ? (int)a->name.n : 60, a->name.p);
        TRY(jinja_set(r, scope, a->name, a->value));
    }
    for (const struct jinja_node *p = m->parameters; p != NULL; p = p->next)
        TRY(bind_parameter(r, scope, p, n++, args));
    if (args->n > n)
        return jinja_fail(r, "macro %.*s takes %zu arguments", m->name.n < 60 ? (int)m->name.n : 60,
                          m->name.p, n);
    int line = r->line;
    TRY(jinja_capture(r, scope, m->body, out));
    r->line = line;
    return ERR_OK;
}

/* loop(items) of a recursive loop: its output, as a text. */
static int call_loop(struct jinja_run *r, const struct jinja_loop *l, const struct jinja_args *args,
                     struct jinja_value *out)
{
    struct jinja_text text = {.heap = &r->heap}, *before = r->out;
    if (!l->node->op || args->n != 1)
        return jinja_fail(r, "loop() needs a recursive loop and one argument");
    if (++r->depth > r->limits.depth)
        return err_set(r->heap.err, ERR_LIMIT, "chat template line %d: loops nested more than %d deep",
                       r->line, r->limits.depth);
    r->out = &text;
    int rc = jinja_run_loop(r, l->scope, l->node, &args->at[0], l->depth + 1);
    r->out = before;
    r->depth--;
    *out = jinja_text_value(&text);
    return rc;
}

int jinja_call(struct jinja_run *r, const struct jinja_value *callee, const struct jinja_args *args,
               struct jinja_value *out)
{
    switch (callee->kind) {
    case JINJA_MACRO: return call_macro(r, callee->macro, args, out);
    case JINJA_FUNCTION: return jinja_global(r, callee->function, args, out);
    case JINJA_METHOD:
        return jinja_method(r, &callee->method->self, callee->method->name, args, out);
    case JINJA_LOOP: return call_loop(r, callee->loop, args, out);
    case JINJA_UNDEFINED:
        return jinja_fail(r, "'%.*s' is undefined and cannot be called",
                          callee->s.n < 80 ? (int)callee->s.n : 80, callee->s.p);
    default: return jinja_fail(r, "a %s cannot be called", jinja_kind_name(callee));
    }
}

/* --- global functions */

bool jinja_find_global(struct jinja_string name, struct jinja_value *out)
{
    static const char *const names[] = {"range", "dict", "namespace", "raise_exception",
                                        "strftime_now"};
    for (int i = 0; i < 5; i++)
        if (jinja_equals_text(name, names[i])) {
            *out = (struct jinja_value){.kind = JINJA_FUNCTION, .function = i};
            return true;
        }
    return false;
}

/* range(stop), range(start, stop), range(start, stop, step); as long as jinja2's sandbox allows. */
static int call_range(struct jinja_run *r, const struct jinja_args *args, struct jinja_value *out)
{
    enum { RANGE_MAX = 100000 };
    int64_t v[3] = {0, 0, 1};
    if (args->n < 1 || args->n > 3)
        return jinja_fail(r, "range() takes 1 to 3 whole numbers");
    for (size_t i = 0; i < args->n; i++)
        if (!jinja_whole(&args->at[i], &v[args->n == 1 ? 1 : i]))
            return jinja_fail(r, "range() takes whole numbers, not a %s",
                              jinja_kind_name(&args->at[i]));
    if (v[2] == 0)
        return jinja_fail(r, "range() with a step of 0");
    TRY(jinja_new_list(&r->heap, JINJA_LIST, 0, out));
    for (int64_t i = v[0]; v[2] > 0 ? i < v[1] : i > v[1];) {
        if (out->list->n == RANGE_MAX)
            return jinja_fail(r, "range() of more than %d numbers", RANGE_MAX);
        TRY(jinja_list_add(&r->heap, out, jinja_int(i)));
        if (__builtin_add_overflow(i, v[2], &i))
            break;
    }
    return jinja_spend(r, 16 * out->list->n);
}

/* dict(other, a=1), namespace(other, a=1) */
static int call_dict(struct jinja_run *r, enum jinja_kind kind, const struct jinja_args *args,
                     struct jinja_value *out)
{
    TRY(jinja_new_dict(&r->heap, kind, out));
    if (args->n > 1 || (args->n == 1 && args->at[0].kind != JINJA_DICT))
        return jinja_fail(r, "dict() and namespace() take a dict and names");
    for (size_t i = 0; args->n == 1 && i < args->at[0].dict->n; i++) {
        const struct jinja_pair *p = &args->at[0].dict->at[i];
        TRY(jinja_spend(r, 16));
        TRY(jinja_dict_set(&r->heap, out->dict, p->key, p->value));
    }
    for (size_t i = 0; i < args->n_named; i++)
        TRY(jinja_dict_set(&r->heap, out->dict,
                           jinja_string(args->named[i].name.p, args->named[i].name.n),
                           args->named[i].value));
    return ERR_OK;
}

static int call_strftime(struct jinja_run *r, const struct jinja_args *args, struct jinja_value *out)
{
    struct jinja_string fmt;
    char text[512], format[200];
    struct tm now;
    time_t t = time(NULL);
    TRY(jinja_arg_string(r, args, 0, "format", "", &fmt));
    if (fmt.n >= sizeof format)
        return jinja_fail(r, "strftime_now: the format is too long");
    memcpy(format, fmt.p, fmt.n);
    format[fmt.n] = '\0';
    if (r->now != NULL)
        now = *r->now;
    else
        localtime_r(&t, &now);
    size_t n = strftime(text, sizeof text, format, &now);
    char *p = jinja_take(&r->heap, n + 1);
    if (p == NULL)
        return r->heap.err->code;
    memcpy(p, text, n);
    *out = jinja_string(p, n);
    return ERR_OK;
}

int jinja_global(struct jinja_run *r, int function, const struct jinja_args *args,
                 struct jinja_value *out)
{
    struct jinja_string message;
    switch ((enum jinja_function)function) {
    case FUNCTION_RANGE: return call_range(r, args, out);
    case FUNCTION_DICT: return call_dict(r, JINJA_DICT, args, out);
    case FUNCTION_NAMESPACE: return call_dict(r, JINJA_NAMESPACE, args, out);
    case FUNCTION_STRFTIME: return call_strftime(r, args, out);
    case FUNCTION_RAISE: break;
    }
    TRY(jinja_arg_string(r, args, 0, "message", "", &message));
    return err_set(r->heap.err, ERR_FORMAT, "%.*s", message.n < 230 ? (int)message.n : 230, message.p);
}
