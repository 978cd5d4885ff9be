/* Denoisers by groups of ranks: every folder of fixtures/diffusion whose denoiser can be shared, by 1 to 3 x 1
 * to 2 ranks, a thread each: within the README's tolerance, the same bits on every layout, and each rank
 * with its share of the weights only; also in bf16. Folders and calls are found by listing. */
#include "tests/fixturetensor.h"
#include "tests/unit/rankteam.h"
#include "proto/groupplan.h"
#include "proto/wire.h"
#include "workers/imagegroup.h"
#include "workers/models/imagecases.h"

#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CALLS = 3, ROUNDS = 2, MESSAGES = 1 << 16 };

/* How far an answer may be off: in f32, and with products of bfloat16 numbers, there as a share of the largest
 * (measured: 0.0100). */
static const double LIMIT_F32 = 1e-4, LIMIT_HALF = 2e-2;

static int failures, checks;
static bool half;

/* One call by tp x pp ranks. */
struct call {
    const char *folder;
    const struct imagetensors *in;
    int tp, pp;
    float *out; int64_t n_out;              /* of the last round */
    uint64_t held[RANKTEAM_MAX], whole;     /* weights: of each rank, of the model */
    int rc[RANKTEAM_MAX];
    struct err err[RANKTEAM_MAX];
};

struct member { struct call *call; struct comm *comm; struct imagemodel model; struct imagegroup group; struct nn nn; };

static void note(const char *what, const char *why)
{
    printf("%s: %s\n", what, why);
    failures++;
}

static int join_group(struct member *k, struct imagepart **part, struct err *err)
{
    struct call *c = k->call;
    struct arena mem;
    TRY(imagemodel_open(&k->model, c->folder, err));
    *part = imagemodel_role(&k->model, IMAGE_DENOISER);
    const struct groupplan p = {"denoiser", (*part)->facts.layers, c->tp, c->pp, 1};
    TRY(arena_init(&mem, GROUPPLAN_ARENA));
    int rc = imagegroup_init(&k->group, k->comm, groupplan_lay(&p, &mem), p.layers, (*part)->facts.head_dim, err);
    arena_free(&mem);
    nn_init(&k->nn, kernels_get(isa_detect()), NULL);
    k->nn.half = half;
    return rc == ERR_OK ? imagepart_load_share(*part, &k->group.held, err) : rc;
}

static uint64_t floats_of(const struct imagepart *part)
{
    uint64_t n = 0;
    for (int i = 0; i < part->w.n; i++)
        n += (uint64_t)part->w.p[i].n;
    return n;
}

/* Twice, so that what is kept from call to call is used again. */
static int lead(struct member *k, struct imagepart *part, struct err *err)
{
    struct call *c = k->call;
    Muster__Envelope m = MUSTER__ENVELOPE__INIT;
    Muster__Stop stop = MUSTER__STOP__INIT;
    int rc = ERR_OK;
    for (int i = 0; i < ROUNDS && rc == ERR_OK; i++) {
        struct imagetensors out = {.n = 0};
        nn_reset(&k->nn);
        rc = imagegroup_run(&k->group, part, &k->nn, c->in, &out, err);
        if (rc != ERR_OK)
            break;
        free(c->out);
        c->n_out = out.t[0].n;
        c->out = malloc((size_t)c->n_out * sizeof *c->out);
        memcpy(c->out, out.t[0].data, (size_t)c->n_out * sizeof *c->out);
    }
    m.body_case = MUSTER__ENVELOPE__BODY_STOP;
    m.stop = &stop;
    for (int i = 1; i < c->tp * c->pp; i++)
        wire_send(k->comm, i, COMM_CONTROL, &m, NULL);
    return rc;
}

static int follow(struct member *k, struct imagepart *part, struct err *err)
{
    struct arena mem;
    int rc = arena_init(&mem, MESSAGES);
    for (Muster__Envelope *m = NULL; rc == ERR_OK;) {
        int peer;
        arena_reset(&mem);
        rc = wire_recv(k->comm, COMM_CONTROL, &mem, &peer, &m, err);
        if (rc != ERR_OK || m->body_case != MUSTER__ENVELOPE__BODY_IMAGE_STEP)
            break;
        rc = imagegroup_serve(&k->group, part, &k->nn, m->image_step, peer, err);
    }
    arena_free(&mem);
    return rc;
}

static void body(struct comm *comm, int rank, void *ctx)
{
    struct call *c = ctx;
    struct member k = {.call = c, .comm = comm};
    struct imagepart *part;
    int rc = join_group(&k, &part, &c->err[rank]);
    if (rc == ERR_OK) {
        c->held[rank] = floats_of(part);
        c->whole = rank == 0 ? part->parameters : c->whole;
        rc = rank == 0 ? lead(&k, part, &c->err[rank]) : follow(&k, part, &c->err[rank]);
    }
    c->rc[rank] = rc;
    imagegroup_free(&k.group);
    nn_free(&k.nn);
    imagemodel_close(&k.model);
}

static void compare(struct tensorfile *t, const char *name, const struct call *c, const float *alone)
{
    const struct tensor_entry *e;
    double top = 0, *want = fixture_values(t, name, &e);
    checks += 2;
    double off = want == NULL                  ? 0
                 : e->n_elements != c->n_out ? INFINITY : fixture_distance(c->out, want, c->n_out, &top);
    if (!(off <= (half ? LIMIT_HALF * top : LIMIT_F32)))
        note(name, "off by more than the tolerance");
    if (alone != NULL && memcmp(alone, c->out, (size_t)c->n_out * sizeof *alone) != 0) {
        printf("%s: other bits with tp %d, pp %d\n", name, c->tp, c->pp);
        failures++;
    }
    free(want);
}

static void all_layouts(struct tensorfile *t, const char *folder, const char *name, const struct imagetensors *in)
{
    float *alone = NULL;
    for (int pp = 1; pp <= 2; pp++)
        for (int tp = 1; tp <= 3; tp++) {
            struct call c = {.folder = folder, .in = in, .tp = tp, .pp = pp};
            rankteam_run(tp * pp, body, &c);
            for (int i = 0; i < tp * pp; i++)
                if (c.rc[i] != ERR_OK)
                    note(name, c.err[i].msg);
            if (c.out == NULL)
                continue;
            compare(t, name, &c, alone);
            for (int i = 0; i < tp * pp; i++, checks++)
                if (tp * pp > 1 && c.held[i] >= c.whole)
                    note(name, "a rank of several holds all weights");
            if (alone == NULL)
                alone = c.out;
            else
                free(c.out);
        }
    free(alone);
}

/* The first calls that have all their inputs. */
static void run_calls(const char *folder)
{
    static struct imagecase cases[IMAGECASES_MAX];
    struct imagemodel m;
    struct tensorfile t;
    struct err err = {0};
    char path[1200], name[2 * IMAGE_NAME];
    snprintf(path, sizeof path, "%s/expected.safetensors", folder);
    if (access(path, R_OK) != 0 || imagemodel_open(&m, folder, &err) != ERR_OK)
        return;
    struct imagepart *part = imagemodel_role(&m, IMAGE_DENOISER);
    if (part != NULL && imagepart_splits(part) && tensorfile_open(&t, path, &err) == ERR_OK) {
        int n = imagecases_list(part, &t, cases), before = checks;
        for (int i = 0; i < n && i < CALLS; i++) {
            struct imagetensors in = {0};
            snprintf(name, sizeof name, "%.100sout", cases[i].stem);
            if (imagecases_read(part, &t, &cases[i], &in, &err) != ERR_OK)
                note(name, err.msg);
            else if (imagetensors_find(&in, "t") != NULL)
                all_layouts(&t, folder, name, &in);
            imagecases_free(&in);
        }
        printf("%s: %d checks\n", folder, checks - before);
        tensorfile_close(&t);
    }
    imagemodel_close(&m);
}

static void run_folder(const char *folder)
{
    run_calls(folder);
    half = isa_has_bf16();
    if (half)
        run_calls(folder);
    half = false;
}

int main(void)
{
    const char *given = getenv("MUSTER_FIXTURES");
    char root[600], folder[900];
    snprintf(root, sizeof root, "%s/diffusion", given != NULL ? given : FIXTURES_DEFAULT);
    DIR *d = opendir(root);
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        snprintf(folder, sizeof folder, "%s/%.200s", root, e->d_name);
        if (e->d_name[0] != '.')
            run_folder(folder);
    }
    if (d != NULL)
        closedir(d);
    printf("%d checks, %d failures\n", checks, failures);
    return failures > 0 ? 1 : checks == 0 ? 77 : 0;
}
