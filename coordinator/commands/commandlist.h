/* commandlist.h - the rows that commands.c puts into its table; each lives in the file of its name. */
#ifndef MUSTER_COMMANDLIST_H
#define MUSTER_COMMANDLIST_H

#include "coordinator/commands/command.h"

extern const struct command command_generate, command_tokenize, command_logits, command_inspect,
    command_bench, command_quantize, command_doctor, command_chat, command_plan,
    command_train, command_perplexity, command_kl, command_imagine,
    command_upscale, command_compare, command_probe, command_score;

#endif
