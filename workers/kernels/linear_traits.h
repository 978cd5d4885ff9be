/* linear_traits.h - a weight type's shape as compile-time constants.
 * Why:    each vector kernel is written once over a constant `type`; the compiler folds these away.
 *         They repeat the table of linear_format.c, which the tests compare them with.
 * Ranks:  not collective. */
#ifndef MUSTER_LINEAR_TRAITS_H
#define MUSTER_LINEAR_TRAITS_H

#include "workers/kernels/linear_format.h"

#define FOLDED static inline __attribute__((always_inline, unused))
/* A loop of constant length, unrolled whole. */
#define UNROLL(...) _Pragma("GCC unroll 16") for (__VA_ARGS__)

/* The types with integer rows: M(lower-case name, dtype). */
#define LINEAR_CODE_TYPES(M)                                                                       \
    M(q8_0, DT_Q8_0)                                                                               \
    M(q4_0, DT_Q4_0)                                                                               \
    M(q4_1, DT_Q4_1)                                                                               \
    M(q5_0, DT_Q5_0)                                                                               \
    M(q5_1, DT_Q5_1)                                                                               \
    M(iq4_nl, DT_IQ4_NL)                                                                           \
    M(mxfp4, DT_MXFP4)                                                                             \
    M(q4_k, DT_Q4_K)                                                                               \
    M(q5_k, DT_Q5_K)                                                                               \
    M(q6_k, DT_Q6_K)                                                                               \
    M(q3_k, DT_Q3_K)                                                                               \
    M(q2_k, DT_Q2_K)                                                                               \
    M(iq4_xs, DT_IQ4_XS)

FOLDED int code_bits(enum dtype t)
{
    switch (t) {
    case DT_Q8_0:
        return 8;
    case DT_Q6_K:
        return 6;
    case DT_Q5_0:
    case DT_Q5_1:
    case DT_Q5_K:
        return 5;
    case DT_Q3_K:
        return 3;
    case DT_Q2_K:
        return 2;
    default:
        return 4;
    }
}

FOLDED bool has_codebook(enum dtype t)
{
    return t == DT_IQ4_NL || t == DT_IQ4_XS || t == DT_MXFP4;
}

/* v = d code + m? */
FOLDED bool has_minimum(enum dtype t)
{
    return t == DT_Q4_1 || t == DT_Q5_1 || t == DT_Q4_K || t == DT_Q5_K || t == DT_Q2_K;
}

/* Scales for each half of a block (16 weights) apart? */
FOLDED bool half_scales(enum dtype t) { return t == DT_Q6_K || t == DT_Q3_K || t == DT_Q2_K; }

/* Products that want unsigned bytes take codes (or codebook values) so much above the value: a
 * power of two, by its logarithm; -1 for none. */
FOLDED int offset_shift(enum dtype t)
{
    switch (t) {
    case DT_Q8_0:
    case DT_IQ4_NL:
    case DT_IQ4_XS:
        return 7;
    case DT_Q4_0:
        return 3;
    case DT_Q5_0:
    case DT_MXFP4:
        return 4;
    case DT_Q6_K:
        return 5;
    case DT_Q3_K:
        return 2;
    default:
        return -1;
    }
}

/* Bytes of a superblock's header and of a block's scales. */
FOLDED size_t header_bytes(enum dtype t)
{
    return t == DT_Q4_K || t == DT_Q5_K || t == DT_Q2_K                ? 64
           : t == DT_Q6_K || t == DT_Q3_K || t == DT_IQ4_XS ? 32
                                                                         : 0;
}
FOLDED size_t scale_bytes(enum dtype t)
{
    return t == DT_Q4_1 || t == DT_Q5_1 ? 64 : t == DT_MXFP4 || t == DT_IQ4_XS ? 16 : 32;
}

/* Codes are fetched twice: a page ahead into L2, and from there half a page ahead into L1. One row of
 * Q8_0, Q4_K and Q6_K, in turns with plain reading of the same memory in huge pages, gave 0.89, 0.82
 * and 0.82 of its rate with both, 0.82, 0.76 and 0.76 without the second, 0.74 and 0.68 with L1 alone,
 * 0.80 and 0.72 two pages ahead. Scales, a line now and then, are fetched a panel ahead. Several passes
 * of rows over a panel share the lines out: pass i of n fetches lines [from, to) of a block. */
enum { PREFETCH_BYTES = 4096, PREFETCH_NEAR = 2048 };
struct prefetch { int from, to; };

FOLDED struct prefetch prefetch_share(enum dtype type, const struct linear_panel *w, int pass,
                                      int n)
{
    struct prefetch p = {code_bits(type) * pass / n,
                         w->ahead ? code_bits(type) * (pass + 1) / n : 0};
    return p;
}

FOLDED void prefetch_scales(enum dtype type, const struct linear_panel *w, int b,
                            struct prefetch p)
{
    if (p.from > 0 || p.to == 0)
        return;
    if ((size_t)b * scale_bytes(type) % 64 == 0)
        __builtin_prefetch(w->s + w->ahead + (size_t)b * scale_bytes(type), 0, 2);
    if (header_bytes(type) && b % 8 == 0)
        __builtin_prefetch(w->h + w->ahead + (size_t)(b / 8) * header_bytes(type), 0, 2);
}

FOLDED void prefetch_line(const uint8_t *q, size_t ahead)
{
    __builtin_prefetch(q + ahead, 0, 2);
    __builtin_prefetch(q + PREFETCH_NEAR, 0, 3);
}

/* Near ones past the end of a panel fetch nothing of use, and do no harm. */
FOLDED void prefetch_codes(enum dtype type, const uint8_t *q, size_t ahead, struct prefetch p)
{
    if (p.to - p.from == code_bits(type)) {
        UNROLL (int i = 0; i < code_bits(type); i++)
            prefetch_line(q + 64 * i, ahead);
    } else {
        for (int i = p.from; i < p.to; i++)
            prefetch_line(q + 64 * i, ahead);
    }
}

/* What is a page ahead lies inside the panel for blocks [b0, turn), in the next one from there. */
struct prefetch_reach { int turn; size_t inside, beyond; };

FOLDED struct prefetch_reach prefetch_reach(enum dtype type, const struct linear_panel *w, int b0,
                                            int b1)
{
    size_t bytes = 64 * (size_t)code_bits(type);
    int blocks = linear_blocks(w->k), turn = blocks - (int)(PREFETCH_BYTES / bytes);
    struct prefetch_reach r = {turn < b0 ? b0 : turn > b1 ? b1 : turn,
                               PREFETCH_BYTES / bytes * bytes, 0};
    r.beyond = r.inside + w->ahead - (size_t)blocks * bytes;
    return r;
}

/* For kernels that read many blocks in a burst before they compute: a panel ahead. */
FOLDED void prefetch_far(enum dtype type, const struct linear_panel *w, int b, struct prefetch p)
{
    const uint8_t *q = w->q + w->ahead + (size_t)b * 64 * (size_t)code_bits(type);
    for (int i = p.from; i < p.to; i++)
        __builtin_prefetch(q + 64 * i, 0, 2);
    prefetch_scales(type, w, b, p);
}

#endif
