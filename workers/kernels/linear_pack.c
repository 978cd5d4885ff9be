/* From file rows to panels: each row goes to its own lane, so rows may be packed by several
 * threads. */
#include "workers/kernels/linear_format.h"

#include "proto/err.h"

#include <string.h>

/* The bytes of row `lane` in a block's codes; see linear_format.h for the layout. */
static void put_codes(uint8_t *q, int lane, int bits, const uint8_t code[32])
{
    uint8_t *at = q + 4 * lane;
    if (bits == 8) {
        for (int g = 0; g < 8; g++)
            memcpy(at + 64 * g, code + 4 * g, 4);
        return;
    }
    int low = bits < 4 ? 2 : 4, vectors = low == 4 ? 4 : 2, fields = 8 / low;
    for (int j = 0; j < vectors; j++)
        for (int b = 0; b < 4; b++) {
            unsigned byte = 0;
            for (int f = 0; f < fields; f++)
                byte |= (unsigned)(code[4 * (low == 4 ? j + 4 * f : 4 * j + f) + b] &
                                   ((1 << low) - 1)) << low * f;
            at[64 * j + b] = (uint8_t)byte;
        }
    at += 64 * vectors;
    if (bits - low == 1) {
        for (int b = 0; b < 4; b++) {
            unsigned byte = 0;
            for (int g = 0; g < 8; g++)
                byte |= (unsigned)(code[4 * g + b] >> low & 1) << g;
            at[b] = (uint8_t)byte;
        }
    } else if (bits - low == 2) {
        for (int j = 0; j < 2; j++)
            for (int b = 0; b < 4; b++) {
                unsigned byte = 0;
                for (int f = 0; f < 4; f++)
                    byte |= (unsigned)(code[4 * (4 * j + f) + b] >> low & 3) << 2 * f;
                at[64 * j + b] = (uint8_t)byte;
            }
    }
}

static bool f16_finite(const uint8_t *h) { return (h[1] & 0x7c) != 0x7c; }

static bool scales_finite(const struct linear_format *f, const uint8_t *scale)
{
    if (f->e8m0)
        return scale[0] != 255;
    for (int i = 0; f->s_width == 2 && i < f->s_parts; i++)
        if (!f16_finite(scale + 2 * i))
            return false;
    return true;
}

/* A row of LAYOUT_CODES; src is NULL for a lane of no row (all zero). */
static bool pack_codes(const struct linear *l, const struct linear_panel *w,
                       const struct linear_format *f, int lane, const uint8_t *src)
{
    const struct dtype_info *info = dtype_info(l->type);
    bool ok = true;
    for (int b = 0; b < linear_blocks(l->k); b++) {
        uint8_t code[32] = {0}, scale[4] = {0}, header[4] = {0};
        int at = f->h_parts ? w->phase + b : b, super = at / 8;
        if (src) {
            const uint8_t *block = src + (size_t)(f->h_parts ? super : b) * (size_t)info->bytes;
            f->unpack(block, at % 8, code, scale);
            ok &= scales_finite(f, scale);
            for (int i = 0; i < f->h_parts; i++) {
                memcpy(header + 2 * i, block + f->h_at[i], 2);
                ok &= f16_finite(header + 2 * i);
            }
        }
        put_codes((uint8_t *)w->q + (size_t)b * (size_t)f->q_bytes, lane, f->code_bits, code);
        size_t width = (size_t)f->s_width, part = width * LINEAR_PANEL;
        uint8_t *s = (uint8_t *)w->s + (size_t)b * (size_t)f->s_parts * part;
        for (int i = 0; i < f->s_parts; i++)
            memcpy(s + (size_t)i * part + width * (size_t)lane, scale + width * (size_t)i, width);
        uint8_t *h = (uint8_t *)w->h + (size_t)super * (size_t)f->h_parts * 2 * LINEAR_PANEL;
        for (int i = 0; i < f->h_parts && (b == 0 || at % 8 == 0); i++)
            memcpy(h + 2 * LINEAR_PANEL * i + 2 * lane, header + 2 * i, 2);
    }
    return ok;
}

/* A row of f32, f16 or bf16; the columns up to the whole block are zero. */
static bool pack_plain(const struct linear *l, const struct linear_panel *w, enum layout layout,
                       int lane, const uint8_t *src)
{
    int padded = linear_blocks(l->k) * 32;
    unsigned bad = 0;
    if (layout == LAYOUT_F32) {
        uint32_t *q = (uint32_t *)w->q + lane;
        for (int i = 0; i < padded; i++) {
            uint32_t v = 0;
            if (src && i < l->k)
                memcpy(&v, src + 4 * (size_t)i, 4);
            bad |= (v & 0x7f800000) == 0x7f800000;
            q[(size_t)i * LINEAR_PANEL] = v;
        }
        return !bad;
    }
    bool f16 = layout == LAYOUT_F16;
    uint16_t inf = f16 ? 0x7c00 : 0x7f80, *q = (uint16_t *)w->q;
    for (int i = 0; i < padded; i++) {
        uint16_t v = 0;
        if (src && i < l->k)
            memcpy(&v, src + 2 * (size_t)i, 2);
        bad |= (v & inf) == inf;
        if (f16)
            q[(size_t)i * LINEAR_PANEL + (size_t)lane] = v;
        else
            q[(size_t)(i / 2) * 2 * LINEAR_PANEL + 2 * (size_t)lane + (size_t)(i % 2)] = v;
    }
    return !bad;
}

static bool all_finite(const float *v, int n)
{
    for (int i = 0; i < n; i++)
        if (!(v[i] - v[i] == 0))
            return false;
    return true;
}

/* A row kept as in the file: [unit][16 rows][bytes]. */
static bool pack_file(const struct linear *l, const struct linear_panel *w, int lane,
                      const uint8_t *src)
{
    const struct dtype_info *info = dtype_info(l->type);
    int unit = linear_file_unit(l->type), held = l->k + w->phase * 32;
    size_t bytes = linear_file_unit_bytes(l->type);
    bool ok = true;
    for (int at = 0; at < held; at += unit) {
        uint8_t *q = (uint8_t *)w->q + ((size_t)(at / unit) * LINEAR_PANEL + (size_t)lane) * bytes;
        memset(q, 0, bytes);
        if (!src)
            continue;
        int n = info->block > 1 || held - at >= unit ? unit : held - at;
        size_t n_bytes = (size_t)(n / info->block) * (size_t)info->bytes;
        memcpy(q, src + (size_t)(at / unit) * bytes, n_bytes);
        for (int i = 0; i < n; i += 256) {      /* the widest block is 256 */
            float v[256];
            int m = n - i < 256 ? n - i : 256;
            info->dequantise(v, q + (size_t)(i / info->block) * (size_t)info->bytes, m);
            ok &= all_finite(v, m);
        }
    }
    return ok;
}

static bool pack_row(const struct linear *l, int row, const uint8_t *src)
{
    struct linear_format f = linear_format(l->type);
    struct linear_panel w = linear_panel_at(l, row / LINEAR_PANEL, 0);
    int lane = row % LINEAR_PANEL;
    switch (f.layout) {
    case LAYOUT_CODES:
        return pack_codes(l, &w, &f, lane, src);
    case LAYOUT_FILE:
        return pack_file(l, &w, lane, src);
    default:
        return pack_plain(l, &w, f.layout, lane, src);
    }
}

int linear_pack(struct linear *l, int row, int n_rows, const uint8_t *src, size_t stride,
                struct err *err)
{
    bool ok = true;
    ASSERT(row >= 0 && n_rows >= 0 && row + n_rows <= l->n_out);
    ASSERT(linear_format(l->type).layout != LAYOUT_NONE);
    for (int i = 0; i < n_rows; i++)
        ok &= pack_row(l, row + i, src + (size_t)i * stride);
    if (row + n_rows == l->n_out)       /* the lanes after the last row multiply as zero */
        for (int i = l->n_out; i % LINEAR_PANEL; i++)
            pack_row(l, i, NULL);
    return ok ? ERR_OK : err_set(err, ERR_FORMAT, "a weight or scale is NaN or infinite");
}
