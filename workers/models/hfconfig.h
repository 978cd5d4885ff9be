/* hfconfig.h - config.json of a Hugging Face folder, old and new conventions, to a model_config.
 * Why:    the same number has had several names and places (rope_scaling, then rope_parameters; one
 *         object per layer type; text_config of multimodal models); they end here.
 * Ranks:  not collective. */
#ifndef MUSTER_HFCONFIG_H
#define MUSTER_HFCONFIG_H

#include "workers/models/modelconfig.h"

/* text [n] is config.json; generation (may be NULL) generation_config.json, whose eos ids are added.
 * `where` names the file in errors. What only tensors can tell is left open: tied says
 * whether it may be, the biases whether they must be there. On
 * failure c is to be freed all the same. */
int hfconfig_parse(struct model_config *c, const char *text, size_t n, const char *generation,
                   size_t n_generation, const char *where, struct err *err);

#endif
