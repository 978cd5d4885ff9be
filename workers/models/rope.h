/* rope.h - rotary positions: frequencies of a configuration, angles of a position.
 * Why:    scalings differ between models; what a kernel needs is cos and sin of a row, computed once
 *         in a step and used by every layer.
 * Bits:   frequencies and angles in double, cast to float at the end (a float angle at position
 *         100,000 would be wrong in its second digit after the point).
 * Owner:  rope_init allocates, rope_free frees.
 * Ranks:  not collective. */
#ifndef MUSTER_ROPE_H
#define MUSTER_ROPE_H

#include "workers/models/modelconfig.h"

struct rope {
    int n_rot;
    float factor;               /* on cos and sin */
    double *frequency;          /* [n_rot / 2] */
    double *frequency_long;     /* [n_rot / 2] for long sequences; the same array without longrope */
};

int rope_init(struct rope *r, const struct rope_config *c, int n_rot, struct err *err);
void rope_free(struct rope *r);

/* cosine, sine [n_rot / 2] at `position`. */
void rope_angles(const struct rope *r, bool is_long, int position, float *cosine, float *sine);

#endif
