/* numbers.h - numbers of -1 to 1, the same in every run, as they are and rounded to bfloat16.
 * Note:   include cmocka.h first. */
#ifndef MUSTER_TESTS_NUMBERS_H
#define MUSTER_TESTS_NUMBERS_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static uint32_t numbers_state = 1;

/* n new ones, aligned to 64 bytes with as much behind them; the caller frees. */
static inline float *numbers(size_t n)
{
    float *p = aligned_alloc(64, (n * sizeof *p + 64 + 63) / 64 * 64);
    assert_non_null(p);
    for (size_t i = 0; i < n; i++) {
        numbers_state = numbers_state * 1664525 + 1013904223;
        p[i] = (float)(int32_t)numbers_state * 0x1p-31f;
    }
    return p;
}

/* To the nearest bfloat16, ties to even. */
static inline float numbers_rounded(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    u = (u + 0x7fff + (u >> 16 & 1)) & 0xffff0000;
    memcpy(&x, &u, sizeof u);
    return x;
}

#endif
