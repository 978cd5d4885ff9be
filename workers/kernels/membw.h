/* membw.h - the two limits of a machine that products are held against: reading and multiplying.
 * Why:    a decode rate means something only next to the rate at which the same threads can read
 *         the same bytes; the planner wants both figures of every node.
 * Owner:  nothing is kept; sgemm's operands are the caller's.
 * Ranks:  not collective. Starts an OpenMP team of n_threads: not for inside a parallel region. */
#ifndef MUSTER_MEMBW_H
#define MUSTER_MEMBW_H

#include <stddef.h>

/* Seconds that n_threads need to read buf [bytes] once, each its own contiguous share. */
double membw_read_seconds(const void *buf, size_t bytes, int n_threads);
/* The best rate of `rounds` reads, in bytes per second. Buffers that fit a cache measure the
 * cache. */
double membw_read(const void *buf, size_t bytes, int n_threads, int rounds);

enum { MEMBW_SGEMM_DIM = 384 };
/* The same where others compute, too: the buffer in pieces of about MEMBW_PIECE bytes, one after the
 * other, `rounds` times over; the best piece counts, since one of a few milliseconds is disturbed less
 * often than a long run. For buffers far bigger than the caches. */
enum { MEMBW_PIECE = 32 << 20 };
double membw_read_best(const void *buf, size_t bytes, int n_threads, int rounds);

/* Best rate of cblas_sgemm in flop/s, single-threaded calls side by side on n_threads.
 * work: n_threads x 3 MEMBW_SGEMM_DIM^2 floats, contents do not matter but must be finite. */
double membw_sgemm(float *work, int n_threads, int rounds);

#endif
