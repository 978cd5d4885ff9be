/* comparewords.h - what a language model says of a caption: a summary, an answer, translations, greedily.
 * Why:    the small language model learnt the world that the picture models paint, so it is asked in the
 *         forms of that world's texts; any other model goes on with the same beginnings.
 * Owner:  the words own their text; comparewords_free accepts zeroed ones.
 * Ranks:  the coordinator's thread only. */
#ifndef MUSTER_COMPAREWORDS_H
#define MUSTER_COMPAREWORDS_H

#include "coordinator/commands/session.h"

enum { COMPARE_WORDS = 4 };

struct comparewords {
    struct { const char *label; char *text; } said[COMPARE_WORDS];
    double seconds;                 /* for all of them, without loading */
};

/* For a session that is open; loads the model. */
int comparewords_ask(struct comparewords *w, struct session *s, const struct model_args *a,
                     const char *caption, struct err *err);
void comparewords_free(struct comparewords *w);

#endif
