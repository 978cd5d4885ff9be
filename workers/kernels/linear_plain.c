/* The reference rows in plain C. Every other integer and f32 row computes the same operations in
 * the same order (a fused multiply-add where they have one), so they must give the same bits. */
#include "workers/kernels/linear_traits.h"

#include <math.h>
#include <string.h>

static float f16_at(const uint8_t *p)
{
    uint16_t h;
    memcpy(&h, p, 2);
    return dtype_f16_to_f32(h);
}

/* 2^(e - 128): half of the power that the byte stands for, as the codebook holds doubled values. */
static float e8m0_half(uint8_t e)
{
    union { uint32_t u; float f; } v = {.u = e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23};
    return v.f;
}

static int code_at(const uint8_t *q, int lane, int bits, int i)
{
    int g = i / 4, b = i % 4;
    const uint8_t *at = q + 4 * lane + b;
    switch (bits) {
    case 8:
        return (int8_t)at[64 * g];
    case 4:
        return at[64 * (g % 4)] >> 4 * (g / 4) & 15;
    case 5:
        return (at[64 * (g % 4)] >> 4 * (g / 4) & 15) | (at[256] >> g & 1) << 4;
    case 6:
        return (at[64 * (g % 4)] >> 4 * (g / 4) & 15) | (at[256 + 64 * (g / 4)] >> 2 * (g % 4) & 3)
                                                            << 4;
    case 3:
        return (at[64 * (g / 4)] >> 2 * (g % 4) & 3) | (at[128] >> g & 1) << 2;
    default:
        return at[64 * (g / 4)] >> 2 * (g % 4) & 3;
    }
}

/* d and m of both halves of one lane. */
static void scales_at(const struct linear_panel *w, const struct linear_format *f, int b, int lane,
                      float d[2], float m[2])
{
    size_t part = (size_t)f->s_width * LINEAR_PANEL;
    const uint8_t *s = w->s + (size_t)b * (size_t)f->s_parts * part + f->s_width * lane;
    m[0] = m[1] = 0;
    if (!f->h_parts) {
        d[0] = d[1] = f->e8m0 ? e8m0_half(s[0]) : f16_at(s);
        if (f->s_parts == 2)
            m[0] = m[1] = f16_at(s + part);
        return;
    }
    const uint8_t *h = w->h + (size_t)((w->phase + b) / 8) * (size_t)f->h_parts * 32 + 2 * lane;
    float hd = f16_at(h), hm = f->h_parts == 2 ? f16_at(h + 32) : 0;
    switch (w->type) {
    case DT_Q4_K:
    case DT_Q5_K:
        d[0] = d[1] = hd * (float)s[0];
        m[0] = m[1] = -(hm * (float)s[part]);
        break;
    case DT_Q2_K:
        for (int i = 0; i < 2; i++) {
            d[i] = hd * (float)(s[part * (size_t)i] & 15);
            m[i] = -(hm * (float)(s[part * (size_t)i] >> 4));
        }
        break;
    case DT_IQ4_XS:
        d[0] = d[1] = hd * (float)(int8_t)s[0];
        break;
    default:
        d[0] = hd * (float)(int8_t)s[0];
        d[1] = hd * (float)(int8_t)s[part];
    }
}

struct lane { int value[32]; float d[2], m[2]; };   /* 32 weights of one row: codes, half scales */

static struct lane lane_decode(const struct linear_panel *w, const struct linear_format *f, int b,
                               int lane)
{
    struct lane out;
    const uint8_t *q = w->q + (size_t)b * (size_t)f->q_bytes;
    for (int i = 0; i < 32; i++) {
        int code = code_at(q, lane, f->code_bits, i);
        out.value[i] = f->codebook ? f->codebook[code] : code - f->offset;
    }
    scales_at(w, f, b, lane, out.d, out.m);
    return out;
}

static int dot_int(const int *a, const int8_t *b, int n)
{
    int sum = 0;
    for (int i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* acc += one block of one lane times 32 activations: per half or whole, scale first, minimum
 * last. */
static float block_dot(const struct lane *w, enum dtype type, const struct linear_xblock *x,
                       float acc)
{
    int halves = half_scales(type) ? 2 : 1, n = 32 / halves;
    for (int i = 0; i < halves; i++) {
        float dot = (float)dot_int(w->value + n * i, x->q + n * i, n);
        acc = fmaf(dot, w->d[i] * x->d, acc);
    }
    for (int i = 0; i < halves && has_minimum(type); i++)
        acc = fmaf(w->m[i], halves == 2 ? x->xs_half[i] : x->xs, acc);
    return acc;
}

static void dot_q8(const struct linear_panel *w, int b0, int b1, const uint8_t *x, size_t xs,
                   int n_rows, float *acc)
{
    struct linear_format f = linear_format(w->type);
    memset(acc, 0, (size_t)n_rows * LINEAR_PANEL * sizeof *acc);
    for (int b = b0; b < b1; b++)
        for (int lane = 0; lane < LINEAR_PANEL; lane++) {
            struct lane weights = lane_decode(w, &f, b, lane);
            for (int r = 0; r < n_rows; r++) {
                const uint8_t *xr = x + (size_t)r * xs;
                float *a = acc + (size_t)r * LINEAR_PANEL + lane;
                *a = block_dot(&weights, w->type, (const struct linear_xblock *)xr + b, *a);
            }
        }
}

/* out [32], `step` floats apart, as dtype's dequantise: product rounded, then the sum. */
static void lane_values(const struct linear_panel *w, const struct linear_format *f, int b,
                        int lane, float *out, int step)
{
    struct lane weights = lane_decode(w, f, b, lane);
    bool min = has_minimum(w->type);
    for (int i = 0; i < 32; i++) {
        float v = weights.d[i / 16] * (float)weights.value[i];
        out[i * step] = min ? v + weights.m[i / 16] : v;
    }
}

static void expand_codes(const struct linear_panel *w, int b0, int b1, float *out, int ld)
{
    struct linear_format f = linear_format(w->type);
    for (int b = b0; b < b1; b++, out += 32 * ld)
        for (int lane = 0; lane < LINEAR_PANEL; lane++)
            lane_values(w, &f, b, lane, out + lane, ld);
}

static void expand_f32(const struct linear_panel *w, int b0, int b1, float *out, int ld)
{
    const uint8_t *q = w->q + (size_t)b0 * 2048;
    for (int i = 0; i < (b1 - b0) * 32; i++)
        memcpy(out + (size_t)i * (size_t)ld, q + 64 * (size_t)i, 64);
}

static void expand_f16(const struct linear_panel *w, int b0, int b1, float *out, int ld)
{
    const uint8_t *q = w->q + (size_t)b0 * 1024;
    for (int i = 0; i < (b1 - b0) * 32; i++, out += ld)
        for (int lane = 0; lane < LINEAR_PANEL; lane++)
            out[lane] = f16_at(q + 2 * ((size_t)i * LINEAR_PANEL + (size_t)lane));
}

static void expand_bf16(const struct linear_panel *w, int b0, int b1, float *out, int ld)
{
    const uint16_t *q = (const uint16_t *)(w->q + (size_t)b0 * 1024);
    for (int i = 0; i < (b1 - b0) * 32; i++, out += ld)
        for (int lane = 0; lane < LINEAR_PANEL; lane++)
            out[lane] = dtype_bf16_to_f32(q[i / 2 * 2 * LINEAR_PANEL + 2 * lane + i % 2]);
}

/* Units of the file are read whole and the columns wanted of them kept. */
static void expand_file(const struct linear_panel *w, int b0, int b1, float *out, int ld)
{
    const struct dtype_info *info = dtype_info(w->type);
    int unit = linear_file_unit(w->type);
    size_t bytes = linear_file_unit_bytes(w->type);
    float v[256];
    for (int b = b0; b < b1;) {
        int at = (w->phase + b) * 32, skip = at % unit;
        int n = (unit - skip) / 32 < b1 - b ? unit - skip : (b1 - b) * 32;
        for (int lane = 0; lane < LINEAR_PANEL; lane++) {
            info->dequantise(v, w->q + ((size_t)(at / unit) * LINEAR_PANEL + (size_t)lane) * bytes,
                             unit);
            for (int i = 0; i < n; i++)
                out[i * ld + lane] = v[skip + i];
        }
        out += n * ld;
        b += n / 32;
    }
}

static void dot_f32(const float *w, int k, size_t ahead, const uint8_t *x, size_t xs, int n_rows,
                    float *acc)
{
    for (int r = 0; r < n_rows; r++) {
        const float *xr = (const float *)(x + (size_t)r * xs);
        float *a = acc + (size_t)r * 2 * LINEAR_PANEL;
        for (int i = 0; i < k; i++)
            for (int lane = 0; lane < LINEAR_PANEL; lane++) {
                float *at = a + i % 2 * LINEAR_PANEL + lane;
                *at = fmaf(w[(size_t)i * LINEAR_PANEL + (size_t)lane], xr[i], *at);
            }
    }
}

static void dot_bf16(const uint16_t *w, int n, size_t ahead, const uint8_t *x, size_t xs,
                     int n_rows, float *acc)
{
    for (int r = 0; r < n_rows; r++) {
        const struct linear_xpairs *xr = (const struct linear_xpairs *)(x + (size_t)r * xs);
        float *a = acc + (size_t)r * 2 * LINEAR_PANEL;
        for (int i = 0; i < 16 * n; i++)
            for (int lane = 0; lane < LINEAR_PANEL; lane++) {
                const uint16_t *pair = w + ((size_t)i * LINEAR_PANEL + (size_t)lane) * 2;
                const float *f = xr[i / 16].f + i % 16 * 2;
                float *at = a + i % 2 * LINEAR_PANEL + lane;
                *at = fmaf(dtype_bf16_to_f32(pair[1]), f[1], *at);
                *at = fmaf(dtype_bf16_to_f32(pair[0]), f[0], *at);
            }
    }
}

/* Below 2^-100 a block is zero: 127 / amax would overflow. A NaN becomes -127 as any number would:
 * what a broken x gives is unspecified, but never undefined. */
static void prepare_q8_block(struct linear_xblock *out, const float *x)
{
    float amax = 0;
    for (int i = 0; i < 32; i++)
        amax = fabsf(x[i]) > amax ? fabsf(x[i]) : amax;
    bool zero = amax < 0x1p-100f;
    float inverse = zero ? 0 : 127.0f / amax;
    int sum[2] = {0, 0};
    out->d = zero ? 0 : amax / 127.0f;
    for (int i = 0; i < 32; i++) {
        float v = x[i] * inverse;
        v = v > -127.0f ? v : -127.0f;
        v = v < 127.0f ? v : 127.0f;
        out->q[i] = (int8_t)rintf(v);
        sum[i / 16] += out->q[i];
    }
    for (int i = 0; i < 2; i++) {
        out->neg_half[i] = -sum[i];
        out->xs_half[i] = out->d * (float)sum[i];
    }
    out->neg_sum = -(sum[0] + sum[1]);
    out->xs = out->d * (float)(sum[0] + sum[1]);
    out->spare = 0;
}

static void prepare_q8(uint8_t *dst, size_t step, const float *x, int k)
{
    for (int i = 0; i < k; i += 32, dst += step) {
        float tail[32] = {0};
        if (k - i < 32)
            memcpy(tail, x + i, (size_t)(k - i) * sizeof *x);
        prepare_q8_block((struct linear_xblock *)dst, k - i < 32 ? tail : x + i);
    }
}

static void prepare_bf16(uint8_t *dst, size_t step, const float *x, int k)
{
    for (int i = 0; i < k; i += 32, dst += step) {
        struct linear_xpairs *out = (struct linear_xpairs *)dst;
        for (int j = 0; j < 32; j++) {
            out->h[j] = i + j < k ? dtype_f32_to_bf16(x[i + j]) : 0;
            out->f[j] = dtype_bf16_to_f32(out->h[j]);
        }
    }
}

/* n numbers of one lane of a plain type, from column 0. */
static void plain_row(const struct linear_panel *w, enum layout layout, int lane, float *out)
{
    for (int i = 0; i < w->k; i++) {
        size_t at = (size_t)i * LINEAR_PANEL + (size_t)lane;
        if (layout == LAYOUT_F32)
            memcpy(out + i, w->q + 4 * at, 4);
        else if (layout == LAYOUT_F16)
            out[i] = f16_at(w->q + 2 * at);
        else
            out[i] = dtype_bf16_to_f32((
                (const uint16_t *)
                    w->q)[(size_t)(i / 2) * 2 * LINEAR_PANEL + 2 * (size_t)lane + (size_t)(i % 2)]);
    }
}

static void file_row(const struct linear_panel *w, int lane, float *out)
{
    int unit = linear_file_unit(w->type);
    size_t bytes = linear_file_unit_bytes(w->type);
    float v[256];
    for (int i = 0, at = w->phase * 32; i < w->k; at = (at / unit + 1) * unit) {
        dtype_info(w->type)->dequantise(
            v, w->q + ((size_t)(at / unit) * LINEAR_PANEL + (size_t)lane) * bytes, unit);
        for (int j = at % unit; j < unit && i < w->k; j++)
            out[i++] = v[j];
    }
}

void linear_row(const struct linear *l, int row, float *out)
{
    struct linear_format f = linear_format(l->type);
    struct linear_panel w = linear_panel_at(l, row / LINEAR_PANEL, 0);
    int lane = row % LINEAR_PANEL;
    if (f.layout == LAYOUT_CODES)
        for (int b = 0; b < linear_blocks(l->k); b++)
            lane_values(&w, &f, b, lane, out + 32 * b, 1);
    else if (f.layout == LAYOUT_FILE)
        file_row(&w, lane, out);
    else
        plain_row(&w, f.layout, lane, out);
}

#define DOT(name, type) [type] = dot_q8,
#define EXPAND(name, type) [type] = expand_codes,
const struct linear_kernels linear_kernels_plain = {
    .dot_q8 = (linear_dot_q8 *const[DT_MAX]){LINEAR_CODE_TYPES(DOT)},
    .expand = {LINEAR_CODE_TYPES(EXPAND)[DT_F32] = expand_f32, [DT_F16] = expand_f16,
               [DT_BF16] = expand_bf16, [DT_IQ2_XXS] = expand_file, [DT_IQ2_XS] = expand_file,
               [DT_IQ3_XXS] = expand_file, [DT_IQ1_S] = expand_file, [DT_IQ3_S] = expand_file,
               [DT_IQ2_S] = expand_file, [DT_IQ1_M] = expand_file, [DT_TQ1_0] = expand_file,
               [DT_TQ2_0] = expand_file, [DT_NVFP4] = expand_file, [DT_F8_E4M3] = expand_file,
               [DT_F8_E5M2] = expand_file, [DT_F64] = expand_file},
    .dot_f32 = dot_f32,
    .dot_bf16 = dot_bf16,
    .prepare_q8 = prepare_q8,
    .prepare_bf16 = prepare_bf16,
};
