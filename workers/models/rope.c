#include "workers/models/rope.h"

#include "workers/kernels/vmath.h"

#include <stdlib.h>
#include <string.h>

static const double pi = 3.14159265358979323846;

/* What llama 3.1 divides a frequency by: nothing for short waves, factor for long ones, and a ramp
 * between. */
static double llama3_divisor(const struct rope_config *c, double frequency)
{
    double wave = 2 * pi / frequency, original = c->original_context;
    if (wave < original / c->high_freq_factor)
        return 1;
    if (wave > original / c->low_freq_factor)
        return c->factor;
    double s = (original / wave - c->low_freq_factor) / (c->high_freq_factor - c->low_freq_factor);
    return 1 / ((1 - s) / c->factor + s);
}

static double floor_of(double x)
{
    double whole = (double)(int64_t)x;
    return whole > x ? whole - 1 : whole;
}

/* YaRN (Peng et al. 2023): the dimension whose wave turns `beta` times in the original context. */
static double yarn_dimension(const struct rope_config *c, int n_rot, double beta)
{
    return n_rot * vmath_log(c->original_context / (beta * 2 * pi)) / (2 * vmath_log(c->base));
}

static void yarn_range(const struct rope_config *c, int n_rot, double *low, double *high)
{
    *low = yarn_dimension(c, n_rot, c->beta_fast);
    *high = yarn_dimension(c, n_rot, c->beta_slow);
    if (c->truncate) {
        *low = floor_of(*low);
        *high = -floor_of(-*high);
    }
    *low = *low < 0 ? 0 : *low;
    *high = *high > n_rot - 1 ? n_rot - 1 : *high;
    if (*high - *low < 0.001)
        *high = *low + 0.001;
}

static double scaled(const struct rope_config *c, int n_rot, int i, double frequency)
{
    double low, high;
    switch (c->scaling) {
    case SCALING_LINEAR:
        return frequency / c->factor;
    case SCALING_LLAMA3:
        return c->divisors != NULL ? frequency / c->divisors[i]
                                   : frequency / llama3_divisor(c, frequency);
    case SCALING_YARN:
        yarn_range(c, n_rot, &low, &high);
        double ramp = (i - low) / (high - low);     /* 0: extrapolate, 1: interpolate */
        ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
        return frequency / c->factor * ramp + frequency * (1 - ramp);
    case SCALING_LONGROPE:
        return frequency / c->short_factors[i];
    default:
        return c->divisors != NULL ? frequency / c->divisors[i] : frequency;
    }
}

int rope_init(struct rope *r, const struct rope_config *c, int n_rot, struct err *err)
{
    memset(r, 0, sizeof *r);
    int half = n_rot / 2;
    bool two = c->scaling == SCALING_LONGROPE;
    double *f = malloc(sizeof *f * ((size_t)half * (two ? 2 : 1) + 1));
    if (f == NULL)
        return err_set(err, ERR_NOMEM, "no memory for %d rotary frequencies", half);
    r->n_rot = n_rot;
    r->factor = c->attn_factor > 0 ? c->attn_factor : 1;
    r->frequency = f;
    r->frequency_long = two ? f + half : f;
    for (int i = 0; i < half; i++) {
        double plain = vmath_pow(c->base, -2.0 * i / n_rot);
        f[i] = scaled(c, n_rot, i, plain);
        if (two)
            f[half + i] = plain / c->long_factors[i];
    }
    return ERR_OK;
}

void rope_free(struct rope *r)
{
    free(r->frequency);
    memset(r, 0, sizeof *r);
}

void rope_angles(const struct rope *r, bool is_long, int position, float *cosine, float *sine)
{
    const double *f = is_long ? r->frequency_long : r->frequency;
    for (int i = 0; i < r->n_rot / 2; i++) {
        double s, c;
        vmath_sincos(position * f[i], &s, &c);
        cosine[i] = (float)(c * r->factor);
        sine[i] = (float)(s * r->factor);
    }
}
