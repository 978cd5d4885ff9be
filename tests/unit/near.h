/* near.h - numbers that two ways of computing them may round apart.
 * Note:   include cmocka.h first. */
#ifndef MUSTER_TESTS_NEAR_H
#define MUSTER_TESTS_NEAR_H

#include <math.h>
#include <stdint.h>

/* |got - want| is at most limit. */
static inline void near_number(double got, double want, double limit)
{
    if (!(fabs(got - want) <= limit))
        fail_msg("%.9g, not %.9g", got, want);
}

/* got, want [n]: each by at most `share` of the largest number wanted, which is not 0. */
static inline void near_line(const float *got, const float *want, int64_t n, double share)
{
    double top = 0;
    for (int64_t i = 0; i < n; i++)
        top = fmax(top, fabs((double)want[i]));
    assert_true(top > 0);
    for (int64_t i = 0; i < n; i++)
        near_number(got[i], want[i], share * top);
}

#endif
