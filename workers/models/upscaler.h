/* upscaler.h - super-resolution networks: RRDBNet (ESRGAN, under its new and its first names) and
 * SRVGGNetCompact. Which one a file holds, its widths and its scale are read off its tensors.
 * Source: Wang et al. 1809.00219 (ESRGAN), 2107.10833 (Real-ESRGAN).
 * Shapes: x [b, 3, h, w] in 0..1 -> [b, 3, scale h, scale w], not clamped.
 * Ranks:  not collective. */
#ifndef MUSTER_UPSCALER_H
#define MUSTER_UPSCALER_H

#include "workers/models/params.h"

enum upscaler_kind { UPSCALER_RRDB, UPSCALER_SRVGG };

struct upscaler {
    enum upscaler_kind kind;
    bool old_names;             /* RRDBNet as first published: model.1.sub.0.RDB1.conv1.0 ... */
    int scale, blocks;          /* RRDB blocks, or convolutions after the first of SRVGG */
    int unshuffle;              /* the input's pixels are folded into channels by this factor first */
    int reach;                  /* pixels around a place that its result depends on: tiles overlap so */
};

/* ERR_FORMAT when the tensors are neither network or do not fit together. */
int upscaler_describe(struct upscaler *u, const struct params *w, const char *file, struct err *err);
struct nn_tensor *upscaler_forward(struct nn *nn, const struct upscaler *u, struct params *w,
                                   struct nn_tensor *x);

#endif
