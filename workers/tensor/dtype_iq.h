/* dtype_iq.h - the code points of the IQ formats, for the readers, writers and kernels of IQ types.
 * Shapes: a grid has n rows of `elements` code points; row r's element j is value[field], the field
 *         being `bits` bits of rows[r] from bit j * bits.
 * Ranks:  not collective. */
#ifndef MUSTER_DTYPE_IQ_H
#define MUSTER_DTYPE_IQ_H

#include <stdint.h>

struct iq_grid {
    const uint16_t *rows;
    int n, elements, bits;
    int8_t value[8];
};

extern const struct iq_grid iq_grid_iq2_xxs, iq_grid_iq2_xs, iq_grid_iq2_s, iq_grid_iq3_xxs,
    iq_grid_iq3_s, iq_grid_iq1_s;

/* The codebook of IQ4_NL and IQ4_XS, and MXFP4's E2M1 values doubled. */
extern const int8_t iq4_values[16], fp4_values[16];

static inline int iq_grid_value(const struct iq_grid *g, int row, int j)
{
    return g->value[g->rows[row] >> j * g->bits & ((1 << g->bits) - 1)];
}

/* Signs of 8 elements out of a 7-bit code: bit 7 makes the number of minus signs even. */
static inline int iq_signs(unsigned code) { return (int)(code | (unsigned)__builtin_parity(code) << 7); }

#endif
