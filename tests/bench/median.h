/* median.h - the middle of some measurements, the only figure that benchmarks print. */
#ifndef MUSTER_MEDIAN_H
#define MUSTER_MEDIAN_H

#include <stdlib.h>

static inline int median_order(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* v [n] is sorted by it. */
static inline double median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, median_order);
    return v[n / 2];
}

#endif
