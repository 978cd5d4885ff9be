/* dtype_k.h - how K-quants pack the small scales of their sub-blocks.
 * Why:    the readers, the writers and the kernels that repack must agree on these bits.
 * Ranks:  not collective. */
#ifndef MUSTER_DTYPE_K_H
#define MUSTER_DTYPE_K_H

#include <stdint.h>

enum { K_BLOCK = 256 };

/* Q4_K, Q5_K: s [12] packed bytes, j = 0..7. */
void dtype_k_unpack_scale(const uint8_t *s, int j, int *scale, int *minimum);
/* Q3_K: s [12], j = 0..15; signed, -32..31. */
int dtype_k_unpack_scale3(const uint8_t *s, int j);

#endif
