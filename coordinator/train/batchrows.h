/* batchrows.h - the rows that batchsource.c puts into its table; each lives in a file of its own. */
#ifndef MUSTER_BATCHROWS_H
#define MUSTER_BATCHROWS_H

#include "coordinator/train/batchsource.h"

extern const struct batchsource_row batchsource_scenes, batchsource_tales, batchsource_text,
    batchsource_pictures;

/* A place in the built-in world, which counts in 32 bits: draw (*seed, *index) of number `number`. The
 * seeds are far apart for training, evaluation and wrong captions. */
enum { BATCHROWS_HELD_OUT = 0x5eed0001, BATCHROWS_WRONG = 0x5eed0002 };
static inline void batchrows_world(uint64_t *seed, uint32_t *index, uint64_t number)
{
    *seed += (number >> 32) * 0x9e3779b97f4a7c15u;
    *index = (uint32_t)number;
}

#endif
