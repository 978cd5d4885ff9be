/* Expressions of templates: the grammar of jinja2, one function for each level of binding. */
#include "coordinator/text/jinjanode.h"

#include <string.h>

/* Levels of brackets and operators that a template may nest; each takes a dozen C calls. */
enum { PARSE_DEPTH_MAX = 200 };

/* --- tokens */

int jinja_syntax_error(const struct jinja_parser *p, const char *wanted)
{
    const struct jinja_token *t = p->at;
    if (t->kind == TOKEN_END)
        return err_set(p->heap->err, ERR_FORMAT, "chat template line %d: it ends, but %s is missing",
                       t->line, wanted);
    return err_set(p->heap->err, ERR_FORMAT, "chat template line %d: '%.*s', but %s is expected",
                   t->line, t->text.n < 40 ? (int)t->text.n : 40, t->text.p, wanted);
}

int jinja_new_node(struct jinja_parser *p, enum jinja_node_kind kind, struct jinja_node **out)
{
    *out = jinja_take(p->heap, sizeof **out);
    if (*out == NULL)
        return p->heap->err != NULL ? p->heap->err->code : ERR_NOMEM;
    **out = (struct jinja_node){.kind = kind, .line = p->at->line};
    return ERR_OK;
}

bool jinja_at_operator(const struct jinja_parser *p, const char *op)
{
    return p->at->kind == TOKEN_OPERATOR && jinja_equals_text(p->at->text, op);
}

bool jinja_at_name(const struct jinja_parser *p, const char *name)
{
    return p->at->kind == TOKEN_NAME && jinja_equals_text(p->at->text, name);
}

bool jinja_skip_operator(struct jinja_parser *p, const char *op)
{
    bool found = jinja_at_operator(p, op);
    p->at += found;
    return found;
}

bool jinja_skip_name(struct jinja_parser *p, const char *name)
{
    bool found = jinja_at_name(p, name);
    p->at += found;
    return found;
}

int jinja_need_operator(struct jinja_parser *p, const char *op)
{
    char wanted[8] = "'";
    if (jinja_skip_operator(p, op))
        return ERR_OK;
    strcat(strcat(wanted, op), "'");
    return jinja_syntax_error(p, wanted);
}

int jinja_need_name(struct jinja_parser *p, struct jinja_string *name)
{
    if (p->at->kind != TOKEN_NAME)
        return jinja_syntax_error(p, "a name");
    *name = p->at++->text;
    return ERR_OK;
}

int jinja_enter(struct jinja_parser *p)
{
    if (++p->depth <= PARSE_DEPTH_MAX)
        return ERR_OK;
    return err_set(p->heap->err, ERR_LIMIT, "chat template line %d: nested more than %d deep",
                   p->at->line, PARSE_DEPTH_MAX);
}

/* A node with two children in the place of *left. */
static int wrap(struct jinja_parser *p, enum jinja_node_kind kind, int op, struct jinja_node **left,
                struct jinja_node *right)
{
    struct jinja_node *n;
    TRY(jinja_new_node(p, kind, &n));
    n->op = op;
    n->a = *left;
    n->b = right;
    *left = n;
    return ERR_OK;
}

/* --- primaries */

static int parse_string(struct jinja_parser *p, struct jinja_node **out)
{
    struct jinja_text t = {.heap = p->heap};
    TRY(jinja_new_node(p, NODE_CONST, out));
    struct jinja_string s = p->at++->text;
    if (p->at->kind == TOKEN_STRING)            /* neighbours are one string */
        TRY(jinja_text_add(&t, s.p, s.n));
    while (p->at->kind == TOKEN_STRING) {
        TRY(jinja_text_add(&t, p->at->text.p, p->at->text.n));
        s = jinja_text_value(&t).s;
        p->at++;
    }
    (*out)->value = jinja_string(s.p, s.n);
    return ERR_OK;
}

static int parse_name(struct jinja_parser *p, struct jinja_node **out)
{
    static const struct { const char *name; struct jinja_value value; } constant[] = {
        {"true", {JINJA_BOOL, {true}}}, {"True", {JINJA_BOOL, {true}}},
        {"false", {JINJA_BOOL, {false}}}, {"False", {JINJA_BOOL, {false}}},
        {"none", {JINJA_NONE, {0}}}, {"None", {JINJA_NONE, {0}}}};
    struct jinja_string name = p->at->text;
    TRY(jinja_new_node(p, NODE_NAME, out));
    p->at++;
    (*out)->text = name;
    for (size_t i = 0; i < sizeof constant / sizeof *constant; i++)
        if (jinja_equals_text(name, constant[i].name)) {
            (*out)->kind = NODE_CONST;
            (*out)->value = constant[i].value;
        }
    return ERR_OK;
}

/* Items up to the closing bracket, which is consumed. */
static int parse_items(struct jinja_parser *p, const char *close, struct jinja_node **list)
{
    struct jinja_node **end = list;
    while (!jinja_skip_operator(p, close)) {
        if (end != list) {
            TRY(jinja_need_operator(p, ","));
            if (jinja_skip_operator(p, close))
                break;
        }
        TRY(jinja_parse_expression(p, true, end));
        end = &(*end)->next;
    }
    return ERR_OK;
}

static int parse_dict(struct jinja_parser *p, struct jinja_node **out)
{
    TRY(jinja_new_node(p, NODE_DICT, out));
    struct jinja_node **end = &(*out)->a;
    while (!jinja_skip_operator(p, "}")) {
        if (end != &(*out)->a) {
            TRY(jinja_need_operator(p, ","));
            if (jinja_skip_operator(p, "}"))
                break;
        }
        TRY(jinja_new_node(p, NODE_PAIR, end));
        TRY(jinja_parse_expression(p, true, &(*end)->a));
        TRY(jinja_need_operator(p, ":"));
        TRY(jinja_parse_expression(p, true, &(*end)->b));
        end = &(*end)->next;
    }
    return ERR_OK;
}

/* ( ) is a tuple when it is empty or holds a comma. */
static int parse_parentheses(struct jinja_parser *p, struct jinja_node **out)
{
    if (jinja_skip_operator(p, ")"))
        return jinja_new_node(p, NODE_TUPLE, out);
    TRY(jinja_parse_tuple(p, true, out));
    return jinja_need_operator(p, ")");
}

int jinja_parse_primary(struct jinja_parser *p, struct jinja_node **out)
{
    const struct jinja_token *t = p->at;
    int rc;
    if (t->kind == TOKEN_STRING)
        return parse_string(p, out);
    if (t->kind == TOKEN_NAME)
        return parse_name(p, out);
    if (t->kind == TOKEN_INT || t->kind == TOKEN_FLOAT) {
        TRY(jinja_new_node(p, NODE_CONST, out));
        (*out)->value = t->kind == TOKEN_INT ? jinja_int(t->i) : jinja_float(t->f);
        p->at++;
        return ERR_OK;
    }
    TRY(jinja_enter(p));
    if (jinja_skip_operator(p, "(")) {
        rc = parse_parentheses(p, out);
    } else if (jinja_skip_operator(p, "[")) {
        TRY(jinja_new_node(p, NODE_LIST, out));
        rc = parse_items(p, "]", &(*out)->a);
    } else if (jinja_skip_operator(p, "{")) {
        rc = parse_dict(p, out);
    } else {
        rc = jinja_syntax_error(p, "a value");
    }
    p->depth--;
    return rc;
}

/* --- what follows a primary */

int jinja_parse_arguments(struct jinja_parser *p, struct jinja_node **out)
{
    struct jinja_node **end = out;
    TRY(jinja_need_operator(p, "("));
    while (!jinja_skip_operator(p, ")")) {
        if (end != out) {
            TRY(jinja_need_operator(p, ","));
            if (jinja_skip_operator(p, ")"))
                break;
        }
        TRY(jinja_new_node(p, NODE_ARGUMENT, end));
        if (p->at->kind == TOKEN_NAME && p->at[1].kind == TOKEN_OPERATOR &&
            jinja_equals_text(p->at[1].text, "=")) {
            (*end)->text = p->at->text;
            p->at += 2;
        }
        TRY(jinja_parse_expression(p, true, &(*end)->a));
        end = &(*end)->next;
    }
    return ERR_OK;
}

/* [ index ], [ a : b : c ] or [ a, b ]; the opening bracket is consumed. */
static int parse_subscript(struct jinja_parser *p, struct jinja_node **node)
{
    struct jinja_node *part[3] = {NULL, NULL, NULL};
    int n = 0;
    bool slice = false;
    while (!jinja_at_operator(p, "]")) {
        if (jinja_skip_operator(p, ":")) {
            slice = true;
            if (++n > 2)
                return jinja_syntax_error(p, "']'");
            continue;
        }
        if (part[n] != NULL)
            return jinja_syntax_error(p, "']'");
        TRY(slice ? jinja_parse_expression(p, true, &part[n]) : jinja_parse_tuple(p, true, &part[n]));
    }
    if (!slice && part[0] == NULL)
        return jinja_syntax_error(p, "an index");
    p->at++;
    TRY(wrap(p, slice ? NODE_SLICE : NODE_ITEM, 0, node, part[0]));
    (*node)->c = part[1];
    (*node)->d = part[2];
    return ERR_OK;
}

static int parse_dot(struct jinja_parser *p, struct jinja_node **node)
{
    const struct jinja_token *t = p->at;
    if (t->kind == TOKEN_INT) {
        struct jinja_node *index;
        TRY(jinja_new_node(p, NODE_CONST, &index));
        index->value = jinja_int(t->i);
        p->at++;
        return wrap(p, NODE_ITEM, 0, node, index);
    }
    struct jinja_string name;
    TRY(jinja_need_name(p, &name));
    TRY(wrap(p, NODE_ATTRIBUTE, 0, node, NULL));
    (*node)->text = name;
    return ERR_OK;
}

static int parse_call(struct jinja_parser *p, struct jinja_node **node)
{
    TRY(jinja_enter(p));
    TRY(wrap(p, NODE_CALL, 0, node, NULL));
    int rc = jinja_parse_arguments(p, &(*node)->b);
    p->depth--;
    return rc;
}

int jinja_parse_postfix(struct jinja_parser *p, struct jinja_node **node)
{
    for (;;) {
        if (jinja_skip_operator(p, "."))
            TRY(parse_dot(p, node));
        else if (jinja_skip_operator(p, "["))
            TRY(parse_subscript(p, node));
        else if (jinja_at_operator(p, "("))
            TRY(parse_call(p, node));
        else
            return ERR_OK;
    }
}

/* A name that may hold dots. */
static int dotted_name(struct jinja_parser *p, struct jinja_string *name)
{
    TRY(jinja_need_name(p, name));
    while (jinja_at_operator(p, ".") && p->at[1].kind == TOKEN_NAME) {
        name->n = (size_t)(p->at[1].text.p + p->at[1].text.n - name->p);
        p->at += 2;
    }
    return ERR_OK;
}

static int parse_filter(struct jinja_parser *p, struct jinja_node **node)
{
    struct jinja_string name;
    TRY(dotted_name(p, &name));
    TRY(wrap(p, NODE_FILTER, 0, node, NULL));
    (*node)->text = name;
    return jinja_at_operator(p, "(") ? jinja_parse_arguments(p, &(*node)->b) : ERR_OK;
}

int jinja_parse_filters(struct jinja_parser *p, bool first_named, struct jinja_node **out)
{
    *out = NULL;
    if (first_named)
        TRY(parse_filter(p, out));
    while (jinja_skip_operator(p, "|"))
        TRY(parse_filter(p, out));
    return ERR_OK;
}

/* Whether a value follows that is a test's argument without parentheses. */
static bool at_test_argument(const struct jinja_parser *p)
{
    enum jinja_token_kind k = p->at->kind;
    if (k == TOKEN_STRING || k == TOKEN_INT || k == TOKEN_FLOAT)
        return true;
    if (k == TOKEN_OPERATOR)
        return jinja_at_operator(p, "[") || jinja_at_operator(p, "{");
    return k == TOKEN_NAME && !jinja_at_name(p, "else") && !jinja_at_name(p, "or") &&
           !jinja_at_name(p, "and") && !jinja_at_name(p, "if") && !jinja_at_name(p, "in") &&
           !jinja_at_name(p, "not") && !jinja_at_name(p, "recursive");
}

static int parse_test(struct jinja_parser *p, struct jinja_node **node)
{
    struct jinja_string name;
    bool negated = jinja_skip_name(p, "not");
    TRY(dotted_name(p, &name));
    TRY(wrap(p, NODE_TEST, 0, node, NULL));
    (*node)->text = name;
    if (jinja_at_operator(p, "(")) {
        TRY(jinja_parse_arguments(p, &(*node)->b));
    } else if (jinja_at_name(p, "is")) {
        return jinja_syntax_error(p, "one test, not a chain");
    } else if (at_test_argument(p)) {
        TRY(jinja_new_node(p, NODE_ARGUMENT, &(*node)->b));
        TRY(jinja_parse_primary(p, &(*node)->b->a));
        TRY(jinja_parse_postfix(p, &(*node)->b->a));
    }
    return negated ? wrap(p, NODE_NOT, 0, node, NULL) : ERR_OK;
}

/* --- operators, from the tightest */

static int parse_unary(struct jinja_parser *p, bool filters, struct jinja_node **out)
{
    bool negate = jinja_skip_operator(p, "-");
    if (negate || jinja_skip_operator(p, "+")) {
        TRY(jinja_enter(p));
        TRY(parse_unary(p, false, out));
        p->depth--;
        TRY(wrap(p, negate ? NODE_NEGATE : NODE_PLUS, 0, out, NULL));
    } else {
        TRY(jinja_parse_primary(p, out));
        TRY(jinja_parse_postfix(p, out));
    }
    while (filters) {
        if (jinja_skip_operator(p, "|"))
            TRY(parse_filter(p, out));
        else if (jinja_skip_name(p, "is"))
            TRY(parse_test(p, out));
        else if (jinja_at_operator(p, "("))
            TRY(parse_call(p, out));
        else
            break;
    }
    return ERR_OK;
}

/* Binary operators by level: 0 + -, 1 ~, 2 * / // %, 3 **. All group to the left. */
static const struct { const char *text; int op; } binary[4][5] = {
    {{"+", OP_ADD}, {"-", OP_SUB}},
    {{"~", OP_CONCAT}},
    {{"*", OP_MUL}, {"/", OP_DIV}, {"//", OP_FLOOR_DIV}, {"%", OP_MOD}},
    {{"**", OP_POW}}};

static int parse_binary(struct jinja_parser *p, int level, struct jinja_node **out)
{
    TRY(level < 3 ? parse_binary(p, level + 1, out) : parse_unary(p, true, out));
    for (;;) {
        int i = 0;
        while (binary[level][i].text != NULL && !jinja_at_operator(p, binary[level][i].text))
            i++;
        if (binary[level][i].text == NULL)
            return ERR_OK;
        struct jinja_node *right;
        p->at++;
        TRY(level < 3 ? parse_binary(p, level + 1, &right) : parse_unary(p, true, &right));
        TRY(wrap(p, NODE_BINARY, binary[level][i].op, out, right));
    }
}

/* The comparison at hand, -1: none. */
static int skip_comparison(struct jinja_parser *p)
{
    static const char *const text[] = {"==", "!=", "<", "<=", ">", ">="};
    for (int op = OP_EQ; op <= OP_GE; op++)
        if (jinja_skip_operator(p, text[op]))
            return op;
    if (jinja_skip_name(p, "in"))
        return OP_IN;
    if (jinja_at_name(p, "not") && p->at[1].kind == TOKEN_NAME &&
        jinja_equals_text(p->at[1].text, "in")) {
        p->at += 2;
        return OP_NOT_IN;
    }
    return -1;
}

static int parse_compare(struct jinja_parser *p, struct jinja_node **out)
{
    TRY(parse_binary(p, 0, out));
    int op = skip_comparison(p);
    if (op < 0)
        return ERR_OK;
    TRY(wrap(p, NODE_COMPARE, 0, out, NULL));
    struct jinja_node **end = &(*out)->b;
    for (; op >= 0; op = skip_comparison(p)) {
        TRY(jinja_new_node(p, NODE_OPERAND, end));
        (*end)->op = op;
        TRY(parse_binary(p, 0, &(*end)->a));
        end = &(*end)->next;
    }
    return ERR_OK;
}

static int parse_not(struct jinja_parser *p, struct jinja_node **out)
{
    if (!jinja_skip_name(p, "not"))
        return parse_compare(p, out);
    TRY(jinja_enter(p));
    TRY(parse_not(p, out));
    p->depth--;
    return wrap(p, NODE_NOT, 0, out, NULL);
}

static int parse_and(struct jinja_parser *p, struct jinja_node **out)
{
    struct jinja_node *right;
    TRY(parse_not(p, out));
    while (jinja_skip_name(p, "and")) {
        TRY(parse_not(p, &right));
        TRY(wrap(p, NODE_AND, 0, out, right));
    }
    return ERR_OK;
}

static int parse_or(struct jinja_parser *p, struct jinja_node **out)
{
    struct jinja_node *right;
    TRY(parse_and(p, out));
    while (jinja_skip_name(p, "or")) {
        TRY(parse_and(p, &right));
        TRY(wrap(p, NODE_OR, 0, out, right));
    }
    return ERR_OK;
}

int jinja_parse_expression(struct jinja_parser *p, bool conditional, struct jinja_node **out)
{
    *out = NULL;
    TRY(jinja_enter(p));
    TRY(parse_or(p, out));
    while (conditional && jinja_skip_name(p, "if")) {
        struct jinja_node *test, *other = NULL;
        TRY(parse_or(p, &test));
        if (jinja_skip_name(p, "else"))
            TRY(jinja_parse_expression(p, true, &other));
        TRY(wrap(p, NODE_CONDITION, 0, out, test));
        (*out)->c = other;
    }
    p->depth--;
    return ERR_OK;
}

int jinja_parse_tuple(struct jinja_parser *p, bool conditional, struct jinja_node **out)
{
    TRY(jinja_parse_expression(p, conditional, out));
    if (!jinja_at_operator(p, ","))
        return ERR_OK;
    struct jinja_node *first = *out, **end = &first->next;
    TRY(jinja_new_node(p, NODE_TUPLE, out));
    (*out)->a = first;
    while (jinja_skip_operator(p, ",")) {
        enum jinja_token_kind k = p->at->kind;
        if (k == TOKEN_BLOCK_END || k == TOKEN_OUTPUT_END || jinja_at_operator(p, ")") ||
            jinja_at_operator(p, "]") || jinja_at_operator(p, "="))
            break;              /* a comma may end the list */
        TRY(jinja_parse_expression(p, conditional, end));
        end = &(*end)->next;
    }
    return ERR_OK;
}
