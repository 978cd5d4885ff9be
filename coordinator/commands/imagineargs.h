/* imagineargs.h - the command line of imagine.
 * Owner:  strings point into argv; the default job owns copies: imagineargs_free.
 * Ranks:  parsed on every rank with the same arguments. */
#ifndef MUSTER_IMAGINEARGS_H
#define MUSTER_IMAGINEARGS_H

#include "coordinator/commands/modelargs.h"
#include "coordinator/commands/picturejob.h"

#include <argp.h>

enum { IMAGINE_SLOTS_MAX = 32, IMAGINE_TP_MAX = 8, IMAGINE_PP_MAX = 256 };

struct imagine_args {
    struct err *err;                /* while parsing; first, as command.h wants it */
    struct model_args model;        /* only model, threads, batch, tp, pp */
    struct picturejob job;          /* what the command line says of pictures */
    bool begun;                     /* job is initialised */
    const char *prompts, *out, *name, *like;
    bool resume, dry_run, guidance_parallel, grid;
    int columns;                    /* of the sheet, 0: about square */
    int shard_pictures;             /* 0: a file each */
    double time_limit_s;
};

extern const struct argp imagine_argp;
int imagineargs_check(void *options, struct err *err);
void imagineargs_free(void *options);

#endif
