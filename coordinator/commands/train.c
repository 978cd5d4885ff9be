/* train.c - `muster train ...`: the table of what can be trained, and of what makes data for it. */
#include "coordinator/commands/commandlist.h"
#include "coordinator/commands/trainlist.h"

#include <stddef.h>

static const struct command *const train_commands[] = {
    &train_diffusion, &train_gan, &train_llm, &train_tokenizer, &train_data, NULL,
};

const struct command command_train = {
    .name = "train", .summary = "Trains a model, or makes data for that", .sub = train_commands};
