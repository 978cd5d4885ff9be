#include "workers/diffusion/noisetable.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS_MAX = 100000 };

static double cosine_signal(double u)
{
    double c = cos((u + 0.008) / 1.008 * M_PI / 2);
    return c * c;
}

/* Number i of n evenly spaced ones, in float32 from the nearer end, as the training libraries do. */
static float even_f32(float start, float end, int i, int n)
{
    if (n < 2)
        return start;
    float step = (end - start) / (float)(n - 1);
    return i < n / 2 ? start + step * (float)i : end - step * (float)(n - 1 - i);
}

static void fill_betas(double *beta, enum beta_kind kind, double start, double end, int n)
{
    for (int i = 0; i < n; i++) {
        if (kind == BETA_LINEAR) {
            beta[i] = even_f32((float)start, (float)end, i, n);
        } else if (kind == BETA_SCALED_LINEAR) {
            float root = even_f32((float)sqrt(start), (float)sqrt(end), i, n);
            beta[i] = root * root;
        } else {
            double b = 1 - cosine_signal((i + 1.0) / n) / cosine_signal((double)i / n);
            beta[i] = (float)(b < 0.999 ? b : 0.999);
        }
    }
}

static void fill_products(struct noise_table *t)
{
    double product = 1;
    for (int i = 0; i < t->n; i++) {
        product *= 1.0f - (float)t->beta[i];
        t->alpha_bar[i] = (float)product;
    }
}

/* Shifts and scales sqrt(alpha_bar) so that the last is 0 and the first stays; betas follow. */
static void rescale_to_zero_snr(struct noise_table *t)
{
    float first = sqrtf((float)t->alpha_bar[0]), last = sqrtf((float)t->alpha_bar[t->n - 1]);
    float before = 1;
    for (int i = 0; i < t->n; i++) {
        float root = (sqrtf((float)t->alpha_bar[i]) - last) * (first / (first - last));
        float after = root * root;
        t->beta[i] = 1 - after / before;
        before = after;
    }
    fill_products(t);
}

int noise_table_init(struct noise_table *t, enum beta_kind kind, double start, double end, int n,
                     bool zero_snr, struct err *err)
{
    memset(t, 0, sizeof *t);
    if (n < 1 || n > STEPS_MAX)
        return err_set(err, ERR_INVAL, "num_train_timesteps is %d: it must be in 1..%d", n, STEPS_MAX);
    if (kind != BETA_COSINE && !(start > 0 && start < 1 && end > 0 && end < 1))
        return err_set(err, ERR_INVAL, "beta_start %g and beta_end %g must lie between 0 and 1", start,
                       end);
    t->beta = malloc(2 * (size_t)n * sizeof *t->beta);
    if (t->beta == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a noise table of %d steps", n);
    t->n = n;
    t->alpha_bar = t->beta + n;
    fill_betas(t->beta, kind, start, end, n);
    fill_products(t);
    if (zero_snr && n > 1)
        rescale_to_zero_snr(t);
    return ERR_OK;
}

void noise_table_free(struct noise_table *t)
{
    free(t->beta);
    memset(t, 0, sizeof *t);
}
