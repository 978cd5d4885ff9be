/* learnweights.h - a decoder's weights as parameters: names and shapes from the architecture's row.
 * Why:    the layers look for weights in struct decoder_weights; when they learn, its matrices and vectors
 *         are the numbers of a set of parameters, by address.
 * Owner:  the set owns the numbers; find allocates the list of layers only.
 * Ranks:  not collective. */
#ifndef MUSTER_LEARNWEIGHTS_H
#define MUSTER_LEARNWEIGHTS_H

#include "workers/models/decoderweights.h"
#include "workers/models/params.h"

/* Adds the weights of c to the set, zeroed, under the names of c's format. */
int learnweights_add(const struct model_config *c, struct params *set, struct err *err);

/* Finds every weight of c in the set and checks its shape; `file` names the set in errors. */
int learnweights_find(struct decoder_weights *w, const struct model_config *c, const struct params *set,
                      const char *file, struct err *err);
void learnweights_free(struct decoder_weights *w);      /* accepts a zeroed one */

#endif
