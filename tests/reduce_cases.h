/* reduce_cases.h - one rank's part in the reduction tests, over any transport.
 * The leaf values are a formula; the expected sum folds all leaves as one rank would. */
#ifndef MUSTER_REDUCE_CASES_H
#define MUSTER_REDUCE_CASES_H

#include "workers/parallel/reduce.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CASE_N_MAX = 100000 };

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

/* Returns how many numbers were wrong. */
static inline int run_sum_case(struct reduce *r, int n_total, int unit, int64_t n, float *pieces,
                               float *want)
{
    const struct mesh *m = r->mesh;
    struct err err = {0};
    int leaf_of[SPLIT_SEGMENTS_MAX], wrong = 0;
    struct split_range all = {0, m->leaves};
    struct split_program mine = split_program_for(n_total, unit, m->leaves, m->segments);
    struct split_program whole = split_program_for(n_total, unit, m->leaves, all);
    list_leaves(n_total, unit, m->leaves, all, leaf_of);
    fold_leaves(&whole, leaf_of, want, n);
    list_leaves(n_total, unit, m->leaves, m->segments, leaf_of);
    fold_leaves(&mine, leaf_of, pieces, n);
    if (reduce_sum(r, pieces, pieces, n, n, n_total, unit, &err) != ERR_OK) {
        fprintf(stderr, "rank %d: %s\n", m->self, err.msg);
        return 1;
    }
    for (int64_t i = 0; i < n; i++) {
        float bound = r->dtype == WIRE_F32 ? 0 : 2048.0f * (r->dtype == WIRE_BF16 ? 0.05f : 0.2f);
        if (!(fabsf(pieces[i] - want[i]) <= bound))
            wrong++;
    }
    return wrong;
}

static inline int run_moves(struct reduce *r, float *a, float *b)
{
    const struct mesh *m = r->mesh;
    struct err err = {0};
    int64_t counts[MESH_TP_MAX], total = 0, before = 0;
    uint8_t owner[13];
    int wrong = 0;
    for (int i = 0; i < m->tp; i++) {
        counts[i] = i % 2 == 0 ? 100 + i : 0;
        before += i < m->tp_index ? counts[i] : 0;
        total += counts[i];
    }
    for (int64_t i = 0; i < counts[m->tp_index]; i++)
        a[i] = (float)(before + i);
    wrong += reduce_gather(r, b, a, counts, &err) != ERR_OK;
    for (int64_t i = 0; i < total; i++)
        wrong += b[i] != (float)i;
    memset(b, 0, (size_t)total * sizeof *b);
    wrong += reduce_collect(r, m->tp - 1, b, a, counts, &err) != ERR_OK;
    for (int64_t i = 0; i < total && m->tp_index == m->tp - 1; i++)
        wrong += b[i] != (float)i;
    for (int i = 0; i < 13; i++) {
        owner[i] = (uint8_t)(i * 5 % m->tp);
        for (int k = 0; k < 7; k++)
            a[i * 7 + k] = owner[i] == m->tp_index ? (float)(i * 7 + k) : -1;
    }
    wrong += reduce_rows(r, a, owner, 13, 7, &err) != ERR_OK;
    for (int i = 0; i < 13 * 7; i++)
        wrong += a[i] != (float)i;
    if (wrong > 0)
        fprintf(stderr, "rank %d: moves: %d wrong (%s)\n", m->self, wrong, err.msg);
    return wrong;
}

/* All cases of one rank; 0 when right. */
static inline int run_reduce_cases(struct comm *c, int self, int tp)
{
    static const int cuts[][2] = {{2048, 64}, {172, 32}, {64, 32}, {32, 32}};
    static const int64_t sizes[] = {1, 33, 576, 9000, 40000, CASE_N_MAX};
    int wrong = 0;
    float *pieces = malloc(SPLIT_PIECES_MAX * (size_t)CASE_N_MAX * sizeof *pieces);
    float *want = malloc((size_t)CASE_N_MAX * sizeof *want);
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
                    int bad = run_sum_case(&r, cuts[k][0], cuts[k][1], sizes[s], pieces, want);
                    if (bad > 0)
                        fprintf(stderr, "rank %d of %d: K %d, n %lld, dtype %d, uneven %d: %d wrong\n",
                                self, tp, cuts[k][0], (long long)sizes[s], dtype, uneven, bad);
                    wrong += bad;
                }
            wrong += run_moves(&r, pieces, want);
            reduce_free(&r);
            reduce_free(&r);
        }
    free(pieces);
    free(want);
    return wrong;
}

#endif
