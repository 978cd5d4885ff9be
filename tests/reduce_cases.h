/* reduce_cases.h - one rank's part in the reduction tests, over any transport.
 * The leaf values are a formula; the expected sum folds all leaves as one rank would. */
#ifndef MUSTER_REDUCE_CASES_H
#define MUSTER_REDUCE_CASES_H

#include "workers/parallel/reduce.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CASE_N_MAX = 70000, CASE_N_USUAL = 9000 };      /* more than a chunk; less than one */

static inline float leaf_value(int leaf, int64_t i)
{
    uint32_t h = (uint32_t)(leaf * 2654435761u) ^ (uint32_t)(i * 40503u + 77);
    h ^= h >> 13;
    h *= 0x5bd1e995u;
    return (float)(int32_t)h * 0x1p-31f * (float)(1 << (h % 12));
}

/* Folds the leaves of a program as a kernel does; out [n_piece][n]. */
static inline void fold_leaves(const struct split_program *p, const int *leaf_of, float *out, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        float stack[SPLIT_SEGMENTS_MAX];
        int height = 0;
        for (int s = 0; s < p->n_seg; s++) {
            stack[height++] = leaf_value(leaf_of[s], i);
            for (int f = 0; f < p->seg[s].folds; f++, height--)
                stack[height - 2] += stack[height - 1];
        }
        for (int j = 0; j < p->n_piece; j++)
            out[j * n + i] = stack[j];
    }
}

/* Non-empty leaves of [segs) in order. */
static inline void list_leaves(int n_total, int unit, int leaves, struct split_range segs, int *leaf_of)
{
    int k = 0;
    for (int l = segs.begin; l < segs.end; l++) {
        struct split_range e = split_segment(n_total, unit, leaves, l);
        if (e.end > e.begin)
            leaf_of[k++] = l;
    }
}

static inline void fill_mesh(struct mesh *m, int self, int tp, int uneven)
{
    memset(m, 0, sizeof *m);
    m->tp = tp;
    m->tp_index = m->self = self;
    m->leaves = split_leaves(tp);
    for (int i = 0, begin = 0; i < tp; i++) {
        int end = split_even(m->leaves, tp, i).end;
        if (uneven && i < tp - 1) {     /* the first rank as little as can be */
            end = i == 0 ? 1 : end - 1;
            end = end < begin ? begin : end;
        }
        m->peer_segments[i] = (struct split_range){begin, end};
        m->tp_ranks[i] = i;
        begin = end;
    }
    m->segments = m->peer_segments[self];
}

/* This rank's pieces of a K, [n_piece][n]. */
static inline void make_pieces(const struct mesh *m, int n_total, int unit, int64_t n, float *pieces)
{
    int leaf_of[SPLIT_SEGMENTS_MAX];
    struct split_program mine = split_program_for(n_total, unit, m->leaves, m->segments);
    list_leaves(n_total, unit, m->leaves, m->segments, leaf_of);
    fold_leaves(&mine, leaf_of, pieces, n);
}

static inline void make_sum(const struct mesh *m, int n_total, int unit, int64_t n, float *sum)
{
    int leaf_of[SPLIT_SEGMENTS_MAX];
    struct split_range all = {0, m->leaves};
    struct split_program whole = split_program_for(n_total, unit, m->leaves, all);
    list_leaves(n_total, unit, m->leaves, all, leaf_of);
    fold_leaves(&whole, leaf_of, sum, n);
}

/* One K and size, by every way that a sum can travel. f32: equal to `want`, bit for bit. Rounded on the
 * way: near it, and the same bits by every way. Returns how many numbers were wrong. */
static inline int run_sum_case(struct reduce *r, int n_total, int unit, int64_t n, float *pieces,
                               float *want)
{
    float *copy = malloc(SPLIT_PIECES_MAX * (size_t)n * sizeof *copy);
    const struct { int64_t direct, chunk; } ways[] = {
        {INT64_MAX, r->chunk}, {0, r->chunk}, {INT64_MAX, 1024}, {0, 1024}, {0, 32}};
    const int64_t direct = r->direct_max, chunk = r->chunk;
    int wrong = 0;
    make_sum(r->mesh, n_total, unit, n, want);
    make_pieces(r->mesh, n_total, unit, n, copy);
    for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
        struct err err = {0};
        if (ways[w].chunk == 32 && n > 2000)
            continue;           /* thousands of messages: nothing new */
        r->direct_max = ways[w].direct;
        r->chunk = ways[w].chunk < chunk ? ways[w].chunk : chunk;
        memcpy(pieces, copy, SPLIT_PIECES_MAX * (size_t)n * sizeof *copy);
        if (reduce_sum(r, pieces, pieces, n, n, n_total, unit, &err) != ERR_OK) {
            fprintf(stderr, "rank %d: %s\n", r->mesh->self, err.msg);
            free(copy);
            return 1;
        }
        for (int64_t i = 0; i < n; i++) {
            float bound = r->dtype == WIRE_F32 || w > 0 ? 0 : 2048.0f * (r->dtype == WIRE_BF16 ? 0.05f : 0.2f);
            wrong += !(fabsf(pieces[i] - want[i]) <= bound);
        }
        memcpy(want, pieces, (size_t)n * sizeof *want);     /* the other ways give the same */
    }
    r->direct_max = direct;
    r->chunk = chunk;
    free(copy);
    return wrong;
}

/* Parts of a few numbers and of more than a message; rank 1 of three gives nothing. */
static inline int run_parts(struct reduce *r, int64_t part, float *a, float *b)
{
    const struct mesh *m = r->mesh;
    struct err err = {0};
    int64_t counts[MESH_TP_MAX] = {0}, total = 0, before = 0;
    int wrong = 0, root = m->tp - 1;
    for (int i = 0; i < m->tp; i++) {
        counts[i] = i % 3 == 1 ? 0 : part + i;
        before += i < m->tp_index ? counts[i] : 0;
        total += counts[i];
    }
    for (int64_t i = 0; i < counts[m->tp_index]; i++)
        a[i] = (float)(before + i);
    memset(b, 0, (size_t)total * sizeof *b);
    wrong += reduce_gather(r, b, a, counts, &err) != ERR_OK;
    for (int64_t i = 0; i < total; i++)
        wrong += b[i] != (float)i;
    memset(b, 0, (size_t)total * sizeof *b);
    wrong += reduce_collect(r, root, b, a, counts, &err) != ERR_OK;
    for (int64_t i = 0; i < total; i++)
        wrong += b[i] != (m->tp_index == root ? (float)i : 0.0f);
    if (wrong > 0)
        fprintf(stderr, "rank %d: parts of %lld: %d wrong (%s)\n", m->self, (long long)part, wrong, err.msg);
    return wrong;
}

enum { ROWS_MAX = 61 };

static inline int run_rows(struct reduce *r, int n_rows, int dim, float *a)
{
    const struct mesh *m = r->mesh;
    struct err err = {0};
    uint8_t owner[ROWS_MAX];
    int wrong = 0;
    for (int i = 0; i < n_rows; i++) {
        owner[i] = (uint8_t)(i * 5 % m->tp);
        for (int k = 0; k < dim; k++)
            a[i * dim + k] = owner[i] == m->tp_index ? (float)(i * dim + k) : -1;
    }
    wrong += reduce_rows(r, a, owner, n_rows, dim, &err) != ERR_OK;
    for (int i = 0; i < n_rows * dim; i++)
        wrong += a[i] != (float)i;
    if (wrong > 0)
        fprintf(stderr, "rank %d: rows of %d: %d wrong (%s)\n", m->self, dim, wrong, err.msg);
    return wrong;
}

/* All cases of one rank; 0 when right. */
static inline int run_reduce_cases(struct comm *c, int self, int tp)
{
    static const int cuts[][2] = {{2048, 64}, {172, 32}, {64, 32}, {32, 32}};
    static const int64_t sizes[] = {1, 33, 576, CASE_N_USUAL, CASE_N_MAX};
    int wrong = 0;
    float *pieces = malloc(SPLIT_PIECES_MAX * (size_t)CASE_N_MAX * sizeof *pieces);
    float *want = malloc((size_t)CASE_N_MAX * sizeof *want);
    float *big = malloc(70100 * (size_t)tp * sizeof *big);
    for (int uneven = 0; uneven < 2; uneven++)
        for (int dtype = WIRE_F32; dtype <= WIRE_Q8_0; dtype++) {
            struct mesh m;
            struct reduce r;
            struct err err = {0};
            fill_mesh(&m, self, tp, uneven);
            if (reduce_init(&r, c, &m, (enum wire_dtype)dtype, CASE_N_MAX, &err) != ERR_OK)
                return 1;
            for (size_t k = 0; k < sizeof cuts / sizeof *cuts; k++)
                for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
                    if (k > 0 && sizes[s] > CASE_N_USUAL)
                        continue;
                    int bad = run_sum_case(&r, cuts[k][0], cuts[k][1], sizes[s], pieces, want);
                    if (bad > 0)
                        fprintf(stderr, "rank %d of %d: K %d, n %lld, dtype %d, uneven %d: %d wrong\n",
                                self, tp, cuts[k][0], (long long)sizes[s], dtype, uneven, bad);
                    wrong += bad;
                }
            wrong += run_parts(&r, 100, pieces, want);
            wrong += run_parts(&r, 70000, pieces, big);
            wrong += run_rows(&r, 13, 7, pieces);
            wrong += run_rows(&r, ROWS_MAX, 4099, pieces);      /* a message ends inside a row */
            reduce_free(&r);
            reduce_free(&r);
        }
    free(pieces);
    free(want);
    free(big);
    return wrong;
}

#endif
