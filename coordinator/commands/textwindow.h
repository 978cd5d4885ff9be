/* textwindow.h - a long text as windows of one width, each token scored in exactly one of them.
 * Why:    a model sees at most its context; windows that overlap give every token but those of the first
 *         window at least width - stride tokens before it.
 * Ranks:  not collective; pure arithmetic. */
#ifndef MUSTER_TEXTWINDOW_H
#define MUSTER_TEXTWINDOW_H

/* n tokens; a window holds `width` of them after `lead` tokens of its own (a begin-of-text token: 0 or
 * 1), and the next one begins `stride` later, 1 <= stride < width + lead. */
struct textwindows { int n, width, stride, lead; };

/* Tokens [begin, end), of which the last `scored` count. */
struct textwindow { int begin, end, scored; };

/* Windows that it takes; 0 where there is no token to score. */
int textwindow_count(const struct textwindows *t);
struct textwindow textwindow_at(const struct textwindows *t, int i);
/* Tokens scored in all: every one, but for the first where nothing stands before it. */
int textwindow_scored(const struct textwindows *t);

#endif
