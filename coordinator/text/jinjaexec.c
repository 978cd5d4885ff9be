/* Runs statements: output, conditions, loops, assignments, macros; and the rendering as a whole. */
#include "coordinator/text/jinjarun.h"
#include "coordinator/text/unicode.h"

#include <stdlib.h>
#include <string.h>

const struct jinja_limits jinja_default_limits = {.steps = 20000000, .depth = 1500,
                                                  .memory = 256u << 20, .output = 64u << 20};

/* How a statement ends: the loop around it may have to stop or go on. */
enum flow { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE };

static int exec_list(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *list,
                     enum flow *flow);

/* --- scopes */

int jinja_new_scope(struct jinja_run *r, struct jinja_scope *parent, struct jinja_scope **out)
{
    *out = jinja_take(&r->heap, sizeof **out);
    if (*out == NULL)
        return r->heap.err->code;
    **out = (struct jinja_scope){parent, NULL};
    return ERR_OK;
}

int jinja_set(struct jinja_run *r, struct jinja_scope *scope, struct jinja_string name,
              struct jinja_value value)
{
    for (struct jinja_var *v = scope->var; v != NULL; v = v->next)
        if (v->name.n == name.n && memcmp(v->name.p, name.p, name.n) == 0) {
            v->value = value;
            return ERR_OK;
        }
    struct jinja_var *v = jinja_take(&r->heap, sizeof *v);
    if (v == NULL)
        return r->heap.err->code;
    *v = (struct jinja_var){name, value, scope->var};
    scope->var = v;
    return ERR_OK;
}

static int assign_attribute(struct jinja_run *r, struct jinja_scope *scope,
                            const struct jinja_node *target, const struct jinja_value *value)
{
    struct jinja_value object;
    TRY(jinja_eval(r, scope, target->a, &object));
    if (object.kind != JINJA_NAMESPACE)
        return jinja_fail(r, "cannot set an attribute of a %s, only of a namespace",
                          jinja_kind_name(&object));
    return jinja_dict_set(&r->heap, object.dict, jinja_string(target->text.p, target->text.n),
                          *value);
}

int jinja_assign(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *target,
                 const struct jinja_value *value)
{
    if (target->kind == NODE_NAME)
        return jinja_set(r, scope, target->text, *value);
    if (target->kind == NODE_ATTRIBUTE)
        return assign_attribute(r, scope, target, value);
    struct jinja_list *items;
    size_t n = 0;
    TRY(jinja_iterate(r, value, &items));
    for (const struct jinja_node *t = target->a; t != NULL; t = t->next, n++)
        if (n < items->n)
            TRY(jinja_assign(r, scope, t, &items->at[n]));
    return n == items->n ? ERR_OK : jinja_fail(r, "%zu values for %zu names", items->n, n);
}

/* --- output */

static int check_output(struct jinja_run *r)
{
    if (r->out->n > r->limits.output)
        return err_set(r->heap.err, ERR_LIMIT, "chat template line %d: it writes more than %zu bytes",
                       r->line, r->limits.output);
    return ERR_OK;
}

static int exec_output(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *n)
{
    struct jinja_value v;
    size_t before = r->out->n;
    TRY(jinja_eval(r, scope, n->a, &v));
    TRY(jinja_print(r->out, &v));
    TRY(jinja_spend(r, r->out->n - before));
    return check_output(r);
}

static int exec_data(struct jinja_run *r, const struct jinja_node *n)
{
    TRY(jinja_text_add(r->out, n->text.p, n->text.n));
    TRY(jinja_spend(r, n->text.n));
    return check_output(r);
}

int jinja_capture(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *list,
                  struct jinja_value *out)
{
    struct jinja_text text = {.heap = &r->heap}, *before = r->out;
    r->out = &text;
    int rc = jinja_exec(r, scope, list);
    r->out = before;
    *out = jinja_text_value(&text);
    return rc;
}

/* --- conditions and loops */

static int exec_if(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *n,
                   enum flow *flow)
{
    for (;;) {
        struct jinja_value test;
        TRY(jinja_eval(r, scope, n->a, &test));
        if (jinja_truth(&test))
            return exec_list(r, scope, n->b, flow);
        bool elif = n->c != NULL && n->c->kind == NODE_IF && n->c->next == NULL;
        if (!elif)
            return exec_list(r, scope, n->c, flow);
        n = n->c;               /* a long chain of elif is no recursion */
    }
}

/* The items that pass the loop's own `if`. */
static int filter_items(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *n,
                        struct jinja_list **items)
{
    struct jinja_value kept, test;
    TRY(jinja_new_list(&r->heap, JINJA_LIST, 0, &kept));
    for (size_t i = 0; i < (*items)->n; i++) {
        struct jinja_scope *inner;
        TRY(jinja_new_scope(r, scope, &inner));
        TRY(jinja_assign(r, inner, n->a, &(*items)->at[i]));
        TRY(jinja_eval(r, inner, n->e, &test));
        if (jinja_truth(&test))
            TRY(jinja_list_add(&r->heap, &kept, (*items)->at[i]));
    }
    *items = kept.list;
    return ERR_OK;
}

static int one_round(struct jinja_run *r, const struct jinja_node *n, struct jinja_loop *loop,
                     enum flow *flow)
{
    struct jinja_scope *inner;
    TRY(jinja_new_scope(r, loop->scope, &inner));
    TRY(jinja_set(r, inner, (struct jinja_string){"loop", 4},
                  (struct jinja_value){.kind = JINJA_LOOP, .loop = loop}));
    TRY(jinja_assign(r, inner, n->a, &loop->items->at[loop->index]));
    return exec_list(r, inner, n->c, flow);
}

int jinja_run_loop(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *n,
                   const struct jinja_value *v, int depth)
{
    struct jinja_list *items;
    struct jinja_loop *loop = jinja_take(&r->heap, sizeof *loop);
    enum flow flow = FLOW_ON;
    if (loop == NULL)
        return r->heap.err->code;
    TRY(jinja_iterate(r, v, &items));
    if (n->e != NULL)
        TRY(filter_items(r, scope, n, &items));
    *loop = (struct jinja_loop){.node = n, .items = items, .depth = depth, .scope = scope};
    for (; loop->index < items->n && flow != FLOW_BREAK; loop->index++) {
        flow = FLOW_ON;
        TRY(jinja_spend(r, 0));
        TRY(one_round(r, n, loop, &flow));
    }
    if (items->n > 0 || n->d == NULL)
        return ERR_OK;
    struct jinja_scope *inner;
    TRY(jinja_new_scope(r, scope, &inner));
    return jinja_exec(r, inner, n->d);
}

static int exec_for(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *n)
{
    struct jinja_value v;
    TRY(jinja_eval(r, scope, n->b, &v));
    return jinja_run_loop(r, scope, n, &v, 0);
}

/* --- assignments, macros, blocks */

static int exec_set(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *n)
{
    struct jinja_value v;
    TRY(jinja_eval(r, scope, n->b, &v));
    return jinja_assign(r, scope, n->a, &v);
}

/* Filters around NULL, the innermost first. */
static int apply_filters(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *n,
                         struct jinja_value *v)
{
    struct jinja_args args;
    if (n == NULL)
        return ERR_OK;
    if (++r->depth > r->limits.depth)
        return err_set(r->heap.err, ERR_LIMIT, "chat template line %d: too many filters", n->line);
    TRY(apply_filters(r, scope, n->a, v));
    r->depth--;
    TRY(jinja_eval_args(r, scope, n->b, &args));
    struct jinja_value in = *v;
    return jinja_filter(r, n->text, &in, &args, v);
}

/* Statements in a scope of their own, through filters. */
static int captured(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *list,
                    const struct jinja_node *filters, struct jinja_value *v)
{
    struct jinja_scope *inner;
    TRY(jinja_new_scope(r, scope, &inner));
    TRY(jinja_capture(r, inner, list, v));
    return apply_filters(r, scope, filters, v);
}

static int new_macro(struct jinja_run *r, struct jinja_scope *scope, struct jinja_macro macro,
                     struct jinja_value *out)
{
    struct jinja_macro *m = jinja_take(&r->heap, sizeof *m);
    if (m == NULL)
        return r->heap.err->code;
    *m = macro;
    m->scope = scope;
    *out = (struct jinja_value){.kind = JINJA_MACRO, .macro = m};
    return ERR_OK;
}

static int exec_macro(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *n)
{
    struct jinja_value v;
    struct jinja_macro m = {.name = n->text, .parameters = n->a, .body = n->b};
    TRY(new_macro(r, scope, m, &v));
    return jinja_set(r, scope, n->text, v);
}

/* {% call macro(...) %}: the statements are the macro's `caller`. */
static int exec_call_block(struct jinja_run *r, struct jinja_scope *scope,
                           const struct jinja_node *n)
{
    static const struct jinja_string name = {"caller", 6};
    struct jinja_value callee, v, caller;
    struct jinja_args args;
    struct jinja_macro m = {.name = name, .parameters = n->b, .body = n->c};
    TRY(jinja_eval(r, scope, n->a->a, &callee));
    TRY(jinja_eval_args(r, scope, n->a->b, &args));
    TRY(new_macro(r, scope, m, &caller));
    struct jinja_named *named = jinja_take(&r->heap, (args.n_named + 1) * sizeof *named);
    if (named == NULL)
        return r->heap.err->code;
    if (args.n_named > 0)
        memcpy(named, args.named, args.n_named * sizeof *named);
    named[args.n_named++] = (struct jinja_named){name, caller};
    args.named = named;
    TRY(jinja_call(r, &callee, &args, &v));
    TRY(jinja_print(r->out, &v));
    return check_output(r);
}

static int exec_with(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *n,
                     enum flow *flow)
{
    struct jinja_scope *inner;
    TRY(jinja_new_scope(r, scope, &inner));
    for (const struct jinja_node *set = n->a; set != NULL; set = set->next) {
        struct jinja_value v;
        TRY(jinja_eval(r, scope, set->b, &v));
        TRY(jinja_assign(r, inner, set->a, &v));
    }
    return exec_list(r, inner, n->b, flow);
}

static int exec_block(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *n)
{
    struct jinja_value v;
    if (n->kind == NODE_SET_BLOCK) {
        TRY(captured(r, scope, n->b, n->c, &v));
        return jinja_assign(r, scope, n->a, &v);
    }
    TRY(captured(r, scope, n->b, n->kind == NODE_FILTER_BLOCK ? n->a : NULL, &v));
    TRY(jinja_print(r->out, &v));
    return check_output(r);
}

static int exec_one(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *n,
                    enum flow *flow)
{
    switch (n->kind) {
    case NODE_DATA: return exec_data(r, n);
    case NODE_OUTPUT: return exec_output(r, scope, n);
    case NODE_IF: return exec_if(r, scope, n, flow);
    case NODE_FOR: return exec_for(r, scope, n);
    case NODE_SET: return exec_set(r, scope, n);
    case NODE_MACRO: return exec_macro(r, scope, n);
    case NODE_CALL_BLOCK: return exec_call_block(r, scope, n);
    case NODE_WITH: return exec_with(r, scope, n, flow);
    case NODE_SET_BLOCK:
    case NODE_FILTER_BLOCK:
    case NODE_SCOPE: return exec_block(r, scope, n);
    case NODE_BREAK: *flow = FLOW_BREAK; return ERR_OK;
    case NODE_CONTINUE: *flow = FLOW_CONTINUE; return ERR_OK;
    default: return jinja_fail(r, "not a statement");
    }
}

static int exec_list(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *list,
                     enum flow *flow)
{
    if (++r->depth > r->limits.depth)
        return err_set(r->heap.err, ERR_LIMIT, "chat template line %d: nested more than %d deep (an "
                       "endless recursion?)", r->line, r->limits.depth);
    for (const struct jinja_node *n = list; n != NULL && *flow == FLOW_ON; n = n->next) {
        r->line = n->line;
        TRY(jinja_spend(r, 0));
        TRY(exec_one(r, scope, n, flow));
    }
    r->depth--;
    return ERR_OK;
}

int jinja_exec(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *list)
{
    enum flow flow = FLOW_ON;
    return exec_list(r, scope, list, &flow);
}

/* --- rendering */

static int root_scope(struct jinja_run *r, const json_t *variables, struct jinja_scope **scope)
{
    TRY(jinja_new_scope(r, NULL, scope));
    for (void *it = json_object_iter((json_t *)variables); it != NULL;
         it = json_object_iter_next((json_t *)variables, it)) {
        const char *name = json_object_iter_key(it);
        struct jinja_value v;
        TRY(jinja_from_json(&r->heap, json_object_iter_value(it), &v));
        TRY(jinja_set(r, *scope, (struct jinja_string){name, strlen(name)}, v));
    }
    return ERR_OK;
}

static int render(struct jinja_run *r, const struct jinja_template *t, const json_t *variables)
{
    struct jinja_scope *scope;
    TRY(root_scope(r, variables, &scope));
    return jinja_exec(r, scope, t->body);
}

int jinja_render(const struct jinja_template *t, const json_t *variables, const struct tm *now,
                 const struct jinja_limits *limits, char **text, size_t *n, struct err *err)
{
    struct err mine = {0};
    struct jinja_run r = {.limits = limits != NULL ? *limits : jinja_default_limits, .now = now};
    struct jinja_text out = {.heap = &r.heap};
    jinja_heap_init(&r.heap, r.limits.memory, &mine);
    r.steps = r.limits.steps;
    r.out = &out;
    int rc = render(&r, t, variables);
    if (rc == ERR_OK) {
        *text = malloc(out.n + 1);
        if (*text == NULL) {
            rc = err_set(&mine, ERR_NOMEM, "no memory for a prompt of %zu bytes", out.n);
        } else {
            if (out.n > 0)
                memcpy(*text, out.p, out.n);
            (*text)[out.n] = '\0';
            *n = out.n;
        }
    }
    jinja_heap_free(&r.heap);
    return rc == ERR_OK ? ERR_OK : err_set(err, rc, "%s", mine.msg);
}
