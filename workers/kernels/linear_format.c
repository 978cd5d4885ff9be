/* The table of weight formats: how a file block becomes codes and scales. */
#include "workers/kernels/linear_format.h"

#include <string.h>

static const int8_t codebook_iq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                        1,    13,   25,  38,  53,  69,  89,  113};
static const int8_t codebook_mxfp4[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

/* Nibbles of 16 bytes: low halves first. */
static void nibbles(const uint8_t *qs, uint8_t code[32])
{
    for (int j = 0; j < 16; j++) {
        code[j] = qs[j] & 15;
        code[j + 16] = qs[j] >> 4;
    }
}

static void fifth_bits(const uint8_t *qh, uint8_t code[32])
{
    uint32_t h = (uint32_t)qh[0] | (uint32_t)qh[1] << 8 | (uint32_t)qh[2] << 16 |
                 (uint32_t)qh[3] << 24;
    for (int j = 0; j < 32; j++)
        code[j] |= (uint8_t)((h >> j & 1) << 4);
}

static void unpack_q4_0(const uint8_t *block, int sub, uint8_t code[32], uint8_t *scale)
{
    memcpy(scale, block, 2);
    nibbles(block + 2, code);
}

static void unpack_q4_1(const uint8_t *block, int sub, uint8_t code[32], uint8_t *scale)
{
    memcpy(scale, block, 4);
    nibbles(block + 4, code);
}

static void unpack_q5_0(const uint8_t *block, int sub, uint8_t code[32], uint8_t *scale)
{
    memcpy(scale, block, 2);
    nibbles(block + 6, code);
    fifth_bits(block + 2, code);
}

static void unpack_q5_1(const uint8_t *block, int sub, uint8_t code[32], uint8_t *scale)
{
    memcpy(scale, block, 4);
    nibbles(block + 8, code);
    fifth_bits(block + 4, code);
}

static void unpack_q8_0(const uint8_t *block, int sub, uint8_t code[32], uint8_t *scale)
{
    memcpy(scale, block, 2);
    memcpy(code, block + 2, 32);
}

static void unpack_mxfp4(const uint8_t *block, int sub, uint8_t code[32], uint8_t *scale)
{
    scale[0] = block[0];
    nibbles(block + 1, code);
}

/* 6-bit scale and minimum of sub-block j, packed in 12 bytes. */
static void scale_min_k4(const uint8_t *s, int j, uint8_t *scale)
{
    if (j < 4) {
        scale[0] = s[j] & 63;
        scale[1] = s[j + 4] & 63;
    } else {
        scale[0] = (uint8_t)((s[j + 4] & 15) | (s[j - 4] >> 6) << 4);
        scale[1] = (uint8_t)((s[j + 4] >> 4) | (s[j] >> 6) << 4);
    }
}

static void unpack_q4_k(const uint8_t *block, int sub, uint8_t code[32], uint8_t *scale)
{
    scale_min_k4(block + 4, sub, scale);
    const uint8_t *qs = block + 16 + sub / 2 * 32;
    for (int j = 0; j < 32; j++)
        code[j] = qs[j] >> 4 * (sub & 1) & 15;
}

static void unpack_q5_k(const uint8_t *block, int sub, uint8_t code[32], uint8_t *scale)
{
    scale_min_k4(block + 4, sub, scale);
    const uint8_t *qh = block + 16, *qs = block + 48 + sub / 2 * 32;
    for (int j = 0; j < 32; j++)
        code[j] = (uint8_t)((qs[j] >> 4 * (sub & 1) & 15) | (qh[j] >> sub & 1) << 4);
}

static void unpack_q6_k(const uint8_t *block, int sub, uint8_t code[32], uint8_t *scale)
{
    int half = sub / 4, quarter = sub % 4;
    const uint8_t *ql = block + half * 64 + quarter % 2 * 32, *qh = block + 128 + half * 32;
    for (int j = 0; j < 32; j++)
        code[j] = (uint8_t)((ql[j] >> 4 * (quarter / 2) & 15) | (qh[j] >> 2 * quarter & 3) << 4);
    memcpy(scale, block + 192 + sub * 2, 2);
}

/* 16 signed 6-bit scales in 12 bytes: low nibbles in the first 8, top bits in the last 4. */
static uint8_t scale_q3_k(const uint8_t *s, int i)
{
    int low = i < 8 ? s[i] & 15 : s[i - 8] >> 4;
    return (uint8_t)((low | (s[8 + i % 4] >> 2 * (i / 4) & 3) << 4) - 32);
}

static void unpack_q3_k(const uint8_t *block, int sub, uint8_t code[32], uint8_t *scale)
{
    const uint8_t *hmask = block, *qs = block + 32 + sub / 4 * 32;
    for (int j = 0; j < 32; j++)
        code[j] = (uint8_t)((qs[j] >> 2 * (sub % 4) & 3) | (hmask[j] >> sub & 1) << 2);
    scale[0] = scale_q3_k(block + 96, 2 * sub);
    scale[1] = scale_q3_k(block + 96, 2 * sub + 1);
}

static void unpack_q2_k(const uint8_t *block, int sub, uint8_t code[32], uint8_t *scale)
{
    const uint8_t *qs = block + 16 + sub / 4 * 32;
    for (int j = 0; j < 32; j++)
        code[j] = qs[j] >> 2 * (sub % 4) & 3;
    memcpy(scale, block + 2 * sub, 2);
}

static void unpack_iq4_xs(const uint8_t *block, int sub, uint8_t code[32], uint8_t *scale)
{
    int high = (block[2] | block[3] << 8) >> 2 * sub & 3;
    int low = block[4 + sub / 2] >> 4 * (sub % 2) & 15;
    scale[0] = (uint8_t)((low | high << 4) - 32);
    nibbles(block + 8 + sub * 16, code);
}

#define CODES(bits, off, parts, width, fn)                                                         \
    .layout = LAYOUT_CODES, .code_bits = bits, .offset = off, .q_bytes = 64 * bits,                \
    .s_parts = parts, .s_width = width, .unpack = fn

static const struct linear_format formats[DT_MAX] = {
    [DT_F32] = {.layout = LAYOUT_F32, .q_bytes = 2048},
    [DT_F16] = {.layout = LAYOUT_F16, .q_bytes = 1024},
    [DT_BF16] = {.layout = LAYOUT_BF16, .q_bytes = 1024},
    [DT_Q8_0] = {CODES(8, 0, 1, 2, unpack_q8_0)},
    [DT_Q4_0] = {CODES(4, 8, 1, 2, unpack_q4_0)},
    [DT_Q4_1] = {CODES(4, 0, 2, 2, unpack_q4_1)},
    [DT_Q5_0] = {CODES(5, 16, 1, 2, unpack_q5_0)},
    [DT_Q5_1] = {CODES(5, 0, 2, 2, unpack_q5_1)},
    [DT_IQ4_NL] = {CODES(4, 0, 1, 2, unpack_q4_0), .codebook = codebook_iq4},
    [DT_MXFP4] = {CODES(4, 0, 1, 1, unpack_mxfp4), .codebook = codebook_mxfp4, .e8m0 = true},
    [DT_Q4_K] = {CODES(4, 0, 2, 1, unpack_q4_k), .h_parts = 2, .h_at = {0, 2}},
    [DT_Q5_K] = {CODES(5, 0, 2, 1, unpack_q5_k), .h_parts = 2, .h_at = {0, 2}},
    [DT_Q6_K] = {CODES(6, 32, 2, 1, unpack_q6_k), .h_parts = 1, .h_at = {208}},
    [DT_Q3_K] = {CODES(3, 4, 2, 1, unpack_q3_k), .h_parts = 1, .h_at = {108}},
    [DT_Q2_K] = {CODES(2, 0, 2, 1, unpack_q2_k), .h_parts = 2, .h_at = {80, 82}},
    [DT_IQ4_XS] = {CODES(4, 0, 1, 1, unpack_iq4_xs), .h_parts = 1, .h_at = {0},
                   .codebook = codebook_iq4},
};

struct linear_format linear_format(enum dtype type)
{
    struct linear_format none = {.layout = LAYOUT_NONE};
    if ((int)type < 0 || type >= DT_MAX)
        return none;
    if (formats[type].layout != LAYOUT_NONE)
        return formats[type];
    const struct dtype_info *info = dtype_info(type);
    if (!info || !info->dequantise)
        return none;
    return (struct linear_format){.layout = LAYOUT_FILE};
}

int linear_file_unit(enum dtype type)
{
    int block = dtype_info(type)->block;
    return block < 32 ? 32 : block;
}

size_t linear_file_unit_bytes(enum dtype type)
{
    return dtype_bytes(type, linear_file_unit(type));
}

struct geometry { size_t h, s, q, panel; int phase; };      /* bytes of the parts */

static size_t pad64(size_t n) { return (n + 63) & ~(size_t)63; }

static struct geometry geometry(enum dtype type, int k, int k_origin)
{
    struct linear_format f = linear_format(type);
    struct geometry g = {0};
    size_t blocks = (size_t)linear_blocks(k);
    if (f.layout == LAYOUT_FILE) {
        int unit = linear_file_unit(type);
        g.phase = k_origin % unit / 32;
        size_t units = ((size_t)k + (size_t)g.phase * 32 + (size_t)unit - 1) / (size_t)unit;
        g.q = pad64(units * linear_file_unit_bytes(type) * LINEAR_PANEL);
    } else if (f.layout != LAYOUT_NONE) {
        g.phase = f.h_parts ? k_origin % 256 / 32 : 0;
        size_t supers = (blocks + (size_t)g.phase + 7) / 8;
        g.h = pad64(supers * (size_t)f.h_parts * 2 * LINEAR_PANEL);
        g.s = pad64(blocks * (size_t)(f.s_parts * f.s_width) * LINEAR_PANEL);
        g.q = blocks * (size_t)f.q_bytes;
    }
    g.panel = g.h + g.s + g.q;
    return g;
}

size_t linear_packed_bytes(enum dtype type, int n_out, int k, int k_origin)
{
    size_t panels = ((size_t)n_out + LINEAR_PANEL - 1) / LINEAR_PANEL;
    return panels * geometry(type, k, k_origin).panel;
}

struct linear_panel linear_panel_at(const struct linear *l, int p, int next)
{
    struct geometry g = geometry(l->type, l->k, l->k_origin);
    const uint8_t *base = l->packed + (size_t)p * g.panel;
    return (struct linear_panel){.type = l->type, .h = base, .s = base + g.h,
                                 .q = base + g.h + g.s, .phase = g.phase, .k = l->k,
                                 .ahead = (size_t)next * g.panel};
}
