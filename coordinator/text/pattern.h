/* pattern.h - the regular expressions of vocabulary files.
 * Why:    they are written for other engines; here they get one meaning: Unicode classes, `\s` is
 *         White_Space and `\w` is letters, marks, digits and connectors.
 * Limits: a pattern from a file may be hostile; matching is bounded and then an error.
 * Owner:  a pattern is const and may be shared; scratch belongs to one thread.
 * Ranks:  not collective. */
#ifndef MUSTER_PATTERN_H
#define MUSTER_PATTERN_H

#include "proto/err.h"

#include <stdbool.h>
#include <stddef.h>

struct pattern;
struct pattern_scratch;

/* regex [n]; an error says which pattern and what is wrong with it. */
int pattern_new(struct pattern **p, const char *regex, size_t n, struct err *err);
/* Matches text itself. */
int pattern_new_literal(struct pattern **p, const char *text, size_t n, struct err *err);
void pattern_destroy(struct pattern *p);

int pattern_scratch_new(struct pattern_scratch **s, struct err *err);
void pattern_scratch_destroy(struct pattern_scratch *s);

/* The next match in text [n] (checked UTF-8) that starts at or after `from`. Look-behind and anchors
 * see the whole text. */
int pattern_next(const struct pattern *p, struct pattern_scratch *s, const char *text, size_t n,
                 size_t from, bool *found, size_t *begin, size_t *end, struct err *err);

#endif
