/* optimizer.h - Adam with decoupled weight decay, clipping, warm-up and cosine, moving averages.
 * Source: Loshchilov & Hutter 1711.05101 (AdamW); clip factor min(1, clip / (norm + 1e-6)).
 * Numbers: moments and weights in f32, the step of one number in double.
 * Ranks:  pure arithmetic; who owns which part of the state is the trainer's business. */
#ifndef MUSTER_OPTIMIZER_H
#define MUSTER_OPTIMIZER_H

#include <stdint.h>

struct adam_config { double lr, beta1, beta2, eps, decay; };

/* One step on n numbers: p, m, v [n] change; g [n] is the gradient, times `scale` (the clip factor);
 * decay is 0 for what does not decay. step counts from 1. */
void adam_step(const struct adam_config *c, int64_t step, double scale, float *p, const float *g,
               float *m, float *v, int64_t n);

/* Sum of squares of g [n], in double. */
double optimizer_squares(const float *g, int64_t n);
double optimizer_clip(double norm, double clip);        /* the factor; clip <= 0: 1 */

/* ema [n] = decay ema + (1 - decay) p */
void optimizer_ema(float *ema, const float *p, double decay, int64_t n);

/* Linear from lr / warmup at step 1 to lr at step `warmup`, then a cosine down to `floor` at step
 * `total`; total 0: constant after the warm-up. */
double optimizer_rate(double lr, double floor, int64_t step, int64_t warmup, int64_t total);

#endif
