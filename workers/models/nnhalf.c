#include "workers/models/nnhalf.h"

#include "proto/err.h"
#include "workers/models/nnlibrary.h"
#include "workers/models/nnprepared.h"
#include "workers/models/nnrows.h"

#include <stdint.h>

NN_WIDE void nnhalf_round(uint16_t *restrict out, const float *restrict x, int64_t n)
{
    const uint32_t *restrict bits = (const uint32_t *)(const void *)x;
    for (int64_t i = 0; i < n; i++) {
        uint32_t u = bits[i], rounded = (u + 0x7fff + (u >> 16 & 1)) >> 16;
        out[i] = (uint16_t)((u & 0x7fffffff) > 0x7f800000 ? u >> 16 | 0x40 : rounded);
    }
}

/* --- what is prepared for a shape */

struct shape { int64_t m, n, k, lda, ldb, ldc; int32_t ta, tb, add, pad; };
struct prepared { struct shape shape; dnnl_primitive_t run; dnnl_memory_t a, b, c; };

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t matrix_desc;
static bool describe(matrix_desc *d, int64_t rows, int64_t cols, dnnl_data_type_t type, int64_t down,
                     int64_t across)
{
    const dnnl_dims_t size = {rows, cols}, stride = {down, across};
    return dnnl_memory_desc_create_with_strides(d, 2, size, type, stride) == dnnl_success;
}
static bool keep(dnnl_memory_t *m, matrix_desc *d)
{
    return dnnl_memory_create(m, *d, nnlibrary_engine(), DNNL_MEMORY_NONE) == dnnl_success;
}
static bool prepare_matmul(dnnl_primitive_desc_t *p, matrix_desc *a, matrix_desc *b, matrix_desc *c,
                           dnnl_primitive_attr_t attr)
{
    return dnnl_matmul_primitive_desc_create(p, nnlibrary_engine(), *a, *b, NULL, *c, attr) == dnnl_success;
}
static void forget(matrix_desc *d) { dnnl_memory_desc_destroy(*d); }
#else
typedef dnnl_memory_desc_t matrix_desc;
static bool describe(matrix_desc *d, int64_t rows, int64_t cols, dnnl_data_type_t type, int64_t down,
                     int64_t across)
{
    const dnnl_dims_t size = {rows, cols}, stride = {down, across};
    return dnnl_memory_desc_init_by_strides(d, 2, size, type, stride) == dnnl_success;
}
static bool keep(dnnl_memory_t *m, matrix_desc *d)
{
    return dnnl_memory_create(m, d, nnlibrary_engine(), DNNL_MEMORY_NONE) == dnnl_success;
}
static bool prepare_matmul(dnnl_primitive_desc_t *p, matrix_desc *a, matrix_desc *b, matrix_desc *c,
                           dnnl_primitive_attr_t attr)
{
    dnnl_matmul_desc_t d;
    return dnnl_matmul_desc_init(&d, a, b, NULL, c) == dnnl_success &&
           dnnl_primitive_desc_create(p, &d, attr, nnlibrary_engine(), NULL) == dnnl_success;
}
static void forget(matrix_desc *d) { (void)d; }
#endif

static void prepare(void *entry)
{
    struct prepared *p = entry;
    const struct shape *s = &p->shape;
    matrix_desc a, b, c;
    dnnl_primitive_attr_t attr;
    dnnl_primitive_desc_t desc;
    bool done = describe(&a, s->m, s->k, dnnl_bf16, s->ta ? 1 : s->lda, s->ta ? s->lda : 1) &&
                describe(&b, s->k, s->n, dnnl_bf16, s->tb ? 1 : s->ldb, s->tb ? s->ldb : 1) &&
                describe(&c, s->m, s->n, dnnl_f32, s->ldc, 1) &&
                dnnl_primitive_attr_create(&attr) == dnnl_success &&
                (!s->add || nnlibrary_add_to_result(attr)) &&
                prepare_matmul(&desc, &a, &b, &c, attr) &&
                dnnl_primitive_create(&p->run, desc) == dnnl_success && keep(&p->a, &a) && keep(&p->b, &b) &&
                keep(&p->c, &c);
    ASSERT(done);
    dnnl_primitive_desc_destroy(desc);
    dnnl_primitive_attr_destroy(attr);
    forget(&a);
    forget(&b);
    forget(&c);
}

static void unprepare(void *entry)
{
    struct prepared *p = entry;
    dnnl_primitive_destroy(p->run);
    dnnl_memory_destroy(p->a);
    dnnl_memory_destroy(p->b);
    dnnl_memory_destroy(p->c);
}

void nnhalf_gemm(bool ta, bool tb, int64_t m, int64_t n, int64_t k, const uint16_t *a, int64_t lda,
                 const uint16_t *b, int64_t ldb, bool add, float *c, int64_t ldc)
{
    static const struct nnprepared_kind kind = {sizeof(struct shape), sizeof(struct prepared), prepare,
                                                unprepare};
    static _Thread_local struct nnprepared *mine;
    const struct shape s = {m, n, k, lda, ldb, ldc, ta, tb, add, 0};
    struct prepared *p = nnprepared_find(&mine, &kind, &s);
    int threads = nnlibrary_begin();
    dnnl_memory_set_data_handle(p->a, (void *)(uintptr_t)a);
    dnnl_memory_set_data_handle(p->b, (void *)(uintptr_t)b);
    dnnl_memory_set_data_handle(p->c, c);
    const dnnl_exec_arg_t args[3] = {{DNNL_ARG_SRC, p->a}, {DNNL_ARG_WEIGHTS, p->b}, {DNNL_ARG_DST, p->c}};
    ASSERT(dnnl_primitive_execute(p->run, nnlibrary_stream(), 3, args) == dnnl_success);
    ASSERT(dnnl_stream_wait(nnlibrary_stream()) == dnnl_success);
    nnlibrary_end(threads);
}
