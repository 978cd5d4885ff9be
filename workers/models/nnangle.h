/* nnangle.h - sine, cosine and powers in double, the same on every processor.
 * Why:    float32 angles of times near 1000 are off by 3e-5, and libm chooses its code by processor.
 * Source: Cody & Waite reduction; Taylor series on [-pi/4, pi/4] (error < 1e-17 of 1).
 * Ranks:  pure arithmetic. */
#ifndef MUSTER_NNANGLE_H
#define MUSTER_NNANGLE_H

/* |x| up to 1e6. */
void nn_sincos(double x, double *sine, double *cosine);
/* base^e for base > 0. */
double nn_power(double base, double e);

#endif
