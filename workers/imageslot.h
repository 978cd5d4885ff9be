/* imageslot.h - one picture in the making: its task, schedule, sampler state, where it is.
 * Shapes: x, noise, clean [channels, rows, cols]; mask [rows, cols], 1 is painted anew: of the pixels that a
 *         number of x stands for the most, and outside of the mask the first picture comes back whole.
 * Owner:  a slot owns its memory and keeps it for the next picture.
 * Ranks:  not collective. */
#ifndef MUSTER_IMAGESLOT_H
#define MUSTER_IMAGESLOT_H

#include "muster.pb-c.h"
#include "proto/arena.h"
#include "workers/promptcache.h"

struct imageslot {
    bool used, guided;
    bool decodes;                       /* x is not a picture yet */
    bool enlarges;                      /* super-resolution: sees the small picture beside its own */
    int latent;                         /* GAN: numbers of noise, which goes in as it is; else 0 */
    bool generated;                     /* GAN: done */
    struct arena mem;
    Muster__ImageTask *task;            /* in mem */
    struct solver_plan plan;
    struct solver_state state;
    int call;                           /* the next one */
    int channels, height, width;        /* in pixels of the picture */
    int rows, cols;                     /* of x: fewer, where an autoencoder makes the picture of it */
    int64_t n;                          /* numbers of x */
    float *floats; int64_t cap;         /* all that follows */
    float *x, *noise, *clean, *mask;    /* clean, mask: NULL without a first picture, without a mask */
    float *first;                       /* [3, height, width] the first picture, of a model that decodes */
    float *beside;                      /* [3, height, width] that the network sees beside x, or NULL */
    double residual;                    /* x is this times what the enlarged small picture lacks, or 0 */
    struct prompt *prompt, *negative;   /* negative: NULL where another rank computes that half */
    float *mixed;                       /* the prompt between two, or NULL */
    double used_us;
};

/* A task in its packed form (an Envelope with a chunk of one) takes the slot; all but the prompts and, where
 * s->first is there, its latents. */
int imageslot_begin(struct imageslot *s, const struct imagepipe *pipe, const uint8_t *bytes, size_t n,
                    struct err *err);
/* Where the picture begins. clean [n]: s->first as latents; NULL without. */
void imageslot_start(struct imageslot *s, const float *clean);
/* What the network is to see at this call: into x [channels of the model, h, w]; returns the time. */
double imageslot_input(const struct imageslot *s, float *x);
/* A GAN's answer [n] is the picture. */
void imageslot_generated(struct imageslot *s, const float *image);
/* One step with the network's answers; uncond NULL: no guidance. scratch [2 n]. */
void imageslot_advance(struct imageslot *s, const float *cond, const float *uncond, float *scratch);
bool imageslot_done(const struct imageslot *s);
/* The picture, 8-bit [height, width, 3], of x or of what it was decoded to, [3, height, width] in -1..1.
 * Where x is a residual the slot's other floats are used up. */
void imageslot_pixels(struct imageslot *s, const float *picture, uint8_t *rgb);
/* Free for the next picture. */
void imageslot_end(struct imageslot *s);
void imageslot_free(struct imageslot *s);

#endif
