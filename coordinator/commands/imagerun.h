/* imagerun.h - a batch of pictures run on a cluster: chunks out, reports in, the journal kept, until all
 * is made or somebody asks for an end.
 * Owner:  borrows cluster, jobs and folder.
 * Ranks:  the coordinator's thread only. */
#ifndef MUSTER_IMAGERUN_H
#define MUSTER_IMAGERUN_H

#include "coordinator/cluster/imagecluster.h"
#include "coordinator/commands/picturefolder.h"
#include "coordinator/image/pngfile.h"
#include "coordinator/schedule/imagequeue.h"

/* A first picture or a mask, kept while tasks follow each other that want it. */
struct imagerun_picture { char *path; struct picture picture; uint8_t *grey; };

struct imagerun {
    struct imagecluster *images;
    const struct picturejobs *jobs;
    struct picturefolder *folder;
    const char *model, *hash;
    double time_limit_s;            /* 0: none; from begun_us on */
    bool tty;
    bool enlarges;                  /* super-resolution: a first picture is half as wide and high */
    /* the run's own: */
    struct imagequeue queue;
    struct arena mem;               /* of a chunk on its way */
    struct imagerun_picture init, mask;
    int64_t begun_us, said_us;
    double busy_us;                 /* that replicas computed, all together */
    bool stopping;
    struct err failed;              /* the first picture that went wrong */
};

/* Makes what is missing. ERR_CANCELLED: ended early, what was in flight is finished and journalled. */
int imagerun_make(struct imagerun *r, struct err *err);
void imagerun_free(struct imagerun *r);     /* accepts a zeroed run */

/* First picture and mask of a job into r->init, r->mask; checks that sizes agree. */
int imagerun_load(struct imagerun *r, const struct picturejob *j, struct err *err);
/* Seconds that a step of a picture of this job takes, tried out on the first replica. */
int imagerun_try(struct imagerun *r, const struct picturejob *j, double *step_s, struct err *err);

#endif
