/* imagine.c - pictures of prompts, one or a hundred thousand, as a batch that survives being killed. */
#include "coordinator/commands/command.h"

#include "coordinator/cluster/interrupt.h"
#include "coordinator/commands/cli.h"
#include "coordinator/commands/commandlist.h"
#include "coordinator/commands/imagineargs.h"
#include "coordinator/commands/imagerun.h"
#include "coordinator/commands/picturetext.h"
#include "coordinator/commands/samplingargs.h"
#include "coordinator/commands/session.h"
#include "coordinator/image/contactsheet.h"
#include "proto/sha256.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STEPS_DEFAULT = 20, BATCH_DEFAULT = 8, SHEET_MAX = 256, SEED_BITS = 32 };
static const double GUIDANCE_DEFAULT = 5, STRENGTH_DEFAULT = 0.6;

/* All that a run of the command holds. */
struct imagine {
    const struct imagine_args *args;
    struct cluster cluster;
    struct imagecluster images;
    struct picturetext text;
    struct picturejobs jobs;
    struct picturefolder folder;
    struct imagerun run;
    char path[MODEL_PATH_MAX];          /* of the model */
    char out[PICTUREFOLDER_PATH];
    char *was_model, *was_hash;         /* of a batch that is gone on with */
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
                       : picturejobs_add(&m->jobs, o, &none, where, 0, err);
    for (int i = 0; i < m->jobs.n && rc == ERR_OK; i++)
        rc = picturejob_overlay(&m->jobs.job[i], &m->args->job, err);
    json_decref(o);
    pngfile_free(&p);
    return rc;
}

static int read_jobs(struct imagine *m, struct err *err)
{
    const struct imagine_args *a = m->args;
    if (a->like != NULL)
        return read_like(m, err);
    return a->prompts != NULL ? picturejobs_read(&m->jobs, a->prompts, &a->job, err)
                              : picturejobs_append(&m->jobs, &a->job, err);
}

/* Of the pixels: the same picture in another file is the same. */
static void hash_picture(const struct picture *p, char hex[SHA256_HEX])
{
    struct sha256 s;
    uint8_t digest[SHA256_BYTES];
    sha256_begin(&s);
    sha256_add(&s, p->rgb, (size_t)p->width * (size_t)p->height * 3);
    sha256_end(&s, digest);
    sha256_hex(digest, hex);
}

/* --- defaults and checks: after this a job says all that a task needs */

/* `name` is one of "a, b, c". */
static bool listed(const char *list, const char *name)
{
    size_t n = strlen(name);
    for (const char *p = list; (p = strstr(p, name)) != NULL; p += n)
        if ((p == list || p[-1] == ' ') && (p[n] == ',' || p[n] == '\0'))
            return n > 0;
    return false;
}

static int check_size(const struct imagine *m, const struct picturejob *j, struct err *err)
{
    const Muster__ImageSpec *s = m->images.spec;
    int multiple = (int)s->multiple, most = (int)s->largest;
    if (j->width % multiple != 0 || j->height % multiple != 0 || j->width > most || j->height > most)
        return err_set(err, ERR_INVAL, "--size %dx%d: sides of %s are multiples of %d, at most "
                       "%d", j->width,
                       j->height, s->name, multiple, most);
    return ERR_OK;
}

static int settle(struct imagine *m, struct picturejob *j, struct err *err)
{
    const Muster__ImageSpec *s = m->images.spec;
    if (j->sampler == NULL)
        TRY(picturejob_set_text(&j->sampler, s->sampler, err));
    if (!listed(s->samplers, j->sampler))
        return err_set(err, ERR_INVAL, "no sampler '%.40s' for this model; there are %s", j->sampler,
                       s->samplers);
    if (s->classes > 0 && (j->label < 0 || j->label >= (int)s->classes))
        return err_set(err, ERR_INVAL, "%s takes classes: --class 0 to %u", s->name, s->classes - 1);
    if (s->latent > 0) {
        j->steps = 1;
        j->guidance = 1;
    }
    j->steps = j->steps > 0 ? j->steps : s->steps > 0 ? (int)s->steps : STEPS_DEFAULT;
    j->guidance = j->guidance >= 0 ? j->guidance : s->guidance > 0 ? s->guidance : GUIDANCE_DEFAULT;
    TRY(imagerun_load(&m->run, j, err));
    if (s->low > 0 && j->init == NULL)
        return err_set(err, ERR_INVAL, "%s enlarges a picture: name it with --init", s->name);
    if (j->mask != NULL)
        hash_picture(&m->run.mask.picture, j->mask_hash);
    if (j->init != NULL) {
        hash_picture(&m->run.init.picture, j->init_hash);
        int times = s->low > 0 ? 2 : 1;
        j->width = times * m->run.init.picture.width;
        j->height = times * m->run.init.picture.height;
        j->strength = s->low > 0 ? 1 : j->strength > 0 ? j->strength : j->mask != NULL ? 1 : STRENGTH_DEFAULT;
    } else if (j->width == 0) {
        j->width = (int)s->width;
        j->height = (int)s->height;
    }
    TRY(check_size(m, j, err));
    if (j->seed < 0)
        j->seed = (int64_t)(sampling_args_random_seed() >> (64 - SEED_BITS));
    return picturetext_encode(&m->text, j, err);
}

static int settle_all(struct imagine *m, struct err *err)
{
    for (int i = 0; i < m->jobs.n; i++)
        if (settle(m, &m->jobs.job[i], err) != ERR_OK) {
            int line = m->jobs.job[i].line;
            return line > 0 ? err_prefix(err, "%.50s line %d",
                                         m->args->prompts != NULL ? m->args->prompts : "",
                                         line) : err->code;
        }
    return picturejobs_number(&m->jobs, err);
}

/* --- output */

/* "a-blue-car-on-a-green-field-1234567" */
static void name_folder(struct imagine *m)
{
    const struct picturejob *j = &m->jobs.job[0];
    char *out = m->out;
    size_t n = 0;
    if (m->args->out != NULL) {
        snprintf(out, sizeof m->out, "%s", m->args->out);
        return;
    }
    for (const char *p = j->prompt != NULL ? j->prompt : "pictures"; *p != '\0' && n < 60; p++) {
        bool good = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9');
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
    TRY(picturefolder_check_name(name, m->jobs.n_tasks, err));
    return picturefolder_create(&m->folder, m->out, name, a->shard_pictures, m->path, m->images.spec->hash,
                                &m->jobs, err);
}

static int check_model(const struct imagine *m, struct err *err)
{
    if (strcmp(m->was_hash, m->images.spec->hash) == 0)
        return ERR_OK;
    return err_set(err, ERR_INVAL, "%s has changed since the batch was begun (%.10s, was %.10s): "
                   "-m names the "
                   "right one, another -o begins anew", m->path, m->images.spec->hash, m->was_hash);
}

static int load_model(struct imagine *m, struct err *err)
{
    const struct imagine_args *a = m->args;
    Muster__SinkOpen sink = MUSTER__SINK_OPEN__INIT;
    sink.folder = m->folder.path;
    sink.shards = m->folder.shard_pictures > 0;
    sink.shard_pictures = (uint32_t)m->folder.shard_pictures;
    sink.run = (uint32_t)m->folder.run;
    sink.locked = m->folder.single[0] == '\0';
    struct imagecluster_load l = {.threads = a->model.threads,
        .slots = a->model.batch > 0 ? a->model.batch : BATCH_DEFAULT,
        .guidance_parallel = a->guidance_parallel, .sink = &sink};
    return imagecluster_load(&m->images, &l, err);
}

/* --- the sheet */

struct sheet { struct imagine *m; struct contactsheet sheet; int columns, side_x, side_y,
              zoom; int64_t n; };

static int put_on_sheet(void *ctx, const struct journal_picture *p, struct err *err)
{
    enum { GAP = 2 };
    struct sheet *s = ctx;
    struct picture picture;
    uint8_t *bytes;
    if (p->task >= s->n)
        return ERR_OK;
    TRY(picturefolder_bytes(&s->m->folder, p, &bytes, err));
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
    s->n = m->jobs.n_tasks < SHEET_MAX ? m->jobs.n_tasks : SHEET_MAX;
    s->columns = m->args->columns;
    if (s->columns == 0 && m->jobs.n == 1 && m->jobs.job[0].strip)
        s->columns = (int)s->n;
    if (s->columns == 0)
        for (s->columns = 1; (int64_t)s->columns * s->columns < s->n;)
            s->columns++;
    for (int i = 0; i < m->jobs.n; i++) {
        const struct picturejob *j = &m->jobs.job[i];
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
    int rc = journal_pictures(m->folder.journal, put_on_sheet, &s, err);
    snprintf(path, sizeof path, "%s/grid.png", m->folder.path);
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
    char folder[] = "/tmp/muster-dry-run-XXXXXX";
    double step_s = 0;
    int64_t calls = 0;
    if (mkdtemp(folder) == NULL)
        return err_set(err, ERR_OUTPUT, "%s: no place to try a picture", folder);
    snprintf(m->folder.path, sizeof m->folder.path, "%s", folder);
    snprintf(m->folder.single, sizeof m->folder.single, "try.png");
    name_folder(m);
    int rc = load_model(m, err);
    if (rc == ERR_OK)
        rc = imagerun_try(&m->run, &m->jobs.job[0], &step_s, err);
    snprintf(m->folder.path, sizeof m->folder.path, "%s/try.png", folder);
    unlink(m->folder.path);
    rmdir(folder);
    TRY(rc);
    for (int i = 0; i < m->jobs.n; i++)
        calls += calls_of(&m->jobs.job[i]);
    double seconds = step_s * (double)calls / m->images.n_replicas;
    printf("%lld pictures of %d prompts into %s\n", (long long)m->jobs.n_tasks, m->jobs.n, m->out);
    printf("%d replicas on %d ranks, %d pictures at a time each\n", m->images.n_replicas,
           m->cluster.n_workers,
           m->images.slots);
    printf("%.1f ms a step, %lld steps: about %d:%02d:%02d\n", step_s * 1e3, (long long)calls,
           (int)(seconds / 3600), (int)(seconds / 60) % 60, (int)seconds % 60);
    return cli_flush(err);
}

static int make(struct imagine *m, struct err *err)
{
    int64_t begun = comm_now_us(m->cluster.comm);     /* loading does not count */
    int rc = imagerun_make(&m->run, err);
    if (rc == ERR_OK || rc == ERR_CANCELLED || rc == ERR_OUTPUT) {
        struct err second = {0};        /* the first one counts */
        int also = picturefolder_index(&m->folder, &m->jobs, m->run.model, m->run.hash, &second);
        if (rc == ERR_OK && also != ERR_OK)
            rc = err_set(err, also, "%s", second.msg);
    }
    if (rc == ERR_OK && m->args->grid && m->folder.single[0] == '\0')
        rc = write_sheet(m, err);
    if (rc != ERR_OK)
        return rc;
    double seconds = (double)(comm_now_us(m->cluster.comm) - begun) / 1e6;
    int64_t made = m->run.queue.n_done - m->run.queue.n_before;
    printf("%s%s%s: %lld pictures", m->folder.path, m->folder.single[0] != '\0' ? "/" : "",
           m->folder.single,
           (long long)m->run.queue.n_done);
    if (m->run.queue.n_before > 0)
        printf(", %lld of them now", (long long)made);
    printf(", %.1f a second\n", seconds > 0 ? (double)made / seconds : 0);
    return cli_flush(err);
}

/* The model of a batch that is gone on with is the one it was begun with. */
static int open_batch(struct imagine *m, struct err *err)
{
    const struct imagine_args *a = m->args;
    if (a->resume) {
        TRY(picturefolder_resume(&m->folder, a->out, &m->jobs, &m->was_model, &m->was_hash, err));
        if (a->model.model == NULL && strlen(m->was_model) < sizeof m->path) {
            snprintf(m->path, sizeof m->path, "%s", m->was_model);
            return ERR_OK;
        }
    } else {
        TRY(read_jobs(m, err));
    }
    TRY(model_args_path_of(&a->model, "scenes-diffusion", "a folder with model_index.json", m->path, err));
    char *whole = realpath(m->path, NULL);      /* --resume may come from elsewhere */
    if (whole != NULL && strlen(whole) < sizeof m->path)
        snprintf(m->path, sizeof m->path, "%s", whole);
    free(whole);
    return ERR_OK;
}

static int run_all(struct imagine *m, struct comm *comm, struct err *err)
{
    TRY(cluster_open(&m->cluster, comm, err));
    m->run.begun_us = comm_now_us(comm);
    TRY(open_batch(m, err));
    TRY(imagecluster_describe(&m->images, &m->cluster, m->path, err));
    if (m->was_hash != NULL)
        TRY(check_model(m, err));
    TRY(picturetext_open(&m->text, m->images.spec, err));
    m->run.enlarges = m->images.spec->low > 0;
    TRY(settle_all(m, err));
    m->run.images = &m->images;
    m->run.jobs = &m->jobs;
    m->run.folder = &m->folder;
    m->run.model = m->images.spec->name;
    m->run.hash = m->images.spec->hash;
    m->run.time_limit_s = m->args->time_limit_s;
    m->run.tty = isatty(2);
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
    int closed = picturefolder_close(&m->folder, err);
    rc = rc != ERR_OK ? rc : closed;
    cluster_close(&m->cluster, rc, err);
    imagerun_free(&m->run);
    picturetext_close(&m->text);
    picturejobs_free(&m->jobs);
    free(m->was_model);
    free(m->was_hash);
    free(m);
    return rc;
}

const struct command command_imagine = {
    .name = "imagine", .summary = "Makes pictures of prompts, in batches over all ranks",
    .options_bytes = sizeof(struct imagine_args), .needs_workers = true, .argp = &imagine_argp,
    .check = imagineargs_check, .run = run, .free = imagineargs_free};
