/* logitsfile.h - two files of logits compared, row by row.
 * Why:    the divergence between two runs says what a number type costs better than any single text does.
 * Files:  .safetensors with a tensor "logits", F32 [rows, vocabulary], as `logits` writes them.
 * Ranks:  not collective. */
#ifndef MUSTER_LOGITSFILE_H
#define MUSTER_LOGITSFILE_H

#include "proto/err.h"

#include <stdint.h>

/* In nats; the errors are standard errors of the means over rows. */
struct logits_divergence {
    int64_t rows, vocab, max_row;
    double mean, error, max;            /* KL(base || other) */
    double same, same_error;            /* share of rows whose largest logit is the same one */
};

/* tell may be NULL. */
typedef void logits_tell(void *ctx, double share);
int logitsfile_compare(const char *base, const char *other, logits_tell *tell, void *ctx,
                       struct logits_divergence *out, struct err *err);

#endif
