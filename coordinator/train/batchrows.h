/* batchrows.h - the rows that batchsource.c puts into its table; each lives in a file of its own. */
#ifndef MUSTER_BATCHROWS_H
#define MUSTER_BATCHROWS_H

#include "coordinator/train/batchsource.h"

extern const struct batchsource_row batchsource_scenes, batchsource_text;

#endif
