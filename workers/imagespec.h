/* imagespec.h - what the coordinator hears of an image model: its facts, its samplers, its tokenizers' bytes.
 * Why:    the coordinator knows a model by this message alone.
 * Ranks:  not collective; asked of rank 0. */
#ifndef MUSTER_IMAGESPEC_H
#define MUSTER_IMAGESPEC_H

#include "muster.pb-c.h"
#include "proto/arena.h"
#include "workers/imagepipe.h"

/* path: the model's folder or file. *out lies in mem and borrows from the pipe. */
int imagespec_make(const struct imagepipe *pipe, const char *path, struct arena *mem, Muster__ImageSpec **out,
                   struct err *err);

#endif
