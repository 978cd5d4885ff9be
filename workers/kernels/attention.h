/* attention.h - softmax(q k^T) v over a paged key/value cache, and writing to that cache.
 * Why:    one piece of code serves prompts and generated tokens, so that a query row's bits depend on
 *         its own keys only.
 * How:    keys are walked in blocks of ATTENTION_BLOCK, cut at absolute positions, in order, with a
 *         running maximum (Milakov & Gimelshein 2018); each row's sums run over head_dim and over keys
 *         in index order. Rows that share a KV head share its reads.
 * Layout: a page holds page_tokens tokens of one layer. For each KV head: K [head_dim][page_tokens]
 *         (lanes run over keys), then V [page_tokens][value_dim], each part on a 64-byte border. Q8_0
 *         puts its scales (f16, one for each 32 dims of a key) behind the numbers: K's
 *         [groups][page_tokens], V's [page_tokens][groups].
 * Ranks:  not collective. */
#ifndef MUSTER_ATTENTION_H
#define MUSTER_ATTENTION_H

#include "workers/tensor/dtype.h"

#include <stdbool.h>

enum {
    ATTENTION_BLOCK = 64,       /* keys between two looks at the running maximum */
    ATTENTION_ROWS = 64,        /* query rows times heads of one call */
    ATTENTION_GROUP = 32,       /* dims that share a Q8_0 scale */
    ATTENTION_DIM_MAX = 1024
};

/* Geometry of a page for one KV head. page_tokens is a multiple of ATTENTION_BLOCK. */
struct attention_page {
    enum dtype type;            /* DT_F32, DT_F16, DT_Q8_0 */
    int head_dim, value_dim, page_tokens;
    size_t k_scales, v, v_scales, bytes;        /* offsets in the head's part of a page; its size */
};
struct attention_page attention_page_layout(enum dtype type, int head_dim, int value_dim,
                                            int page_tokens);

/* The keys and values of one sequence, layer and KV head: page i of the sequence starts at
 * base + pages[i] * page_stride. */
struct attention_cache {
    struct attention_page layout;
    uint8_t *base;
    size_t page_stride;
    const int32_t *pages;
};

/* n_rows consecutive positions of one sequence, n_group query heads that read the same KV head;
 * n_rows * n_group <= ATTENTION_ROWS. Row r, head g: q + r * q_stride + g * head_dim, and
 * out + r * out_stride + g * value_dim. */
struct attention_call {
    const float *q;
    float *out;
    int64_t q_stride, out_stride;
    int n_rows, n_group, position;      /* of row 0; it sees keys 0 .. position */
    int window;                         /* 0: all; else keys with position - key >= window are masked */
    float scale, softcap;               /* on q k^T; softcap 0: none */
    const float *sinks;                 /* [n_group] extra logits of the denominator, or NULL */
};

struct attention_row {
    /* scratch: attention_scratch_bytes(value_dim), 64-byte aligned, one for each thread. */
    void (*run)(const struct attention_cache *cache, const struct attention_call *call, void *scratch);
    /* Writes k [n][k_stride] and v [n][v_stride] of positions position .. position + n. */
    void (*store)(const struct attention_cache *cache, const float *k, int64_t k_stride, const float *v,
                  int64_t v_stride, int position, int n);
};

extern const struct attention_row attention_scalar, attention_avx2, attention_avx512;

size_t attention_scratch_bytes(int value_dim);

/* Shared by the rows: one key's or value's n numbers as Q8_0 groups; scales step by scale_stride,
 * numbers by stride. */
void attention_quantise(int8_t *out, int64_t stride, uint16_t *scales, int64_t scale_stride,
                        const float *x, int n);
/* Halves saturate instead of becoming infinite: one huge number must not turn neighbours to NaN. */
uint16_t attention_f16(float x);

/* Rows [*first, *end) of the call that see any key of the block starting at key `start`. */
void attention_active(const struct attention_call *call, int start, int *first, int *end);

#endif
