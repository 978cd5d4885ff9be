/* shapes.h - published models as numbers, so that `plan` needs no file of theirs.
 * Source: the config.json that each model is published with.
 * Owner:  a specification lives in the caller's arena.
 * Ranks:  not collective. */
#ifndef MUSTER_SHAPES_H
#define MUSTER_SHAPES_H

#include "muster.pb-c.h"
#include "proto/arena.h"
#include "proto/err.h"

#include <stdbool.h>

bool shapes_known(const char *name);
/* The names, with blanks between; for messages. */
void shapes_names(char *out, size_t cap);

/* type: of the matrices ("q4_k"); NULL: as published. ERR_INVAL for names that are not known. */
int shapes_spec(const char *name, const char *type, struct arena *mem, Muster__ModelSpec **spec,
                struct err *err);

/* The model with all its matrices (those not already smaller) as `type`: a copy of what `plan` counts. */
int shapes_retype(const Muster__ModelSpec *spec, const char *type, struct arena *mem,
                  Muster__ModelSpec **out, struct err *err);

#endif
