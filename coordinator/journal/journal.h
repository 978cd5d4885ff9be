/* journal.h - the durable record of a batch of pictures: what was asked, what is made.
 * Why:    a job of hours is killed sooner or later; what its journal says is true, so the next run makes
 *         exactly the rest.
 * How:    SQLite with a rollback journal (write-ahead logs need shared memory, which network file
 *         systems lack) and synchronous commits. Marks are committed in groups: a fifth of a second's
 *         worth shares one sync. A picture's file is durable before it is marked, never the other way.
 * Owner:  the journal owns its connection; text handed out is the caller's to free.
 * Errors: ERR_FORMAT for a damaged journal, ERR_OUTPUT when it cannot be written (disk full).
 * Ranks:  the coordinator's thread only. */
#ifndef MUSTER_JOURNAL_H
#define MUSTER_JOURNAL_H

#include "proto/err.h"

#include <stdint.h>

struct journal;

/* A new one, ERR_INVAL when the file is there; or one that is there, checked whole. path NULL: a new
 * one in memory. */
int journal_create(struct journal **j, const char *path, struct err *err);
int journal_open(struct journal **j, const char *path, struct err *err);
/* Commits what waits, closes. Accepts NULL. */
int journal_close(struct journal *j, struct err *err);

/* What is asked, in order; committed by journal_commit. */
int journal_set(struct journal *j, const char *key, const char *value, struct err *err);
int journal_get(struct journal *j, const char *key, char **value, struct err *err);  /* NULL: not there */
int journal_add_request(struct journal *j, const char *json, struct err *err);
int journal_requests(struct journal *j, int (*each)(void *ctx, const char *json, struct err *err),
                     void *ctx,
                     struct err *err);

struct journal_picture {
    int64_t task;
    const char *file;
    uint64_t offset, bytes;
    uint8_t sha256[32];
};
/* The picture is durable. Commits when the last commit is long ago or many wait. A task marked twice
 * keeps its last mark. */
int journal_mark(struct journal *j, const struct journal_picture *p, int64_t now_us, struct err *err);
int journal_commit(struct journal *j, struct err *err);
/* In order of task. */
int journal_pictures(struct journal *j,
                     int (*each)(void *ctx, const struct journal_picture *p, struct err *err), void *ctx,
                     struct err *err);

#endif
