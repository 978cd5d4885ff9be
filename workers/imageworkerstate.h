/* imageworkerstate.h - what a rank holds that makes pictures, and one step of it.
 * Why:    shared by imageworker.c and imagehalf.c alone.
 * Ranks:  not collective. */
#ifndef MUSTER_IMAGEWORKERSTATE_H
#define MUSTER_IMAGEWORKERSTATE_H

#include "workers/imagegroup.h"
#include "workers/imageslot.h"
#include "workers/imageworker.h"

enum { IMAGEWORKER_SLOTS_MAX = NN_PARTS_MAX / 2 };

struct waiting;

struct imageworker {
    struct comm *comm;
    const struct sink *sink;
    struct imagepipe *pipe;
    struct nn nn;
    struct team team;
    bool loaded;
    struct imagegroup group;            /* that runs the denoiser */
    int helper;                         /* rank of the unconditional halves, -1 none */
    struct imageslot *slot; int n_slots;
    struct waiting *first, **last;
    struct promptcache prompts;
    /* of one step: */
    float *in, *scratch, *other; int64_t in_cap;        /* other: the helper's answer */
    uint8_t *rgb; size_t rgb_cap;
    double used_us;
};

/* Slots of one size, and their samples: a conditional one each, then the unconditional ones. */
struct imagestep {
    struct imageslot *member[IMAGEWORKER_SLOTS_MAX];
    int n, n_samples, n_guided;
    int64_t floats, answer;             /* of a sample that goes in, that comes out */
    double times[2 * IMAGEWORKER_SLOTS_MAX];
    const float *prompts[2 * IMAGEWORKER_SLOTS_MAX];
    const float *out;
    struct imageworker *worker;
    int rc;
    struct err *err;
};

/* Room for so many floats that go into a step, and as many for its answers. */
int imageworker_room(struct imageworker *w, int64_t floats, struct err *err);
/* What guidance leads away from: the negative prompt, or no class. promptcache_put gives it back. */
int imageworker_negative(struct imageworker *w, const Muster__ImageTask *t, struct prompt **out,
                         struct err *err);
/* The network on the samples of a struct imagestep; its rc says how it went. For team_enter. */
void imageworker_denoise(void *step);

#endif
