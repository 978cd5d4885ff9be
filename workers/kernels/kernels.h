/* kernels.h - the table of kernel rows, one for each instruction set.
 * Why:    machines differ; a row is chosen once at start by cpuid (or MUSTER_ISA) and every call goes
 *         through it, so that tests can run each row that the machine has.
 * Rule:   pure arithmetic on pointers: no MPI, no malloc, no logging, no libm transcendental. The
 *         result for a row of x never depends on how many rows share the call, on the thread count or
 *         on where a panel range is cut. Plain C is the reference. Nothing here starts a thread:
 *         callers split ranges over their OpenMP team.
 * Ranks:  not collective. */
#ifndef MUSTER_KERNELS_H
#define MUSTER_KERNELS_H

#include "proto/split.h"
#include "workers/kernels/matmul.h"
#include "workers/tensor/dtype.h"

#include <stdbool.h>

enum isa { ISA_SCALAR, ISA_AVX2, ISA_AVX512, ISA_AMX, ISA_COUNT };  /* AVX512: F BW VL DQ VNNI */
enum role { ROLE_KIND_PROMPT = 0, ROLE_KIND_GENERATED = 1 };

/* Best row that this processor and system can run (asks the kernel for AMX tiles once). */
enum isa isa_detect(void);
/* AVX512_BF16: bf16 dot products; and where they are as fast as fma. Only a speed: the rows without it
 * give the same bits (but for subnormal numbers). */
bool isa_has_bf16(void);
bool isa_has_fast_bf16(void);
/* ERR_INVAL for `--compute bf16` where there are none. */
int isa_want_bf16(struct err *err);
const char *isa_name(enum isa isa);
/* From a name; -1 unknown. */
int isa_named(const char *name);
/* MUSTER_ISA if set and runnable, else isa_detect(). ERR_INVAL names the choices. */
int isa_choose(enum isa *isa, struct err *err);

/* Element-wise and small kernels of one row (a line of `n` or `dim` numbers each). */
struct kernels {
    enum isa isa;
    /* out = x * w / sqrt(mean(x^2) + eps), one row [n]. */
    void (*rmsnorm)(float *out, const float *x, const float *w, int n, float eps);
    void (*layernorm)(float *out, const float *x, const float *w, const float *b, int n, float eps);
    void (*add)(float *out, const float *a, const float *b, int64_t n);
    void (*add_scaled)(float *out, const float *x, float s, int64_t n);     /* out += s x */
    void (*scale)(float *x, float s, int64_t n);
    /* out = act(gate) * up. */
    void (*silu_mul)(float *out, const float *gate, const float *up, int64_t n);
    void (*gelu_mul)(float *out, const float *gate, const float *up, int64_t n);    /* tanh form */
    /* gpt-oss: g = min(gate, limit), u = clamp(up, +-limit): g sigmoid(1.702 g) (u + 1) */
    void (*swiglu_oss)(float *out, const float *gate, const float *up, float limit, int64_t n);
    void (*softcap)(float *x, float cap, int64_t n);        /* cap tanh(x / cap) */
    /* Rotates n_rot of head_dim numbers of one head in place by cos, sin [n_rot/2];
     * neox: pairs (i, i + n_rot/2), else (2i, 2i+1). */
    void (*rope)(float *x, const float *cosine, const float *sine, int n_rot, bool neox);
    void (*exp)(float *out, const float *x, int64_t n);
    void (*tanh)(float *out, const float *x, int64_t n);
    void (*sigmoid)(float *out, const float *x, int64_t n);
    void (*erf)(float *out, const float *x, int64_t n);
    void (*log)(float *out, const float *x, int64_t n);
    void (*sincos)(float *sine, float *cosine, const float *x, int64_t n);  /* |x| < 1e6 */
    void (*exp_f64)(double *out, const double *x, int64_t n);
    /* First index of the largest number; NaN is never the largest. */
    int64_t (*argmax)(const float *x, int64_t n);
    /* Sum of exp((x - max) inverse) in units of 2^-40, each term cut to a whole number of them: the
     * sum is exact, so it may be taken in parts and in any order. max is the largest x. */
    int64_t (*exp_sum)(const float *x, float max, float inverse, int64_t n);
    const struct attention_row *attention;      /* attention.h */
    matmul_run *matmul;
};

/* The row for isa (rows missing a member inherit it from the next lower isa). */
const struct kernels *kernels_get(enum isa isa);
/* matmul of pairs of bfloat16 numbers (matmul.h): plain C where the processor multiplies none. */
matmul_run *kernels_matmul_pairs(enum isa isa);

#endif
