/* nnconvlib.h - convolutions of oneDNN, for some pictures at a time, on the calling thread.
 * Why:    unfolding pictures for a matrix product moves nine times the numbers; the library's kernels read
 *         them where they are, in a layout of its own (128 channels of 8 x 8: 135 GFLOP/s of one core,
 *         unfolded 50). Pictures are laid out anew before and after: a few per cent.
 * Sides:  a convolution leads from pictures [n, c, h, w] to lines [n, out, oh, ow] under weights
 *         [out, c / groups, kh, kw]. FORWARD makes lines of pictures, BACK pictures of lines (the way back,
 *         and a transposed convolution), WEIGHTS the weights' gradient of both.
 * Bits:   those of one thread, a function of the shape alone.
 * Ranks:  not collective. */
#ifndef MUSTER_NNCONVLIB_H
#define MUSTER_NNCONVLIB_H

#include <stdbool.h>
#include <stdint.h>

enum nnconvlib_kind { NNCONVLIB_FORWARD, NNCONVLIB_BACK, NNCONVLIB_WEIGHTS };

struct nnconvlib {
    int64_t n, c, h, w, out, oh, ow, kh, kw, stride, padding, groups;
    int32_t kind;
    int32_t add;                /* onto what is there */
    int32_t half;               /* products of bfloat16 numbers, with f32 sums */
    int32_t zero;
};

/* Weights in the library's layout: how many floats they take, and how they get there. */
int64_t nnconvlib_weight_floats(const struct nnconvlib *c);
void nnconvlib_weights(const struct nnconvlib *c, void *inside, const float *weights);

/* Floats of scratch that a run needs, aligned to 64 bytes. */
int64_t nnconvlib_room(const struct nnconvlib *c);

/* FORWARD: a pictures, b weights inside, to lines. BACK: a lines, b weights inside, to pictures.
 * WEIGHTS: a pictures, b lines, to weights (plain). */
void nnconvlib_run(const struct nnconvlib *c, const float *a, const void *b, float *to, float *room);

#endif
