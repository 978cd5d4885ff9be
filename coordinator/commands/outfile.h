/* outfile.h - a result file that appears whole or not at all.
 * Why:    a half-written result looks like a result. The file is written beside its place and renamed;
 *         devices, pipes and "-" (stdout) are written as they are.
 * Owner:  the caller writes to f, then commits; after outfile_open one of commit and abort is due.
 * Ranks:  not collective. */
#ifndef MUSTER_OUTFILE_H
#define MUSTER_OUTFILE_H

#include "proto/err.h"

#include <stdio.h>

enum { OUTFILE_PATH_MAX = 4096 };
struct outfile { FILE *f; char path[OUTFILE_PATH_MAX], part[OUTFILE_PATH_MAX]; };

int outfile_open(struct outfile *o, const char *path, struct err *err);
/* ERR_OUTPUT, with nothing left behind, when any write before failed or the disk is full now. */
int outfile_commit(struct outfile *o, struct err *err);
void outfile_abort(struct outfile *o);

#endif
