/* linear_run.h - what the products share: which functions serve a (type, role), the segment stack.
 * Why:    the table is walked downwards from the chosen set: a missing or refused row is served by
 *         the next lower one. Shared by the products and the self-check; not for callers of
 *         linear.h.
 * Ranks:  not collective. */
#ifndef MUSTER_LINEAR_RUN_H
#define MUSTER_LINEAR_RUN_H

#include "workers/kernels/linear_format.h"

struct linear_choice {
    enum linear_family family;
    linear_dot_q8 *dot_q8;
    linear_expand *expand;
    linear_expand_tiles *expand_tiles;
    linear_dot_f32 *dot_f32;
    linear_dot_f16 *dot_f16;
    linear_dot_bf16 *dot_bf16;
    linear_dot_tiles *dot_tiles;
    void (*tiles_begin)(void), (*tiles_end)(void);
    linear_prepare *prepare_q8, *prepare_bf16, *prepare_tiles;
};
struct linear_choice linear_choose(enum dtype type, enum isa isa, enum compute compute,
                                   enum role role);

/* One product, as the arguments of linear_run; x rows are xs bytes apart (linear_x_stride). */
struct linear_job {
    const struct linear *l;
    const struct linear_choice *choice;
    const struct split_program *prog;
    float *out;                 /* [n_piece][n_rows, n_out] */
    int64_t ldo, piece_stride;
    const uint8_t *x;
    size_t xs;
    int n_rows, p0, p1;
};
void linear_run_lanes(const struct linear_job *job, void *scratch);
size_t linear_lanes_scratch(int n_rows);
void linear_run_tiles(const struct linear_job *job, void *scratch);
size_t linear_tiles_scratch(int n_rows);

void linear_run_blas(const struct linear_job *job, void *scratch);
size_t linear_blas_scratch(int n_rows);

/* acc [8, 64] (zero first when fresh) += x [8, k] (row stride ldx) w [k, 64]: the one shape that
 * f32 products are given to cblas_sgemm in; k is at most LINEAR_BLAS_K. */
enum { LINEAR_BLAS_ROWS = 8, LINEAR_BLAS_COLUMNS = 64, LINEAR_BLAS_K = 128 };
void linear_blas_tile(const float *x, int ldx, const float *w, int k, bool fresh, float *acc);

enum { LINEAR_STACK_MAX = SPLIT_PIECES_MAX + 8 };   /* pieces + the depth of a tree of 64 leaves */

/* Computes the segments of a program by `segment` (blocks [b0, b1) into acc, overwriting it) and
 * folds them in a stack of slots of slot_floats, of which `used` are added. Returns the stack's
 * height. */
typedef void linear_segment(void *ctx, int b0, int b1, float *acc);
int linear_segments(const struct split_program *prog, int k, linear_segment *segment, void *ctx,
                    float *stack, size_t slot_floats, size_t used);

/* Copies sums [rows][16] of a panel to the output, as many columns as the matrix has. */
void linear_copy_out(const struct linear_job *job, int piece, int panel, int r0, int rows,
                     const float *acc);

/* For the self-check: has the table of isa anything for the type; take a row out of it; use BLAS
 * tiles; back to nothing refused and no BLAS tiles; make a row wrong (tests). */
bool linear_has_row(enum isa isa, enum dtype type);
void linear_refuse(enum isa isa, enum dtype type, enum role role);
void linear_set_blas_tiles(bool ok);
void linear_reset(void);
void linear_plant_wrong(enum isa isa, enum dtype type, enum role role);

#endif
