#include "workers/kernels/membw.h"

#include <cblas.h>
#include <immintrin.h>
#include <omp.h>
#include <stdint.h>
#include <time.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* SSE2 loads keep up with any memory; the prefetch is what the products do, too. */
static uint64_t read_lines(const uint8_t *p, size_t bytes)
{
    __m128i a = _mm_setzero_si128(), b = a, c = a, d = a;
    for (size_t i = 0; i + 64 <= bytes; i += 64) {
        _mm_prefetch((const char *)p + i + 4096, _MM_HINT_T0);
        a = _mm_xor_si128(a, _mm_load_si128((const __m128i *)(p + i)));
        b = _mm_xor_si128(b, _mm_load_si128((const __m128i *)(p + i + 16)));
        c = _mm_xor_si128(c, _mm_load_si128((const __m128i *)(p + i + 32)));
        d = _mm_xor_si128(d, _mm_load_si128((const __m128i *)(p + i + 48)));
    }
    a = _mm_xor_si128(_mm_xor_si128(a, b), _mm_xor_si128(c, d));
    return (uint64_t)_mm_cvtsi128_si64(a);
}

double membw_read_seconds(const void *buf, size_t bytes, int n_threads)
{
    static volatile uint64_t sink __attribute__((unused));     /* keeps the reads alive */
    uintptr_t start = ((uintptr_t)buf + 63) & ~(uintptr_t)63;
    size_t lines = ((uintptr_t)buf + bytes - start) / 64;
    uint64_t sum = 0;
    double t0 = now();
#pragma omp parallel num_threads(n_threads) reduction(^ : sum)
    {
        size_t n = (size_t)omp_get_num_threads(), i = (size_t)omp_get_thread_num();
        size_t begin = lines * i / n, end = lines * (i + 1) / n;
        sum ^= read_lines((const uint8_t *)start + begin * 64, (end - begin) * 64);
    }
    sink = sum;
    return now() - t0;
}

double membw_read(const void *buf, size_t bytes, int n_threads, int rounds)
{
    double best = 0;
    for (int i = 0; i < rounds; i++) {
        double rate = (double)bytes / membw_read_seconds(buf, bytes, n_threads);
        best = rate > best ? rate : best;
    }
    return best;
}

double membw_read_best(const void *buf, size_t bytes, int n_threads, int rounds)
{
    size_t n = bytes / MEMBW_PIECE > 0 ? bytes / MEMBW_PIECE : 1, piece = bytes / n / 4096 * 4096;
    double best = 0;
    for (size_t i = 0; i < n * (size_t)rounds && piece > 0; i++) {
        double rate = (double)piece /
                      membw_read_seconds((const uint8_t *)buf + i % n * piece, piece, n_threads);
        best = rate > best ? rate : best;
    }
    return best;
}

double membw_sgemm(float *work, int n_threads, int rounds)
{
    const int d = MEMBW_SGEMM_DIM, d2 = d * d;
    double best = 0;
    for (int i = 0; i < rounds; i++) {
        double t0 = now();
#pragma omp parallel num_threads(n_threads)
        {
            /* inside a parallel region OpenBLAS computes on the calling thread alone */
            float *a = work + (size_t)omp_get_thread_num() * 3 * (size_t)d2;
            cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, d, d, d, 1, a, d, a + d2, d, 0,
                        a + 2 * d2, d);
        }
        double rate = 2.0 * d * d2 * n_threads / (now() - t0);
        best = rate > best ? rate : best;
    }
    return best;
}
