/* signalstack.h - handlers of signals run on a stack of their own.
 * Why:    oneDNN's generated products (2.x) keep data below the stack pointer while they run. A
 *         handler on the same stack overwrites it, and the product frees a wild pointer when it is
 *         done. The kernel hands a process's signals to its first thread, which computes.
 * How:    the main calls signalstack_use; every sigaction of a handler sets SA_ONSTACK.
 * Owner:  the stack is the process's, to its end.
 * Ranks:  not collective. */
#ifndef MUSTER_SIGNALSTACK_H
#define MUSTER_SIGNALSTACK_H

#include "proto/err.h"

/* Of the calling thread. */
int signalstack_use(struct err *err);

#endif
