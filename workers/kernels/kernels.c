#include "workers/kernels/kernels.h"

#include "workers/kernels/elementwise.h"

const struct kernels *kernels_get(enum isa isa)
{
    static const struct kernels *const rows[ISA_COUNT] = {
        [ISA_SCALAR] = &elementwise_scalar,
        [ISA_AVX2] = &elementwise_avx2,
        [ISA_AVX512] = &elementwise_avx512,
        [ISA_AMX] = &elementwise_amx,
    };
    return (unsigned)isa < ISA_COUNT ? rows[isa] : rows[ISA_SCALAR];
}

matmul_run *kernels_matmul_pairs(enum isa isa)
{
    return isa >= ISA_AVX512 && isa_has_bf16() ? matmul_pairs_avx512bf16 : matmul_pairs_scalar;
}
