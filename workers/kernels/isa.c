/* Which rows of the kernel tables this processor and system can run. */
#include "workers/kernels/kernels.h"

#include "proto/err.h"

#include <cpuid.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { REQUEST_XSTATE_PERMISSION = 0x1023, XSTATE_TILE_DATA = 18 };

static const char *const names[ISA_COUNT] = {"scalar", "avx2", "avx512", "amx"};

/* The system saves tile registers: bits 17 (configuration) and 18 (data) of XCR0. */
static bool system_saves_tiles(void)
{
    uint32_t eax, ebx, ecx, edx, lo, hi;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & bit_OSXSAVE))
        return false;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (lo & (3u << 17)) == 3u << 17;
}

static bool processor_has_tiles(void)
{
    uint32_t eax, ebx, ecx, edx;
    const uint32_t amx_bf16 = 1u << 22, amx_tile = 1u << 24, amx_int8 = 1u << 25;
    const uint32_t all = amx_bf16 | amx_tile | amx_int8;
    return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (edx & all) == all;
}

/* Linux hands out the 8 KB of tile state per thread only to processes that ask. */
static bool kernel_grants_tiles(void)
{
    return syscall(SYS_arch_prctl, REQUEST_XSTATE_PERMISSION, XSTATE_TILE_DATA) == 0;
}

static bool has_avx512(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni");
}

static bool has_avx2(void)
{
    uint32_t eax, ebx, ecx, edx;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
}

enum isa isa_detect(void)
{
    if (!has_avx2())
        return ISA_SCALAR;
    if (!has_avx512())
        return ISA_AVX2;
    if (!isa_has_bf16() || !processor_has_tiles() || !system_saves_tiles() ||
        !kernel_grants_tiles())
        return ISA_AVX512;
    return ISA_AMX;
}

bool isa_has_bf16(void)
{
    return has_avx512() && __builtin_cpu_supports("avx512bf16");
}

bool isa_has_fast_bf16(void) { return isa_has_bf16() && __builtin_cpu_is("amd"); }

int isa_want_bf16(struct err *err)
{
    if (isa_has_bf16())
        return ERR_OK;
    return err_set(err, ERR_INVAL, "--compute bf16: this processor multiplies no bfloat16 numbers");
}

const char *isa_name(enum isa isa)
{
    return isa >= 0 && isa < ISA_COUNT ? names[isa] : "unknown";
}

int isa_named(const char *name)
{
    for (int i = 0; i < ISA_COUNT; i++)
        if (!strcasecmp(name, names[i]))
            return i;
    return -1;
}

int isa_choose(enum isa *isa, struct err *err)
{
    enum isa best = isa_detect();
    const char *wish = getenv("MUSTER_ISA");
    *isa = best;
    if (!wish || !*wish)
        return ERR_OK;
    int chosen = isa_named(wish);
    if (chosen < 0)
        return err_set(err, ERR_INVAL, "MUSTER_ISA=%.40s: choose scalar, avx2, avx512 or amx",
                       wish);
    if (chosen > (int)best)
        return err_set(err, ERR_INVAL, "MUSTER_ISA=%s: this processor runs %s at best",
                       names[chosen], names[best]);
    *isa = (enum isa)chosen;
    return ERR_OK;
}
