/* promptfile.h - many prompts in, many continuations out, one JSON object a line.
 * In:     {"id", "prompt" or "prompt_ids", and what samplingargs.h knows}; id defaults to the line's
 *         number. Out, in the same order: {"id", "text", "ids", "finish_reason"}.
 * Owner:  a promptfile owns its jobs.
 * Ranks:  the coordinator's thread only. */
#ifndef MUSTER_PROMPTFILE_H
#define MUSTER_PROMPTFILE_H

#include "coordinator/commands/textjob.h"

struct promptfile { struct textjob *job; int *line; int n; };   /* line: numbers, from 1 */

/* "-" is stdin. Lines take what they do not say from `defaults`. */
int promptfile_read(struct promptfile *p, const char *path, const struct sampling_args *defaults,
                    struct err *err);
/* "-" is stdout; a file appears whole or not at all. ERR_OUTPUT. */
int promptfile_write(const struct promptfile *p, const char *path, struct err *err);
void promptfile_free(struct promptfile *p);

#endif
