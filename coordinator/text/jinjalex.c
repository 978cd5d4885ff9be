/* Cuts a template into tokens, and trims blanks around tags as trim_blocks and lstrip_blocks ask. */
#include "coordinator/text/jinjanode.h"
#include "coordinator/text/unicode.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct lexer {
    struct jinja_heap *heap;
    const char *s;
    size_t n, at;
    int line;
    bool line_start;            /* what was consumed last ends a line */
    struct jinja_tokens *out;
};

static int fail(const struct lexer *x, const char *what)
{
    return err_set(x->heap->err, ERR_FORMAT, "chat template line %d: %s", x->line, what);
}

/* --- small things */

/* Python's white space: White_Space and four separators. */
static bool blank_at(const char *s, size_t n, size_t *len)
{
    int32_t cp;
    *len = (size_t)unicode_decode(s, n, &cp);
    return *len > 0 && (unicode_is_space(cp) || (cp >= 0x1c && cp <= 0x1f));
}

static size_t trim_end(const char *s, size_t n)
{
    size_t end = 0, len;
    for (size_t i = 0; i < n; i += len)
        if (!blank_at(s + i, n - i, &len))
            end = i + len;
    return end;
}

/* Moves over `to - x->at` bytes, counting lines. */
static void consume(struct lexer *x, size_t to)
{
    for (size_t i = x->at; i < to; i++)
        x->line += x->s[i] == '\n';
    if (to > x->at)
        x->line_start = x->s[to - 1] == '\n';
    x->at = to;
}

static void consume_blanks(struct lexer *x)
{
    size_t len, at = x->at;
    while (at < x->n && blank_at(x->s + at, x->n - at, &len))
        at += len;
    consume(x, at);
}

static bool here(const struct lexer *x, const char *text)
{
    size_t len = strlen(text);
    return x->n - x->at >= len && memcmp(x->s + x->at, text, len) == 0;
}

static int add(struct lexer *x, enum jinja_token_kind kind, const char *p, size_t n)
{
    struct jinja_tokens *t = x->out;
    if (t->n == t->cap) {
        size_t cap = t->cap == 0 ? 256 : 2 * t->cap;
        struct jinja_token *at = jinja_take(x->heap, cap * sizeof *at);
        if (at == NULL)
            return x->heap->err != NULL ? x->heap->err->code : ERR_NOMEM;
        if (t->n > 0)
            memcpy(at, t->at, t->n * sizeof *at);
        t->at = at;
        t->cap = cap;
    }
    t->at[t->n++] = (struct jinja_token){.kind = kind, .line = x->line, .text = {p, n}};
    return ERR_OK;
}

/* --- between tags */

/* Text up to a tag whose sign and kind decide what blanks before it go. */
static int add_data(struct lexer *x, size_t end, char sign, bool output)
{
    const char *p = x->s + x->at;
    size_t n = end - x->at, len;
    if (sign == '-') {
        n = trim_end(p, n);
    } else if (sign != '+' && !output) {
        size_t line = n;
        while (line > 0 && p[line - 1] != '\n')
            line--;
        if ((line > 0 || x->line_start) && line < n) {
            size_t i = line;
            while (i < n && blank_at(p + i, n - i, &len))
                i += len;
            if (i == n)
                n = line;
        }
    }
    int rc = n > 0 ? add(x, TOKEN_DATA, p, n) : ERR_OK;
    consume(x, end);
    return rc;
}

/* Behind a tag: -%} takes all blanks, %} one line's end, +%} and }} nothing. */
static void after_tag(struct lexer *x, char sign, bool output)
{
    if (sign == '-')
        consume_blanks(x);
    else if (sign != '+' && !output && x->at < x->n && x->s[x->at] == '\n')
        consume(x, x->at + 1);
}

static int lex_comment(struct lexer *x)
{
    size_t at = x->at;
    while (at + 1 < x->n && (x->s[at] != '#' || x->s[at + 1] != '}'))
        at++;
    if (at + 1 >= x->n)
        return fail(x, "a comment has no end");
    char sign = at > x->at ? x->s[at - 1] : '\0';
    consume(x, at + 2);
    after_tag(x, sign == '-' || sign == '+' ? sign : '\0', false);
    return ERR_OK;
}

/* Whether "{%" at `at` opens the tag `name` and nothing else; *sign of its front, *end behind "%}",
 * *last the sign before it. */
static bool lone_tag(const struct lexer *x, size_t at, const char *name, char *sign, size_t *end,
                     char *last)
{
    size_t i = at + 2, len;
    *sign = i < x->n && (x->s[i] == '-' || x->s[i] == '+') ? x->s[i++] : '\0';
    while (i < x->n && blank_at(x->s + i, x->n - i, &len))
        i += len;
    if (x->n - i < strlen(name) || memcmp(x->s + i, name, strlen(name)) != 0)
        return false;
    i += strlen(name);
    while (i < x->n && blank_at(x->s + i, x->n - i, &len))
        i += len;
    *last = i < x->n && (x->s[i] == '-' || x->s[i] == '+') ? x->s[i++] : '\0';
    *end = i + 2;
    return x->n - i >= 2 && x->s[i] == '%' && x->s[i + 1] == '}';
}

static int lex_raw(struct lexer *x, size_t body, char after)
{
    consume(x, body);
    if (after == '-')
        consume_blanks(x);
    for (size_t i = x->at; i + 2 <= x->n; i++) {
        char sign, last;
        size_t end;
        if (x->s[i] != '{' || x->s[i + 1] != '%' || !lone_tag(x, i, "endraw", &sign, &end, &last))
            continue;
        TRY(add_data(x, i, sign, false));
        consume(x, end);
        after_tag(x, last, false);
        return ERR_OK;
    }
    return fail(x, "raw has no endraw");
}

/* --- within tags */

static int octal_or_hex(const char *s, size_t n, int base, int most, size_t *used)
{
    int value = 0;
    *used = 0;
    while (*used < n && *used < (size_t)most) {
        char c = s[*used], lower = c | 32;
        int digit = c >= '0' && c <= '9' ? c - '0' : lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : 99;
        if (digit >= base)
            break;
        value = value * base + digit;
        ++*used;
    }
    return value;
}

/* An escape at s [n] (behind the backslash) into out; *used bytes of s. */
static int unescape(struct lexer *x, struct jinja_text *out, const char *s, size_t n, size_t *used)
{
    static const char from[] = "nrtabfv\\'\"", to[] = "\n\r\t\a\b\f\v\\'\"";
    const char *at = strchr(from, s[0]);
    char utf8[4];
    *used = 1;
    if (s[0] == '\n')
        return ERR_OK;
    if (at != NULL && s[0] != '\0')
        return jinja_text_add(out, to + (at - from), 1);
    int most = s[0] == 'x' ? 2 : s[0] == 'u' ? 4 : s[0] == 'U' ? 8 : 0, cp;
    size_t digits;
    if (most > 0) {
        cp = octal_or_hex(s + 1, n - 1, 16, most, &digits);
        if (digits < (size_t)most || cp > 0x10ffff || (cp >= 0xd800 && cp < 0xe000))
            return fail(x, "a string has a bad escape");
        *used = 1 + digits;
    } else {
        cp = octal_or_hex(s, n, 8, 3, &digits);
        if (digits == 0) {      /* unknown escapes stay as they are */
            *used = 0;
            return jinja_text_add(out, "\\", 1);
        }
        *used = digits;
    }
    return jinja_text_add(out, utf8, (size_t)unicode_encode(cp, utf8));
}

static int lex_string(struct lexer *x)
{
    char quote = x->s[x->at];
    size_t i = x->at + 1, used;
    struct jinja_text out = {.heap = x->heap};
    bool escaped = false;
    size_t begin = i;
    for (; i < x->n && x->s[i] != quote; i++)
        if (x->s[i] == '\\') {
            escaped = true;
            i++;
        }
    if (i >= x->n)
        return fail(x, "a string has no end");
    size_t end = i;
    if (!escaped) {
        TRY(add(x, TOKEN_STRING, x->s + begin, end - begin));
        consume(x, end + 1);
        return ERR_OK;
    }
    for (i = begin; i < end; i += used)
        if (x->s[i] == '\\') {
            TRY(unescape(x, &out, x->s + i + 1, end - i - 1, &used));
            used++;
        } else {
            used = 1;
            TRY(jinja_text_add(&out, x->s + i, 1));
        }
    TRY(add(x, TOKEN_STRING, out.n > 0 ? out.p : "", out.n));
    consume(x, end + 1);
    return ERR_OK;
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static size_t digits_end(const struct lexer *x, size_t i)
{
    while (i < x->n && (is_digit(x->s[i]) || (x->s[i] == '_' && i + 1 < x->n && is_digit(x->s[i + 1]))))
        i++;
    return i;
}

static int lex_number(struct lexer *x)
{
    char digits[64];
    size_t i = digits_end(x, x->at), n = 0;
    bool real = false;
    /* After a dot a number is an index (a.0.b), never a fraction. */
    bool index = x->out->n > 0 && jinja_equals_text(x->out->at[x->out->n - 1].text, ".");
    if (!index && i + 1 < x->n && x->s[i] == '.' && is_digit(x->s[i + 1])) {
        real = true;
        i = digits_end(x, i + 1);
    }
    if (!index && i + 1 < x->n && (x->s[i] | 32) == 'e') {
        size_t e = i + 1 + (x->s[i + 1] == '+' || x->s[i + 1] == '-');
        if (e < x->n && is_digit(x->s[e])) {
            real = true;
            i = digits_end(x, e);
        }
    }
    for (size_t k = x->at; k < i && n < sizeof digits - 1; k++)
        if (x->s[k] != '_')
            digits[n++] = x->s[k];
    digits[n] = '\0';
    errno = 0;
    int64_t whole = real ? 0 : strtoll(digits, NULL, 10);
    if (n == sizeof digits - 1 || errno == ERANGE)
        return fail(x, "a number is too long");
    TRY(add(x, real ? TOKEN_FLOAT : TOKEN_INT, x->s + x->at, i - x->at));
    x->out->at[x->out->n - 1].i = whole;
    x->out->at[x->out->n - 1].f = strtod(digits, NULL);
    consume(x, i);
    return ERR_OK;
}

static bool is_name(char c, bool first)
{
    return c == '_' || (uint8_t)c >= 0x80 || ((c | 32) >= 'a' && (c | 32) <= 'z') ||
           (!first && is_digit(c));
}

static int lex_name(struct lexer *x)
{
    size_t i = x->at;
    while (i < x->n && is_name(x->s[i], false))
        i++;
    TRY(add(x, TOKEN_NAME, x->s + x->at, i - x->at));
    consume(x, i);
    return ERR_OK;
}

static int lex_operator(struct lexer *x, int *balance)
{
    static const char *const two[] = {"==", "!=", ">=", "<=", "//", "**"};
    char c = x->s[x->at];
    size_t len = 1;
    for (size_t i = 0; i < sizeof two / sizeof *two; i++)
        if (here(x, two[i]))
            len = 2;
    if (len == 1 && (c == '\0' || strchr("+-/*%~[](){}><=.:|,;", c) == NULL))
        return fail(x, "a character that has no meaning there");
    if (len == 1 && strchr("([{", c) != NULL)
        ++*balance;
    if (len == 1 && strchr(")]}", c) != NULL && --*balance < 0)
        return fail(x, "a bracket is closed that was not opened");
    TRY(add(x, TOKEN_OPERATOR, x->s + x->at, len));
    consume(x, x->at + len);
    return ERR_OK;
}

/* The inside of {{ }} or {% %}, up to and with its end. */
static int lex_inside(struct lexer *x, bool output)
{
    const char *close = output ? "}}" : "%}";
    int balance = 0;
    for (;;) {
        consume_blanks(x);
        if (x->at >= x->n)
            return fail(x, output ? "{{ has no }}" : "{% has no %}");
        char c = x->s[x->at], sign = '\0';
        if ((c == '-' || (c == '+' && !output)) && x->n - x->at >= 3 &&
            memcmp(x->s + x->at + 1, close, 2) == 0)
            sign = c;
        if (balance == 0 && (sign != '\0' || here(x, close))) {
            TRY(add(x, output ? TOKEN_OUTPUT_END : TOKEN_BLOCK_END, close, 2));
            consume(x, x->at + (sign != '\0' ? 3 : 2));
            after_tag(x, sign, output);
            return ERR_OK;
        }
        if (c == '\'' || c == '"')
            TRY(lex_string(x));
        else if (is_digit(c))
            TRY(lex_number(x));
        else if (is_name(c, true))
            TRY(lex_name(x));
        else
            TRY(lex_operator(x, &balance));
    }
}

/* The next tag at or after x->at, n when there is none. */
static size_t find_tag(const struct lexer *x)
{
    for (size_t i = x->at; i + 1 < x->n; i++)
        if (x->s[i] == '{' && (x->s[i + 1] == '{' || x->s[i + 1] == '%' || x->s[i + 1] == '#'))
            return i;
    return x->n;
}

int jinja_lex(struct jinja_heap *h, const char *source, size_t n, struct jinja_tokens *out)
{
    struct lexer x = {.heap = h, .s = source, .n = n, .line = 1, .line_start = true, .out = out};
    while (x.at < n) {
        size_t tag = find_tag(&x), end;
        char kind = tag < n ? source[tag + 1] : '\0', sign, last;
        if (tag == n) {
            TRY(add_data(&x, n, '+', false));
            break;
        }
        sign = tag + 2 < n && (source[tag + 2] == '-' || source[tag + 2] == '+') ? source[tag + 2] : '\0';
        TRY(add_data(&x, tag, sign, kind == '{'));
        if (kind == '%' && lone_tag(&x, tag, "raw", &sign, &end, &last)) {
            TRY(lex_raw(&x, end, last));
            continue;
        }
        consume(&x, tag + 2 + (sign != '\0'));
        if (kind == '#') {
            TRY(lex_comment(&x));
            continue;
        }
        TRY(add(&x, kind == '{' ? TOKEN_OUTPUT_BEGIN : TOKEN_BLOCK_BEGIN, source + tag, 2));
        TRY(lex_inside(&x, kind == '{'));
    }
    return add(&x, TOKEN_END, "", 0);
}
