/* planfile.h - a plan as JSON, to be read by people, kept and replayed.
 * Shape:  {"networks": [{"name", "replicas": [{"stages": [{"layers": [begin, end], "ranks": [..],
 *         "segment_end": [..]}]}]}]}; what it means is checked by plan_adopt.
 * Ranks:  not collective. */
#ifndef MUSTER_PLANFILE_H
#define MUSTER_PLANFILE_H

#include "muster.pb-c.h"
#include "proto/arena.h"
#include "proto/err.h"

int planfile_read(const char *path, Muster__Plan **plan, struct arena *mem, struct err *err);
/* The plan as text; malloc'd, the caller frees. NULL: no memory. */
char *planfile_text(const Muster__Plan *plan);

#endif
