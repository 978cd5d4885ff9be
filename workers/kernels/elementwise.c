/* The plain C row: what each kernel means, in double where the vector rows use floats. */
#include "workers/kernels/elementwise.h"

#include "workers/kernels/attention.h"
#include "workers/kernels/vmath.h"

static float root(double x) { return (float)__builtin_sqrt(x); }

static void rmsnorm(float *out, const float *x, const float *w, int n, float eps)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    float scale = 1.0f / root(sum / n + eps);
    for (int i = 0; i < n; i++)
        out[i] = x[i] * scale * w[i];
}

static void layernorm(float *out, const float *x, const float *w, const float *b, int n, float eps)
{
    double sum = 0, squares = 0;
    for (int i = 0; i < n; i++)
        sum += x[i];
    float mean = (float)(sum / n);
    for (int i = 0; i < n; i++)
        squares += (double)(x[i] - mean) * (x[i] - mean);
    float scale = 1.0f / root(squares / n + eps);
    for (int i = 0; i < n; i++)
        out[i] = (x[i] - mean) * scale * (w != NULL ? w[i] : 1.0f) + (b != NULL ? b[i] : 0.0f);
}

static void add(float *out, const float *a, const float *b, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = a[i] + b[i];
}

static void add_scaled(float *out, const float *x, float s, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = out[i] + s * x[i];
}

static void scale(float *x, float s, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] *= s;
}

static void silu_mul(float *out, const float *gate, const float *up, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = (float)(gate[i] * vmath_sigmoid(gate[i])) * up[i];
}

static void gelu_mul(float *out, const float *gate, const float *up, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        double g = gate[i], inner = 0.7978845608028654 * (g + 0.044715 * g * g * g);
        out[i] = (float)(0.5 * g * (1.0 + vmath_tanh(inner))) * up[i];
    }
}

static void swiglu_oss(float *out, const float *gate, const float *up, float limit, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        float g = gate[i] < limit ? gate[i] : limit;
        float u = up[i] < -limit ? -limit : up[i] > limit ? limit : up[i];
        out[i] = (float)(g * vmath_sigmoid(1.702 * g)) * (u + 1.0f);
    }
}

static void softcap(float *x, float cap, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(cap * vmath_tanh(x[i] / (double)cap));
}

static void rope(float *x, const float *cosine, const float *sine, int n_rot, bool neox)
{
    int half = n_rot / 2;
    for (int i = 0; i < half; i++) {
        float *a = neox ? x + i : x + 2 * i, *b = neox ? x + half + i : x + 2 * i + 1;
        float p = *a, q = *b;
        *a = p * cosine[i] - q * sine[i];
        *b = q * cosine[i] + p * sine[i];
    }
}

static void exp_row(float *out, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = (float)vmath_exp(x[i]);
}

static void tanh_row(float *out, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = (float)vmath_tanh(x[i]);
}

static void sigmoid_row(float *out, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = (float)vmath_sigmoid(x[i]);
}

static void erf_row(float *out, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = (float)vmath_erf(x[i]);
}

void elementwise_log(float *out, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = (float)vmath_log(x[i]);
}

void elementwise_sincos(float *sine, float *cosine, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        double s, c;
        vmath_sincos(x[i], &s, &c);
        sine[i] = (float)s;
        cosine[i] = (float)c;
    }
}

static void exp_f64(double *out, const double *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = vmath_exp(x[i]);
}

static int64_t argmax(const float *x, int64_t n)
{
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (x[i] > x[best] || x[best] != x[best])
            best = i;
    return x[best] == x[best] ? best : 0;
}

static int64_t exp_sum(const float *x, float max, float inverse, int64_t n)
{
    int64_t sum = 0;
    for (int64_t i = 0; i < n; i++) {
        float e = (float)vmath_exp((x[i] - max) * inverse) * 0x1p40f;
        sum += e >= 0 ? (int64_t)e : 0;
    }
    return sum;
}

const struct kernels elementwise_scalar = {
    .isa = ISA_SCALAR,
    .rmsnorm = rmsnorm, .layernorm = layernorm,
    .add = add, .add_scaled = add_scaled, .scale = scale,
    .silu_mul = silu_mul, .gelu_mul = gelu_mul, .swiglu_oss = swiglu_oss,
    .softcap = softcap, .rope = rope,
    .exp = exp_row, .tanh = tanh_row, .sigmoid = sigmoid_row, .erf = erf_row,
    .log = elementwise_log, .sincos = elementwise_sincos,
    .exp_f64 = exp_f64, .argmax = argmax, .exp_sum = exp_sum,
    .attention = &attention_scalar,
    .matmul = matmul_scalar,
};
