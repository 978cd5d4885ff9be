#include "workers/models/nnangle.h"

#include <stdint.h>
#include <string.h>

/* pi/2 in three pieces: the first two have 33 bits, so that their multiples up to 2^20 are exact. */
static const double HALF_PI_1 = 1.57079632673412561417e+00, HALF_PI_2 = 6.07710050630396597660e-11,
                    HALF_PI_3 = 2.02226624879595063154e-21, TWO_OVER_PI = 0.63661977236758134308;

void nn_sincos(double x, double *sine, double *cosine)
{
    double scaled = x * TWO_OVER_PI;
    int64_t q = (int64_t)(scaled + (scaled >= 0 ? 0.5 : -0.5));
    double n = (double)q, r = ((x - n * HALF_PI_1) - n * HALF_PI_2) - n * HALF_PI_3;
    double r2 = r * r, s = 0, c = 0;
    for (int k = 10; k >= 1; k--) {     /* Horner: s = 1 - r2/(2 3) (1 - r2/(4 5) (...)) */
        s = r2 / (2.0 * k * (2 * k + 1)) * (1 - s);
        c = r2 / (2.0 * k * (2 * k - 1)) * (1 - c);
    }
    s = r * (1 - s);
    c = 1 - c;
    switch (q & 3) {
    case 0: *sine = s; *cosine = c; break;
    case 1: *sine = c; *cosine = -s; break;
    case 2: *sine = -s; *cosine = -c; break;
    default: *sine = -c; *cosine = s; break;
    }
}

/* ln x by the series of atanh on [sqrt(1/2), sqrt(2)). */
static double natural_log(double x)
{
    uint64_t u;
    memcpy(&u, &x, sizeof u);
    int exponent = (int)(u >> 52 & 0x7ff) - 1023;
    u = (u & 0x000fffffffffffffull) | 0x3ff0000000000000ull;
    double m;
    memcpy(&m, &u, sizeof m);
    if (m > 1.4142135623730951) {
        m /= 2;
        exponent++;
    }
    double z = (m - 1) / (m + 1), z2 = z * z, sum = 0;
    for (int k = 25; k >= 0; k--)
        sum = sum * z2 + 1.0 / (2 * k + 1);
    return 2 * z * sum + exponent * 0.69314718055994530942;
}

static double exponential(double x)
{
    double n = (double)(int64_t)(x * 1.4426950408889634 + (x >= 0 ? 0.5 : -0.5));
    double r = x - n * 0.69314718055994530942, sum = 1;
    if (n < -1020 || n > 1020)
        return n < 0 ? 0 : 1e308 * 10;
    for (int k = 18; k >= 1; k--)
        sum = 1 + r / k * sum;
    uint64_t u = (uint64_t)((int64_t)n + 1023) << 52;
    double scale;
    memcpy(&scale, &u, sizeof scale);
    return sum * scale;
}

double nn_power(double base, double e) { return exponential(e * natural_log(base)); }
