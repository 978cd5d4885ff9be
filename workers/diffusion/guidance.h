/* guidance.h - classifier-free guidance of one image.
 * Source: Ho & Salimans 2207.12598; rescale: Lin et al. 2305.08891, section 3.4.
 * Ranks:  pure arithmetic. */
#ifndef MUSTER_GUIDANCE_H
#define MUSTER_GUIDANCE_H

#include <stdint.h>

/* out [n] = u + scale (c - u); with rescale r > 0 the result is brought to the standard deviation of c
 * and mixed in by r. cond, uncond [n]; out may be either. */
void guidance_apply(float *out, const float *cond, const float *uncond, int64_t n, double scale,
                    double rescale);

#endif
