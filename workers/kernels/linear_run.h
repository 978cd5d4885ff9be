/* linear_run.h - which functions serve a (type, role) on an instruction set.
 * Why:    the table is walked downwards from the chosen set: a missing or refused row is served by the
 *         next lower one. Shared by the products and the self-check; not for callers of linear.h.
 * Ranks:  not collective. */
#ifndef MUSTER_LINEAR_RUN_H
#define MUSTER_LINEAR_RUN_H

#include "workers/kernels/linear_format.h"

struct linear_choice {
    enum linear_family family;
    linear_dot_q8 *dot_q8;
    linear_expand *expand;
    linear_dot_f32 *dot_f32;
    linear_dot_bf16 *dot_bf16;
    linear_prepare *prepare_q8, *prepare_bf16;
};
struct linear_choice linear_choose(enum dtype type, enum isa isa, enum compute compute,
                                   enum role role);

const struct linear_kernels *linear_table(enum isa isa);
void linear_refuse(enum isa isa, enum dtype type, enum role role);
void linear_set_blas_tiles(bool ok);

#endif
