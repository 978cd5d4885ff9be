/* picturefolder.h - the output of a batch: folder, lock, journal, names, index.
 * Why:    what is on disk and what the journal says must agree after any kill, so one place opens,
 *         repairs and closes them.
 * Folder: FOLDER/journal.sqlite, FOLDER/.muster.lock, pictures (in sub-folders of 1,000 when there are
 *         more), or shard-*.tar; FOLDER/index.jsonl at the end of each run.
 * Single: an output that ends in .png is one picture, without folder, lock or journal on disk.
 * Owner:  owns journal and lock.
 * Ranks:  the coordinator's thread only. */
#ifndef MUSTER_PICTUREFOLDER_H
#define MUSTER_PICTUREFOLDER_H

#include "coordinator/commands/picturejob.h"
#include "coordinator/image/folderlock.h"
#include "coordinator/journal/journal.h"

enum { PICTUREFOLDER_PATH = 4096, PICTUREFOLDER_NAME = 400 };

struct picturefolder {
    char path[PICTUREFOLDER_PATH];      /* absolute: ranks may stand elsewhere */
    char single[PICTUREFOLDER_NAME];    /* the one picture's file name; "" none */
    char *name;                         /* template of file names */
    int shard_pictures;                 /* 0: files */
    int run;                            /* how often the batch was begun, from 1 */
    struct folderlock lock;
    struct journal *journal;
};

/* A new batch: makes folder and journal with all jobs in it. ERR_INVAL when a batch is there. */
int picturefolder_create(struct picturefolder *f, const char *path, const char *name, int shard_pictures,
                         const char *model, const char *hash, const struct picturejobs *jobs,
                         struct err *err);
/* The batch that is there: waits for ranks of a killed run, takes away what they left half-written.
 * Appends its jobs; *model, *hash (malloc'd) are what it was begun with. */
int picturefolder_resume(struct picturefolder *f, const char *path, struct picturejobs *jobs, char **model,
                         char **hash, struct err *err);
int picturefolder_close(struct picturefolder *f, struct err *err);     /* accepts a zeroed one */

/* Where picture k of j goes, under the folder. out [PICTUREFOLDER_NAME]. */
void picturefolder_file(const struct picturefolder *f, const struct picturejobs *jobs,
                        const struct picturejob *j, int k, char *out);
/* ERR_INVAL when two pictures would have one name. */
int picturefolder_check_name(const char *name, int64_t n_tasks, struct err *err);

/* For each task that is made, whole on disk: made(ctx, task). What the journal does not know but is
 * there with the right record becomes known; what is gone is forgotten. */
int picturefolder_take_stock(struct picturefolder *f, const struct picturejobs *jobs, const char *model,
                             const char *hash, void (*made)(void *ctx, int64_t task), void *ctx,
                             struct err *err);

/* index.jsonl: a line for each picture that is made. */
int picturefolder_index(struct picturefolder *f, const struct picturejobs *jobs, const char *model,
                        const char *hash, struct err *err);

/* The bytes of a made picture, malloc'd. */
int picturefolder_bytes(const struct picturefolder *f, const struct journal_picture *p, uint8_t **bytes,
                        struct err *err);

#endif
