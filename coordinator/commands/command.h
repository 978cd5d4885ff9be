/* command.h - what a subcommand is: a row of the table in commands.c.
 * Why:    main parses nothing but the name; a new command is one file and one row.
 * Ranks:  `parse` runs on every rank with the same arguments, before anything is sent, so that a usage
 *         error ends all of them with exit code 2 and one line (from rank 0). `run` is the
 *         coordinator's, on its thread of rank 0. */
#ifndef MUSTER_COMMAND_H
#define MUSTER_COMMAND_H

#include "proto/comm.h"

#include <stdbool.h>

struct command {
    const char *name, *summary;
    size_t options_bytes;
    bool needs_workers;         /* false: runs on rank 0 alone (--help like, plan) */
    /* argp-parses argv[0..argc) (argv[0] = "muster NAME") into options. */
    int (*parse)(void *options, int argc, char **argv, struct err *err);
    /* Returns an ERR_* code; results to stdout, talk to stderr. */
    int (*run)(void *options, struct comm *comm, struct err *err);
};

const struct command *command_find(const char *name);
extern const struct command *const command_table[];     /* NULL-terminated */

#endif
