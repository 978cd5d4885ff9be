/* Statements of templates, and the template as a whole. */
#include "coordinator/text/jinjanode.h"
#include "coordinator/text/textbuf.h"
#include "coordinator/text/unicode.h"

#include <stdlib.h>
#include <string.h>

enum { TEMPLATE_BYTES_MAX = 4 << 20 };
static const size_t tree_bytes_max = 512u << 20;

static int parse_body(struct jinja_parser *p, const char *const *ends, struct jinja_node **out);

static int block_end(struct jinja_parser *p)
{
    if (p->at->kind != TOKEN_BLOCK_END)
        return jinja_syntax_error(p, "'%}'");
    p->at++;
    return ERR_OK;
}

/* Statements up to a tag named in `ends` (NULL-terminated), whose name is left to be read. */
static int body_until(struct jinja_parser *p, const char *const *ends, struct jinja_node **out)
{
    TRY(block_end(p));
    return parse_body(p, ends, out);
}

/* Statements up to the tag `end`, which is consumed. */
static int body_to(struct jinja_parser *p, const char *end, struct jinja_node **out)
{
    const char *const ends[] = {end, NULL};
    TRY(body_until(p, ends, out));
    p->at++;
    if (p->at->kind == TOKEN_NAME)      /* {% endmacro name %} */
        p->at++;
    return block_end(p);
}

/* --- targets of assignments */

static int parse_one_target(struct jinja_parser *p, struct jinja_node **out)
{
    struct jinja_string name;
    TRY(jinja_need_name(p, &name));
    TRY(jinja_new_node(p, NODE_NAME, out));
    (*out)->text = name;
    if (!jinja_skip_operator(p, "."))
        return ERR_OK;
    struct jinja_node *object = *out;
    TRY(jinja_need_name(p, &name));
    TRY(jinja_new_node(p, NODE_ATTRIBUTE, out));
    (*out)->a = object;
    (*out)->text = name;
    return ERR_OK;
}

/* name, a.b, or a list of them with or without parentheses. */
static int parse_target(struct jinja_parser *p, struct jinja_node **out)
{
    bool open = jinja_skip_operator(p, "(");
    TRY(parse_one_target(p, out));
    if (jinja_at_operator(p, ",")) {
        struct jinja_node *first = *out, **end = &first->next;
        TRY(jinja_new_node(p, NODE_TUPLE, out));
        (*out)->a = first;
        while (jinja_skip_operator(p, ",")) {
            TRY(parse_one_target(p, end));
            end = &(*end)->next;
        }
    }
    return open ? jinja_need_operator(p, ")") : ERR_OK;
}

/* --- statements; the tag's name is consumed */

static int parse_for(struct jinja_parser *p, struct jinja_node *n)
{
    static const char *const ends[] = {"else", "endfor", NULL};
    TRY(parse_target(p, &n->a));
    if (!jinja_skip_name(p, "in"))
        return jinja_syntax_error(p, "'in'");
    TRY(jinja_parse_tuple(p, false, &n->b));
    if (jinja_skip_name(p, "if"))
        TRY(jinja_parse_expression(p, true, &n->e));
    n->op = jinja_skip_name(p, "recursive");
    TRY(body_until(p, ends, &n->c));
    if (jinja_skip_name(p, "else"))
        return body_to(p, "endfor", &n->d);
    p->at++;
    return block_end(p);
}

/* An elif is an if in the place of the else; it shares the endif. */
static int parse_if(struct jinja_parser *p, struct jinja_node *n)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    for (;;) {
        TRY(jinja_parse_tuple(p, true, &n->a));
        TRY(body_until(p, ends, &n->b));
        if (!jinja_skip_name(p, "elif"))
            break;
        TRY(jinja_new_node(p, NODE_IF, &n->c));
        n = n->c;
    }
    if (jinja_skip_name(p, "else"))
        return body_to(p, "endif", &n->c);
    p->at++;
    return block_end(p);
}

static int parse_set(struct jinja_parser *p, struct jinja_node *n)
{
    TRY(parse_target(p, &n->a));
    if (jinja_skip_operator(p, "=")) {
        TRY(jinja_parse_tuple(p, true, &n->b));
        return block_end(p);
    }
    n->kind = NODE_SET_BLOCK;
    TRY(jinja_parse_filters(p, false, &n->c));
    return body_to(p, "endset", &n->b);
}

/* ( a, b=1 ) */
static int parse_parameters(struct jinja_parser *p, struct jinja_node **out)
{
    struct jinja_node **end = out;
    TRY(jinja_need_operator(p, "("));
    while (!jinja_skip_operator(p, ")")) {
        if (end != out)
            TRY(jinja_need_operator(p, ","));
        TRY(jinja_new_node(p, NODE_PARAMETER, end));
        TRY(jinja_need_name(p, &(*end)->text));
        if (jinja_skip_operator(p, "="))
            TRY(jinja_parse_expression(p, true, &(*end)->a));
        end = &(*end)->next;
    }
    return ERR_OK;
}

static int parse_macro(struct jinja_parser *p, struct jinja_node *n)
{
    TRY(jinja_need_name(p, &n->text));
    TRY(parse_parameters(p, &n->a));
    return body_to(p, "endmacro", &n->b);
}

static int parse_call_block(struct jinja_parser *p, struct jinja_node *n)
{
    if (jinja_at_operator(p, "("))
        TRY(parse_parameters(p, &n->b));
    TRY(jinja_parse_expression(p, true, &n->a));
    if (n->a->kind != NODE_CALL)
        return jinja_syntax_error(p, "a call");
    return body_to(p, "endcall", &n->c);
}

static int parse_filter_block(struct jinja_parser *p, struct jinja_node *n)
{
    TRY(jinja_parse_filters(p, true, &n->a));
    return body_to(p, "endfilter", &n->b);
}

static int parse_with(struct jinja_parser *p, struct jinja_node *n)
{
    struct jinja_node **end = &n->a;
    while (p->at->kind != TOKEN_BLOCK_END) {
        if (end != &n->a)
            TRY(jinja_need_operator(p, ","));
        TRY(jinja_new_node(p, NODE_SET, end));
        TRY(parse_one_target(p, &(*end)->a));
        TRY(jinja_need_operator(p, "="));
        TRY(jinja_parse_expression(p, true, &(*end)->b));
        end = &(*end)->next;
    }
    return body_to(p, "endwith", &n->b);
}

static int parse_generation(struct jinja_parser *p, struct jinja_node *n)
{
    return body_to(p, "endgeneration", &n->b);
}

static int parse_bare(struct jinja_parser *p, struct jinja_node *n)
{
    (void)n;
    return block_end(p);
}

static int parse_statement(struct jinja_parser *p, struct jinja_node **out)
{
    static const struct {
        const char *name;
        enum jinja_node_kind kind;
        int (*parse)(struct jinja_parser *p, struct jinja_node *n);
    } tag[] = {{"for", NODE_FOR, parse_for}, {"if", NODE_IF, parse_if}, {"set", NODE_SET, parse_set},
               {"macro", NODE_MACRO, parse_macro}, {"call", NODE_CALL_BLOCK, parse_call_block},
               {"filter", NODE_FILTER_BLOCK, parse_filter_block}, {"with", NODE_WITH, parse_with},
               {"generation", NODE_SCOPE, parse_generation},
               {"break", NODE_BREAK, parse_bare}, {"continue", NODE_CONTINUE, parse_bare}};
    for (size_t i = 0; i < sizeof tag / sizeof *tag; i++) {
        if (!jinja_skip_name(p, tag[i].name))
            continue;
        TRY(jinja_new_node(p, tag[i].kind, out));
        TRY(jinja_enter(p));
        int rc = tag[i].parse(p, *out);
        p->depth--;
        return rc;
    }
    return jinja_syntax_error(p, "a tag of a chat template (if, for, set, macro, ...)");
}

static bool at_any(const struct jinja_parser *p, const char *const *names)
{
    for (; names != NULL && *names != NULL; names++)
        if (jinja_at_name(p, *names))
            return true;
    return false;
}

static const char *last_of(const char *const *names)
{
    while (names[1] != NULL)
        names++;
    return *names;
}

static int parse_body(struct jinja_parser *p, const char *const *ends, struct jinja_node **out)
{
    struct jinja_node **end = out;
    *out = NULL;
    for (;;) {
        const struct jinja_token *t = p->at;
        if (t->kind == TOKEN_END)
            return ends == NULL ? ERR_OK : jinja_syntax_error(p, last_of(ends));
        p->at++;
        if (t->kind == TOKEN_DATA) {
            TRY(jinja_new_node(p, NODE_DATA, end));
            (*end)->text = t->text;
        } else if (t->kind == TOKEN_OUTPUT_BEGIN) {
            TRY(jinja_new_node(p, NODE_OUTPUT, end));
            TRY(jinja_parse_tuple(p, true, &(*end)->a));
            if (p->at->kind != TOKEN_OUTPUT_END)
                return jinja_syntax_error(p, "'}}'");
            p->at++;
        } else {
            if (at_any(p, ends))
                return ERR_OK;
            TRY(parse_statement(p, end));
        }
        end = &(*end)->next;
    }
}

int jinja_parse_template(struct jinja_parser *p, struct jinja_node **out)
{
    return parse_body(p, NULL, out);
}

/* The source with one kind of line end, without the last one. */
static int clean_source(struct jinja_heap *h, const char *source, size_t n, struct jinja_text *out)
{
    *out = (struct jinja_text){.heap = h};
    for (size_t i = 0; i < n;) {
        const char *cr = memchr(source + i, '\r', n - i);
        size_t end = cr != NULL ? (size_t)(cr - source) : n;
        TRY(jinja_text_add(out, source + i, end - i));
        if (cr != NULL)
            TRY(jinja_text_add(out, "\n", 1));
        i = end + 1 + (end + 1 < n && source[end + 1] == '\n' && cr != NULL);
    }
    if (out->n > 0 && out->p[out->n - 1] == '\n')
        out->n--;
    return ERR_OK;
}

static int parse_source(struct jinja_template *t, const char *source, size_t n)
{
    struct jinja_text text;
    struct jinja_tokens tokens = {0};
    TRY(clean_source(&t->heap, source, n, &text));
    TRY(jinja_lex(&t->heap, text.n > 0 ? text.p : "", text.n, &tokens));
    struct jinja_parser p = {&t->heap, tokens.at, 0};
    return jinja_parse_template(&p, &t->body);
}

int jinja_parse(struct jinja_template **t, const char *source, size_t n, struct err *err)
{
    *t = NULL;
    size_t bad = unicode_check(source, n);
    if (bad < n)
        return err_set(err, ERR_FORMAT, "chat template: not UTF-8 at byte %zu", bad);
    if (n > TEMPLATE_BYTES_MAX)
        return err_set(err, ERR_LIMIT, "chat template: %zu bytes, at most %d", n, TEMPLATE_BYTES_MAX);
    struct jinja_template *c = calloc(1, sizeof *c);
    if (c == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a chat template");
    struct err mine = {0};
    jinja_heap_init(&c->heap, tree_bytes_max, &mine);
    int rc = parse_source(c, source, n);
    c->heap.err = NULL;
    if (rc != ERR_OK) {
        jinja_free(c);
        return err_set(err, rc, "%s", mine.msg);
    }
    *t = c;
    return ERR_OK;
}

void jinja_free(struct jinja_template *t)
{
    if (t == NULL)
        return;
    jinja_heap_free(&t->heap);
    free(t);
}
