/* cliptext.h - the CLIP text encoder, with or without its projection.
 * Source: Radford et al. 2103.00020; names of transformers' CLIPTextModel and
 *         CLIPTextModelWithProjection, with and without the prefix "text_model.".
 * Shapes: ids [b, l]; hidden [b, l, width] after the final norm; pooled [b, width] the state at the
 *         first end token; embeds [b, projection] its projection.
 * Ranks:  not collective (see nn.h for training). */
#ifndef MUSTER_CLIPTEXT_H
#define MUSTER_CLIPTEXT_H

#include "workers/models/params.h"

#include <jansson.h>

struct cliptext_config {
    int vocab, positions, width, ffn, layers, heads, projection, eos, bos, pad;
    double eps;
    enum nn_act act;
};

int cliptext_config_read(struct cliptext_config *c, const json_t *config, const char *file,
                         struct err *err);

/* penultimate: the state before the last layer, not normalised; embeds: NULL without a projection. */
struct cliptext_out { struct nn_tensor *hidden, *pooled, *embeds, *penultimate; };

/* ids [b, l] are checked against the vocabulary; l is at most `positions`. file: for messages. */
int cliptext_forward(struct nn *nn, const struct cliptext_config *c, struct params *w,
                     const char *file, const int32_t *ids, int64_t b, int64_t l,
                     struct cliptext_out *out, struct err *err);

#endif
