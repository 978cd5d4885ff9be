#include "workers/models/nnrows.h"

#include <stddef.h>

enum { LANES = 8 };

static inline double lanes_sum(const double *s)
{
    return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
}

NN_WIDE void nnrows_modulate(float *restrict y, const float *restrict x, const float *restrict scale,
                             const float *restrict shift, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] * (1 + scale[i]) + shift[i];
}

NN_WIDE void nnrows_gate(float *restrict y, const float *restrict residual, const float *restrict gate,
                         const float *restrict x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = residual[i] + gate[i] * x[i];
}

NN_WIDE void nnrows_product(float *out, const float *a, const float *b, int64_t n, bool fresh)
{
    if (fresh)
        for (int64_t i = 0; i < n; i++)
            out[i] = a[i] * b[i];
    else
        for (int64_t i = 0; i < n; i++)
            out[i] += a[i] * b[i];
}

NN_WIDE void nnrows_scaled_back(float *restrict out, const float *restrict g, const float *restrict scale,
                                int64_t n, bool fresh)
{
    if (fresh)
        for (int64_t i = 0; i < n; i++)
            out[i] = g[i] * (1 + scale[i]);
    else
        for (int64_t i = 0; i < n; i++)
            out[i] += g[i] * (1 + scale[i]);
}

NN_WIDE double nnrows_sum(const float *x, int64_t n)
{
    double s[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++)
            s[l] += x[i + l];
    for (int l = 0; i < n; i++, l++)
        s[l] += x[i];
    return lanes_sum(s);
}

NN_WIDE double nnrows_spread(const float *x, double mean, int64_t n)
{
    double s[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++)
            s[l] += (x[i + l] - mean) * (x[i + l] - mean);
    for (int l = 0; i < n; i++, l++)
        s[l] += (x[i] - mean) * (x[i] - mean);
    return lanes_sum(s);
}

NN_WIDE double nnrows_dot(const float *a, const float *b, int64_t n)
{
    double s[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++)
            s[l] += (double)a[i + l] * b[i + l];
    for (int l = 0; i < n; i++, l++)
        s[l] += (double)a[i] * b[i];
    return lanes_sum(s);
}

NN_WIDE float nnrows_max(const float *x, int64_t n)
{
    float m[2 * LANES];
    int64_t i = 0;
    for (int l = 0; l < 2 * LANES; l++)
        m[l] = x[l < n ? l : 0];
    for (; i + 2 * LANES <= n; i += 2 * LANES)
        for (int l = 0; l < 2 * LANES; l++)
            m[l] = x[i + l] > m[l] ? x[i + l] : m[l];
    for (int l = 0; i < n; i++, l++)
        m[l] = x[i] > m[l] ? x[i] : m[l];
    for (int l = 1; l < 2 * LANES; l++)
        m[0] = m[l] > m[0] ? m[l] : m[0];
    return m[0];
}

NN_WIDE void nnrows_norm(float *restrict y, const float *restrict x, float mean, float r,
                         const float *restrict w, const float *restrict b, int64_t n)
{
    if (w != NULL && b != NULL)
        for (int64_t i = 0; i < n; i++)
            y[i] = (x[i] - mean) * r * w[i] + b[i];
    else if (w != NULL)
        for (int64_t i = 0; i < n; i++)
            y[i] = (x[i] - mean) * r * w[i];
    else
        for (int64_t i = 0; i < n; i++)
            y[i] = (x[i] - mean) * r + (b != NULL ? b[i] : 0);
}

/* One lane's part of the two sums: f32 is enough for a lane's few terms, the lanes are added in double. */
#define NORM_TERM(at, lane)                                                                        \
    do {                                                                                           \
        float gw_ = w != NULL ? g[at] * w[at] : g[at];                                             \
        s[lane] += gw_;                                                                            \
        t[lane] += gw_ * ((x[at] - mean) * r);                                                     \
    } while (0)

enum { NORM_LANES = 32 };

static inline void norm_sums(const float *g, const float *x, float mean, float r, const float *w, int64_t n,
                             double *sum, double *along)
{
    float s[NORM_LANES] = {0}, t[NORM_LANES] = {0};
    int64_t i = 0;
    for (; i + NORM_LANES <= n; i += NORM_LANES)
        for (int l = 0; l < NORM_LANES; l++)
            NORM_TERM(i + l, l);
    for (int l = 0; i < n; i++, l++)
        NORM_TERM(i, l);
    *sum = nnrows_sum(s, NORM_LANES);
    *along = nnrows_sum(t, NORM_LANES);
}

NN_WIDE void nnrows_norm_sums(const float *restrict g, const float *restrict x, float mean, float r,
                              const float *restrict w, float *restrict dw, float *restrict db, int64_t n,
                              double *sum, double *along)
{
    if (w == NULL)
        norm_sums(g, x, mean, r, NULL, n, sum, along);
    else
        norm_sums(g, x, mean, r, w, n, sum, along);
    for (int64_t i = 0; dw != NULL && i < n; i++)
        dw[i] += g[i] * ((x[i] - mean) * r);
    for (int64_t i = 0; db != NULL && i < n; i++)
        db[i] += g[i];
}

static inline void norm_back(float *restrict dx, const float *restrict g, const float *restrict x, float mean,
                             float r, const float *restrict w, float mean_g, float mean_n, int64_t n,
                             bool fresh)
{
    for (int64_t i = 0; i < n; i++) {
        float gw = w != NULL ? g[i] * w[i] : g[i];
        float d = r * (gw - mean_g - (x[i] - mean) * r * mean_n);
        dx[i] = fresh ? d : dx[i] + d;
    }
}

NN_WIDE void nnrows_norm_back(float *restrict dx, const float *restrict g, const float *restrict x,
                              float mean, float r, const float *restrict w, float mean_g, float mean_n,
                              int64_t n, bool fresh)
{
    if (w == NULL && fresh)
        norm_back(dx, g, x, mean, r, NULL, mean_g, mean_n, n, true);
    else if (w == NULL)
        norm_back(dx, g, x, mean, r, NULL, mean_g, mean_n, n, false);
    else if (fresh)
        norm_back(dx, g, x, mean, r, w, mean_g, mean_n, n, true);
    else
        norm_back(dx, g, x, mean, r, w, mean_g, mean_n, n, false);
}

NN_WIDE void nnrows_subtract(float *x, float top, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] -= top;
}

NN_WIDE void nnrows_multiply(float *x, float factor, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] *= factor;
}

NN_WIDE void nnrows_softmax_back(float *restrict ds, const float *restrict p, float sum, float scale,
                                 int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        ds[i] = p[i] * (ds[i] - sum) * scale;
}
