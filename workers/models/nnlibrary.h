/* nnlibrary.h - oneDNN as the operations of nn.h use it: one engine, a stream for each thread.
 * Why:    what is prepared for a shape is kept by the thread that runs it, so that no two ever wait for
 *         each other; and a call stays on its thread, so that bits do not depend on how many there are.
 * Owner:  engine and streams are the process's, to its end.
 * Ranks:  not collective. */
#ifndef MUSTER_NNLIBRARY_H
#define MUSTER_NNLIBRARY_H

#include <dnnl.h>
#include <stdbool.h>

dnnl_engine_t nnlibrary_engine(void);
/* The calling thread's. */
dnnl_stream_t nnlibrary_stream(void);

/* Between these two calls the library works on the calling thread only; _end takes what _begin gave. */
int nnlibrary_begin(void);
void nnlibrary_end(int threads);

/* A call with these attributes adds to what is in its result; false: the library refused. */
bool nnlibrary_add_to_result(dnnl_primitive_attr_t attr);

#endif
