/* enlarge.h - a picture of twice the sides, and what super-resolution adds to it.
 * Why:    a smooth enlargement already has nearly all of the large picture. A model that diffuses only what
 *         is missing, times a gain that makes it about as strong as noise, need not learn the rest.
 * Source: Keys 1981 (cubic convolution, a = -1/2); Li et al. 2104.14951 (diffusion of the residual).
 * Ranks:  pure arithmetic. */
#ifndef MUSTER_ENLARGE_H
#define MUSTER_ENLARGE_H

#include <stdint.h>

/* small [channels, height, width] -> large [channels, 2 height, 2 width]; pixels beyond an edge are the
 * edge's. Values overshoot at edges and are not clamped. */
void enlarge_bicubic(const float *small, int channels, int height, int width, float *large);

#endif
