/* imagecases.h - calls of a network, as a file of named tensors holds them.
 * Why:    published references keep inputs and outputs of many calls in one file; a probe finds the calls
 *         there by name, and names what it writes alike.
 * Names:  a call's tensors share a stem: "mmdit.t500." of mmdit.t500.in, mmdit.t500.context, ..; a file
 *         with one call may leave it out ("in", "context"). What a call has no tensor of its own for is
 *         taken from the one for all (imagefamily.h), as many rows of it as the call has; its time from
 *         a stem that ends in t and a number.
 * Ranks:  not collective. */
#ifndef MUSTER_IMAGECASES_H
#define MUSTER_IMAGECASES_H

#include "workers/models/imagefamily.h"
#include "workers/weights/tensorfile.h"

enum { IMAGECASES_MAX = 256 };

struct imagecase {
    char stem[IMAGE_NAME];              /* "", or with its dot */
    const struct imageinput *first;     /* the input that marks it */
};

/* The calls of p that t holds, in order of the file; at most IMAGECASES_MAX are looked at. */
int imagecases_list(const struct imagepart *p, const struct tensorfile *t, struct imagecase *out);

/* Reads a call's inputs as f32; those that are not there stay out, and the network says what it misses.
 * The tensors own their numbers: imagecases_free. */
int imagecases_read(const struct imagepart *p, struct tensorfile *t, const struct imagecase *c,
                    struct imagetensors *in, struct err *err);
void imagecases_free(struct imagetensors *in);

#endif
