/* imagebatch.h - a batch of pictures of one model, from jobs to files on disk: what `imagine` and
 * `compare` have in common. Why:    a job says little ("a red boat"); what the model, its folder
 * and the first pictures say is filled in at one place, so that a record made by one command is
 * made again by another. Order:  imagebatch_describe; jobs into b->jobs; imagebatch_settle; open
 * b->folder; imagebatch_load; imagebatch_make; picturefolder_close; imagebatch_free. Owner:  owns
 * text, jobs and run; borrows the cluster; the folder is closed by the caller, who hears what goes
 * wrong there. Ranks:  the coordinator's thread only. */
#ifndef MUSTER_IMAGEBATCH_H
#define MUSTER_IMAGEBATCH_H

#include "coordinator/commands/imagerun.h"
#include "coordinator/commands/picturetext.h"

struct imagebatch {
    struct imagecluster images;
    struct picturetext text;
    struct picturejobs jobs;
    struct picturefolder folder;
    struct imagerun run;
};

/* Opens the model on all workers. Accepts a zeroed batch; the cluster may hold other models. */
int imagebatch_describe(struct imagebatch *b, struct cluster *c, const char *path, struct err *err);
/* Defaults and checks: after this each job says all that a task needs. file: of prompts, for errors
 * that name a line; NULL. */
int imagebatch_settle(struct imagebatch *b, const char *file, struct err *err);

/* 0: chosen. slots: pictures at a time of a replica. */
struct imagebatch_load {
    int threads, slots, tp, pp;
    bool guidance_parallel;
};
int imagebatch_load(struct imagebatch *b, const struct imagebatch_load *how, struct err *err);
/* Makes what is missing, and the index. ERR_CANCELLED as imagerun_make. */
int imagebatch_make(struct imagebatch *b, struct err *err);
void imagebatch_free(struct imagebatch *b); /* accepts a zeroed one */

#endif
