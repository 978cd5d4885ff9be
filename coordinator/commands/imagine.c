/* imagine.c - pictures of prompts, one or a hundred thousand, as a batch that survives being killed. */
#include "coordinator/commands/command.h"

#include "coordinator/cluster/interrupt.h"
#include "coordinator/commands/cli.h"
#include "coordinator/commands/commandlist.h"
#include "coordinator/commands/imagebatch.h"
#include "coordinator/commands/imagineargs.h"
#include "coordinator/commands/session.h"
#include "coordinator/image/contactsheet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SHEET_MAX = 256 };

/* All that a run of the command holds. */
struct imagine {
    const struct imagine_args *args;
    struct cluster cluster;
    struct imagebatch batch;
    char path[MODEL_PATH_MAX]; /* of the model */
    char out[PICTUREFOLDER_PATH];
    char *was_model, *was_hash; /* of a batch that is gone on with */
};

/* --- what is asked */

static int read_like(struct imagine *m, struct err *err)
{
    struct picture p;
    char where[80];
    json_error_t e;
    TRY(pngfile_load(&p, m->args->like, err));
    const char *text = pngfile_text_of(&p, "muster");
    json_t *o = text != NULL ? json_loads(text, 0, &e) : NULL;
    snprintf(where, sizeof where, "%.60s", m->args->like);
    struct picturejob none;
    picturejob_init(&none);
    int rc = o == NULL ? err_set(err, ERR_FORMAT, "%s: no record of imagine in it", m->args->like)
                       : picturejobs_add(&m->batch.jobs, o, &none, where, 0, err);
    for (int i = 0; i < m->batch.jobs.n && rc == ERR_OK; i++)
        rc = picturejob_overlay(&m->batch.jobs.job[i], &m->args->job, err);
    json_decref(o);
    pngfile_free(&p);
    return rc;
}

static int read_jobs(struct imagine *m, struct err *err)
{
    const struct imagine_args *a = m->args;
    if (a->like != NULL)
        return read_like(m, err);
    return a->prompts != NULL ? picturejobs_read(&m->batch.jobs, a->prompts, &a->job, err)
                              : picturejobs_append(&m->batch.jobs, &a->job, err);
}

/* --- output */

/* "a-blue-car-on-a-green-field-1234567" */
static void name_folder(struct imagine *m)
{
    const struct picturejob *j = &m->batch.jobs.job[0];
    char *out = m->out;
    size_t n = 0;
    if (m->args->out != NULL) {
        snprintf(out, sizeof m->out, "%s", m->args->out);
        return;
    }
    for (const char *p = j->prompt != NULL ? j->prompt : "pictures"; *p != '\0' && n < 60; p++) {
        bool good =
            (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9');
        if (good)
            out[n++] = *p;
        else if (n > 0 && out[n - 1] != '-')
            out[n++] = '-';
    }
    while (n > 0 && out[n - 1] == '-')
        n--;
    snprintf(out + n, sizeof m->out - n, "%s%lld", n > 0 ? "-" : "", (long long)j->seed);
}

static int open_new(struct imagine *m, struct err *err)
{
    const struct imagine_args *a = m->args;
    const char *name = a->name != NULL ? a->name : "{index}.png";
    name_folder(m);
    TRY(picturefolder_check_name(name, m->batch.jobs.n_tasks, err));
    return picturefolder_create(&m->batch.folder, m->out, name, a->shard_pictures, m->path,
                                m->batch.images.spec->hash, &m->batch.jobs, err);
}

static int check_model(const struct imagine *m, struct err *err)
{
    if (strcmp(m->was_hash, m->batch.images.spec->hash) == 0)
        return ERR_OK;
    return err_set(err, ERR_INVAL,
                   "%s has changed since the batch was begun (%.10s, was %.10s): "
                   "-m names the "
                   "right one, another -o begins anew",
                   m->path, m->batch.images.spec->hash, m->was_hash);
}

static int load_model(struct imagine *m, struct err *err)
{
    const struct imagine_args *a = m->args;
    struct imagebatch_load how = {.threads = a->model.threads,
                                  .slots = a->model.batch,
                                  .tp = a->model.tp,
                                  .pp = a->model.pp,
                                  .guidance_parallel = a->guidance_parallel};
    return imagebatch_load(&m->batch, &how, err);
}

/* --- the sheet */

struct sheet {
    struct imagine *m;
    struct contactsheet sheet;
    int columns, side_x, side_y, zoom;
    int64_t n;
};

static int put_on_sheet(void *ctx, const struct journal_picture *p, struct err *err)
{
    enum { GAP = 2 };
    struct sheet *s = ctx;
    struct picture picture;
    uint8_t *bytes;
    if (p->task >= s->n)
        return ERR_OK;
    TRY(picturefolder_bytes(&s->m->batch.folder, p, &bytes, err));
    int rc = pngfile_decode(&picture, bytes, p->bytes, p->file, err);
    free(bytes);
    if (rc != ERR_OK)
        return rc;
    contactsheet_put(&s->sheet, GAP + (int)(p->task % s->columns) * (s->side_x * s->zoom + GAP),
                     GAP + (int)(p->task / s->columns) * (s->side_y * s->zoom + GAP), picture.rgb,
                     picture.width, picture.height, s->zoom);
    pngfile_free(&picture);
    return ERR_OK;
}

static void lay_out_sheet(struct sheet *s)
{
    const struct imagine *m = s->m;
    s->n = m->batch.jobs.n_tasks < SHEET_MAX ? m->batch.jobs.n_tasks : SHEET_MAX;
    s->columns = m->args->columns;
    if (s->columns == 0 && m->batch.jobs.n == 1 && m->batch.jobs.job[0].strip)
        s->columns = (int)s->n;
    if (s->columns == 0)
        for (s->columns = 1; (int64_t)s->columns * s->columns < s->n;)
            s->columns++;
    for (int i = 0; i < m->batch.jobs.n; i++) {
        const struct picturejob *j = &m->batch.jobs.job[i];
        s->side_x = j->width > s->side_x ? j->width : s->side_x;
        s->side_y = j->height > s->side_y ? j->height : s->side_y;
    }
    for (s->zoom = 1; s->zoom < 4 && s->side_x * s->zoom < 64;)
        s->zoom++;
}

static int write_sheet(struct imagine *m, struct err *err)
{
    struct sheet s = {.m = m};
    char path[PICTUREFOLDER_PATH + 32];
    lay_out_sheet(&s);
    int64_t rows = (s.n + s.columns - 1) / s.columns;
    TRY(contactsheet_init(&s.sheet, 2 + s.columns * (s.side_x * s.zoom + 2),
                          2 + (int)rows * (s.side_y * s.zoom + 2), err));
    int rc = journal_pictures(m->batch.folder.journal, put_on_sheet, &s, err);
    snprintf(path, sizeof path, "%s/grid.png", m->batch.folder.path);
    if (rc == ERR_OK)
        rc = pngfile_save(path, s.sheet.rgb, s.sheet.width, s.sheet.height, NULL, 0, err);
    contactsheet_free(&s.sheet);
    return rc;
}

/* --- the run */

static int64_t calls_of(const struct picturejob *j)
{
    double share = j->init != NULL ? j->strength : 1;
    return (int64_t)((double)j->steps * share) * j->n;
}

/* The sink gets a folder that goes away again. */
static int dry_run(struct imagine *m, struct err *err)
{
    const char *tmp = getenv("TMPDIR");
    char folder[1024];
    double step_s = 0;
    int64_t calls = 0;
    snprintf(folder, sizeof folder, "%.900s/muster-dry-run-XXXXXX", tmp != NULL ? tmp : "/tmp");
    if (mkdtemp(folder) == NULL)
        return err_set(err, ERR_OUTPUT, "%s: no place to try a picture", folder);
    snprintf(m->batch.folder.path, sizeof m->batch.folder.path, "%s", folder);
    snprintf(m->batch.folder.single, sizeof m->batch.folder.single, "try.png");
    name_folder(m);
    int rc = load_model(m, err);
    if (rc == ERR_OK)
        rc = imagerun_try(&m->batch.run, &m->batch.jobs.job[0], &step_s, err);
    snprintf(m->batch.folder.path, sizeof m->batch.folder.path, "%s/try.png", folder);
    unlink(m->batch.folder.path);
    rmdir(folder);
    TRY(rc);
    for (int i = 0; i < m->batch.jobs.n; i++)
        calls += calls_of(&m->batch.jobs.job[i]);
    double seconds = step_s * (double)calls / m->batch.images.n_replicas;
    printf("%lld pictures of %d prompts into %s\n", (long long)m->batch.jobs.n_tasks,
           m->batch.jobs.n, m->out);
    printf("%d replicas on %d ranks, %d pictures at a time each\n", m->batch.images.n_replicas,
           m->cluster.n_workers, m->batch.images.slots);
    printf("%.1f ms a step, %lld steps: about %d:%02d:%02d\n", step_s * 1e3, (long long)calls,
           (int)(seconds / 3600), (int)(seconds / 60) % 60, (int)seconds % 60);
    return cli_flush(err);
}

static int make(struct imagine *m, struct err *err)
{
    int64_t begun = comm_now_us(m->cluster.comm); /* loading does not count */
    int rc = imagebatch_make(&m->batch, err);
    if (rc == ERR_OK && m->args->grid && m->batch.folder.single[0] == '\0')
        rc = write_sheet(m, err);
    if (rc != ERR_OK)
        return rc;
    double seconds = (double)(comm_now_us(m->cluster.comm) - begun) / 1e6;
    int64_t made = m->batch.run.queue.n_done - m->batch.run.queue.n_before;
    printf("%s%s%s: %lld pictures", m->batch.folder.path,
           m->batch.folder.single[0] != '\0' ? "/" : "", m->batch.folder.single,
           (long long)m->batch.run.queue.n_done);
    if (m->batch.run.queue.n_before > 0)
        printf(", %lld of them now", (long long)made);
    double all = seconds * m->batch.images.n_replicas;      /* of the replicas; at work in it: */
    double busy = all > 0 ? m->batch.run.busy_us / 1e6 / all : 0;
    printf(", %.2f a second, busy %.1f %%\n", seconds > 0 ? (double)made / seconds : 0, 100 * busy);
    return cli_flush(err);
}

/* The model of a batch that is gone on with is the one it was begun with. */
static int open_batch(struct imagine *m, struct err *err)
{
    const struct imagine_args *a = m->args;
    if (a->resume) {
        TRY(picturefolder_resume(&m->batch.folder, a->out, &m->batch.jobs, &m->was_model,
                                 &m->was_hash, err));
        if (a->model.model == NULL && strlen(m->was_model) < sizeof m->path) {
            snprintf(m->path, sizeof m->path, "%s", m->was_model);
            return ERR_OK;
        }
    } else {
        TRY(read_jobs(m, err));
    }
    TRY(model_args_path_of(&a->model, "scenes-diffusion", "a folder with model_index.json", m->path,
                           err));
    char *whole = realpath(m->path, NULL); /* --resume may come from elsewhere */
    if (whole != NULL && strlen(whole) < sizeof m->path)
        snprintf(m->path, sizeof m->path, "%s", whole);
    free(whole);
    return ERR_OK;
}

static int run_all(struct imagine *m, struct comm *comm, struct err *err)
{
    TRY(cluster_open(&m->cluster, comm, err));
    m->batch.run.begun_us = comm_now_us(comm);
    TRY(open_batch(m, err));
    TRY(imagebatch_describe(&m->batch, &m->cluster, m->path, err));
    if (m->was_hash != NULL)
        TRY(check_model(m, err));
    TRY(imagebatch_settle(&m->batch, m->args->prompts, err));
    m->batch.run.time_limit_s = m->args->time_limit_s;
    if (m->args->dry_run)
        return dry_run(m, err);
    if (!m->args->resume)
        TRY(open_new(m, err));
    TRY(load_model(m, err));
    return make(m, err);
}

static int run(void *options, struct comm *comm, struct err *err)
{
    struct imagine *m = calloc(1, sizeof *m);
    if (m == NULL)
        return err_set(err, ERR_NOMEM, "no memory for pictures");
    m->args = options;
    int rc = run_all(m, comm, err);
    int closed = picturefolder_close(&m->batch.folder, err);
    rc = rc != ERR_OK ? rc : closed;
    cluster_close(&m->cluster, rc, err);
    imagebatch_free(&m->batch);
    free(m->was_model);
    free(m->was_hash);
    free(m);
    return rc;
}

const struct command command_imagine = {.name = "imagine",
                                        .summary =
                                            "Makes pictures of prompts, in batches over all ranks",
                                        .options_bytes = sizeof(struct imagine_args),
                                        .needs_workers = true,
                                        .argp = &imagine_argp,
                                        .check = imagineargs_check,
                                        .run = run,
                                        .free = imagineargs_free};
