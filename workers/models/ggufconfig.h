/* ggufconfig.h - the metadata of a GGUF file to a model_config.
 * Why:    the same numbers as config.json under other names, some as arrays per layer, some as
 *         tensors (rope divisors), some only implied (windows of gemma, q scale of the 27B ones).
 * Ranks:  not collective. */
#ifndef MUSTER_GGUFCONFIG_H
#define MUSTER_GGUFCONFIG_H

#include "workers/models/modelconfig.h"

/* `where` names the file in errors. Reads the rope factor tensors (small). What only tensors can
 * tell is left open: tied says whether it may be, the biases whether they must be there. On failure
 * c is to be freed all the same. */
int ggufconfig_parse(struct model_config *c, struct tensorfile *t, const char *where,
                     struct err *err);

#endif
