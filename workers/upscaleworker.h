/* upscaleworker.h - super-resolution on one rank: tiles in, larger tiles out.
 * Bytes:  a tile is one sample of a call and is computed by itself, so equal tiles give equal answers on
 *         every rank.
 * Owner:  the struct owns model and buffers; an answer borrows until the next call.
 * Ranks:  not collective. */
#ifndef MUSTER_UPSCALEWORKER_H
#define MUSTER_UPSCALEWORKER_H

#include "muster.pb-c.h"
#include "workers/models/imagemodel.h"

struct upscaleworker {
    struct imagemodel model;
    struct imagepart *part;
    struct nn nn;
    struct team team;
    bool loaded;
    float *in; size_t in_cap;
    uint8_t *out; size_t out_cap;
};

/* Opens the file; fills *done, whose hash has room for 65 bytes. */
int upscaleworker_load(struct upscaleworker *u, const Muster__UpscaleLoad *l, int threads,
                       Muster__UpscaleLoaded *done, struct err *err);
int upscaleworker_run(struct upscaleworker *u, const Muster__UpscaleTile *t, Muster__UpscaleTile *out,
                      struct err *err);
void upscaleworker_free(struct upscaleworker *u);    /* accepts a zeroed one */

#endif
