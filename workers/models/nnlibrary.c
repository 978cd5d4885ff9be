#include "workers/models/nnlibrary.h"

#include "proto/err.h"

#include <omp.h>
#include <pthread.h>
#include <stdlib.h>

struct thread_stream { struct thread_stream *next; dnnl_stream_t stream; };

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static dnnl_engine_t engine;            /* of the process */
static struct thread_stream *streams;   /* of all threads, so that they can be found */
static _Thread_local struct thread_stream *mine;

static void make_engine(void) { ASSERT(dnnl_engine_create(&engine, dnnl_cpu, 0) == dnnl_success); }

dnnl_engine_t nnlibrary_engine(void)
{
    pthread_once(&once, make_engine);
    return engine;
}

dnnl_stream_t nnlibrary_stream(void)
{
    if (mine != NULL)
        return mine->stream;
    struct thread_stream *s = calloc(1, sizeof *s);
    ASSERT(s != NULL);
    ASSERT(dnnl_stream_create(&s->stream, nnlibrary_engine(), dnnl_stream_default_flags) == dnnl_success);
    pthread_mutex_lock(&lock);
    s->next = streams;
    streams = s;
    pthread_mutex_unlock(&lock);
    mine = s;
    return s->stream;
}

/* The number is the calling thread's own, in a parallel region too: there it would not be obeyed, but the
 * library would prepare work for so many. */
int nnlibrary_begin(void)
{
    int threads = omp_get_max_threads();
    if (threads > 1)
        omp_set_num_threads(1);
    return threads;
}

void nnlibrary_end(int threads)
{
    if (threads > 1)
        omp_set_num_threads(threads);
}

static bool append_sum(dnnl_post_ops_t ops)
{
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_post_ops_append_sum(ops, 1, 0, dnnl_data_type_undef) == dnnl_success;
#else
    return dnnl_post_ops_append_sum(ops, 1) == dnnl_success;
#endif
}

bool nnlibrary_add_to_result(dnnl_primitive_attr_t attr)
{
    dnnl_post_ops_t ops;
    if (dnnl_post_ops_create(&ops) != dnnl_success)
        return false;
    bool done = append_sum(ops) && dnnl_primitive_attr_set_post_ops(attr, ops) == dnnl_success;
    dnnl_post_ops_destroy(ops);
    return done;
}
