/* command.h - what a subcommand is: a row of the table in commands.c.
 * Why:    main parses nothing but the name; a new command is one file and one row.
 * Ranks:  parsing runs on every rank with the same arguments, before anything is sent, so that a usage
 *         error ends all of them with exit code 2 and one line (from rank 0). `run` is the
 *         coordinator's, on its thread of rank 0.
 * Options: a struct of options_bytes, zeroed; its first member is `struct err *err`, set while parsing
 *         so that parsers can say what is wrong (cli.h). It is the input of the command's argp. */
#ifndef MUSTER_COMMAND_H
#define MUSTER_COMMAND_H

#include "proto/comm.h"

#include <argp.h>
#include <stdbool.h>

struct command {
    const char *name, *summary;
    /* Commands of its own, NULL-terminated, named "train data" and so on; then nothing else here is set.
     * NULL for all others. */
    const struct command *const *sub;
    size_t options_bytes;
    bool needs_workers;         /* false: runs on rank 0 alone, comm is NULL */
    const struct argp *argp;
    /* After parsing: checks and defaults that need all options. May be NULL. */
    int (*check)(void *options, struct err *err);
    /* Returns an ERR_* code; results to stdout, talk to stderr. */
    int (*run)(void *options, struct comm *comm, struct err *err);
    /* Frees what parsing allocated. May be NULL. */
    void (*free)(void *options);
};

const struct command *command_find(const char *name);
/* By the word after the command's own name; NULL: there is none. */
const struct command *command_sub(const struct command *c, const char *word);
extern const struct command *const command_table[];     /* NULL-terminated */

/* Parses argv[1..argc) of `muster NAME ...` (argv[0] is the name) into zeroed options. */
int command_parse(const struct command *c, void *options, int argc, char **argv, struct err *err);
/* Is --help, -? or --usage among the arguments (before a "--")? */
bool command_wants_help(int argc, char **argv);
/* The command's --help, and the program's, to stdout. */
void command_help(const struct command *c);
void command_list(void);

#endif
