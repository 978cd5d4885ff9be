/* elementwise_body.h - the vector row of the kernel table, over the names of vmath_vec.h.
 * Why:    AVX2 and AVX512 differ in width only. Included by elementwise_avx2.c and _avx512.c, which
 *         fill a struct kernels from these functions.
 * Bits:   tails are masked lanes of the same code, so an array's cut never shows. Sums run over VEC
 *         lanes in index order, then over the lanes in vf_sum's order. */
#include "workers/kernels/attention.h"
#include "workers/kernels/elementwise.h"
#include "workers/kernels/vmath.h"
#include "workers/kernels/vmath_vec.h"

/* for each register of n numbers: `whole` with at = index, then `part` with `left` lanes. */
#define EACH(n, whole, part)                                                                       \
    do {                                                                                           \
        int64_t at = 0;                                                                            \
        for (; at + VEC <= (n); at += VEC) {                                                       \
            whole;                                                                                 \
        }                                                                                          \
        int left = (int)((n) - at);                                                                \
        if (left > 0) {                                                                            \
            part;                                                                                  \
        }                                                                                          \
    } while (0)

static float sum_of_squares(const float *x, int n, float mean)
{
    vf a = vf_set(0), b = vf_set(0), m = vf_set(mean);
    int i = 0;
    for (; i + 2 * VEC <= n; i += 2 * VEC) {
        vf p = vf_load(x + i) - m, q = vf_load(x + i + VEC) - m;
        a = vf_fma(p, p, a);
        b = vf_fma(q, q, b);
    }
    for (; i < n; i += VEC) {
        int left = n - i < VEC ? n - i : VEC;
        vf p = vf_select(vf_first(left), vf_load_first(x + i, left) - m, vf_set(0));
        a = vf_fma(p, p, a);
    }
    return vf_sum(a + b);
}

static float inverse_root(float x) { return 1.0f / _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x))); }

static void rmsnorm(float *out, const float *x, const float *w, int n, float eps)
{
    vf s = vf_set(inverse_root(sum_of_squares(x, n, 0.0f) / (float)n + eps));
    EACH(n, vf_store(out + at, vf_load(x + at) * s * vf_load(w + at)),
         vf_store_first(out + at, vf_load_first(x + at, left) * s * vf_load_first(w + at, left),
                        left));
}

static float sum_of(const float *x, int n)
{
    vf a = vf_set(0);
    EACH(n, a = a + vf_load(x + at), a = a + vf_load_first(x + at, left));
    return vf_sum(a);
}

static void layernorm(float *out, const float *x, const float *w, const float *b, int n, float eps)
{
    float mean = sum_of(x, n) / (float)n;
    vf s = vf_set(inverse_root(sum_of_squares(x, n, mean) / (float)n + eps)), m = vf_set(mean);
    for (int i = 0; i < n; i += VEC) {
        int k = n - i < VEC ? n - i : VEC;
        vf y = (vf_load_first(x + i, k) - m) * s;
        if (w != NULL)
            y = y * vf_load_first(w + i, k);
        if (b != NULL)
            y = y + vf_load_first(b + i, k);
        vf_store_first(out + i, y, k);
    }
}

static void add(float *out, const float *a, const float *b, int64_t n)
{
    EACH(n, vf_store(out + at, vf_load(a + at) + vf_load(b + at)),
         vf_store_first(out + at, vf_load_first(a + at, left) + vf_load_first(b + at, left), left));
}

static void add_scaled(float *out, const float *x, float s, int64_t n)
{
    vf f = vf_set(s);
    EACH(n, vf_store(out + at, vf_fma(f, vf_load(x + at), vf_load(out + at))),
         vf_store_first(out + at, vf_fma(f, vf_load_first(x + at, left),
                                         vf_load_first(out + at, left)), left));
}

static void scale(float *x, float s, int64_t n)
{
    vf f = vf_set(s);
    EACH(n, vf_store(x + at, vf_load(x + at) * f),
         vf_store_first(x + at, vf_load_first(x + at, left) * f, left));
}

static vf silu_mul_vec(vf g, vf u) { return g * vmath_sigmoid_vec(g) * u; }

static vf gelu_mul_vec(vf g, vf u)
{
    vf cube = g * g * g;
    vf inner = vf_set(0.7978845608f) * vf_fma(vf_set(0.044715f), cube, g);
    return vf_set(0.5f) * g * (vf_set(1.0f) + vmath_tanh_vec(inner)) * u;
}

static void silu_mul(float *out, const float *gate, const float *up, int64_t n)
{
    EACH(n, vf_store(out + at, silu_mul_vec(vf_load(gate + at), vf_load(up + at))),
         vf_store_first(out + at, silu_mul_vec(vf_load_first(gate + at, left),
                                               vf_load_first(up + at, left)), left));
}

static void gelu_mul(float *out, const float *gate, const float *up, int64_t n)
{
    EACH(n, vf_store(out + at, gelu_mul_vec(vf_load(gate + at), vf_load(up + at))),
         vf_store_first(out + at, gelu_mul_vec(vf_load_first(gate + at, left),
                                               vf_load_first(up + at, left)), left));
}

static void swiglu_oss(float *out, const float *gate, const float *up, float limit, int64_t n)
{
    vf top = vf_set(limit), bottom = vf_set(-limit), one = vf_set(1.0f);
    for (int64_t i = 0; i < n; i += VEC) {
        int k = n - i < VEC ? (int)(n - i) : VEC;
        vf g = vf_min(top, vf_load_first(gate + i, k));
        vf u = vf_min(top, vf_max(bottom, vf_load_first(up + i, k)));
        vf_store_first(out + i, g * vmath_sigmoid_vec(vf_set(1.702f) * g) * (u + one), k);
    }
}

static void softcap(float *x, float cap, int64_t n)
{
    vf c = vf_set(cap);
    EACH(n, vf_store(x + at, c * vmath_tanh_vec(vf_load(x + at) / c)),
         vf_store_first(x + at, c * vmath_tanh_vec(vf_load_first(x + at, left) / c), left));
}

static void rope_neox(float *x, const float *cosine, const float *sine, int half)
{
    for (int i = 0; i < half; i += VEC) {
        int k = half - i < VEC ? half - i : VEC;
        vf a = vf_load_first(x + i, k), b = vf_load_first(x + half + i, k);
        vf c = vf_load_first(cosine + i, k), s = vf_load_first(sine + i, k);
        vf_store_first(x + i, vf_fnma(b, s, a * c), k);
        vf_store_first(x + half + i, vf_fma(a, s, b * c), k);
    }
}

/* Pairs lie side by side: cos and sin of a pair are doubled, the neighbour comes from a swap. */
static void rope_norm(float *x, const float *cosine, const float *sine, int half)
{
    for (int i = 0; i < half; i += VEC / 2) {
        int k = half - i < VEC / 2 ? half - i : VEC / 2;
        vf a = vf_load_first(x + 2 * i, 2 * k);
        vf c = vf_double(vf_load_first(cosine + i, k)), s = vf_double(vf_load_first(sine + i, k));
        vf_store_first(x + 2 * i, vf_turn(a, c, vf_swap(a) * s), 2 * k);
    }
}

static void rope(float *x, const float *cosine, const float *sine, int n_rot, bool neox)
{
    if (neox)
        rope_neox(x, cosine, sine, n_rot / 2);
    else
        rope_norm(x, cosine, sine, n_rot / 2);
}

#define ROW_OF(name)                                                                               \
    static void name##_row(float *out, const float *x, int64_t n)                                  \
    {                                                                                              \
        EACH(n, vf_store(out + at, vmath_##name##_vec(vf_load(x + at))),                           \
             vf_store_first(out + at, vmath_##name##_vec(vf_load_first(x + at, left)), left));     \
    }
ROW_OF(exp)
ROW_OF(tanh)
ROW_OF(sigmoid)
ROW_OF(erf)
#undef ROW_OF

static void exp_f64(double *out, const double *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = vmath_exp(x[i]);
}

/* First index of the largest number; NaN is never the largest. */
static int64_t argmax(const float *x, int64_t n)
{
    vf m = vf_set(-__builtin_inff());
    EACH(n, m = vf_max(vf_load(x + at), m),
         m = vf_max(vf_select(vf_first(left), vf_load_first(x + at, left), m), m));
    float top = vf_max_lane(m);
    for (int64_t i = 0; i < n; i++)
        if (x[i] == top)
            return i;
    return 0;
}

static int64_t exp_sum(const float *x, float max, float inverse, int64_t n)
{
    vf m = vf_set(max), f = vf_set(inverse), unit = vf_set(0x1p40f);
    int64_t sum = 0;
    float e[VEC];
    for (int64_t i = 0; i < n; i += VEC) {
        int k = n - i < VEC ? (int)(n - i) : VEC;
        vf y = vmath_exp_vec((vf_load_first(x + i, k) - m) * f) * unit;
        vf_store(e, vf_max(y, vf_set(0)));      /* a NaN counts as 0 */
        for (int j = 0; j < k; j++)
            sum += (int64_t)e[j];
    }
    return sum;
}

#define ELEMENTWISE_ROW(which, attention_row, matmul_row)                                                    \
    {                                                                                              \
        .isa = which, .rmsnorm = rmsnorm, .layernorm = layernorm, .add = add,                      \
        .add_scaled = add_scaled, .scale = scale, .silu_mul = silu_mul, .gelu_mul = gelu_mul,      \
        .swiglu_oss = swiglu_oss, .softcap = softcap, .rope = rope, .exp = exp_row,                \
        .tanh = tanh_row, .sigmoid = sigmoid_row, .erf = erf_row, .log = elementwise_log,          \
        .sincos = elementwise_sincos, .exp_f64 = exp_f64, .argmax = argmax, .exp_sum = exp_sum,    \
        .attention = attention_row, .matmul = matmul_row,                                          \
    }
