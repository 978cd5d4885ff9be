/* trainlog.h - what a run tells: a line on a terminal, metrics.csv, an event file.
 * Files:  DIR/metrics.csv has a row for each step shown: step, seconds, samples_per_s and the task's
 *         metrics as `name=value` columns of its first row; a resumed run goes on after the step that it
 *         resumed at, and rows behind that are dropped.
 * Owner:  the log owns its streams.
 * Ranks:  the coordinator only. */
#ifndef MUSTER_TRAINLOG_H
#define MUSTER_TRAINLOG_H

#include "coordinator/train/eventfile.h"
#include "muster.pb-c.h"

#include <stdbool.h>

enum { TRAINLOG_COLUMNS_MAX = 24, TRAINLOG_NAME_MAX = 32 };

struct trainlog {
    bool tty;
    FILE *csv; char *csv_path;
    struct eventfile events;
    char column[TRAINLOG_COLUMNS_MAX][TRAINLOG_NAME_MAX]; int n_columns;
    int64_t steps, batch, every;        /* of the run; every: steps between rows */
    int64_t first_step;                 /* done when this process began */
    double begun, shown, row_begun;     /* seconds */
    int64_t row_step;
    double last_loss, samples_per_s;
};

/* `done` steps were done before. */
int trainlog_open(struct trainlog *l, const char *dir, int64_t steps, int64_t done, int64_t batch,
                  int64_t every, struct err *err);
void trainlog_close(struct trainlog *l);        /* accepts a zeroed one */

/* After each step; writes a row when one is due. */
int trainlog_step(struct trainlog *l, const Muster__TrainProgress *p, struct err *err);
/* Averages of an evaluation, under names that begin with "eval_". */
int trainlog_evaluation(struct trainlog *l, int64_t step, const char *name, double value, struct err *err);
void trainlog_wipe(struct trainlog *l);         /* the line on the terminal */

#endif
