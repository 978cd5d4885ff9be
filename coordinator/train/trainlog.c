#include "coordinator/train/trainlog.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const double SHOW_EVERY_S = 0.2;
static const char *const fixed[] = {"step", "seconds", "samples_per_s"};
enum { N_FIXED = 3, LINE_MAX_BYTES = 4096 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int failed(const struct trainlog *l, struct err *err)
{
    return err_set(err, ERR_OUTPUT, "%.150s: %s", l->csv_path, strerror(errno));
}

/* Columns of a header line. */
static void take_header(struct trainlog *l, char *line)
{
    l->n_columns = 0;
    for (char *p = strtok(line, ",\n"); p != NULL; p = strtok(NULL, ",\n"))
        if (l->n_columns < TRAINLOG_COLUMNS_MAX)
            snprintf(l->column[l->n_columns++], TRAINLOG_NAME_MAX, "%s", p);
}

/* Keeps the rows of steps that are done: what a killed run had written behind them comes again. */
static int keep_rows(struct trainlog *l, int64_t done, struct err *err)
{
    char line[LINE_MAX_BYTES];
    long end = 0;
    bool header = true;
    if ((l->csv = fopen(l->csv_path, "r+")) == NULL)
        return errno == ENOENT ? ERR_OK : failed(l, err);
    while (fgets(line, sizeof line, l->csv) != NULL) {
        if (strchr(line, '\n') == NULL || (!header && strtoll(line, NULL, 10) > done))
            break;
        end = ftell(l->csv);
        if (header)
            take_header(l, line);
        header = false;
    }
    if (fflush(l->csv) != 0 || ftruncate(fileno(l->csv), end) != 0 || fseek(l->csv, end, SEEK_SET) != 0)
        return failed(l, err);
    return ERR_OK;
}

int trainlog_open(struct trainlog *l, const char *dir, int64_t steps, int64_t done, int64_t batch,
                  int64_t every, struct err *err)
{
    size_t room = strlen(dir) + 32;
    memset(l, 0, sizeof *l);
    *l = (struct trainlog){.tty = isatty(2), .steps = steps, .batch = batch, .every = every,
                           .first_step = done, .row_step = done, .begun = now(), .csv_path = malloc(room)};
    l->row_begun = l->begun;
    if (l->csv_path == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a path");
    snprintf(l->csv_path, room, "%s/metrics.csv", dir);
    int rc = done > 0 ? keep_rows(l, done, err) : ERR_OK;
    if (rc == ERR_OK && l->csv == NULL && (l->csv = fopen(l->csv_path, "w")) == NULL)
        rc = failed(l, err);
    if (rc == ERR_OK)
        rc = eventfile_open(&l->events, dir, err);
    if (rc != ERR_OK)
        trainlog_close(l);
    return rc;
}

void trainlog_close(struct trainlog *l)
{
    if (l->csv != NULL)
        fclose(l->csv);
    free(l->csv_path);
    eventfile_close(&l->events);
    memset(l, 0, sizeof *l);
}

void trainlog_wipe(struct trainlog *l)
{
    if (l->tty)
        fprintf(stderr, "\r\033[K");
    l->shown = 0;
}

static void show(struct trainlog *l, int64_t step, double at)
{
    double share = at - l->begun, speed = (double)(step - l->first_step) / (share > 0 ? share : 1);
    double left = speed > 0 ? (double)(l->steps - step) / speed : 0;
    int64_t seconds = (int64_t)left;
    fprintf(stderr, "\r\033[Kstep %" PRId64 "/%" PRId64 "  loss %.4f  %.1f samples/s  ETA %" PRId64
            ":%02d:%02d", step, l->steps, l->last_loss, speed * (double)l->batch, seconds / 3600,
            (int)(seconds / 60 % 60), (int)(seconds % 60));
    fflush(stderr);
    l->shown = at;
}

static double value_of(const Muster__TrainProgress *p, const char *name, bool *found)
{
    for (size_t i = 0; i < p->n_metric; i++)
        if (strcmp(p->metric[i]->name, name) == 0) {
            *found = true;
            return p->metric[i]->value;
        }
    *found = false;
    return 0;
}

/* The first row says the columns; metrics that come later are only in the event file. */
static void put_header(struct trainlog *l, const Muster__TrainProgress *p)
{
    for (int i = 0; i < N_FIXED; i++)
        snprintf(l->column[l->n_columns++], TRAINLOG_NAME_MAX, "%s", fixed[i]);
    for (size_t i = 0; i < p->n_metric && l->n_columns < TRAINLOG_COLUMNS_MAX; i++)
        snprintf(l->column[l->n_columns++], TRAINLOG_NAME_MAX, "%s", p->metric[i]->name);
    for (int i = 0; i < l->n_columns; i++)
        fprintf(l->csv, "%s%s", i > 0 ? "," : "", l->column[i]);
    fputc('\n', l->csv);
}

static int put_row(struct trainlog *l, const Muster__TrainProgress *p, double at, struct err *err)
{
    int64_t step = (int64_t)p->step;
    double took = at - l->row_begun;
    l->samples_per_s = (double)((step - l->row_step) * l->batch) / (took > 0 ? took : 1e-9);
    l->row_begun = at;
    l->row_step = step;
    if (l->n_columns == 0)
        put_header(l, p);
    fprintf(l->csv, "%" PRId64 ",%.3f,%.2f", step, at - l->begun, l->samples_per_s);
    for (int i = N_FIXED; i < l->n_columns; i++) {
        bool found;
        double v = value_of(p, l->column[i], &found);
        if (found)
            fprintf(l->csv, ",%.9g", v);
        else
            fputc(',', l->csv);
    }
    fputc('\n', l->csv);
    if (fflush(l->csv) != 0)
        return failed(l, err);
    TRY(eventfile_scalar(&l->events, step, "samples_per_s", l->samples_per_s, err));
    for (size_t i = 0; i < p->n_metric; i++)
        TRY(eventfile_scalar(&l->events, step, p->metric[i]->name, p->metric[i]->value, err));
    return ERR_OK;
}

int trainlog_step(struct trainlog *l, const Muster__TrainProgress *p, struct err *err)
{
    double at = now();
    int64_t step = (int64_t)p->step;
    bool found;
    l->last_loss = value_of(p, "loss", &found);
    if (l->tty && at - l->shown >= SHOW_EVERY_S)
        show(l, step, at);
    if (step - l->row_step < l->every && step != l->steps)
        return ERR_OK;
    return put_row(l, p, at, err);
}

int trainlog_evaluation(struct trainlog *l, int64_t step, const char *name, double value, struct err *err)
{
    char tag[64];
    snprintf(tag, sizeof tag, "eval_%s", name);
    return eventfile_scalar(&l->events, step, tag, value, err);
}
