/* vmath.h - exp, log, sin, cos, tanh, erf of our own, in double.
 * Why:    libm picks its code by processor, so its last bits move from machine to machine; tables (rope
 *         angles), sampling and the plain C kernel row need the same bits everywhere.
 * Error:  a few units in the last place of a double; cast to float they are right to the last bit but
 *         for ties. No branch depends on anything but the argument.
 * Ranks:  not collective. */
#ifndef MUSTER_VMATH_H
#define MUSTER_VMATH_H

#include <stdint.h>
#include <string.h>

static inline double vmath_from_bits(uint64_t u)
{
    double d;
    memcpy(&d, &u, sizeof d);
    return d;
}

static inline uint64_t vmath_bits(double d)
{
    uint64_t u;
    memcpy(&u, &d, sizeof u);
    return u;
}

/* Nearest integer, ties to even, of |x| < 2^51; *n is it as a whole number modulo 2^32. */
static inline double vmath_nearest(double x, int32_t *n)
{
    const double magic = 0x1.8p52;      /* its last bit is worth 1: adding it rounds */
    double t = x + magic;
    *n = (int32_t)(uint32_t)vmath_bits(t);
    return t - magic;
}

/* e^x; 0 below -745, infinity above 709.8, NaN for NaN. */
static inline double vmath_exp(double x)
{
    double c = x < -746.0 ? -746.0 : x > 710.0 ? 710.0 : x;
    int32_t n;
    double k = vmath_nearest(c * 0x1.71547652b82fep0, &n);          /* 1 / ln 2 */
    double r = (c - k * 0x1.62e42fef00000p-1) - k * 0x1.473de6af278edp-34;
    /* Taylor: |r| <= ln 2 / 2, the first term left out is 4e-18. */
    double p = 1.0 / 6227020800;
    p = p * r + 1.0 / 479001600;
    p = p * r + 1.0 / 39916800;
    p = p * r + 1.0 / 3628800;
    p = p * r + 1.0 / 362880;
    p = p * r + 1.0 / 40320;
    p = p * r + 1.0 / 5040;
    p = p * r + 1.0 / 720;
    p = p * r + 1.0 / 120;
    p = p * r + 1.0 / 24;
    p = p * r + 1.0 / 6;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    /* Two factors, since 2^n alone may overflow or underflow where the product does not. */
    int32_t half = n >> 1;
    double a = vmath_from_bits((uint64_t)(int64_t)(half + 1023) << 52);
    double b = vmath_from_bits((uint64_t)(int64_t)(n - half + 1023) << 52);
    return p * a * b;
}

/* Natural logarithm; -infinity at 0, NaN below. */
static inline double vmath_log(double x)
{
    if (!(x > 0.0))
        return x == 0.0 ? -__builtin_inf() : __builtin_nan("");
    if (x > 0x1.fffffffffffffp1023)
        return x;
    int e = 0;
    if (x < 0x1p-1022) {
        x *= 0x1p54;
        e = -54;
    }
    uint64_t u = vmath_bits(x);
    e += (int)(u >> 52) - 1023;
    double m = vmath_from_bits((u & 0xfffffffffffffULL) | 0x3ff0000000000000ULL);
    if (m > 1.4142135623730951) {
        m *= 0.5;
        e++;
    }
    /* log m = 2 atanh(s), |s| <= 0.1716 */
    double s = (m - 1.0) / (m + 1.0), z = s * s, p = 1.0 / 23;
    for (int k = 21; k >= 3; k -= 2)
        p = p * z + 1.0 / k;
    double log_m = 2.0 * s + 2.0 * s * z * p;
    return e * 0x1.62e42fef00000p-1 + (log_m + e * 0x1.473de6af278edp-34);
}

/* base^x for base > 0. */
static inline double vmath_pow(double base, double x) { return vmath_exp(x * vmath_log(base)); }

/* sin and cos, for |x| < 1e6 (pi/2 in three parts of 33 bits: their multiples are exact there). */
static inline void vmath_sincos(double x, double *sine, double *cosine)
{
    int32_t n;
    double k = vmath_nearest(x * 0x1.45f306dc9c883p-1, &n);         /* 2 / pi */
    double r = ((x - k * 0x1.921fb54400000p+0) - k * 0x1.0b4611a600000p-34) - k * 0x1.3198a2e037073p-69;
    double z = r * r;
    double s = 1.0 / 355687428096000.0;
    s = s * z - 1.0 / 1307674368000.0;
    s = s * z + 1.0 / 6227020800.0;
    s = s * z - 1.0 / 39916800.0;
    s = s * z + 1.0 / 362880.0;
    s = s * z - 1.0 / 5040.0;
    s = s * z + 1.0 / 120.0;
    s = s * z - 1.0 / 6.0;
    s = r + r * z * s;
    double c = 1.0 / 20922789888000.0;
    c = c * z - 1.0 / 87178291200.0;
    c = c * z + 1.0 / 479001600.0;
    c = c * z - 1.0 / 3628800.0;
    c = c * z + 1.0 / 40320.0;
    c = c * z - 1.0 / 720.0;
    c = c * z + 1.0 / 24.0;
    c = c * z - 0.5;
    c = 1.0 + z * c;
    double a = n & 1 ? c : s, b = n & 1 ? s : c;
    *sine = n & 2 ? -a : a;
    *cosine = (n + 1) & 2 ? -b : b;
}

static inline double vmath_tanh(double x)
{
    double a = x < 0 ? -x : x;
    if (a < 1e-5)
        return x - x * x * x / 3.0;
    if (a > 22.0)
        return x < 0 ? -1.0 : 1.0;
    double e = vmath_exp(2.0 * x);
    return (e - 1.0) / (e + 1.0);
}

static inline double vmath_sigmoid(double x) { return 1.0 / (1.0 + vmath_exp(-x)); }

/* erf by the series of positive terms 2/sqrt(pi) e^(-x^2) sum 2^k x^(2k+1) / (2k+1)!!. */
static inline double vmath_erf(double x)
{
    double a = x < 0 ? -x : x;
    if (!(a < 6.0))
        return x != x ? x : x < 0 ? -1.0 : 1.0;
    double term = a, sum = a;
    for (int k = 1; k < 200 && term > sum * 1e-18; k++) {
        term *= 2.0 * a * a / (2 * k + 1);
        sum += term;
    }
    double r = 1.1283791670955126 * vmath_exp(-a * a) * sum;
    return x < 0 ? -r : r;
}

#endif
