/* linear_format.h - how the weights of a panel lie in memory, and the kernel rows that read them.
 * Why:    packing, the plain C row and every instruction set must agree on one layout.
 * Layout: a panel (16 output rows) = [superblock headers][block scales][codes], each part padded to
 *         64 bytes; parts run along K, so one thread reads one nearly sequential stream, and codes
 *         are always whole cache lines.
 *   codes of a block of 32 weights x 16 rows, lane = output row (a 32-bit word of a vector):
 *     8 bits  vector g = 0..7: bytes b = 0..3 of a lane are k = 4 g + b (signed, an AMX tile, too)
 *     4 bits  vector j = 0..3: low nibbles are g = j, high nibbles g = j + 4
 *     +1 bit  (5 = 4 + 1, 3 = 2 + 1) one vector: bit g of byte b
 *     2 bits  (also the top of 6 = 4 + 2) vector j = 0, 1: bits 2 f of byte b are g = 4 j + f
 *   f32, f16 [k][16]; bf16 [k / 2][16][2], which is also an AMX tile
 *   scales of a block: parts of [16] values (d; or d, m; or two scale bytes); headers likewise.
 * Values: v = d code (+ m); d = header d x scale byte for superblock types. Codes below 8 bits are
 *         unsigned, `offset` (a power of two, or 0) above the value.
 * Ranks:  not collective. */
#ifndef MUSTER_LINEAR_FORMAT_H
#define MUSTER_LINEAR_FORMAT_H

#include "workers/kernels/linear.h"

enum layout { LAYOUT_NONE, LAYOUT_F32, LAYOUT_F16, LAYOUT_BF16, LAYOUT_CODES, LAYOUT_FILE };

struct linear_format {
    enum layout layout;
    int code_bits;              /* of LAYOUT_CODES */
    int offset;                 /* stored code - value */
    int q_bytes;                /* codes of a block of 32 x 16 */
    int s_parts, s_width;       /* scale values of a row of a block, and the bytes of one */
    int h_parts, h_at[2];       /* f16 values of a superblock of 256, and where the file has them */
    const int8_t *codebook;     /* [16] value of a 4-bit code, else NULL */
    bool e8m0;                  /* the scale is a power of two */
    /* 32 codes and s_parts scale values of sub-block `sub` of a file block. */
    void (*unpack)(const uint8_t *block, int sub, uint8_t code[32], uint8_t *scale);
};

/* layout is LAYOUT_NONE for what is no weight type. */
struct linear_format linear_format(enum dtype type);

/* One panel of a linear. */
struct linear_panel {
    enum dtype type;
    const uint8_t *h, *s, *q;
    int phase;                  /* sub-block inside its superblock that column 0 is */
    int k;                      /* columns held */
    size_t ahead;               /* bytes to the same place of the panel to prefetch; 0 none */
};
/* next: prefetch the panel so many after it; 0 none. */
struct linear_panel linear_panel_at(const struct linear *l, int p, int next);

/* Elements of the unit in which LAYOUT_FILE keeps a row, and its bytes. */
int linear_file_unit(enum dtype type);
size_t linear_file_unit_bytes(enum dtype type);

static inline int linear_blocks(int k) { return (int)(((int64_t)k + 31) / 32); }

/* What decides the arithmetic of a product; also which x it reads. */
enum linear_family {
    FAMILY_F32,         /* f32 x [rows][k]: own kernel, outputs across lanes */
    FAMILY_F32_BLAS,    /* the same x: cblas_sgemm tiles */
    FAMILY_Q8,          /* struct linear_xblock [rows][k / 32]: exact integer dots */
    FAMILY_BF16,        /* struct linear_xpairs [rows][k / 32]: pairs of products added to f32 */
    FAMILY_TILES        /* bf16 x [rows / 16][k / 32][16][32]: AMX */
};

/* 32 activations, Q8 with their sums: one cache line. */
struct linear_xblock {
    int8_t q[32];
    float d;                    /* x = d q */
    float xs;                   /* d x sum of q */
    float xs_half[2];           /* the same of each half */
    int32_t neg_sum;            /* -(sum of q) */
    int32_t neg_half[2];
    int32_t spare;
};

/* 32 activations rounded to bf16: as they are, and widened, for processors whose fma is the
 * faster. */
struct linear_xpairs { uint16_t h[32]; float f[32]; };

/* Bytes from one row of x to the next; an odd number of cache lines, so that many rows at one
 * column do not share a set. FAMILY_TILES: bytes from 16 rows to the next 16. */
size_t linear_x_stride(enum linear_family family, int k);

/* acc [n_rows][16] = sum over blocks [b0, b1), in order, of panel codes times x (row stride xs).
 * x may be read up to the next 16 rows. */
typedef void linear_dot_q8(const struct linear_panel *w, int b0, int b1, const uint8_t *x,
                           size_t xs, int n_rows, float *acc);
/* out [(b1 - b0) 32][16] f32, row stride ld = the weights. */
typedef void linear_expand(const struct linear_panel *w, int b0, int b1, float *out, int ld);
/* acc [n_rows][2][16] += w [k][16] times x [n_rows][k], even and odd k apart; k is even.
 * Prefetches w + ahead bytes unless ahead is 0. */
typedef void linear_dot_f32(const float *w, int k, size_t ahead, const uint8_t *x, size_t xs,
                            int n_rows, float *acc);
/* The same for w [k][16] f16, without expanding it; optional. */
typedef void linear_dot_f16(const uint16_t *w, int k, size_t ahead, const uint8_t *x, size_t xs,
                            int n_rows, float *acc);
/* The same for n blocks of 32 k of w [k / 2][16][2] bf16: pairs (2 i, 2 i + 1), odd element first;
 * even and odd i apart. */
typedef void linear_dot_bf16(const uint16_t *w, int n, size_t ahead, const uint8_t *x, size_t xs,
                             int n_rows, float *acc);
/* tiles [b1 - b0][16][16][2] = the weights as bf16, nearest. */
typedef void linear_expand_tiles(const struct linear_panel *w, int b0, int b1, uint16_t *tiles);
/* acc0, acc1 [n_rows up to 16s][16] (zero first when fresh) += w0, w1 [n] tiles times x [n_rows /
 * 16][n] tiles, 16 rows in xs bytes; w1 NULL for one panel. Between tiles_begin, tiles_end. */
typedef void linear_dot_tiles(const uint16_t *w0, const uint16_t *w1, int n, const uint8_t *x,
                              size_t xs, int n_rows, bool fresh, float *acc0, float *acc1);
/* One row of x [k], padded to whole blocks of 32, each block `step` bytes after the one before. */
typedef void linear_prepare(uint8_t *dst, size_t step, const float *x, int k);

struct linear_kernels {
    linear_dot_q8 *const *dot_q8;               /* [DT_MAX], NULL for none */
    linear_expand *expand[DT_MAX];
    linear_expand_tiles *expand_tiles[DT_MAX];
    linear_dot_f32 *dot_f32;
    linear_dot_f16 *dot_f16;
    linear_dot_bf16 *dot_bf16;
    linear_dot_tiles *dot_tiles;
    void (*tiles_begin)(void), (*tiles_end)(void);
    linear_prepare *prepare_q8, *prepare_bf16, *prepare_tiles;
};

extern const struct linear_kernels linear_kernels_plain, linear_kernels_avx2, linear_kernels_avx512,
    linear_kernels_amx;
extern linear_dot_q8 *const linear_dot_q8_amx[DT_MAX];      /* part of linear_kernels_amx */
extern linear_dot_bf16 linear_dot_bf16_avx512bf16;          /* where isa_has_fast_bf16() */

#endif
