#include "workers/models/nngemm.h"

#include "proto/err.h"
#include "workers/models/nnlibrary.h"

void nn_gemm(bool ta, bool tb, int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t lda,
             const float *b, int64_t ldb, float beta, float *c, int64_t ldc)
{
    int threads = nnlibrary_begin();
    dnnl_status_t rc = dnnl_sgemm(ta ? 'T' : 'N', tb ? 'T' : 'N', m, n, k, alpha, a, lda, b, ldb, beta, c,
                                  ldc);
    nnlibrary_end(threads);
    ASSERT(rc == dnnl_success);
}
