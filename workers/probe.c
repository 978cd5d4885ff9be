#include "workers/probe.h"

#include "proto/safewriter.h"
#include "workers/kernels/linear.h"
#include "workers/models/imagecases.h"
#include "workers/probegroup.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { OUTPUTS_MAX = IMAGECASES_MAX * 8 };

struct output { char name[2 * IMAGE_NAME]; int n_dims; int64_t shape[NN_DIMS_MAX], n; float *data; };

struct probe {
    const struct probe_request *q;
    const char *in_name;                /* of the file, for messages */
    struct imagemodel model;
    struct tensorfile file;
    bool file_open, nn_made;
    struct imagepart *parts[PROBE_PARTS_MAX], *part;    /* to be run; the one that runs */
    struct imagecase cases[IMAGECASES_MAX]; int n_cases;
    struct probegroup group;
    struct team team;
    struct nn nn;
    struct imagetensors in, out;
    struct output output[OUTPUTS_MAX]; int n_outputs;
    struct probe_report *done;
    int rc; struct err *err;            /* of the run inside the team */
};

/* --- which part */

/* "in, t, context" of a family. */
static void spell_inputs(const struct imagefamily *f, char *out, size_t cap)
{
    size_t at = 0;
    out[0] = '\0';
    for (int i = 0; i < FAMILY_INPUTS_MAX && f->input[i].name != NULL && at < cap; i++)
        at += (size_t)snprintf(out + at, cap - at, "%s%s", i > 0 ? ", " : "", f->input[i].name);
}

static int no_calls(const struct probe *p, const struct imagepart *part, struct err *err)
{
    char names[120];
    spell_inputs(part->family, names, sizeof names);
    return err_set(err, ERR_FORMAT, "%.60s: no inputs of a %s in it (%s%s%s)", p->in_name,
                   imagepart_kind(part), names, part->family->prefix != NULL ? "; may stand after " : "",
                   part->family->prefix != NULL ? part->family->prefix : "");
}

static int unknown_network(const struct imagepart *part, struct err *err)
{
    return err_set(err, ERR_FORMAT, "%s: %s is no network known here", part->file, imagepart_kind(part));
}

static int part_named(struct probe *p, struct err *err)
{
    TRY(imagemodel_want(&p->model, p->q->part, &p->parts[0], err));
    if (p->parts[0]->family == NULL)
        return unknown_network(p->parts[0], err);
    if (imagecases_list(p->parts[0], &p->file, p->cases) == 0)
        return no_calls(p, p->parts[0], err);
    p->done->n = 1;
    return ERR_OK;
}

/* Among those to be run: one whose calls have the names of part's? */
static const struct imagepart *named_alike(const struct probe *p, const struct imagepart *part)
{
    for (int i = 0; i < p->done->n; i++) {
        const char *a = p->parts[i]->family->prefix, *b = part->family->prefix;
        if (a == b || (a != NULL && b != NULL && strcmp(a, b) == 0))
            return p->parts[i];
    }
    return NULL;
}

static int parts_found(struct probe *p, struct err *err)
{
    struct imagepart *known = NULL;
    for (int i = 0; i < p->model.n_parts; i++) {
        struct imagepart *part = &p->model.part[i];
        known = part->family != NULL ? part : known;
        if (imagecases_list(part, &p->file, p->cases) == 0 || p->done->n == PROBE_PARTS_MAX)
            continue;
        const struct imagepart *alike = named_alike(p, part);
        if (alike != NULL && part->family->prefix == NULL)
            return err_set(err, ERR_INVAL, "%.60s has inputs of %s and of %s: say which with --part",
                           p->in_name, alike->name, part->name);
        if (alike == NULL)
            p->parts[p->done->n++] = part;
    }
    if (p->done->n > 0)
        return ERR_OK;
    if (known == NULL)
        return unknown_network(&p->model.part[0], err);
    return p->model.n_parts == 1 ? no_calls(p, known, err)
                                 : err_set(err, ERR_FORMAT, "%.60s: no inputs of any network of %.60s in it",
                                           p->in_name, p->q->model);
}

/* --- a call */

static void forward(void *arg)
{
    struct probe *p = arg;
    p->rc = probegroup_shares(&p->group, p->part)
                ? imagegroup_run(&p->group.group, p->part, &p->nn, &p->in, &p->out, p->err)
                : imagepart_run(p->part, &p->nn, &p->in, &p->out, p->err);
}

/* Outputs are copied: the next call takes the context's memory. */
static int keep_outputs(struct probe *p, const struct imagecase *c, struct err *err)
{
    for (int i = 0; i < p->out.n; i++) {
        const struct imagetensor *t = &p->out.t[i];
        struct output *o = &p->output[p->n_outputs];
        if (p->n_outputs == OUTPUTS_MAX)
            return err_set(err, ERR_LIMIT, "%.60s: more than %d outputs", p->in_name, OUTPUTS_MAX);
        snprintf(o->name, sizeof o->name, "%s%s", c->stem, t->name);
        o->n_dims = t->n_dims;
        o->n = t->n;
        memcpy(o->shape, t->shape, sizeof o->shape);
        if ((o->data = malloc((size_t)(t->n > 0 ? t->n : 1) * sizeof *o->data)) == NULL)
            return err_set(err, ERR_NOMEM, "no memory for the outputs");
        memcpy(o->data, t->data, (size_t)t->n * sizeof *o->data);
        p->n_outputs++;
    }
    return ERR_OK;
}

static int run_case(struct probe *p, struct probe_part *done, const struct imagecase *c, struct err *err)
{
    struct err why = {0};
    p->err = &why;
    int rc = imagecases_read(p->part, &p->file, c, &p->in, err);
    if (rc == ERR_OK) {
        nn_reset(&p->nn);
        team_enter(&p->team, forward, p);
        rc = p->rc == ERR_OK ? keep_outputs(p, c, err) : p->rc;
    }
    imagecases_free(&p->in);
    if (rc == ERR_OK)
        done->calls++;
    if (rc == ERR_OK || err->code != ERR_OK)
        return rc;
    if (p->n_cases > 1 && imageinput_missing(&why)) {
        done->left_out++;
        return ERR_OK;
    }
    /* what is wrong is the file's, not the command line's */
    return err_set(err, why.code == ERR_INVAL ? ERR_FORMAT : why.code, "%.60s: %s%s%s", p->in_name, c->stem,
                   c->stem[0] != '\0' ? "*: " : "", why.msg);
}

/* --- the answer */

static int write_outputs(struct probe *p, struct err *err)
{
    struct safewriter w = {0};
    int rc = safewriter_open(&w, p->q->out, err);
    for (int i = 0; i < p->n_outputs && rc == ERR_OK; i++) {
        const struct output *o = &p->output[i];
        rc = safewriter_tensor(&w, o->name, "F32", o->n_dims, o->shape, (uint64_t)o->n * sizeof(float), err);
    }
    if (rc == ERR_OK)
        rc = safewriter_begin(&w, err);
    for (int i = 0; i < p->n_outputs && rc == ERR_OK; i++)
        rc = safewriter_write(&w, p->output[i].data, (size_t)p->output[i].n * sizeof(float), err);
    if (rc == ERR_OK)
        rc = safewriter_close(&w, err);
    safewriter_abandon(&w);
    return rc;
}

/* Arithmetic and the model. */
static int prepare(struct probe *p, struct err *err)
{
    int isa = isa_named(p->q->isa);
    if (isa < 0 || (enum isa)isa > isa_detect())
        return err_set(err, ERR_PEER, "this rank cannot run instruction set '%s'", p->q->isa);
    TRY(imagemodel_open(&p->model, p->q->model, err));
    omp_set_num_threads(p->q->threads);
    linear_disable(p->q->refused, p->q->blas_tiles);
    team_init(&p->team, p->q->threads);
    nn_init(&p->nn, kernels_get((enum isa)isa), &p->team);
    p->nn_made = true;
    return ERR_OK;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int run_part(struct probe *p, struct probe_part *done, struct err *err)
{
    int before = p->n_outputs;
    bool shared = probegroup_shares(&p->group, p->part);
    TRY(shared ? probegroup_begin(&p->group, p->part, err) : imagepart_load(p->part, err));
    p->n_cases = imagecases_list(p->part, &p->file, p->cases);
    double begun = now();
    for (int i = 0; i < p->n_cases; i++)
        TRY(run_case(p, done, &p->cases[i], err));
    snprintf(done->name, sizeof done->name, "%s", p->part->name);
    done->kind = p->part->family->kind;
    done->seconds = now() - begun;
    done->ranks = shared ? probegroup_ranks(&p->group) : 1;
    done->outputs = p->n_outputs - before;
    done->parameters = p->part->parameters;
    return ERR_OK;
}

static int lead(struct probe *p, struct err *err)
{
    TRY(tensorfile_open(&p->file, p->q->in, err));
    p->file_open = true;
    TRY(p->q->part[0] != '\0' ? part_named(p, err) : parts_found(p, err));
    for (int i = 0; i < p->done->n; i++) {
        p->part = p->parts[i];
        TRY(run_part(p, &p->done->part[i], err));
    }
    if (p->n_outputs == 0)
        return err_set(err, ERR_FORMAT, "%.60s: every call of %s misses an input", p->in_name,
                       p->parts[0]->name);
    return write_outputs(p, err);
}

/* The others hear of the end whatever happened, and write nothing. */
static int work(struct probe *p, struct err *err)
{
    int self = p->q->comm->self;
    p->group = (struct probegroup){.comm = p->q->comm, .tp = p->q->tp, .pp = p->q->pp};
    if (self >= probegroup_ranks(&p->group))
        return ERR_OK;
    TRY(probegroup_agree(&p->group, prepare(p, err), err));
    if (self != 0)
        return probegroup_serve(&p->group, &p->model, &p->nn, &p->team, err);
    int rc = lead(p, err);
    probegroup_end(&p->group);
    return rc;
}

int probe_run(const struct probe_request *q, struct probe_report *done, struct err *err)
{
    struct probe *p = calloc(1, sizeof *p);
    memset(done, 0, sizeof *done);
    if (p == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a probe");
    const char *slash = strrchr(q->in, '/');
    p->in_name = slash != NULL ? slash + 1 : q->in;
    p->q = q;
    p->done = done;
    int rc = work(p, err);
    for (int i = 0; i < p->n_outputs; i++)
        free(p->output[i].data);
    if (p->nn_made)
        nn_free(&p->nn);
    if (p->file_open)
        tensorfile_close(&p->file);
    imagemodel_close(&p->model);
    free(p);
    return rc;
}
