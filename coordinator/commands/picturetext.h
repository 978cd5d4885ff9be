/* picturetext.h - prompts of pictures as the ids that text encoders take.
 * Ids:    of one encoder its ids, begin and end included; of several, for each a count and so many ids.
 * Why:    a prompt may be longer than the encoder takes, or hold words that it never saw; both are said,
 *         once for each prompt or word, since the picture will not show them.
 * Owner:  borrows tokenizer and spec.
 * Ranks:  the coordinator's thread only. */
#ifndef MUSTER_PICTURETEXT_H
#define MUSTER_PICTURETEXT_H

#include "coordinator/commands/picturejob.h"
#include "coordinator/text/tokenizer.h"
#include "muster.pb-c.h"

/* tokenizer NULL: the folder has none. */
struct picturetext_encoder { struct tokenizer *tokenizer; uint32_t tokens, vocab; int bos, eos; };
enum { PICTURETEXT_ENCODERS = 4 };

struct picturetext {
    const Muster__ImageSpec *spec;
    struct picturetext_encoder encoder[PICTURETEXT_ENCODERS]; int n_encoders;
    const char **unknown; int n_unknown;    /* words that were warned about; copies */
    int n_cut;                          /* prompts that were cut */
};

/* Makes the tokenizers that the spec carries, if any. */
int picturetext_open(struct picturetext *t, const Muster__ImageSpec *spec, struct err *err);
void picturetext_close(struct picturetext *t);      /* accepts a zeroed one */

/* Fills the ids of the job, at most as many as the encoders take. Warnings go to stderr. */
int picturetext_encode(struct picturetext *t, struct picturejob *j, struct err *err);

#endif
