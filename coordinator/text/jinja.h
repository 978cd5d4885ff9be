/* jinja.h - renders a chat template: the part of Jinja that models' templates are written in.
 * Why:    a model's template is a program in its file; it decides what the model sees, so it must come
 *         out byte for byte as its authors' library writes it.
 * Like:   jinja2 with trim_blocks, lstrip_blocks, loop controls, `generation` blocks, an immutable
 *         sandbox, json.dumps for tojson, raise_exception and strftime_now. No includes, imports or
 *         inheritance.
 * Limits: a template is foreign code: steps, depth, memory and output are bounded, and passing a bound
 *         is a one-line error.
 * Owner:  a template is const once parsed and may be shared between threads.
 * Ranks:  not collective. */
#ifndef MUSTER_JINJA_H
#define MUSTER_JINJA_H

#include "proto/err.h"

#include <jansson.h>
#include <stddef.h>
#include <time.h>

struct jinja_template;

/* source [n], UTF-8; copied. An error names the line. */
int jinja_parse(struct jinja_template **t, const char *source, size_t n, struct err *err);
void jinja_free(struct jinja_template *t);

struct jinja_limits {
    long steps;                 /* nodes evaluated and bytes looked at, in units of 64 */
    int depth;                  /* of calls and nesting */
    size_t memory, output;      /* bytes */
};
extern const struct jinja_limits jinja_default_limits;

/* variables: an object, the names that the template sees. now: for strftime_now; NULL is the time of
 * day. limits: NULL for the defaults. malloc'd NUL-terminated text; *n bytes. */
int jinja_render(const struct jinja_template *t, const json_t *variables, const struct tm *now,
                 const struct jinja_limits *limits, char **text, size_t *n, struct err *err);

#endif
