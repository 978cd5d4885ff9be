#include "workers/workerjobs.h"

#include "proto/wire.h"

#include <string.h>

enum { RESULTS_MAX = 64, RESULT_TEXT = 64 };

/* What a job answers: pairs of text. */
struct results {
    Muster__MetaEntry entry[RESULTS_MAX], *list[RESULTS_MAX];
    char key[RESULTS_MAX][RESULT_TEXT], value[RESULTS_MAX][RESULT_TEXT];
    int n;
};

struct job_row {
    const char *name;
    int (*run)(struct workerjob *job, struct results *out, struct err *err);
};

static const struct job_row rows[] = {
    {NULL, NULL},
};

static int run(struct workerjob *job, struct results *out, struct err *err)
{
    for (int i = 0; rows[i].name != NULL; i++)
        if (strcmp(rows[i].name, job->message->name) == 0)
            return rows[i].run(job, out, err);
    return err_set(err, ERR_INVAL, "no job named %s", job->message->name);
}

int workerjobs_run(struct workerjob *job, struct err *err)
{
    struct results out = {.n = 0};
    struct err failed = {0};
    Muster__Envelope m = MUSTER__ENVELOPE__INIT;
    Muster__JobDone done = MUSTER__JOB_DONE__INIT;
    done.code = run(job, &out, &failed);
    done.rank = (uint32_t)job->comm->self;
    done.message = failed.msg;
    for (char *s = failed.msg; *s != '\0'; s++)
        if ((unsigned char)*s >= 0x80)      /* messages are UTF-8; a file name need not be */
            *s = '?';
    done.n_results = (size_t)out.n;
    done.results = out.list;
    m.body_case = MUSTER__ENVELOPE__BODY_JOB_DONE;
    m.job_done = &done;
    return wire_send(job->comm, comm_coordinator(job->comm), COMM_CONTROL, &m, err);
}
