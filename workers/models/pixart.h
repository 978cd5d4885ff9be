/* pixart.h - the denoiser with cross-attention to the caption: diffusers' PixArtTransformer2DModel.
 * Source: Chen et al. 2310.00426 (adaLN-single). Without and with the size conditions of the 1024-pixel
 *         models.
 * Shapes: x [b, c, h, w], time [b], caption [b, l, channels], mask [b, l] (1 keeps) -> [b, out, h, w].
 * Ranks:  not collective (see nn.h for training), but for layers that are shared out. */
#ifndef MUSTER_PIXART_H
#define MUSTER_PIXART_H

#include "workers/models/netshard.h"

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

/* The same in three, as mmdit.h; h: extra [b, pixart_extra_rows, d] is the time's modulations, the time and
 * the mask. */
int pixart_begin(struct params_reader *r, const struct pixart_config *c, const struct pixart_input *in,
                 struct netrows *h);
int pixart_layers(struct params_reader *r, const struct pixart_config *c, int first, int end,
                  struct netrows *h);
int pixart_end(struct params_reader *r, const struct pixart_config *c, const struct netrows *h, int rows,
               int cols, struct nn_tensor **out);
int pixart_extra_rows(const struct pixart_config *c, int tokens);

#endif
