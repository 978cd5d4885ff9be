/* picturetext.h - prompts of pictures as the ids that a text encoder takes.
 * Why:    a prompt may be longer than the encoder takes, or hold words that it never saw; both are said,
 *         once for each prompt or word, since the picture will not show them.
 * Owner:  borrows tokenizer and spec.
 * Ranks:  the coordinator's thread only. */
#ifndef MUSTER_PICTURETEXT_H
#define MUSTER_PICTURETEXT_H

#include "coordinator/commands/picturejob.h"
#include "coordinator/text/tokenizer.h"
#include "muster.pb-c.h"

struct picturetext {
    const Muster__ImageSpec *spec;
    struct tokenizer *tokenizer;        /* NULL: the folder has none */
    const char **unknown; int n_unknown;    /* words that were warned about; copies */
    int n_cut;                          /* prompts that were cut */
};

/* Makes the tokenizer that the spec carries, if any. */
int picturetext_open(struct picturetext *t, const Muster__ImageSpec *spec, struct err *err);
void picturetext_close(struct picturetext *t);      /* accepts a zeroed one */

/* Fills the ids of the job: begin and end included, at most spec->tokens. Warnings go to stderr. */
int picturetext_encode(struct picturetext *t, struct picturejob *j, struct err *err);

#endif
