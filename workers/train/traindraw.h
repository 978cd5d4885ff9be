/* traindraw.h - random numbers of training: functions of (seed, sample or tensor, place).
 * Source: Philox4x32-10 (philox.h); Box & Muller 1958 for normal numbers (kernels/normal.h).
 * Ranks:  pure arithmetic; the same on all ranks and processors. */
#ifndef MUSTER_TRAINDRAW_H
#define MUSTER_TRAINDRAW_H

#include <stdint.h>

/* out [n] normal numbers of a sample, from draw `block` on (n / 4 draws are used, rounded up). */
void traindraw_normal(uint64_t seed, uint64_t sample, uint64_t block, float *out, int64_t n);
/* One uniform number in [0, 1) and one normal number. */
double traindraw_uniform(uint64_t seed, uint64_t sample, uint64_t block);
double traindraw_one_normal(uint64_t seed, uint64_t sample, uint64_t block);

/* First weights, the same on every processor. tensor: its number in the model. */
void traindraw_weights_normal(uint64_t seed, uint32_t tensor, double deviation, float *out, int64_t n);
void traindraw_weights_uniform(uint64_t seed, uint32_t tensor, double bound, float *out, int64_t n);

#endif
