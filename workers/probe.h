/* probe.h - a network run once: inputs from a .safetensors file, outputs into another.
 * Why:    any part of a model can be compared with another implementation, without prompts, schedules or
 *         pictures in between.
 * Ranks:  the first tp x pp take part: a denoiser that ranks can share is run by all of them (the same bytes
 *         as by one), other networks by the first. Only that one reads `in` and writes `out`. */
#ifndef MUSTER_PROBE_H
#define MUSTER_PROBE_H

#include "proto/comm.h"

#include <stdbool.h>
#include <stdint.h>

struct probe_request {
    /* part "": every network that the file has calls of; of those whose calls are named alike (two text
     * encoders) the first, and where names tell nothing (a folder of GANs) there must be but one. */
    const char *model, *part;
    const char *in, *out;
    const char *isa, *refused;  /* as in Load */
    bool blas_tiles;
    int threads;
    struct comm *comm;
    int tp, pp;
};
/* What was done. */
struct probe_part {
    char name[64];
    const char *kind;
    int calls, left_out, outputs, ranks;
    uint64_t parameters;
    double seconds;
};
enum { PROBE_PARTS_MAX = 16 };
struct probe_report { struct probe_part part[PROBE_PARTS_MAX]; int n; };

/* A call that misses an input is left out, unless it is the only one: then, and when an input has another
 * shape than the network takes, nothing is written. Collective on the ranks that take part; `done` is filled
 * on the first. */
int probe_run(const struct probe_request *q, struct probe_report *done, struct err *err);

#endif
