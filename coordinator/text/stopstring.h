/* stopstring.h - ends a streamed text before any of some stop texts.
 * Why:    a stop text may come in pieces over many tokens; nothing of it may be shown, and text that
 *         only looks like its beginning must not be held back longer than needed.
 * Rule:   the stop that is complete first ends the text; of two that end at the same byte, the longer.
 * Owner:  the scan copies the stops and owns the text it gives out.
 * Ranks:  not collective. */
#ifndef MUSTER_STOPSTRING_H
#define MUSTER_STOPSTRING_H

#include "proto/err.h"

#include <stdbool.h>
#include <stddef.h>

struct stop_scan;
int stop_scan_open(struct stop_scan **s, const char *const *stops, int n, struct err *err);
void stop_scan_close(struct stop_scan *s);

/* Adds text [n] bytes. *out [*n_out] is what may be shown now; it lives until the next call. *hit: a
 * stop is complete, and out ends before it. end: nothing follows, so nothing is held back. */
int stop_scan_push(struct stop_scan *s, const char *text, size_t n, bool end, const char **out,
                   size_t *n_out, bool *hit, struct err *err);

#endif
