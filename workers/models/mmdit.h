/* mmdit.h - the denoiser with two streams: diffusers' SD3Transformer2DModel.
 * Source: Esser et al. 2403.03206. Names and order of modulation as in the published folders; dual
 *         attention (3.5 medium) included.
 * Shapes: x [b, c, h, w], time [b], context [b, l, joint], pooled [b, e] -> [b, out, h, w].
 * Ranks:  not collective (see nn.h for training), but for layers that are shared out. */
#ifndef MUSTER_MMDIT_H
#define MUSTER_MMDIT_H

#include "workers/models/netshard.h"

#include <jansson.h>

enum { MMDIT_LAYERS_MAX = 256 };

struct mmdit_config {
    int in_channels, out_channels, patch, sample, layers, heads, head_dim, joint, caption, pooled,
        positions;
    bool qk_norm;
    bool dual[MMDIT_LAYERS_MAX];
};

int mmdit_config_read(struct mmdit_config *c, const json_t *config, const char *file, struct err *err);
/* All weights there, in their shapes. */
int mmdit_check(const struct mmdit_config *c, const struct params *w, const char *file, struct err *err);

/* time: what the model is told, as given (0..1000). Height and width are whole patches, at most
 * `positions` patches. */
int mmdit_forward(struct nn *nn, const struct mmdit_config *c, struct params *w, const char *file,
                  struct nn_tensor *x, const double *time, struct nn_tensor *context,
                  struct nn_tensor *pooled, struct nn_tensor **out, struct err *err);

/* The same in three: what comes before the layers, layers [first, end) with this rank's share of each
 * (r->shard, collective on its group), what comes after them, on rows x cols patches. h: extra [b, 1, d] is
 * what every modulation starts from. */
int mmdit_begin(struct params_reader *r, const struct mmdit_config *c, struct nn_tensor *x,
                const double *time, struct nn_tensor *context, struct nn_tensor *pooled,
                struct netrows *h);
int mmdit_layers(struct params_reader *r, const struct mmdit_config *c, int first, int end,
                 struct netrows *h);
int mmdit_end(struct params_reader *r, const struct mmdit_config *c, const struct netrows *h, int rows,
              int cols, struct nn_tensor **out);

#endif
