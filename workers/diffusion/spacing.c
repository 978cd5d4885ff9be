#include "workers/diffusion/spacing.h"

#include <math.h>

int spacing_timesteps(double *t, enum spacing kind, int n, int train, int offset, int rounded,
                      int extra_end)
{
    int points = n + (extra_end ? 1 : 0);
    if (kind == SPACING_LINSPACE) {
        for (int i = 0; i < n; i++) {
            int from_end = points - 1 - i;
            double step = points > 1 ? (double)(train - 1) / (points - 1) : 0;
            double v = from_end == points - 1 && points > 1 ? train - 1 : from_end * step;
            t[i] = rounded ? nearbyint(v) : (double)(float)v;
        }
        return n;
    }
    if (kind == SPACING_LEADING) {
        int step = train / points;
        for (int i = 0; i < n; i++)
            t[i] = (double)(points - 1 - i) * step + offset;
        return n;
    }
    double step = (double)train / n;
    int count = (int)ceil(train / step);
    if (count > n + 1)
        count = n + 1;
    for (int i = 0; i < count; i++)
        t[i] = nearbyint(train - i * step) - 1;
    return count;
}

double spacing_shift(double s, double k) { return k * s / (1 + (k - 1) * s); }

void spacing_sigmas(double *sigma, enum sigma_kind kind, int n, double largest, double smallest)
{
    const double rho = 7;
    for (int i = 0; i < n; i++) {
        double at = n > 1 ? (double)i / (n - 1) : 0;
        if (kind == SIGMA_KARRAS) {
            double a = pow(largest, 1 / rho), b = pow(smallest, 1 / rho);
            sigma[i] = pow(a + at * (b - a), rho);
        } else if (kind == SIGMA_BETA) {
            sigma[i] = smallest + spacing_beta_quantile(1 - at, 0.6, 0.6) * (largest - smallest);
        } else {    /* exponential; the lambda-uniform spacing is the same numbers */
            sigma[i] = exp(log(largest) + at * (log(smallest) - log(largest)));
        }
    }
}

double spacing_sigma_to_t(double sigma, const double *log_sigma, int n)
{
    if (n < 2)
        return 0;
    double ls = log(sigma > 1e-10 ? sigma : 1e-10);
    int low = 0, high = n - 1;
    while (low < high) {        /* last index with log_sigma <= ls, or 0 */
        int mid = (low + high + 1) / 2;
        if (log_sigma[mid] <= ls)
            low = mid;
        else
            high = mid - 1;
    }
    if (low > n - 2)
        low = n - 2;
    double w = (log_sigma[low] - ls) / (log_sigma[low] - log_sigma[low + 1]);
    w = w < 0 ? 0 : w > 1 ? 1 : w;
    return (1 - w) * low + w * (low + 1);
}

double spacing_interpolate(double t, const double *table, int n)
{
    if (t <= 0)
        return table[0];
    if (t >= n - 1)
        return table[n - 1];
    int i = (int)t;
    return table[i] + (table[i + 1] - table[i]) * (t - i);
}

/* Continued fraction of the incomplete beta function (Lentz's method; Abramowitz & Stegun 26.5.8). */
static double beta_fraction(double x, double a, double b)
{
    const double tiny = 1e-300;
    double c = 1, d = 1 - (a + b) * x / (a + 1), h;
    d = fabs(d) < tiny ? 1 / tiny : 1 / d;
    h = d;
    for (int m = 1; m < 500; m++) {
        double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        double step = 1;
        for (int half = 0; half < 2; half++) {
            double k = half == 0 ? even : odd;
            d = 1 + k * d;
            c = 1 + k / c;
            d = 1 / (fabs(d) < tiny ? tiny : d);
            c = fabs(c) < tiny ? tiny : c;
            step = d * c;
            h *= step;
        }
        if (fabs(step - 1) < 1e-16)
            break;
    }
    return h;
}

static double beta_cdf(double x, double a, double b)
{
    if (x <= 0)
        return 0;
    if (x >= 1)
        return 1;
    double front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x));
    if (x < (a + 1) / (a + b + 2))
        return front * beta_fraction(x, a, b) / a;
    return 1 - front * beta_fraction(1 - x, b, a) / b;
}

double spacing_beta_quantile(double p, double a, double b)
{
    if (p <= 0)
        return 0;
    if (p >= 1)
        return 1;
    double low = 0, high = 1;
    for (int i = 0; i < 200 && high - low > 1e-17; i++) {
        double mid = (low + high) / 2;
        if (beta_cdf(mid, a, b) < p)
            low = mid;
        else
            high = mid;
    }
    return (low + high) / 2;
}
