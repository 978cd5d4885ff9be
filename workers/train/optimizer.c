#include "workers/train/optimizer.h"

#include "workers/models/nnangle.h"
#include "workers/models/nnrows.h"

#include <math.h>

NN_WIDE void adam_step(const struct adam_config *c, int64_t step, double scale, float *restrict p,
                       const float *restrict g, float *restrict m, float *restrict v, int64_t n)
{
    double correct1 = 1 - nn_power(c->beta1 > 0 ? c->beta1 : 1e-300, (double)step);
    double correct2 = 1 - nn_power(c->beta2 > 0 ? c->beta2 : 1e-300, (double)step);
    double beta1 = c->beta1, beta2 = c->beta2, eps = c->eps;
    double rate = c->lr / correct1, root = 1 / sqrt(correct2), keep = 1 - c->lr * c->decay;
    for (int64_t i = 0; i < n; i++) {
        double grad = g[i] * scale;
        double mi = beta1 * m[i] + (1 - beta1) * grad;
        double vi = beta2 * v[i] + (1 - beta2) * grad * grad;
        m[i] = (float)mi;
        v[i] = (float)vi;
        p[i] = (float)(p[i] * keep - rate * mi / (sqrt(vi) * root + eps));
    }
}

double optimizer_squares(const float *g, int64_t n) { return nnrows_dot(g, g, n); }

double optimizer_clip(double norm, double clip)
{
    double factor = clip / (norm + 1e-6);
    return clip > 0 && factor < 1 ? factor : 1;
}

NN_WIDE void optimizer_ema(float *restrict ema, const float *restrict p, double decay, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        ema[i] = (float)(decay * ema[i] + (1 - decay) * p[i]);
}

double optimizer_rate(double lr, double floor, int64_t step, int64_t warmup, int64_t total)
{
    if (step <= warmup)
        return lr * (double)step / (double)warmup;
    if (total <= warmup)
        return lr;
    double at = (double)(step - warmup) / (double)(total - warmup), sine, cosine;
    nn_sincos(3.14159265358979323846 * (at < 1 ? at : 1), &sine, &cosine);
    return floor + (lr - floor) / 2 * (1 + cosine);
}
