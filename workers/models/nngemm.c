#include "workers/models/nngemm.h"

#include "proto/err.h"

#include <dnnl.h>
#include <omp.h>

void nn_gemm(bool ta, bool tb, int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t lda,
             const float *b, int64_t ldb, float beta, float *c, int64_t ldc)
{
    /* Inside a parallel region the library stays on the calling thread; elsewhere it is told to. */
    int threads = omp_in_parallel() ? 1 : omp_get_max_threads();
    if (threads > 1)
        omp_set_num_threads(1);
    dnnl_status_t rc = dnnl_sgemm(ta ? 'T' : 'N', tb ? 'T' : 'N', m, n, k, alpha, a, lda, b, ldb, beta, c,
                                  ldc);
    if (threads > 1)
        omp_set_num_threads(threads);
    ASSERT(rc == dnnl_success);
}
