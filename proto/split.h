/* split.h - how K is cut: 8 segments, one fixed binary tree, whoever computes them.
 * Why:    a row-parallel product summed in one order gives the same bits on any number of ranks; the
 *         worker that computes and the planner that counts bytes must agree on the borders.
 * Rule:   K is cut in units (the smallest run of whole heads or FFN columns that is whole 32-weight
 *         groups); segment i is units [n i/8, n (i+1)/8); empty segments are skipped. A rank owns a
 *         contiguous run of segments and sends the sums of its maximal subtrees (its pieces).
 * Ranks:  not collective; pure arithmetic. */
#ifndef MUSTER_SPLIT_H
#define MUSTER_SPLIT_H

#include <stdint.h>

enum { SPLIT_SEGMENTS = 8, SPLIT_SEGMENTS_MAX = 64, SPLIT_GROUP = 32, SPLIT_PIECES_MAX = 12 };

struct split_range { int begin, end; };         /* [begin, end) */

/* Heads per unit: smallest h with h * head_dim a multiple of 32. */
int split_head_unit(int head_dim);

/* Leaves of the tree: 8 up to tp 8, beyond that the next power of two (and then other bits). */
int split_leaves(int tp);

/* Even run of segments of rank r of tp: [leaves r/tp, leaves (r+1)/tp). */
struct split_range split_even(int leaves, int tp, int r);

/* Elements [begin, end) of segment i, for n elements in units of `unit` (the last may be short). */
struct split_range split_segment(int n, int unit, int leaves, int i);

/* Elements of the segments [segs.begin, segs.end): what a rank that owns them holds. */
struct split_range split_owned(int n, int unit, int leaves, struct split_range segs);

/* How one rank's part of K is summed: for each non-empty segment in order multiply-accumulate
 * [k_begin, k_end) (local columns) into a fresh accumulator and push it; then `folds` times replace
 * the top two of the stack, a below b, by a + b. After all, the stack holds the pieces in order. */
struct split_program {
    int n_seg;                                  /* non-empty ones of this rank */
    struct { int k_begin, k_end, folds; } seg[SPLIT_SEGMENTS_MAX];
    int n_piece;                                /* stack height at the end; 0 when n_seg is 0 */
    struct { int first, last; } piece[SPLIT_PIECES_MAX];   /* leaves [first, last) of each */
};

/* Program of the rank that owns `segs` of n elements in units of `unit`; local columns start at the
 * first owned element. A whole, uncut K of n columns (column-parallel products): split_whole(n). */
struct split_program split_program_for(int n, int unit, int leaves, struct split_range segs);
struct split_program split_whole(int n);

#endif
