/* pixart.h - the denoiser with cross-attention to the caption: diffusers' PixArtTransformer2DModel.
 * Source: Chen et al. 2310.00426 (adaLN-single). Without and with the size conditions of the 1024-pixel
 *         models.
 * Shapes: x [b, c, h, w], time [b], caption [b, l, channels], mask [b, l] (1 keeps) -> [b, out, h, w].
 * Ranks:  not collective (see nn.h for training). */
#ifndef MUSTER_PIXART_H
#define MUSTER_PIXART_H

#include "workers/models/params.h"

#include <jansson.h>

struct pixart_config {
    int in_channels, out_channels, patch, sample, layers, heads, head_dim, caption;
    double interpolation;       /* of positions */
    bool sizes;                 /* resolution and aspect ratio are conditions */
};

int pixart_config_read(struct pixart_config *c, const json_t *config, const char *file,
                       struct err *err);
int pixart_check(const struct pixart_config *c, const struct params *w, const char *file,
                 struct err *err);

struct pixart_input {
    struct nn_tensor *x, *caption;
    const double *time;
    const uint8_t *mask;        /* NULL: all tokens */
    const double *resolution;   /* [b, 2] height and width, and */
    const double *aspect;       /* [b], where the model has size conditions; else NULL */
};
int pixart_forward(struct nn *nn, const struct pixart_config *c, struct params *w, const char *file,
                   const struct pixart_input *in, struct nn_tensor **out, struct err *err);

#endif
