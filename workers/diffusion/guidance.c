#include "workers/diffusion/guidance.h"

#include <math.h>

/* Unbiased standard deviation of x [n]. */
static double deviation(const float *x, int64_t n)
{
    double mean = 0, sum = 0;
    for (int64_t i = 0; i < n; i++)
        mean += x[i];
    mean /= (double)n;
    for (int64_t i = 0; i < n; i++)
        sum += (x[i] - mean) * (x[i] - mean);
    return n > 1 ? sqrt(sum / (double)(n - 1)) : 0;
}

void guidance_apply(float *out, const float *cond, const float *uncond, int64_t n, double scale,
                    double rescale)
{
    double target = rescale > 0 ? deviation(cond, n) : 0;
    for (int64_t i = 0; i < n; i++)
        out[i] = (float)(uncond[i] + scale * ((double)cond[i] - uncond[i]));
    if (!(rescale > 0))
        return;
    double own = deviation(out, n);
    if (!(own > 0))
        return;     /* a constant picture has nothing to rescale */
    double factor = rescale * target / own + (1 - rescale);
    for (int64_t i = 0; i < n; i++)
        out[i] = (float)(out[i] * factor);
}
