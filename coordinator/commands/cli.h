/* cli.h - option values from text, with errors that name the option.
 * Why:    argp prints and exits by itself; under mpirun only rank 0 may print, and every rank must end
 *         with the same code.
 * Ranks:  not collective. */
#ifndef MUSTER_CLI_H
#define MUSTER_CLI_H

#include "proto/err.h"

#include <argp.h>
#include <stddef.h>
#include <stdint.h>

/* Runs argp silently with `options` as its input (first member: struct err *). Whatever goes wrong is
 * ERR_INVAL and one line in err. name: the command, for messages. */
int cli_parse(const struct argp *argp, const char *name, int argc, char **argv, void *options,
              struct err *err);

/* In a parser: `return cli_int(o->err, "--tp", arg, 1, 64, &o->tp);`. 0, or an errno for argp. */
error_t cli_int(struct err *err, const char *option, const char *text, int low, int high, int *out);
error_t cli_u64(struct err *err, const char *option, const char *text, uint64_t *out);
error_t cli_float(struct err *err, const char *option, const char *text, float low, float high,
                  float *out);
/* A size: digits with K, M, G or T (powers of 1024) behind. */
error_t cli_bytes(struct err *err, const char *option, const char *text, uint64_t *out);
/* One of a NULL-terminated list of words; *out is its index. */
error_t cli_choice(struct err *err, const char *option, const char *text, const char *const *words,
                   int *out);
/* "5,9,2" (or a JSON array) to ids; *ids malloc'd. */
error_t cli_ids(struct err *err, const char *option, const char *text, int32_t **ids, int *n);

/* A whole file or stdin ("-"), malloc'd and NUL-terminated; at most `most` bytes. */
int cli_read(const char *path, size_t most, char **text, size_t *n, struct err *err);

/* stdout got everything? ERR_OUTPUT with errno's reason. */
int cli_flush(struct err *err);

#endif
