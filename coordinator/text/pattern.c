#include "coordinator/text/pattern.h"

#include "coordinator/text/textbuf.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

enum { PATTERN_BYTES_MAX = 1 << 16, MATCH_STEPS_MAX = 20000000, JIT_STACK_MAX = 4 << 20 };

struct pattern { pcre2_code *code; bool jit; char shown[48]; };
struct pattern_scratch { pcre2_match_data *data; pcre2_match_context *context; pcre2_jit_stack *stack; };

#define SPACES "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}" \
               "\\x{202f}\\x{205f}\\x{3000}"
#define WORDS "\\p{L}\\p{Nl}\\p{M}\\p{Nd}\\p{Pc}\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}" \
              "\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}"

/* What an escape is replaced by; NULL: it stays as it is. PCRE2's own \s differs from White_Space in
 * U+180E alone, so in a class \S is \S and that. */
static const char *spelt_out(char escape, bool in_class)
{
    switch (escape) {
    case 's': return in_class ? SPACES : "[" SPACES "]";
    case 'S': return in_class ? "\\S\\x{180e}" : "[^" SPACES "]";
    case 'w': return in_class ? WORDS : "[" WORDS "]";
    case 'W': return in_class ? NULL : "[^" WORDS "]";
    case 'h': return in_class ? "0-9a-fA-F" : "[0-9a-fA-F]";    /* Oniguruma: a hex digit */
    default: return NULL;
    }
}

/* Rewrites an Oniguruma or Rust pattern for PCRE2: escapes as above, and classes within classes, a
 * union there, are flattened. */
static int translate(struct textbuf *out, const char *re, size_t n, struct err *err)
{
    int depth = 0;              /* of classes */
    bool class_start = false;   /* a ] here is a literal */
    for (size_t i = 0; i < n; i++) {
        const char *whole = NULL;
        if (re[i] == '\\' && i + 1 < n) {
            whole = spelt_out(re[++i], depth > 0);
            if (whole == NULL)
                TRY(textbuf_add(out, re + i - 1, 2, err));
            else
                TRY(textbuf_add(out, whole, strlen(whole), err));
            class_start = false;
            continue;
        }
        if (depth > 0 && re[i] == '&' && i + 1 < n && re[i + 1] == '&')
            return err_set(err, ERR_FORMAT, "pattern '%.60s': intersection of classes (&&) is not "
                           "supported", re);
        if (re[i] == '[' && !(depth > 0 && i + 1 < n && re[i + 1] == ':')) {
            if (depth++ > 0) {
                if (i + 1 < n && re[i + 1] == '^')
                    return err_set(err, ERR_FORMAT, "pattern '%.60s': a negated class within a "
                                   "class is not supported", re);
                class_start = false;
                continue;       /* a union: only its members */
            }
            class_start = true;
            TRY(textbuf_add(out, "[", 1, err));
            if (i + 1 < n && re[i + 1] == '^')
                TRY(textbuf_add(out, &re[++i], 1, err));
            continue;
        }
        if (re[i] == ']' && depth > 0 && !class_start && --depth > 0)
            continue;
        if (re[i] == '[' && depth > 0) {        /* [:alpha:] */
            const char *close = memchr(re + i, ']', n - i);
            size_t len = close == NULL ? 1 : (size_t)(close - re) - i + 1;
            TRY(textbuf_add(out, re + i, len, err));
            i += len - 1;
            continue;
        }
        class_start = false;
        TRY(textbuf_add(out, re + i, 1, err));
    }
    return ERR_OK;
}

static int compile(struct pattern **p, const char *shown, size_t n_shown, const char *re, size_t n,
                   uint32_t flags, struct err *err)
{
    struct pattern *c = calloc(1, sizeof *c);
    if (c == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a pattern");
    size_t keep = n_shown < sizeof c->shown - 1 ? n_shown : sizeof c->shown - 1;
    memcpy(c->shown, shown, keep);
    int code;
    PCRE2_SIZE at;
    c->code = pcre2_compile((PCRE2_SPTR)re, n, PCRE2_UTF | flags, &code, &at, NULL);
    if (c->code == NULL) {
        PCRE2_UCHAR why[120] = "";
        pcre2_get_error_message(code, why, sizeof why);
        err_set(err, ERR_FORMAT, "pattern '%s': %s", c->shown, (const char *)why);
        free(c);
        return ERR_FORMAT;
    }
    c->jit = pcre2_jit_compile(c->code, PCRE2_JIT_COMPLETE) == 0;       /* else it is interpreted */
    *p = c;
    return ERR_OK;
}

int pattern_new(struct pattern **p, const char *regex, size_t n, struct err *err)
{
    *p = NULL;
    if (n > PATTERN_BYTES_MAX)
        return err_set(err, ERR_FORMAT, "a pattern has %zu bytes, more than %d", n,
                       PATTERN_BYTES_MAX);
    struct textbuf re = {0};
    int rc = translate(&re, regex, n, err);
    if (rc == ERR_OK)
        rc = compile(p, regex, n, re.p != NULL ? re.p : "", re.n,
                     PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, err);
    textbuf_free(&re);
    return rc;
}

int pattern_new_literal(struct pattern **p, const char *text, size_t n, struct err *err)
{
    *p = NULL;
    return compile(p, text, n, text, n, PCRE2_LITERAL, err);
}

void pattern_destroy(struct pattern *p)
{
    if (p == NULL)
        return;
    pcre2_code_free(p->code);
    free(p);
}

int pattern_scratch_new(struct pattern_scratch **s, struct err *err)
{
    struct pattern_scratch *c = calloc(1, sizeof *c);
    *s = c;
    if (c != NULL) {
        c->data = pcre2_match_data_create(1, NULL);
        c->context = pcre2_match_context_create(NULL);
        c->stack = pcre2_jit_stack_create(32 << 10, JIT_STACK_MAX, NULL);
    }
    if (c == NULL || c->data == NULL || c->context == NULL) {
        pattern_scratch_destroy(c);
        *s = NULL;
        return err_set(err, ERR_NOMEM, "no memory for matching");
    }
    pcre2_set_match_limit(c->context, MATCH_STEPS_MAX);
    pcre2_set_heap_limit(c->context, 256 << 10);        /* KiB */
    if (c->stack != NULL)
        pcre2_jit_stack_assign(c->context, NULL, c->stack);
    return ERR_OK;
}

void pattern_scratch_destroy(struct pattern_scratch *s)
{
    if (s == NULL)
        return;
    pcre2_match_data_free(s->data);
    pcre2_match_context_free(s->context);
    pcre2_jit_stack_free(s->stack);
    free(s);
}

int pattern_next(const struct pattern *p, struct pattern_scratch *s, const char *text, size_t n,
                 size_t from, bool *found, size_t *begin, size_t *end, struct err *err)
{
    PCRE2_SPTR t = (PCRE2_SPTR)text;
    int rc = p->jit ? pcre2_jit_match(p->code, t, n, from, 0, s->data, s->context)
                    : pcre2_match(p->code, t, n, from, PCRE2_NO_UTF_CHECK, s->data, s->context);
    *found = rc >= 0;
    if (rc >= 0) {
        const PCRE2_SIZE *v = pcre2_get_ovector_pointer(s->data);
        *begin = v[0];
        *end = v[1] < v[0] ? v[0] : v[1];       /* \K in a look-ahead can put the end first */
        return ERR_OK;
    }
    if (rc == PCRE2_ERROR_NOMATCH)
        return ERR_OK;
    if (rc == PCRE2_ERROR_NOMEMORY)
        return err_set(err, ERR_NOMEM, "no memory for matching pattern '%s'", p->shown);
    return err_set(err, ERR_LIMIT, "pattern '%s' takes too long on this text", p->shown);
}
