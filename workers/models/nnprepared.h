/* nnprepared.h - what a library has prepared for a shape of call, kept by the thread that runs it.
 * Why:    to prepare a call takes a hundred times as long as the call; a network asks for the same few dozen
 *         shapes in every step, and no thread may wait for another one's table.
 * How:    open addresses, found by the shape's bytes; begun anew when too many shapes have passed.
 * Owner:  a thread's table is the process's, to its end.
 * Ranks:  not collective. */
#ifndef MUSTER_NNPREPARED_H
#define MUSTER_NNPREPARED_H

#include <stddef.h>

enum { NNPREPARED_MAX = 768 };  /* shapes that a thread keeps of a kind */

struct nnprepared;              /* a thread's table of one kind */

/* An entry begins with its shape: whole 8-byte words without a gap. */
struct nnprepared_kind {
    size_t shape_bytes, entry_bytes;
    void (*prepare)(void *entry);       /* the shape is there, the rest is zero */
    void (*forget)(void *entry);        /* gives back what prepare made */
};

/* The entry of a shape in the calling thread's table *mine (a thread-local variable of the kind's, NULL at
 * first), prepared; valid until the next call. */
void *nnprepared_find(struct nnprepared **mine, const struct nnprepared_kind *kind, const void *shape);

#endif
