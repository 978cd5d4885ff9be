/* decoderlearn.h - a decoder that learns: the layers of decoderlayer.c on the tape.
 * Why:    there is one forward; what learned here is served by decoder.c without a second reading.
 * Shapes: ids [sequences, length]; logits [sequences length, vocab].
 * Owner:  borrows the configuration and the set of weights (Hugging Face names, f32).
 * Ranks:  not collective; every rank runs its own sequences. */
#ifndef MUSTER_DECODERLEARN_H
#define MUSTER_DECODERLEARN_H

#include "workers/models/modelconfig.h"
#include "workers/models/params.h"

struct decoderlearn;

/* Finds every weight of c in w and checks its shape; `file` names the set in errors. ERR_FORMAT too for
 * what serves but does not learn (experts, attention sinks, windows, capped scores). */
int decoderlearn_new(struct decoderlearn **out, const struct model_config *c, struct params *w,
                     const char *file, struct err *err);
void decoderlearn_destroy(struct decoderlearn *d);     /* accepts NULL */

/* From now on a token attends to those of its own text only: a text begins at each begin or end token. */
void decoderlearn_separate(struct decoderlearn *d);

int decoderlearn_forward(struct decoderlearn *d, struct nn *nn, const int32_t *ids, int sequences,
                         int length, struct nn_tensor **logits, struct err *err);

#endif
