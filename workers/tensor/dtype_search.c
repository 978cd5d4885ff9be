#include "workers/tensor/dtype_search.h"

#include <math.h>
#include <string.h>

/* Four lanes: what every x86-64 has, so the sums' order is the same everywhere. */
typedef float v4 __attribute__((vector_size(16)));
typedef int32_t v4i __attribute__((vector_size(16)));

enum { N_MAX = 32, LANES = 4 };

static inline v4 load4(const float *p)
{
    v4 v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline v4 all4(float f) { return (v4){f, f, f, f}; }
static inline float sum4(v4 v) { return (v[0] + v[1]) + (v[2] + v[3]); }
static inline v4 select4(v4i mask, v4 a, v4 b) { return (v4)((mask & (v4i)a) | (~mask & (v4i)b)); }

/* NaN becomes lo. */
static inline v4 clamp4(v4 v, float lo, float hi)
{
    v = select4(v > all4(lo), v, all4(lo));
    return select4(v < all4(hi), v, all4(hi));
}

static inline v4 round4(v4 v) { return (v + all4(12582912.0f)) - all4(12582912.0f); }

static inline float inverse(float scale)
{
    float inv = scale != 0.0f ? 1.0f / scale : 0.0f;
    return fabsf(inv) <= 3.4e38f ? inv : 0.0f;
}

/* The code value nearest to each lane. */
static inline v4 nearest4(v4 v, const struct code_set *set)
{
    if (set->values == NULL)
        return round4(clamp4(v, (float)set->lo, (float)set->hi));
    v4 q = all4((float)set->values[0]);
    for (int i = 1; i < 16; i++) {
        float middle = 0.5f * (float)(set->values[i] + set->values[i - 1]);
        q = select4(v > all4(middle), all4((float)set->values[i]), q);
    }
    return q;
}

static float extreme_of(const float *x, int n)
{
    float best = 0.0f;
    for (int i = 0; i < n; i++)
        best = fabsf(x[i]) > fabsf(best) ? x[i] : best;
    return best;
}

/* Sums over the nearest codes of x * inv: the least-squares scale is xq / qq, its error
 * sum x^2 - xq^2 / qq. */
struct fit { float xq, qq; };

static struct fit fit_scale(const float *x, int n, const struct code_set *set, float inv)
{
    v4 xq = all4(0), qq = all4(0);
    for (int i = 0; i < n; i += LANES) {
        v4 v = load4(x + i), q = nearest4(v * all4(inv), set);
        xq += v * q;
        qq += q * q;
    }
    return (struct fit){sum4(xq), sum4(qq)};
}

/* Keeps the better of *best and the fit of codes at inv. */
static int improve(struct fit *best, const float *x, int n, const struct code_set *set, float inv)
{
    struct fit f = fit_scale(x, n, set, inv);
    if (!(f.qq > 0.0f) || !(f.xq * f.xq * best->qq > best->xq * best->xq * f.qq))
        return 0;
    *best = f;
    return 1;
}

float search_scale(const float *x, int n, const struct code_set *set)
{
    float extreme = extreme_of(x, n), unit[N_MAX];
    if (!(fabsf(extreme) > 1e-15f) || fabsf(extreme) > 3e38f)
        return 0.0f;
    for (int i = 0; i < n; i++)         /* products of four numbers must neither vanish nor overflow */
        unit[i] = x[i] / extreme;
    float lo = set->values != NULL ? set->values[0] : set->lo;
    float hi = set->values != NULL ? set->values[15] : set->hi;
    struct fit best = {0.0f, 1.0f};
    /* The extreme at either end of the codes, and off it by up to a tenth of the range. */
    for (int step = -9; step <= 9; step += set->values != NULL ? 3 : 1) {
        improve(&best, unit, n, set, lo * (1.0f + 0.011f * (float)step));
        improve(&best, unit, n, set, hi * (1.0f + 0.011f * (float)step));
        if (lo > -10.0f)        /* few codes: whole steps matter more than percents */
            improve(&best, unit, n, set, lo - 0.1f * (float)step);
    }
    for (int turn = 0; turn < 4; turn++)
        if (!improve(&best, unit, n, set, inverse(best.xq / best.qq)))
            break;
    return best.xq / best.qq * extreme;
}

float scale_error(const float *x, int n, const struct code_set *set, float scale)
{
    v4 sum = all4(0);
    float inv = inverse(scale);
    for (int i = 0; i < n; i += LANES) {
        v4 v = load4(x + i), away = nearest4(v * all4(inv), set) * all4(scale) - v;
        sum += away * away;
    }
    return sum4(sum);
}

void scale_codes(int8_t *code, const float *x, int n, const struct code_set *set, float scale)
{
    float inv = inverse(scale);
    for (int i = 0; i < n; i += LANES) {
        v4 q = nearest4(load4(x + i) * all4(inv), set);
        for (int l = 0; l < LANES; l++) {
            int index = 0;
            while (set->values != NULL && (float)set->values[index] < q[l])
                index++;
            code[i + l] = (int8_t)(set->values != NULL ? index : (int)q[l]);
        }
    }
}

/* --- with a minimum */

static inline v4 affine4(v4 v, float inv, float minimum, float most)
{
    return round4(clamp4((v + all4(minimum)) * all4(inv), 0.0f, most));
}

/* Solves scale and minimum for the codes that inv and minimum give. */
static void solve_affine(const float *x, int n, int most, float inv, float *scale, float *minimum)
{
    v4 sx = all4(0), sq = all4(0), sxq = all4(0), sqq = all4(0);
    for (int i = 0; i < n; i += LANES) {
        v4 v = load4(x + i), q = affine4(v, inv, *minimum, (float)most);
        sx += v;
        sq += q;
        sxq += v * q;
        sqq += q * q;
    }
    double x1 = sum4(sx), q1 = sum4(sq), xq = sum4(sxq), qq = sum4(sqq);
    double det = n * qq - q1 * q1, offset = det > 0 ? (qq * x1 - q1 * xq) / det : 0;
    if (offset < 0) {
        *scale = (float)((n * xq - x1 * q1) / det);
        *minimum = (float)-offset;
    } else {            /* a positive offset cannot be said: none, then */
        *scale = qq > 0 ? (float)(xq / qq) : 0.0f;
        *minimum = 0.0f;
    }
}

float affine_error(const float *x, int n, int most, float scale, float minimum)
{
    v4 sum = all4(0);
    float inv = inverse(scale);
    for (int i = 0; i < n; i += LANES) {
        v4 v = load4(x + i), q = affine4(v, inv, minimum, (float)most);
        v4 away = q * all4(scale) - all4(minimum) - v;
        sum += away * away;
    }
    return sum4(sum);
}

void affine_codes(uint8_t *code, const float *x, int n, int most, float scale, float minimum)
{
    float inv = inverse(scale);
    for (int i = 0; i < n; i += LANES) {
        v4 q = affine4(load4(x + i), inv, minimum, (float)most);
        for (int l = 0; l < LANES; l++)
            code[i + l] = (uint8_t)q[l];
    }
}

void search_affine(const float *x, int n, int most, float *scale, float *minimum)
{
    float lo = x[0], hi = x[0];
    for (int i = 1; i < n; i++) {
        lo = x[i] < lo ? x[i] : lo;
        hi = x[i] > hi ? x[i] : hi;
    }
    lo = lo < 0.0f ? lo : 0.0f;
    float range = hi - lo, least = INFINITY;
    *scale = 0.0f;
    *minimum = -lo;
    if (!(range > 1e-30f) || range > 3e38f)
        return;
    for (int step = -10; step <= 9; step++) {
        float s = range / ((float)most + 0.1f * (float)step), m = -lo;
        for (int turn = 0; turn < 3; turn++) {
            float error = affine_error(x, n, most, s, m);
            if (error < least) {
                least = error;
                *scale = s;
                *minimum = m;
            } else if (turn > 0) {
                break;
            }
            solve_affine(x, n, most, inverse(s), &s, &m);
            if (!(s > 0.0f))
                break;
        }
    }
}
