/* jinjanode.h - a parsed template: tokens and the tree.
 * Why:    the lexer knows where blanks are trimmed, the parser knows the grammar, the evaluator knows
 *         neither.
 * Owner:  tokens and nodes live in the template's heap; texts point into the template's source or heap.
 * Ranks:  not collective. */
#ifndef MUSTER_JINJANODE_H
#define MUSTER_JINJANODE_H

#include "coordinator/text/jinja.h"
#include "coordinator/text/jinjavalue.h"

/* --- tokens */

enum jinja_token_kind {
    TOKEN_DATA, TOKEN_OUTPUT_BEGIN, TOKEN_OUTPUT_END, TOKEN_BLOCK_BEGIN, TOKEN_BLOCK_END, TOKEN_NAME,
    TOKEN_STRING, TOKEN_INT, TOKEN_FLOAT, TOKEN_OPERATOR, TOKEN_END
};

struct jinja_token {
    enum jinja_token_kind kind;
    int line;
    struct jinja_string text;   /* as written; strings without quotes and escapes */
    int64_t i;
    double f;
};

struct jinja_tokens { struct jinja_token *at; size_t n, cap; };

int jinja_lex(struct jinja_heap *h, const char *source, size_t n, struct jinja_tokens *out);

/* --- tree */

enum jinja_node_kind {
    /* expressions */
    NODE_CONST,         /* value */
    NODE_NAME,          /* text */
    NODE_LIST,          /* a: items */
    NODE_TUPLE,         /* a: items */
    NODE_DICT,          /* a: NODE_PAIRs */
    NODE_PAIR,          /* a key, b value */
    NODE_ATTRIBUTE,     /* a . text */
    NODE_ITEM,          /* a [ b ] */
    NODE_SLICE,         /* a [ b : c : d ], each may be NULL */
    NODE_CALL,          /* a ( b: NODE_ARGUMENTs ) */
    NODE_ARGUMENT,      /* a value, text: keyword or empty */
    NODE_FILTER,        /* a | text ( b ) */
    NODE_TEST,          /* a is text ( b ) */
    NODE_NOT, NODE_NEGATE, NODE_PLUS,   /* a */
    NODE_AND, NODE_OR,  /* a, b */
    NODE_COMPARE,       /* a, then b: NODE_OPERANDs */
    NODE_OPERAND,       /* op, a */
    NODE_BINARY,        /* a op b */
    NODE_CONDITION,     /* a if b else c; c may be NULL */
    /* statements */
    NODE_DATA,          /* text */
    NODE_OUTPUT,        /* a */
    NODE_IF,            /* a, then b, else c: statements, or one NODE_IF for elif */
    NODE_FOR,           /* for a in b if e: c, else d; op: recursive */
    NODE_SET,           /* a target, b value */
    NODE_SET_BLOCK,     /* a target, b statements, c filters around NULL */
    NODE_MACRO,         /* text, a: NODE_PARAMETERs, b statements */
    NODE_PARAMETER,     /* text, a default or NULL */
    NODE_CALL_BLOCK,    /* a NODE_CALL, b: NODE_PARAMETERs, c statements */
    NODE_FILTER_BLOCK,  /* a filters around NULL, b statements */
    NODE_WITH,          /* a: NODE_SETs, b statements */
    NODE_SCOPE,         /* b statements, names set within stay within (generation) */
    NODE_BREAK, NODE_CONTINUE
};

enum jinja_op {
    OP_EQ, OP_NE, OP_LT, OP_LE, OP_GT, OP_GE, OP_IN, OP_NOT_IN,
    OP_ADD, OP_SUB, OP_MUL, OP_DIV, OP_FLOOR_DIV, OP_MOD, OP_POW, OP_CONCAT
};

struct jinja_node {
    enum jinja_node_kind kind;
    int op, line;
    struct jinja_string text;
    struct jinja_value value;
    struct jinja_node *a, *b, *c, *d, *e;
    struct jinja_node *next;    /* of a list */
};

struct jinja_template { struct jinja_heap heap; struct jinja_node *body; };

/* The parser's place in the tokens. */
struct jinja_parser {
    struct jinja_heap *heap;
    const struct jinja_token *at;       /* the last one is TOKEN_END */
    int depth;
};

/* Shared by the parser's two files. */
int jinja_syntax_error(const struct jinja_parser *p, const char *wanted);
int jinja_new_node(struct jinja_parser *p, enum jinja_node_kind kind, struct jinja_node **out);
bool jinja_at_operator(const struct jinja_parser *p, const char *op);
bool jinja_at_name(const struct jinja_parser *p, const char *name);
bool jinja_skip_operator(struct jinja_parser *p, const char *op);
bool jinja_skip_name(struct jinja_parser *p, const char *name);
int jinja_need_operator(struct jinja_parser *p, const char *op);
int jinja_need_name(struct jinja_parser *p, struct jinja_string *name);
int jinja_enter(struct jinja_parser *p);        /* one level deeper; p->depth-- undoes it */

/* An expression; conditional: with `a if b else c`. */
int jinja_parse_expression(struct jinja_parser *p, bool conditional, struct jinja_node **out);
/* An expression, or a tuple of them without parentheses. */
int jinja_parse_tuple(struct jinja_parser *p, bool conditional, struct jinja_node **out);
/* Filters, without what they filter: | or the block's end follows. */
int jinja_parse_filters(struct jinja_parser *p, bool first_named, struct jinja_node **out);
int jinja_parse_primary(struct jinja_parser *p, struct jinja_node **out);
int jinja_parse_postfix(struct jinja_parser *p, struct jinja_node **node);
/* ( a, k=b ) */
int jinja_parse_arguments(struct jinja_parser *p, struct jinja_node **out);
int jinja_parse_template(struct jinja_parser *p, struct jinja_node **out);

#endif
