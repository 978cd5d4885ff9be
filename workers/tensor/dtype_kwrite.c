/* dtype_kwrite.c - encoders of the formats that leave the choice of scales open: K-quants, IQ4.
 * Way:   the best scale of every sub-block on its own; the superblock's f16 scale fits the largest; then
 *        each sub-block's small integer is the best of its neighbours under that f16 scale. */
#include "workers/tensor/dtype.h"

#include "workers/tensor/dtype_iq.h"
#include "workers/tensor/dtype_k.h"
#include "workers/tensor/dtype_rows.h"
#include "workers/tensor/dtype_search.h"

#include <math.h>

enum { SUB_MAX = 16 };

static int clamp_int(int v, int lo, int hi) { return v < lo ? lo : v > hi ? hi : v; }

/* v / unit as a whole number in [lo, hi]. */
static int in_units(float v, float unit, int lo, int hi)
{
    float f = unit != 0.0f ? v / unit : 0.0f;
    if (!(f > (float)lo))
        return lo;
    return f >= (float)hi ? hi : nearest_int(f);
}

/* --- one scale per sub-block, signed: Q3_K, Q6_K, IQ4_XS */

/* Chooses d and the small scales s [n_sub] in [-reach, reach - 1] of a superblock, and its codes. */
static float choose_scales(const float *x, int n_sub, const struct code_set *set, int reach, int *s,
                           int8_t *code)
{
    int n = K_BLOCK / n_sub;
    float scale[SUB_MAX], largest = 0.0f;
    for (int j = 0; j < n_sub; j++) {
        scale[j] = search_scale(x + j * n, n, set);
        largest = fabsf(scale[j]) > fabsf(largest) ? scale[j] : largest;
    }
    float d = dtype_f16_to_f32(dtype_f32_to_f16(largest / (float)-reach));
    for (int j = 0; j < n_sub; j++) {
        int middle = in_units(scale[j], d, -reach, reach - 1);
        float least = INFINITY;
        s[j] = middle;
        for (int v = clamp_int(middle - 1, -reach, reach - 1); v <= middle + 1 && v < reach; v++) {
            float error = scale_error(x + j * n, n, set, d * (float)v);
            if (error < least) {
                least = error;
                s[j] = v;
            }
        }
        scale_codes(code + j * n, x + j * n, n, set, d * (float)s[j]);
    }
    return d;
}

static void put_scales3(uint8_t *p, const int *s)
{
    memset(p, 0, 12);
    for (int j = 0; j < 16; j++) {
        int v = s[j] + 32;
        p[j % 8] |= (uint8_t)((v & 15) << 4 * (j / 8));
        p[8 + j % 4] |= (uint8_t)(v >> 4 << 2 * (j / 4));
    }
}

QUANTISE(q3_k)
{
    static const struct code_set set = {-4, 3, NULL};
    uint8_t *p = blocks;
    int s[SUB_MAX];
    int8_t code[K_BLOCK];
    for (int64_t b = 0; b < n / K_BLOCK; b++, p += 110, in += K_BLOCK) {
        float d = choose_scales(in, 16, &set, 32, s, code);
        memset(p, 0, 96);
        for (int i = 0; i < K_BLOCK; i++) {
            int q = code[i] + 4;
            p[i % 32] |= (uint8_t)(q >> 2 << i / 32);
            p[32 + i / 128 * 32 + i % 32] |= (uint8_t)((q & 3) << 2 * (i % 128 / 32));
        }
        put_scales3(p + 96, s);
        store_u16(p + 108, dtype_f32_to_f16(d));
    }
}

QUANTISE(q6_k)
{
    static const struct code_set set = {-32, 31, NULL};
    uint8_t *p = blocks;
    int s[SUB_MAX];
    int8_t code[K_BLOCK];
    for (int64_t b = 0; b < n / K_BLOCK; b++, p += 210, in += K_BLOCK) {
        float d = choose_scales(in, 16, &set, 128, s, code);
        memset(p, 0, 192);
        for (int i = 0; i < K_BLOCK; i++) {
            int half = i / 128, part = i % 128 / 32, l = i % 32, q = code[i] + 32;
            p[64 * half + 32 * (part & 1) + l] |= (uint8_t)((q & 15) << 4 * (part >> 1));
            p[128 + 32 * half + l] |= (uint8_t)(q >> 4 << 2 * part);
        }
        for (int j = 0; j < 16; j++)
            p[192 + j] = (uint8_t)s[j];
        store_u16(p + 208, dtype_f32_to_f16(d));
    }
}

static const struct code_set iq4_set = {0, 15, iq4_values};

static void put_nibbles(uint8_t *p, const int8_t *code)
{
    for (int j = 0; j < 16; j++)
        p[j] = (uint8_t)(code[j] | code[j + 16] << 4);
}

QUANTISE(iq4_xs)
{
    uint8_t *p = blocks;
    int s[SUB_MAX];
    int8_t code[K_BLOCK];
    for (int64_t b = 0; b < n / K_BLOCK; b++, p += 136, in += K_BLOCK) {
        float d = choose_scales(in, 8, &iq4_set, 32, s, code);
        unsigned high = 0;
        memset(p + 4, 0, 4);
        for (int j = 0; j < 8; j++) {
            int v = s[j] + 32;
            p[4 + j / 2] |= (uint8_t)((v & 15) << 4 * (j & 1));
            high |= (unsigned)(v >> 4) << 2 * j;
            put_nibbles(p + 8 + 16 * j, code + 32 * j);
        }
        store_u16(p, dtype_f32_to_f16(d));
        store_u16(p + 2, (uint16_t)high);
    }
}

QUANTISE(iq4_nl)
{
    uint8_t *p = blocks;
    int8_t code[32];
    for (int64_t b = 0; b < n / 32; b++, p += 18, in += 32) {
        uint16_t d = dtype_f32_to_f16(search_scale(in, 32, &iq4_set));
        store_u16(p, d);
        scale_codes(code, in, 32, &iq4_set, dtype_f16_to_f32(d));
        put_nibbles(p + 2, code);
    }
}

/* --- scale and minimum per sub-block: Q2_K, Q4_K, Q5_K */

struct affine { float d, dmin; int s[SUB_MAX], m[SUB_MAX]; uint8_t code[K_BLOCK]; };

/* The best of the nine pairs around (s, m). */
static void choose_pair(const float *x, int n, int most, int reach, const struct affine *a, int *s,
                        int *m)
{
    int s0 = *s, m0 = *m;
    float least = INFINITY;
    for (int i = clamp_int(s0 - 1, 0, reach); i <= clamp_int(s0 + 1, 0, reach); i++)
        for (int k = clamp_int(m0 - 1, 0, reach); k <= clamp_int(m0 + 1, 0, reach); k++) {
            float error = affine_error(x, n, most, a->d * (float)i, a->dmin * (float)k);
            if (error < least) {
                least = error;
                *s = i;
                *m = k;
            }
        }
}

/* Codes 0..most, small scales and minima 0..reach. */
static void choose_affine(struct affine *a, const float *x, int n_sub, int most, int reach)
{
    int n = K_BLOCK / n_sub;
    float scale[SUB_MAX], minimum[SUB_MAX], top = 0.0f, top_minimum = 0.0f;
    for (int j = 0; j < n_sub; j++) {
        search_affine(x + j * n, n, most, &scale[j], &minimum[j]);
        top = scale[j] > top ? scale[j] : top;
        top_minimum = minimum[j] > top_minimum ? minimum[j] : top_minimum;
    }
    a->d = dtype_f16_to_f32(dtype_f32_to_f16(top / (float)reach));
    a->dmin = dtype_f16_to_f32(dtype_f32_to_f16(top_minimum / (float)reach));
    for (int j = 0; j < n_sub; j++) {
        const float *sub = x + j * n;
        a->s[j] = in_units(scale[j], a->d, 0, reach);
        a->m[j] = in_units(minimum[j], a->dmin, 0, reach);
        choose_pair(sub, n, most, reach, a, &a->s[j], &a->m[j]);
        affine_codes(a->code + j * n, sub, n, most, a->d * (float)a->s[j], a->dmin * (float)a->m[j]);
    }
}

QUANTISE(q2_k)
{
    uint8_t *p = blocks;
    struct affine a;
    for (int64_t b = 0; b < n / K_BLOCK; b++, p += 84, in += K_BLOCK) {
        choose_affine(&a, in, 16, 3, 15);
        memset(p + 16, 0, 64);
        for (int j = 0; j < 16; j++)
            p[j] = (uint8_t)(a.s[j] | a.m[j] << 4);
        for (int i = 0; i < K_BLOCK; i++)
            p[16 + i / 128 * 32 + i % 32] |= (uint8_t)(a.code[i] << 2 * (i % 128 / 32));
        store_u16(p + 80, dtype_f32_to_f16(a.d));
        store_u16(p + 82, dtype_f32_to_f16(a.dmin));
    }
}

/* d, dmin and the 12 packed bytes of Q4_K and Q5_K. */
static void put_affine_head(uint8_t *p, const struct affine *a)
{
    store_u16(p, dtype_f32_to_f16(a->d));
    store_u16(p + 2, dtype_f32_to_f16(a->dmin));
    p += 4;
    for (int j = 0; j < 4; j++) {
        int s = a->s[j + 4], m = a->m[j + 4];
        p[j] = (uint8_t)(a->s[j] | s >> 4 << 6);
        p[j + 4] = (uint8_t)(a->m[j] | m >> 4 << 6);
        p[j + 8] = (uint8_t)((s & 15) | (m & 15) << 4);
    }
}

QUANTISE(q4_k)
{
    uint8_t *p = blocks;
    struct affine a;
    for (int64_t b = 0; b < n / K_BLOCK; b++, p += 144, in += K_BLOCK) {
        choose_affine(&a, in, 8, 15, 63);
        put_affine_head(p, &a);
        for (int i = 0; i < 128; i++) {
            const uint8_t *c = a.code + i / 32 * 64 + i % 32;
            p[16 + i] = (uint8_t)(c[0] | c[32] << 4);
        }
    }
}

QUANTISE(q5_k)
{
    uint8_t *p = blocks;
    struct affine a;
    for (int64_t b = 0; b < n / K_BLOCK; b++, p += 176, in += K_BLOCK) {
        choose_affine(&a, in, 8, 31, 63);
        put_affine_head(p, &a);
        memset(p + 16, 0, 32);
        for (int i = 0; i < K_BLOCK; i++)
            p[16 + i % 32] |= (uint8_t)(a.code[i] >> 4 << i / 32);
        for (int i = 0; i < 128; i++) {
            const uint8_t *c = a.code + i / 32 * 64 + i % 32;
            p[48 + i] = (uint8_t)((c[0] & 15) | (c[32] & 15) << 4);
        }
    }
}

/* --- the form of activations against K-quants: f32 d, 256 codes, 16 sums of 16 codes */

QUANTISE(q8_k)
{
    uint8_t *p = blocks;
    for (int64_t b = 0; b < n / K_BLOCK; b++, p += 292, in += K_BLOCK) {
        float extreme = 0.0f, d = 0.0f;
        for (int i = 0; i < K_BLOCK; i++)
            extreme = fabsf(in[i]) > fabsf(extreme) ? in[i] : extreme;
        float inv = extreme != 0.0f ? -127.0f / extreme : 0.0f;
        if (inv != 0.0f)
            d = 1.0f / inv;
        memcpy(p, &d, sizeof d);
        for (int j = 0; j < 16; j++) {
            int sum = 0;
            for (int i = 16 * j; i < 16 * j + 16; i++) {
                int q = in_units(in[i] * inv, 1.0f, -128, 127);
                p[4 + i] = (uint8_t)q;
                sum += q;
            }
            store_u16(p + 260 + 2 * j, (uint16_t)sum);
        }
    }
}
