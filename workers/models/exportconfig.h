/* exportconfig.h - a description's numbers as GGUF keys.
 * Ranks:  not collective. */
#ifndef MUSTER_EXPORTCONFIG_H
#define MUSTER_EXPORTCONFIG_H

#include "workers/models/modelconfig.h"
#include "workers/weights/ggufwriter.h"

/* general.architecture, general.name and the keys of the architecture. ERR_FORMAT when the network
 * is one that GGUF cannot say. */
int exportconfig_write(struct ggufwriter *w, const struct model_config *c, struct err *err);

#endif
