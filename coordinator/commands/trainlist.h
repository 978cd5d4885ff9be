/* trainlist.h - the rows that train.c puts into the table of `muster train`; each lives in its own file. */
#ifndef MUSTER_TRAINLIST_H
#define MUSTER_TRAINLIST_H

#include "coordinator/commands/command.h"

extern const struct command train_diffusion, train_llm, train_gan, train_tokenizer, train_data;

#endif
